"""The SQL store on SQLite, PostgreSQL and MariaDB, against APScheduler's and the servers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore as PeerStore
from apscheduler.util import datetime_to_utc_timestamp
from support.servers import MariaDB, PostgreSQL

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


def on_sqlite(folder: Path, stack: ExitStack) -> Contest:
    def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
        database = sqlite3.connect(folder / "raw.sqlite", isolation_level=None)
        stack.callback(database.close)
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


def on_postgresql(server: Any, stack: ExitStack) -> Contest:
    def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
        connection = psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True)
        stack.callback(connection.close)
        connection.execute(CREATE)
        connection.execute(INDEX)
        query = "INSERT INTO raw SELECT id, 0, %s FROM unnest(%s::text[]) AS each (id)"
        connection.execute(query, [RECORD, list(ids)])

        def write(ids: Sequence[str], instant: int) -> None:
            values = [instant, list(ids)]
            connection.execute("UPDATE raw SET due_at = %s WHERE id = ANY(%s)", values)

        return write

    return Contest(
        "PostgreSQL",
        lambda: SQLAlchemyJobStore(server.url),
        lambda: PeerStore(server.url),
        raw,
        0.33,
        fill,
    )


def on_mariadb(server: Any, stack: ExitStack) -> Contest:
    def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
        connection: Any = pymysql.connect(
            host="127.0.0.1", port=server.port, user="root", database="tocsin", autocommit=True
        )
        stack.callback(connection.close)
        cursor = connection.cursor()
        cursor.execute(CREATE)
        cursor.execute(INDEX)
        cursor.executemany(
            "INSERT INTO raw VALUES (%s, %s, %s)", [(each, 0, RECORD) for each in ids]
        )

        def write(ids: Sequence[str], instant: int) -> None:
            cursor.execute("UPDATE raw SET due_at = %s WHERE id IN %s", (instant, tuple(ids)))

        return write

    return Contest(
        "MariaDB",
        lambda: SQLAlchemyJobStore(server.url),
        lambda: PeerStore(server.url),
        raw,
        0.2,
        fill,
    )


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def contest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Contest]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield on_sqlite(tmp_path, stack)
            return
        kind, make = {
            "postgresql": (PostgreSQL, on_postgresql),
            "mariadb": (MariaDB, on_mariadb),
        }[request.param]
        yield make(stack.enter_context(kind(tmp_path / "server", durable=True)), stack)


def test_adding(contest: Contest, race: Race, report: Report) -> None:
    stores.adding(contest, race, report)


def test_claiming(contest: Contest, race: Race, report: Report) -> None:
    stores.claiming(contest, race, report)


@pytest.mark.parametrize("part", stores.PARTS)
def test_waking_up(contest: Contest, part: int, race: Race, report: Report) -> None:
    stores.waking_up(contest, part, race, report)


def test_against_raw_writes(contest: Contest, race: Race, report: Report) -> None:
    stores.against_raw_writes(contest, race, report)
