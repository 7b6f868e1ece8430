"""SQLite: one writer at a time, on one machine, whose clock is the store's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from select import select as wait
from socket import socket
from sqlite3 import sqlite_version_info
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.pysqlite import dialect

from tocsin.claims import Claim
from tocsin.stores.rows import Advance, ClaimedRow, Row
from tocsin.stores.sql.database import Database, Refused
from tocsin.stores.sql.schema import Tables

__all__ = ["SQLite"]

_OLDEST = (3, 24)
#: So often, in seconds, it is looked whether others have changed something.
_LOOK = 0.1


#: As part of a text: a parameter would have to be given with each row.
_ONE: ColumnElement[int] = literal_column("1", BigInteger)


def _text(statement: Any) -> str:
    """Compile a statement that is executed for many rows, which SQLAlchemy would look at each."""
    return str(statement.compile(dialect=dialect(paramstyle="named")))


class SQLite(Database):
    """Each transaction begins with the lock of the writer, so that none has to be undone."""

    isolation = "AUTOCOMMIT"

    def __init__(self, tables: Tables, given: bool) -> None:
        super().__init__(tables, True)
        jobs, runs, _, _ = tables
        me: BindParameter[str] = bindparam("me")
        place: ColumnElement[int] = literal_column("rowid", BigInteger)
        self.select_due = (
            select(
                place,
                *(jobs.c.id, jobs.c.next_run, jobs.c.version, jobs.c.record, jobs.c.fence + 1),
                self.elsewhere,
            )
            .where(jobs.c.due_at <= self.now)
            .order_by(jobs.c.due_at)
            .limit(bindparam("limit", type_=BigInteger))
        )
        later: BindParameter[int] = bindparam("instant", type_=BigInteger)
        self.claim_row = _text(
            update(jobs)
            .where(place == bindparam("place", type_=BigInteger))
            .values(due_at=later, fence=jobs.c.fence + _ONE)
        )
        row = (jobs.c.id == bindparam("of_job"), jobs.c.fence == bindparam("known"))
        self.advance_row = _text(
            update(jobs).where(*row).values(next_run=later, due_at=later, fence=jobs.c.fence + _ONE)
        )
        self.end_row = _text(delete(jobs).where(*row))
        self.insert_run = _text(insert(runs))
        self.delete_run = _text(
            delete(runs).where(
                runs.c.job_id == bindparam("of_job"),
                runs.c.run_time == bindparam("of_time"),
                runs.c.fence == bindparam("known"),
                runs.c.member == me,
            )
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
        while not wait([stop], [], [], _LOOK)[0]:
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
        values = {"limit": limit, "me": member, **self.at(now)}
        present = values["now"]
        due = self.earliest(connection)
        if due is None or due > present:
            return present, []
        with self.lazily(connection):
            found = connection.execute(self.select_due, values).all()
            rows = [{"place": row[0], "instant": present + lease} for row in found]
            if rows:
                connection.exec_driver_sql(self.claim_row, rows)
        return present, [ClaimedRow(*row[1:]) for row in found]

    @contextmanager
    def lazily(self, connection: Connection) -> Iterator[None]:
        """Do a transaction that need not be on the disk when it ends.

        A claim that is forgotten in a crash has moved nothing, and a run that is found again was
        not lost.
        """
        level = connection.info.get("tocsin_synchronous")
        if level is None:
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            connection.info["tocsin_synchronous"] = level
        connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
        try:
            with self.transaction(connection):
                yield
        finally:
            connection.exec_driver_sql(f"PRAGMA synchronous = {level:d}")

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
        on: list[dict[str, Any]] = []
        ended: list[dict[str, Any]] = []
        for job_id, fence, next_run, _, _ in entries:
            if next_run is None:
                ended.append({"of_job": job_id, "known": fence})
            else:
                on.append({"of_job": job_id, "known": fence, "instant": next_run})
        for statement, rows in ((self.advance_row, on), (self.end_row, ended)):
            if rows and connection.exec_driver_sql(statement, rows).rowcount != len(rows):
                raise Refused
        connection.exec_driver_sql(self.insert_run, self.runs_of(member, entries))

    def settle(self, connection: Connection, member: str, claims: Sequence[Claim]) -> list[bool]:
        with self.lazily(connection):
            held = self.recorded(connection, member, claims)
            self.delete_runs(connection, member, claims)
        return held

    def delete_runs(self, connection: Connection, member: str, claims: Sequence[Claim]) -> int:
        rows = [
            {"of_job": job_id, "of_time": run_time, "known": fence, "me": member}
            for job_id, run_time, fence in self.run_keys(claims)
        ]
        return connection.exec_driver_sql(self.delete_run, rows).rowcount
