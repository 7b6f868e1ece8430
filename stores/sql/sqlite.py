"""SQLite: one writer at a time, on one machine, whose clock is the store's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from select import select
from socket import socket
from sqlite3 import sqlite_version_info
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, delete, insert, update
from sqlalchemy.dialects import sqlite

from tocsin.claims import Claim
from tocsin.stores.rows import Advance, ClaimedRow, Row
from tocsin.stores.sql.database import Database, Refused
from tocsin.stores.sql.schema import Tables

__all__ = ["SQLite"]

_OLDEST = (3, 24)
#: So often, in seconds, it is looked whether others have changed something.
_LOOK = 0.1


class SQLite(Database):
    """Each transaction begins with the lock of the writer, so that none has to be undone."""

    isolation = "AUTOCOMMIT"

    def __init__(self, tables: Tables, given: bool) -> None:
        super().__init__(tables, True)
        jobs, runs, _, _ = tables
        row = (jobs.c.id == bindparam("of_job"), jobs.c.fence == bindparam("known"))
        self.advance_row = (
            update(jobs)
            .where(*row)
            .values(
                next_run=bindparam("instant", type_=BigInteger),
                due_at=bindparam("instant", type_=BigInteger),
                fence=jobs.c.fence + 1,
            )
        )
        self.end_row = delete(jobs).where(*row)
        self.delete_run = delete(runs).where(
            runs.c.job_id == bindparam("of_job"),
            runs.c.run_time == bindparam("of_time"),
            runs.c.fence == bindparam("known"),
            runs.c.member == bindparam("me"),
        )

    def clock(self) -> ColumnElement[int]:
        return bindparam("now", type_=BigInteger)

    def instant(self, connection: Connection) -> int:
        return time.time_ns() // 1000

    def at(self, now: int | None) -> dict[str, Any]:
        return {"now": time.time_ns() // 1000 if now is None else now}

    def begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def commit(self, connection: Connection) -> None:
        connection.exec_driver_sql("COMMIT")

    def rollback(self, connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")

    def check(self, connection: Connection) -> None:
        if sqlite_version_info < _OLDEST:
            version, oldest = (".".join(map(str, each)) for each in (sqlite_version_info, _OLDEST))
            raise RuntimeError(f"this Python has SQLite {version}, {oldest} or later is needed")
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() in ("wal", "memory"):
            return
        # Readers and the writer do not wait for each other, and a commit is written once.
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    def changes(self, connection: Connection, sender: str, stop: socket) -> Iterator[int | None]:
        version = None
        while not select([stop], [], [], _LOOK)[0]:
            # A number in memory that all processes share: it changes with each commit of others.
            found = connection.exec_driver_sql("PRAGMA data_version").scalar()
            if found != version:
                version = found
                due = self.earliest(connection)
                if due is not None:
                    yield due

    def claim(
        self, connection: Connection, member: str, now: int | None, lease: int, limit: int
    ) -> tuple[int, list[ClaimedRow]]:
        # Looking takes no lock; most wake-ups of many schedulers find that another was quicker.
        now = self.at(now)["now"]
        due = self.earliest(connection)
        if due is None or due > now:
            return now, []
        return super().claim(connection, member, now, lease, limit)

    def upsert(self, connection: Connection, rows: Sequence[Row]) -> None:
        jobs = self.tables.jobs
        written = sqlite.insert(jobs)
        connection.execute(
            written.on_conflict_do_update(
                index_elements=[jobs.c.id],
                set_={
                    "next_run": written.excluded.next_run,
                    "due_at": written.excluded.due_at,
                    "version": jobs.c.version + 1,
                    "fence": jobs.c.fence + 1,
                    "record": written.excluded.record,
                },
            ),
            self.values(rows, self.instant(connection)),
        )

    def advance_held(self, connection: Connection, member: str, entries: Sequence[Advance]) -> None:
        if connection.execute(self.select_member, {"me": member}).first() is None:
            raise Refused
        on = [
            {"of_job": entry.id, "known": entry.fence, "instant": entry.next_run}
            for entry in entries
            if entry.next_run is not None
        ]
        ended = [
            {"of_job": entry.id, "known": entry.fence}
            for entry in entries
            if entry.next_run is None
        ]
        if on and connection.execute(self.advance_row, on).rowcount != len(on):
            raise Refused
        if ended and connection.execute(self.end_row, ended).rowcount != len(ended):
            raise Refused
        connection.execute(insert(self.tables.runs), self.runs_of(member, entries))

    def delete_runs(self, connection: Connection, member: str, claims: Sequence[Claim]) -> int:
        keys = self.run_keys(claims)
        return connection.execute(
            self.delete_run,
            [
                {"of_job": job_id, "of_time": at, "known": fence, "me": member}
                for job_id, at, fence in keys
            ],
        ).rowcount
