"""MariaDB and MySQL: transactions of a few statements, each for a whole batch.

The statements of the loop are texts in which the numbers of a batch are written out, and only ids
are parameters: the drivers put each parameter in its place in Python, and the server takes longer
to read a table out of JSON than rows of a statement.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Subquery,
    Table,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect

from tocsin.claims import Claim
from tocsin.stores.rows import Advance, ClaimedRow, Row
from tocsin.stores.sql.database import CHUNK, Database, Refused, chunks
from tocsin.stores.sql.schema import LONGEST_ID, Key, Tables, is_mariadb

__all__ = ["MySQL"]

#: The first versions with SKIP LOCKED and JSON_TABLE.
_OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0, 4)}
#: A deadlock, and a lock that was waited for too long.
_UNDONE = (1213, 1205)
#: So long, in seconds, those who want to make the tables wait for each other.
_LONGEST_WAIT = 60


def _given(*numbers: str) -> Subquery:
    """Make a table of a JSON array of arrays: a job's id, and these numbers."""
    types = {"job_id": f"VARCHAR({LONGEST_ID}) CHARACTER SET utf8mb4"}
    types.update(dict.fromkeys(numbers, "BIGINT"))
    columns = ", ".join(
        f"{name} {kind} PATH '$[{place}]'" for place, (name, kind) in enumerate(types.items())
    )
    table = f"JSON_TABLE(:given, '$[*]' COLUMNS ({columns})) AS t"
    return (
        text(f"SELECT * FROM {table}")  # noqa: S608
        .columns(column("job_id", Key), *(column(name, BigInteger) for name in numbers))
        .subquery("given")
    )


class MySQL(Database):
    """Sends what is taken out as one JSON array, which the server joins with the table."""

    def __init__(self, tables: Tables, given: bool) -> None:
        super().__init__(tables, given)
        meta = tables.meta
        name = f"{meta.schema or ''}.{meta.name}"
        self._lock = f"tocsin_{sha1(name.encode(), usedforsecurity=False).hexdigest()[:16]}"

    def check(self, connection: Connection) -> None:
        dialect = connection.dialect
        kind = "MariaDB" if is_mariadb(dialect) else "MySQL"
        version = dialect.server_version_info or _OLDEST[kind]
        if version < _OLDEST[kind]:
            found, oldest = (".".join(map(str, each)) for each in (version, _OLDEST[kind]))
            raise RuntimeError(f"the server is {kind} {found}, {oldest} or later is needed")
        self._prepare(dialect)

    def _prepare(self, dialect: Dialect) -> None:
        """Make the statements whose text depends on the server and the driver."""
        jobs, runs, members, _ = self.tables
        (index,) = jobs.indexes
        # A hint may name the table, by %(name)s.
        quoted = dialect.identifier_preparer.quote(str(index.name)).replace("%", "%%")
        collation = str(Key().load_dialect_impl(dialect).collation)  # type: ignore[attr-defined]
        me: BindParameter[str] = bindparam("me")
        # Others run few jobs that are due; to count there what is distinct takes a table for each.
        elsewhere = (
            select(runs.c.fence).where(runs.c.job_id == jobs.c.id, runs.c.member != me).exists()
        )
        # Numbers in one text, for PyMySQL reads each value in Python.
        numbers = (
            *(func.coalesce(jobs.c.next_run, jobs.c.due_at), jobs.c.version),
            *(jobs.c.fence + literal_column("1"), elsewhere, self.now),
        )
        self.select_due = (
            select(jobs.c.id, func.concat_ws(" ", *numbers), jobs.c.record)
            # By any other way it would lock more rows than it takes.
            .with_hint(jobs, f"FORCE INDEX ({quoted})")
            .where(jobs.c.due_at <= self.now)
            .order_by(jobs.c.due_at)
            .limit(bindparam("limit", type_=BigInteger))
            .with_for_update(skip_locked=True)
        )
        self._mark = "?" if dialect.paramstyle == "qmark" else "%s"
        value: ColumnElement[Any] = literal_column("{value}")
        ids: ColumnElement[Any] = literal_column("({ids})")
        claim = (
            update(jobs)
            .values(due_at=value, fence=jobs.c.fence + literal_column("1"))
            .where(jobs.c.id.op("IN")(ids))
        )
        others = select(runs.c.job_id, runs.c.fence).where(
            runs.c.member != value, runs.c.job_id.op("IN")(ids)
        )
        # Texts with room for marks of parameters: with many ids SQLAlchemy would take longer than
        # the server does.
        self._claim_rows, self._select_elsewhere = (
            str(statement.compile(dialect=dialect)) for statement in (claim, others)
        )
        # Whoever is no member has no row with its fence, see `advance_held`.
        member = select(members.c.name).where(members.c.name == value).exists()
        fence = func.if_(member, literal_column("{fence}"), literal_column("-1"))
        self._fence_of_member = str(fence.compile(dialect=dialect))

        # To insert rows that are there takes half as long as to update them by a join. A row that
        # is not there any more is inserted, which the transaction undoes: see `advance_held`.
        new = mysql.insert(jobs).inline().values(_row_of(jobs))
        held_on = jobs.c.fence == new.inserted.fence

        def moved(column: ColumnElement[int], value: ColumnElement[int]) -> ColumnElement[int]:
            return func.if_(held_on, value, column, type_=BigInteger)

        self._advance_rows = _with_rows(
            new.on_duplicate_key_update(
                [
                    ("next_run", moved(jobs.c.next_run, new.inserted.next_run)),
                    ("due_at", moved(jobs.c.due_at, new.inserted.due_at)),
                    ("fence", moved(jobs.c.fence, jobs.c.fence + literal_column("1"))),
                ]
            ),
            dialect,
        )
        self._insert_runs = _with_rows(insert(runs).inline().values(_row_of(runs)), dialect)
        entry = _given("fence")
        held = (jobs.c.id == entry.c.job_id.collate(collation), jobs.c.fence == entry.c.fence)
        self.end_rows = delete(jobs).where(
            *held, select(members.c.name).where(members.c.name == me).exists()
        )
        run = _given("run_time", "fence")
        self.delete_all_runs = delete(runs).where(
            runs.c.job_id == run.c.job_id.collate(collation),
            runs.c.run_time == run.c.run_time,
            runs.c.fence == run.c.fence,
            runs.c.member == me,
        )

    def clock(self) -> ColumnElement[int]:
        return literal_column(
            "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))", BigInteger
        )

    @contextmanager
    def making(self, connection: Connection) -> Iterator[None]:
        # Here making a table commits, so that a transaction does not help.
        connection.execute(select(func.get_lock(self._lock, _LONGEST_WAIT)))
        try:
            yield
            connection.commit()
        finally:
            connection.execute(select(func.release_lock(self._lock)))

    def is_undone(self, error: Exception) -> bool:
        arguments: Sequence[Any] = getattr(getattr(error, "orig", None), "args", ())
        return len(arguments) > 0 and arguments[0] in _UNDONE

    # Batches

    def claim(
        self, connection: Connection, member: str, now: int | None, lease: int, limit: int
    ) -> tuple[int, list[ClaimedRow]]:
        with self.transaction(connection):
            values = {"limit": limit, "me": member, **self.at(now)}
            found = connection.execute(self.select_due, values).all()
            if not found:
                return self.time(connection, now), []
            rows = []
            busy = []
            for job_id, numbers, record in found:
                next_run, version, fence, runs, present = map(int, numbers.split())
                rows.append((job_id, next_run, version, record, fence))
                if runs:
                    busy.append(job_id)
            for ids in chunks([row[0] for row in rows], CHUNK):
                self._execute(connection, self._claim_rows, present + lease, ids)
            others: set[tuple[str, int]] = set()
            for ids in chunks(busy, CHUNK):
                of_them = self._execute(connection, self._select_elsewhere, member, ids)
                others.update((job_id, fence) for job_id, fence in of_them)
        elsewhere = Counter(job_id for job_id, _ in others)
        return present, [ClaimedRow(*row, elsewhere[row[0]]) for row in rows]

    def _execute(self, connection: Connection, statement: str, value: Any, ids: list[str]) -> Any:
        marks = ",".join([self._mark] * len(ids))
        query = statement.replace("{value}", self._mark).replace("{ids}", marks)
        return connection.exec_driver_sql(query, (value, *ids))

    def upsert(self, connection: Connection, rows: Sequence[Row]) -> None:
        jobs = self.tables.jobs
        written = mysql.insert(jobs)
        one: ColumnElement[int] = literal_column(
            "1"
        )  # a parameter here keeps PyMySQL from sending many rows at once
        connection.execute(
            written.on_duplicate_key_update(
                next_run=written.inserted.next_run,
                due_at=written.inserted.due_at,
                version=jobs.c.version + one,
                fence=jobs.c.fence + one,
                record=written.inserted.record,
            ),
            self.values(rows, self.instant(connection)),
        )

    def advance_held(self, connection: Connection, member: str, entries: Sequence[Advance]) -> None:
        mark = self._mark
        on: list[str] = []
        ids: list[str] = []
        ended: list[Any] = []
        runs: list[str] = []
        values: list[str] = []
        for job_id, fence, next_run, times, record in entries:
            if next_run is None:
                ended.append((job_id, fence))
            elif on:
                on.append(f"({mark},{next_run:d},{next_run:d},0,{fence:d},'')")
                ids.append(job_id)
            else:
                known = self._fence_of_member.replace("{value}", mark)
                known = known.replace("{fence}", str(fence))
                on.append(f"({mark},{next_run:d},{next_run:d},0,{known},'')")
                ids += (job_id, member)
            kept = "NULL" if record is None else mark
            for at in times:
                runs.append(f"({mark},{at:d},{mark},{fence:d},{kept})")
                values += (job_id, member) if record is None else (job_id, member, record)
        # A row that was updated counts for two, one that was inserted or left as it is for one.
        if on:
            statement = self._advance_rows.replace("{rows}", ",".join(on))
            if connection.exec_driver_sql(statement, tuple(ids)).rowcount != 2 * len(on):
                raise Refused
        if ended:
            gone = connection.execute(self.end_rows, {"given": _json(ended), "me": member})
            if gone.rowcount != len(ended):
                raise Refused
        statement = self._insert_runs.replace("{rows}", ",".join(runs))
        connection.exec_driver_sql(statement, tuple(values))

    def delete_runs(self, connection: Connection, member: str, claims: Sequence[Claim]) -> int:
        values = {"given": _json(self.run_keys(claims)), "me": member}
        return connection.execute(self.delete_all_runs, values).rowcount


def _row_of(table: Table) -> dict[str, ColumnElement[Any]]:
    """Give values to insert that stand for those of all rows: see `_with_rows`."""
    return {column.name: literal_column(f"{{{column.name}}}") for column in table.columns}


def _with_rows(statement: Any, dialect: Dialect) -> str:
    """Compile a statement that inserts one row, with a place for any number of them."""
    return re.sub(r"\(\{\w+\}(, \{\w+\})*\)", "{rows}", str(statement.compile(dialect=dialect)))


def _json(rows: Sequence[Any]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
