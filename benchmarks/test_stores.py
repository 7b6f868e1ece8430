"""The SQL store on SQLite, PostgreSQL and MariaDB, against APScheduler's and the servers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore as PeerStore
from apscheduler.util import datetime_to_utc_timestamp

from benchmarks import stores
from benchmarks.races import Race, Report
from benchmarks.stores import Contest, Theirs
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore

CREATE = """CREATE TABLE raw (id VARCHAR(255) NOT NULL PRIMARY KEY, due_at BIGINT, record TEXT)"""
INDEX = "CREATE INDEX raw_due ON raw (due_at)"
#: As long as the record of one of the jobs.
RECORD = "x" * 300


def fill(theirs: Theirs, jobs: Sequence[Any]) -> None:
    """Write APScheduler's rows by many."""
    import pickle

    rows = [
        {
            "id": job.id,
            "next_run_time": datetime_to_utc_timestamp(job.next_run_time),
            "job_state": pickle.dumps(job.__getstate__(), pickle.HIGHEST_PROTOCOL),
        }
        for job in jobs
    ]
    with theirs.store.engine.begin() as connection:
        for first in range(0, len(rows), 5000):
            connection.execute(theirs.store.jobs_t.insert(), rows[first : first + 5000])


def on_sqlite(folder: Path) -> Contest:
    def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
        database = sqlite3.connect(folder / "raw.sqlite", isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(CREATE)
        database.execute(INDEX)
        database.execute("BEGIN")
        database.executemany("INSERT INTO raw VALUES (?, 0, ?)", [(each, RECORD) for each in ids])
        database.execute("COMMIT")

        def write(ids: Sequence[str], instant: int) -> None:
            rows = [(instant, each) for each in ids]
            database.execute("BEGIN IMMEDIATE")
            database.executemany("UPDATE raw SET due_at = ? WHERE id = ?", rows)
            database.execute("COMMIT")

        return write

    # Each store has a file: APScheduler's would wait for tocsin's members.
    return Contest(
        "SQLite",
        lambda: SQLAlchemyJobStore(f"sqlite:///{folder / 'tocsin.sqlite'}"),
        lambda: PeerStore(f"sqlite:///{folder / 'apscheduler.sqlite'}"),
        raw,
        0.4,
        fill,
    )


@pytest.fixture(params=["sqlite"])
def contest(request: pytest.FixtureRequest, tmp_path: Path) -> Contest:
    return on_sqlite(tmp_path)


def test_adding(contest: Contest, race: Race, report: Report) -> None:
    stores.adding(contest, race, report)


def test_claiming(contest: Contest, race: Race, report: Report) -> None:
    stores.claiming(contest, race, report)


def test_waking_up(contest: Contest, race: Race, report: Report) -> None:
    stores.waking_up(contest, race, report)


def test_against_raw_writes(contest: Contest, race: Race, report: Report) -> None:
    stores.against_raw_writes(contest, race, report)
