"""SQLite: one writer at a time, on one machine, whose clock is the store's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from select import select as wait
from socket import socket
from sqlite3 import sqlite_version_info
from types import SimpleNamespace
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    column,
    delete,
    insert,
    literal_column,
    select,
    table,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.pysqlite import dialect
from sqlalchemy.exc import DBAPIError, OperationalError

from tocsin.claims import Claim
from tocsin.stores.rows import Advance, ClaimedRow, Row
from tocsin.stores.sql.database import Database, Refused
from tocsin.stores.sql.schema import Tables

__all__ = ["SQLite"]

_OLDEST = (3, 24)
#: The first version with UPDATE FROM.
_WITH_FROM = (3, 33)
#: So many rows are written at once; SQLite may take no more than 999 values.
_BLOCK = 50
#: So often, in seconds, it is looked whether others have changed something.
_LOOK = 0.1
#: After so long, in seconds, the journal's mode is set again.
_AGAIN = 0.01
#: What is kept of a database in memory by a connection that claims, in KiB, which SQLite has below
#: zero: by default less than 10,000 jobs take.
_USUAL_CACHE, _CACHE = -2000, -8192


#: As part of a text: a parameter would have to be given with each row.
_ONE: ColumnElement[int] = literal_column("1", BigInteger)


def _text(statement: Any, *names: str) -> str:
    """Compile a statement for the driver, whose values are to come in this order."""
    compiled = statement.compile(dialect=dialect(paramstyle="qmark"))
    if tuple(compiled.positiontup or ()) != names:
        raise ValueError(f"the values of {compiled} come as {compiled.positiontup}")
    return str(compiled)


class _ForRows(NamedTuple):
    """What is executed for each row, and what for `_BLOCK` of them at once.

    That takes half as long, but has to be one text: reading another one takes as long again.
    """

    one: str
    block: str | None


def _marks(count: int) -> str:
    return f"({', '.join('?' * count)})"


def _inserting(statement: Any, *names: str) -> _ForRows:
    """Make what inserts rows."""
    one = _text(statement, *names)
    marks = _marks(len(names))
    return _ForRows(one, one.replace(marks, ",".join([marks] * _BLOCK)))


def _updating(names: Sequence[str], change: Callable[[Any], Any]) -> _ForRows:
    """Make what updates rows: ``change`` does it by columns, or values, of these names."""
    values = SimpleNamespace(**{name: bindparam(f"of_{name}") for name in names})
    one = _text(change(values), *(f"of_{name}" for name in names))
    if sqlite_version_info < _WITH_FROM:
        return _ForRows(one, None)
    # As SQLite calls the columns of VALUES. (Of what begins with WITH the driver counts no rows.)
    columns: list[Any] = [column(f"column{place}") for place in range(1, len(names) + 1)]
    given = table("given", *columns)
    text = _text(change(SimpleNamespace(**dict(zip(names, given.c, strict=True)))))
    rows = ",".join([_marks(len(names))] * _BLOCK)
    return _ForRows(one, text.replace(" FROM given ", f" FROM (VALUES {rows}) AS given "))


class SQLite(Database):
    """Each transaction begins with the lock of the writer, so that none has to be undone."""

    isolation = "AUTOCOMMIT"

    def __init__(self, tables: Tables, given: bool) -> None:
        super().__init__(tables, True)
        jobs, runs, _, _ = tables
        me: BindParameter[str] = bindparam("me")
        place: ColumnElement[int] = column("rowid", BigInteger, _selectable=jobs)
        self.look = _text(self.select_earliest.limit(None)) + " LIMIT 1"
        due = (
            select(
                *(jobs.c.id, jobs.c.next_run, jobs.c.version, jobs.c.record, jobs.c.fence + _ONE),
                self.elsewhere,
                place,
            )
            .where(jobs.c.due_at <= self.now)
            .order_by(jobs.c.due_at)
        )
        self.select_due = _text(due, "me", "now") + " LIMIT ?"
        self.claim_rows = _updating(
            ("due", "place"),
            lambda row: (
                update(jobs)
                .where(place == row.place)
                .values(due_at=row.due, fence=jobs.c.fence + _ONE)
            ),
        )
        self.look_for_member = _text(self.select_member, "me")
        self.advance_rows = _updating(
            ("next", "due", "of", "fence"),
            lambda row: (
                update(jobs)
                .where(jobs.c.id == row.of, jobs.c.fence == row.fence)
                .values(next_run=row.next, due_at=row.due, fence=jobs.c.fence + _ONE)
            ),
        )
        row = (jobs.c.id == bindparam("of_job"), jobs.c.fence == bindparam("known"))
        self.end_row = _ForRows(_text(delete(jobs).where(*row), "of_job", "known"), None)
        self.insert_runs = _inserting(
            insert(runs), "job_id", "run_time", "member", "fence", "record"
        )
        self.delete_run = _text(
            delete(runs).where(
                runs.c.job_id == bindparam("of_job"),
                runs.c.run_time == bindparam("of_time"),
                runs.c.fence == bindparam("known"),
                runs.c.member == me,
            ),
            *("of_job", "of_time", "known", "me"),
        )

    def clock(self) -> ColumnElement[int]:
        return bindparam("now", type_=BigInteger)

    def instant(self, connection: Connection) -> int:
        return time.time_ns() // 1000

    def at(self, now: int | None) -> dict[str, Any]:
        return {"now": time.time_ns() // 1000 if now is None else now}

    def begin(self, connection: Connection) -> None:
        self._run(connection, "BEGIN IMMEDIATE")

    def commit(self, connection: Connection) -> None:
        self._run(connection, "COMMIT")

    def rollback(self, connection: Connection) -> None:
        self._run(connection, "ROLLBACK")

    def _run(
        self, connection: Connection, statement: str, values: Sequence[Any] = (), many: bool = False
    ) -> Any:
        """Execute a statement by the driver alone, or once for each row; give its cursor.

        What SQLAlchemy does around it takes longer than most of ours, for there is no server to
        be waited for. Raises SQLAlchemy's errors nevertheless.
        """
        driver: Any = connection.connection.dbapi_connection
        try:
            return (driver.executemany if many else driver.execute)(statement, values)
        except Exception as error:
            dialect = connection.dialect
            base: Any = dialect.loaded_dbapi.Error
            if not isinstance(error, base):
                raise
            raise DBAPIError.instance(
                None, None, error, base, hide_parameters=True, dialect=dialect
            ) from error

    def _run_rows(self, connection: Connection, statement: _ForRows, rows: Sequence[Any]) -> int:
        """Execute a statement for rows of values; give how many rows of the table it changed."""
        full = 0 if statement.block is None else len(rows) - len(rows) % _BLOCK
        changed = 0
        if statement.block is not None and full:
            blocks = [
                tuple(chain.from_iterable(rows[at : at + _BLOCK])) for at in range(0, full, _BLOCK)
            ]
            changed += self._run(connection, statement.block, blocks, many=True).rowcount
        if full < len(rows):
            changed += self._run(connection, statement.one, rows[full:], many=True).rowcount
        return changed

    def check(self, connection: Connection) -> None:
        if sqlite_version_info < _OLDEST:
            version, oldest = (".".join(map(str, each)) for each in (sqlite_version_info, _OLDEST))
            raise RuntimeError(f"this Python has SQLite {version}, {oldest} or later is needed")
        patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() / 1000
        deadline = time.monotonic() + patience
        while connection.exec_driver_sql("PRAGMA journal_mode").scalar() not in ("wal", "memory"):
            try:
                # Readers and the writer do not wait for each other, a commit is written once.
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            except OperationalError:
                # It does not wait for another that does the same: each of them holds a lock of
                # readers, which the other's would have to wait for.
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_AGAIN)

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
        present = self.at(now)["now"]
        due = self._run(connection, self.look).fetchone()
        if due is None or due[0] > present:
            return present, []
        with self.lazily(connection):
            found = self._run(connection, self.select_due, (member, present, limit)).fetchall()
            until = present + lease
            self._run_rows(connection, self.claim_rows, [(until, row[-1]) for row in found])
        return present, [ClaimedRow._make(row[:-1]) for row in found]

    @contextmanager
    def lazily(self, connection: Connection) -> Iterator[None]:
        """Do a transaction that need not be on the disk when it ends.

        A claim that is forgotten in a crash has moved nothing, and a run that is found again was
        not lost.
        """
        level = connection.info.get("tocsin_synchronous")
        if level is None:
            (level,) = self._run(connection, "PRAGMA synchronous").fetchone()
            connection.info["tocsin_synchronous"] = level
            if self._run(connection, "PRAGMA cache_size").fetchone() == (_USUAL_CACHE,):
                self._run(connection, f"PRAGMA cache_size = {_CACHE}")
        self._run(connection, "PRAGMA synchronous = NORMAL")
        try:
            with self.transaction(connection):
                yield
        finally:
            self._run(connection, f"PRAGMA synchronous = {level:d}")

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
        if self._run(connection, self.look_for_member, (member,)).fetchone() is None:
            raise Refused
        on: list[Any] = []
        ended: list[Any] = []
        begun: list[Any] = []
        for job_id, fence, next_run, times, record in entries:
            if next_run is None:
                ended.append((job_id, fence))
            else:
                on.append((next_run, next_run, job_id, fence))
            begun.extend((job_id, at, member, fence, record) for at in times)
        for statement, rows in ((self.advance_rows, on), (self.end_row, ended)):
            if self._run_rows(connection, statement, rows) != len(rows):
                raise Refused
        self._run_rows(connection, self.insert_runs, begun)

    def settle(self, connection: Connection, member: str, claims: Sequence[Claim]) -> list[bool]:
        with self.lazily(connection):
            held = self.recorded(connection, member, claims)
            self.delete_runs(connection, member, claims)
        return held

    def delete_runs(self, connection: Connection, member: str, claims: Sequence[Claim]) -> int:
        rows = [(*key, member) for key in self.run_keys(claims)]
        return int(self._run(connection, self.delete_run, rows, many=True).rowcount)
