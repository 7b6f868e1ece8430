"""PostgreSQL: each step of the loop is one statement, and so one round trip and one commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from select import select as wait
from socket import socket
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Text,
    any_,
    bindparam,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from tocsin.claims import Claim
from tocsin.stores.rows import Advance, ClaimedRow, Row
from tocsin.stores.sql.database import CHUNK, Database, Refused, chunks
from tocsin.stores.sql.schema import Tables

__all__ = ["PostgreSQL"]

_OLDEST = (9, 5)
#: Deadlocks, and transactions that could not be put in an order.
_UNDONE = ("40P01", "40001")
#: A range that all run times are in. It has the planner expect few runs of a job, and read them by
#: the index in the way that forgets those that are gone, also when it has counted none yet.
_ALL: tuple[Any, Any] = (literal_column(str(-(1 << 62))), literal_column(str(1 << 62)))
#: So many rows are inserted by one statement.
_MOST = 10 * CHUNK


def _given(name: str, **types: Any) -> Any:
    """Make a table of arrays, which are parameters named after the columns; see `_arrays`."""
    arrays = [
        cast(bindparam(f"all_{each}", type_=Text), ARRAY(kind)) for each, kind in types.items()
    ]
    return func.unnest(*arrays).table_valued(*types).render_derived(name=name)


class PostgreSQL(Database):
    """Writes batches as arrays, and answers with what could be done."""

    isolation = "AUTOCOMMIT"

    def __init__(self, tables: Tables, given: bool) -> None:
        super().__init__(tables, given)
        jobs, runs, _, meta = tables
        me: BindParameter[str] = bindparam("me", type_=Text)
        name = f"{meta.schema or ''}.{meta.name}"
        self._channel = f"tocsin_{sha1(name.encode(), usedforsecurity=False).hexdigest()[:16]}"

        # Where a row is takes no index to find, and is never looked for in all of the table (but
        # by PostgreSQL 11 and older). A row that others have moved on since we looked is not found.
        place: ColumnElement[Any] = column("ctid", _selectable=jobs)
        due = (
            select(place)
            .where(jobs.c.due_at <= self.now)
            .order_by(jobs.c.due_at)
            .limit(bindparam("limit", type_=BigInteger))
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        until = self.now + bindparam("lease", type_=BigInteger)
        claimed = (
            update(jobs)
            .where(place == due.c.ctid)
            .values(fence=jobs.c.fence + 1, due_at=until)
            .returning(
                jobs.c.id,
                jobs.c.next_run,
                jobs.c.version,
                jobs.c.record,
                jobs.c.fence,
                self.elsewhere.where(runs.c.run_time.between(*_ALL)).label("elsewhere"),
            )
            .cte("claimed")
        )
        # A claim that is forgotten in a crash has moved nothing, and a run that is found again was
        # not lost: they need not wait for the disk.
        lazily = func.set_config("synchronous_commit", "off", True)
        one = select(self.now.label("now"), lazily.label("lazily")).subquery("moment")
        self.claim_due = select(one.c.now, claimed).select_from(one.outerjoin(claimed, true()))

        self.advance_on, self.advance_any = (
            self._advancing(me, ending) for ending in (False, True)
        )
        # A run is looked for at a time, in the index, before any is deleted: of a table that is
        # thought to be empty, as it may have been when it was last vacuumed, all runs would be
        # compared with all others.
        settled = _given("run", job_id=Text, run_time=BigInteger, fence=BigInteger)
        place = column("ctid", _selectable=runs)
        found = (
            select(place)
            .where(
                runs.c.job_id == settled.c.job_id,
                runs.c.run_time == settled.c.run_time,
                runs.c.fence == settled.c.fence,
                runs.c.member == me,
            )
            .correlate(settled)
            .offset(literal_column("0"))  # what keeps the planner from another order
            .lateral("found")
        )
        ended = select(found.c.ctid).select_from(settled.join(found, true()))
        self.delete_all_runs = delete(runs).where(
            place == any_(func.array(ended.scalar_subquery())),
            runs.c.member == me,  # also of a row that another takes meanwhile
            select(lazily).scalar_subquery().is_not(None),
        )
        row = _given("entry", id=Text, next_run=BigInteger, record=Text)
        base = cast(self.clock(), BigInteger)
        new = postgresql.insert(jobs).from_select(
            ["id", "next_run", "due_at", "version", "fence", "record"],
            select(row.c.id, row.c.next_run, row.c.next_run, base, base, row.c.record),
        )
        self.insert_rows = new
        self.insert_or_replace = new.on_conflict_do_update(
            index_elements=[jobs.c.id],
            set_={
                "next_run": new.excluded.next_run,
                "due_at": new.excluded.due_at,
                "version": jobs.c.version + 1,
                "fence": jobs.c.fence + 1,
                "record": new.excluded.record,
            },
        )

    def _advancing(self, me: BindParameter[str], ending: bool) -> Any:
        """Make the statement that advances jobs, of which some may have ended."""
        jobs, runs, members, _ = self.tables
        # A row for each run: several of a job are alike but for their time.
        types = {"id": Text, "fence": BigInteger, "next_run": BigInteger, "run_time": BigInteger}
        run = select(_given("run", **types, record=Text)).cte("run")
        held = (
            jobs.c.id == run.c.id,
            jobs.c.fence == run.c.fence,
            select(members.c.name).where(members.c.name == me).exists(),
        )
        moved = (
            update(jobs)
            .where(*held)
            .values(next_run=run.c.next_run, due_at=run.c.next_run, fence=jobs.c.fence + 1)
            .returning(jobs.c.id)
        )
        if ending:
            moved = moved.where(run.c.next_run.is_not(None))
            ended = delete(jobs).where(*held, run.c.next_run.is_(None)).returning(jobs.c.id)
            advanced: Any = union_all(select(moved.cte("moved")), select(ended.cte("ended")))
        else:
            advanced = select(moved.cte("moved"))
        columns = ["job_id", "run_time", "member", "fence", "record"]
        begun = select(run.c.id, run.c.run_time, me, run.c.fence, run.c.record)
        begin = insert(runs).from_select(columns, begun.where(run.c.id.in_(advanced)))
        return select(begin.returning(runs.c.job_id).cte("begun"))

    def clock(self) -> ColumnElement[int]:
        return literal_column(
            "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS BIGINT)", BigInteger
        )

    def check(self, connection: Connection) -> None:
        version = connection.dialect.server_version_info or _OLDEST
        if version < _OLDEST:
            found, oldest = (".".join(map(str, each)) for each in (version, _OLDEST))
            raise RuntimeError(f"the server is PostgreSQL {found}, {oldest} or later is needed")

    @contextmanager
    def transaction(self, connection: Connection) -> Iterator[None]:
        with _planned_anew(connection), super().transaction(connection):
            yield

    def begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")

    def commit(self, connection: Connection) -> None:
        connection.exec_driver_sql("COMMIT")

    def rollback(self, connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")

    def make(self, connection: Connection) -> None:
        super().make(connection)
        # Rows are written often: room for their next versions, and a vacuum before the old ones
        # are noticed.
        options = "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02"
        for table in (self.tables.jobs, self.tables.runs):
            name = connection.dialect.identifier_preparer.format_table(table)
            connection.exec_driver_sql(f"ALTER TABLE {name} SET ({options})")

    def lock_schema(self, connection: Connection) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(self._channel))))

    def is_undone(self, error: Exception) -> bool:
        cause = getattr(error, "orig", None)
        return (getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)) in _UNDONE

    # Announcements

    def announce(self, connection: Connection, sender: str) -> None:
        connection.execute(select(func.pg_notify(self._channel, sender)))

    def changes(self, connection: Connection, sender: str, stop: socket) -> Iterator[int | None]:
        read = _READERS.get(connection.dialect.driver)
        if read is None:
            return
        connection.exec_driver_sql(f"LISTEN {self._channel}")
        server: Any = connection.connection.dbapi_connection
        yield None  # there may have been changes before we listened
        while True:
            if stop in wait([server, stop], [], [])[0]:
                return
            if any(payload != sender for payload in read(server)):
                yield None

    # Batches

    def insert_new(self, connection: Connection, rows: Sequence[Row]) -> None:
        if len(rows) <= _MOST:
            connection.execute(self.insert_rows, _row_arrays(rows))
            return
        with self.transaction(connection):
            for chunk in chunks(rows, _MOST):
                connection.execute(self.insert_rows, _row_arrays(chunk))

    def upsert(self, connection: Connection, rows: Sequence[Row]) -> None:
        connection.execute(self.insert_or_replace, _row_arrays(rows))

    def claim(
        self, connection: Connection, member: str, now: int | None, lease: int, limit: int
    ) -> tuple[int, list[ClaimedRow]]:
        values = {"me": member, "lease": lease, "limit": limit, **self.at(now)}
        with _planned_anew(connection):
            found = connection.execute(self.claim_due, values).all()
        if found[0][1] is None:
            return found[0][0], []
        return found[0][0], [ClaimedRow(*row[1:]) for row in found]

    def advance(
        self, connection: Connection, member: str, entries: Sequence[Advance]
    ) -> list[bool]:
        try:
            return self._advance(connection, member, entries)
        except IntegrityError:  # a run is recorded already
            return super().advance(connection, member, entries)

    def _advance(
        self, connection: Connection, member: str, entries: Sequence[Advance]
    ) -> list[bool]:
        runs = [
            (job_id, fence, next_run, time, record)
            for job_id, fence, next_run, times, record in entries
            for time in times
        ]
        ending = any(entry.next_run is None for entry in entries)
        names = ("id", "fence", "next_run", "run_time", "record")
        statement = self.advance_any if ending else self.advance_on
        with _planned_anew(connection):
            advanced = connection.execute(statement, {"me": member, **_arrays(names, runs)})
            held = set(advanced.scalars())
        return [entry.id in held for entry in entries]

    def advance_held(self, connection: Connection, member: str, entries: Sequence[Advance]) -> None:
        if not all(self._advance(connection, member, entries)):
            raise Refused

    def delete_runs(self, connection: Connection, member: str, claims: Sequence[Claim]) -> int:
        values = _arrays(("job_id", "run_time", "fence"), self.run_keys(claims))
        return connection.execute(self.delete_all_runs, {"me": member, **values}).rowcount


@contextmanager
def _planned_anew(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL plan statements for the tables as they are.

    The plan of one that psycopg has prepared is kept, and the number of runs goes from none to
    thousands within a second: with the plan for none, each run would be looked for in all of the
    table.
    """
    server: Any = connection.connection.dbapi_connection
    threshold = getattr(server, "prepare_threshold", None)
    if threshold is None:
        yield
        return
    server.prepare_threshold = None
    try:
        yield
    finally:
        server.prepare_threshold = threshold


def _row_arrays(rows: Sequence[Row]) -> dict[str, str]:
    names = ("id", "next_run", "record")
    return _arrays(names, [(row.id, row.next_run, row.record) for row in rows])


def _arrays(names: Sequence[str], rows: Sequence[Any]) -> dict[str, str]:
    """Write the columns of rows as arrays, in PostgreSQL's form: drivers take long for that."""
    columns = zip(*rows, strict=True)
    return {f"all_{name}": _array(values) for name, values in zip(names, columns, strict=True)}


def _array(values: Sequence[str | int | None]) -> str:
    kinds = set(map(type, values))
    if kinds == {int}:
        return f"{{{','.join(map(str, values))}}}"
    if kinds == {str}:
        text = '","'.join(values)  # type: ignore[arg-type]
        if "\\" not in text and text.count('"') == 2 * (len(values) - 1):
            return f'{{"{text}"}}'
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: str | int | None) -> str:
    if type(value) is int:
        return str(value)
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _read_psycopg(connection: Any) -> list[str]:
    pgconn = connection.pgconn
    pgconn.consume_input()
    heard = []
    while (notice := pgconn.notifies()) is not None:
        heard.append(notice.extra.decode())
    return heard


def _read_psycopg2(connection: Any) -> list[str]:
    connection.poll()
    heard = [notice.payload for notice in connection.notifies]
    connection.notifies.clear()
    return heard


#: By driver: what reads the payloads of notifications that have come.
_READERS = {"psycopg": _read_psycopg, "psycopg2": _read_psycopg2}
