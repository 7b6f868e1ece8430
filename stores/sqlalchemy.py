"""The job store of SQL databases; ``docs/stores/sqlalchemy.md`` describes it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from inspect import signature
from secrets import token_hex
from socket import socket, socketpair
from typing import Any, TypeVar

from tocsin.callables import maybe_ref
from tocsin.claims import Claim
from tocsin.errors import suggestion
from tocsin.stores.options import SHARED_OPTIONS
from tocsin.stores.rows import PAUSES, Advance, ClaimedRow, NotRun, OrphanedRuns, Row, RowJobStore
from tocsin.stores.shared import elapsed

try:
    from sqlalchemy import Connection, MetaData, insert, inspect, select
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool
except ImportError as error:
    raise ImportError(
        f"this needs SQLAlchemy 2, which can't be imported ({error}): pip install"
        " tocsin[sqlalchemy]"
    ) from error

from tocsin.stores.sql.database import Database
from tocsin.stores.sql.engines import checked_engine, make_engine, parsed, shown
from tocsin.stores.sql.mysql import MySQL
from tocsin.stores.sql.postgresql import PostgreSQL
from tocsin.stores.sql.schema import LONGEST_ID, VERSION, make_tables
from tocsin.stores.sql.sqlite import SQLite

__all__ = ["SQLAlchemyJobStore"]

#: A connection that was idle for so many seconds is tried before it is used for what can't be
#: done twice.
_IDLE = 1.0
_KINDS: Mapping[str, type[Database]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "mariadb": MySQL,
    "mysql": MySQL,
}
#: Columns of APScheduler's table of jobs.
_OF_APSCHEDULER = {"id", "next_run_time", "job_state"}
_Result = TypeVar("_Result")


class SQLAlchemyJobStore(RowJobStore):
    """Keep jobs in SQLite, PostgreSQL, MariaDB or MySQL, shared by any number of schedulers.

    ``url`` is the address of the database, as SQLAlchemy reads it; ``engine`` an engine to use
    instead, or a reference to one, which is not disposed of. ``tablename`` is the name of the
    table of jobs; those of the other three begin with it. ``metadata`` is a ``MetaData`` that
    gets the tables, or a reference to one; ``tableschema`` the schema in which they are.
    ``engine_options`` are further arguments of ``create_engine``, or a reference to them.
    ``pickle_protocol`` is accepted since APScheduler has it, and has no effect. Further
    arguments are those of `SharedJobStore`.

    Raises TypeError for an argument that is unknown, ValueError for a value that is wrong,
    ImportError when the driver of the database is not installed.

    With n jobs in the store, finding, adding or changing one and finding the next that is due
    take O(log n), claiming and advancing k of them O(k log n), listing them O(n log n).
    """

    def __init__(
        self,
        url: Any = None,
        engine: Any = None,
        tablename: str = "tocsin_jobs",
        metadata: Any = None,
        pickle_protocol: int | str | None = None,
        tableschema: str | None = None,
        engine_options: Mapping[str, Any] | str | None = None,
        **options: Any,
    ) -> None:
        for name in options:
            if name not in SHARED_OPTIONS:
                known = [*signature(SQLAlchemyJobStore).parameters, *SHARED_OPTIONS]
                known.remove("options")
                raise TypeError(
                    f"{name}: unknown{suggestion(name, known)}; SQLAlchemyJobStore takes"
                    f" {', '.join(known)}"
                )
        super().__init__(**options)
        if (url is None) == (engine is None):
            raise ValueError("url: either it or an engine is needed, and not both")
        if not isinstance(tablename, str) or not tablename:
            raise ValueError(f"tablename: {tablename!r} is not the name of a table")
        self._given_engine = None if engine is None else checked_engine(maybe_ref(engine))
        self._url = parsed(url) if self._given_engine is None else self._given_engine.url
        kind = _KINDS.get(self._url.get_backend_name())
        if kind is None:
            raise ValueError(
                f"url: {self._url.get_backend_name()!r} is not supported; sqlite, postgresql,"
                " mariadb and mysql are"
            )
        metadata = MetaData() if metadata is None else maybe_ref(metadata)
        key = tablename if tableschema is None else f"{tableschema}.{tablename}"
        if key in metadata.tables:
            raise ValueError(
                f"metadata: it has a table {key!r} already; give each store a tablename of its own"
            )
        self.tablename = tablename
        self.tableschema = tableschema
        self.tables = make_tables(tablename, metadata, tableschema)
        self._database = kind(self.tables, self.clock == "scheduler")
        self._engine_options = dict(maybe_ref(engine_options) or {})
        self._connect()

    def _reset(self) -> None:
        super()._reset()
        self._sender = token_hex(8)
        self._stop: socket | None = None
        # Runs of which it is not known whether they were taken over.
        self._taking: list[Any] = []
        # Claims of which it is not known whether they were settled.
        self._maybe_settled: set[Claim] = set()

    # Life

    def _connect(self) -> None:
        """Make the engine; connections are made when they are needed."""
        isolation = self._database.isolation
        if self._given_engine is None:
            self._engine = make_engine(self._url, isolation, self._engine_options)
        else:
            self._engine = self._given_engine.execution_options(isolation_level=isolation)
        one = self._url.get_backend_name() == "sqlite"
        # SQLite has one writer, and in memory one connection: who waits here waits in order.
        self._turn: AbstractContextManager[Any] = threading.RLock() if one else nullcontext()

    def _open(self) -> None:
        try:
            self._call(self._open_tables, again=True)
        except BaseException:
            self._close()
            raise
        self._listen()

    def _open_tables(self, connection: Connection) -> None:
        """Check the version of the tables, and make them if they are missing."""
        database = self._database
        database.check(connection)
        version = self._version(connection)
        if version is None and self.create:
            with database.making(connection):
                version = self._version(connection)
                if version is None:
                    self._refuse_tables_of_others(connection)
                    database.make(connection)
                    connection.execute(insert(self.tables.meta), {"version": VERSION})
                    version = VERSION
        if version is None:
            self._refuse_table_of_apscheduler(connection)
            raise self._no_store()
        if version > VERSION:
            raise self._other_version(version, VERSION)

    def _version(self, connection: Connection) -> int | None:
        meta = self.tables.meta
        if not inspect(connection).has_table(meta.name, schema=self.tableschema):
            return None
        return connection.execute(select(meta.c.version)).scalar()

    def _refuse_table_of_apscheduler(self, connection: Connection) -> None:
        """Say what to do about jobs of APScheduler's, where there is no job store of tocsin's."""
        inspector = inspect(connection)
        name = self.tablename
        if not inspector.has_table(name, schema=self.tableschema):
            return
        found = {column["name"] for column in inspector.get_columns(name, self.tableschema)}
        if found >= _OF_APSCHEDULER:
            raise RuntimeError(
                f"{self!r}: the table {name!r} is APScheduler's; give another tablename, and have"
                " `tocsin store migrate` copy its jobs"
            )

    def _refuse_tables_of_others(self, connection: Connection) -> None:
        self._refuse_table_of_apscheduler(connection)
        inspector = inspect(connection)
        for table in self.tables:
            if inspector.has_table(table.name, schema=self.tableschema):
                raise RuntimeError(
                    f"{self!r}: there is a table {table.name!r} that is not tocsin's; give another"
                    " tablename"
                )

    def _close(self) -> None:
        if self._stop is not None:
            self._end_listener(self._stop.close)
        if self._given_engine is None:
            self._engine.dispose()

    def before_fork(self) -> None:
        """End SQLite's transaction: its library keeps in the process which locks are held."""
        self._turn.__enter__()

    def after_fork_in_parent(self) -> None:
        """Let others have their turn again."""
        self._turn.__exit__(None, None, None)

    def after_fork(self) -> None:
        """Forget, in a forked child, the connections and the member of its parent."""
        if self._stop is not None:
            self._stop.close()  # a copy: while one is open, the parent's listener goes on
        super().after_fork()
        self._engine.dispose(close=False)
        self._connect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self._url)} {self.tablename}>"

    # Calling

    def _call(self, step: Callable[..., _Result], *values: Any, again: bool = False) -> _Result:
        """Take a step over a connection.

        It is tried a few times when it is known that it was not taken, or with ``again``, for
        steps that may be taken twice. What is doubtful raises.
        """
        for pause in PAUSES:
            try:
                return self._attempt(step, values, again)
            except NotRun:
                pass
            except DBAPIError as error:
                lost = again and error.connection_invalidated
                if not lost and not self._database.is_undone(error):
                    raise
            time.sleep(pause * random.uniform(0.5, 1.5))
        try:
            return self._attempt(step, values, again)
        except NotRun as error:
            raise error.reason from None

    def _attempt(self, step: Callable[..., _Result], values: Sequence[Any], again: bool) -> _Result:
        with self._turn:
            try:
                connection = self._engine.connect()
            except DBAPIError as error:
                raise NotRun(error) from error
            with connection:
                idle = elapsed() - connection.info.get("tocsin_used", 0)
                if not again and idle > _IDLE:
                    try:
                        connection.exec_driver_sql("SELECT 1")
                    except DBAPIError as error:
                        raise NotRun(error) from error
                result = step(connection, *values)
                connection.info["tocsin_used"] = elapsed()
                return result

    # Announcements

    def _announce(self) -> None:
        with suppress(DBAPIError):  # the others poll
            self._call(self._database.announce, self._sender, again=True)

    def _listen(self) -> None:
        # Of a single connection, which is that of a database in memory, nobody else knows.
        if self._listener is None and not isinstance(self._engine.pool, StaticPool):
            stop, self._stop = socketpair()
            self._start_listener(self._hear, stop)

    def _hear(self, stop: socket) -> None:
        """Wake the scheduler when others change something; in a thread of its own."""
        pause = 0.1
        with stop:
            while True:
                try:
                    with self._engine.connect() as connection:
                        connection.detach()  # the pool may be small
                        for due in self._database.changes(connection, self._sender, stop):
                            pause = 0.1
                            known = self._known_due
                            if due is None or known is None or due < known:
                                self._woken()
                    return
                except Exception as error:
                    self._logger.debug("%r: can't hear of changes: %s", self, error)
                    stop.settimeout(pause)
                    with suppress(TimeoutError):
                        stop.recv(1)
                        return
                    pause = min(2 * pause, self.lease / 3)

    # Rows

    def _row(self, job_id: str) -> Row | None:
        return self._call(self._database.row, job_id, again=True)

    def _rows(self) -> list[Row]:
        return self._call(self._database.rows, again=True)

    def _insert(self, rows: Sequence[Row], replace: bool) -> list[bool]:
        for row in rows:
            if len(row.id) > LONGEST_ID:
                raise ValueError(
                    f"id: {row.id[:40]!r}... has {len(row.id)} characters, at most {LONGEST_ID}"
                    " can be stored"
                )
        return self._call(self._database.insert, rows, replace)

    def _replace(self, row: Row, moved: bool) -> bool:
        return self._call(self._database.replace, row, moved)

    def _delete(self, job_id: str) -> bool:
        return self._call(self._database.remove, job_id)

    def _delete_all(self) -> None:
        self._call(self._database.remove_all, again=True)

    def _earliest(self) -> int | None:
        return self._call(self._database.earliest, again=True)

    # Claims and runs

    def _claim_rows(self, member: str, now: int | None, limit: int) -> tuple[int, list[ClaimedRow]]:
        present, rows = self._call(
            self._database.claim, member, now, self._microseconds, limit, again=True
        )
        return present, sorted(rows, key=_next_run)

    def _advance_rows(self, member: str, entries: Sequence[Advance]) -> list[bool]:
        return self._call(self._database.advance, member, entries)

    def _release_row(self, job_id: str, fence: int, until: int) -> None:
        self._call(self._database.release, job_id, fence, until, again=True)

    def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        try:
            held = self._call(self._database.settle, member, claims)
        except DBAPIError:
            self._maybe_settled.update(claims)
            raise
        maybe, self._maybe_settled = self._maybe_settled, set()
        return [was or claim in maybe for was, claim in zip(held, claims, strict=True)]

    def _recorded(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        return self._call(self._database.recorded, member, claims, again=True)

    # Members

    def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
        return self._call(self._database.renew, member, now, self._microseconds, again=True)

    def _leave(self, member: str) -> None:
        self._call(self._database.leave, member, again=True)

    def _orphans(self, member: str, now: int | None) -> list[OrphanedRuns]:
        if self._taking:
            found = self._call(self._database.taken, member, self._taking, again=True)
            self._taking.clear()
            if found:
                return found
        return self._call(self._database.orphans, member, now, self._taking)

    def _hand_back(self, member: str, taken: Sequence[OrphanedRuns]) -> None:
        self._call(self._database.give_back, member, taken, again=True)


def _next_run(row: ClaimedRow) -> int:
    return row.next_run
