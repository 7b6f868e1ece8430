"""MariaDB and MySQL: transactions of a few statements, each for a whole batch."""

from __future__ import annotations

import json
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
    bindparam,
    column,
    delete,
    func,
    insert,
    literal_column,
    null,
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
    """Sends a batch as one JSON array, which the server joins with the table."""

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
        self.select_due = (
            select(jobs.c.id, jobs.c.next_run, jobs.c.version, jobs.c.record, jobs.c.fence)
            .add_columns(self.now)
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
        # Counted here: counting there what is distinct takes a table for each job.
        elsewhere = (
            select(runs.c.job_id, runs.c.fence)
            .where(runs.c.member != value, runs.c.job_id.op("IN")(ids))
            .distinct()
        )
        # Texts with room for marks of parameters: with many ids SQLAlchemy would take longer than
        # the server does.
        self._claim_rows, self._select_elsewhere = (
            str(statement.compile(dialect=dialect)) for statement in (claim, elsewhere)
        )
        me: BindParameter[str] = bindparam("me")
        member = select(members.c.name).where(members.c.name == me).exists()

        # To insert rows that are there takes half as long as to update them by a join. A row that
        # is not there any more is inserted, which the transaction undoes: see `advance_held`.
        entry = _given("fence", "next_run")
        held_on = jobs.c.fence == entry.c.fence

        def moved(column: ColumnElement[int], value: ColumnElement[int]) -> ColumnElement[int]:
            return func.if_(held_on, value, column, type_=BigInteger)

        given = select(
            entry.c.job_id,
            *(entry.c.next_run, entry.c.next_run, entry.c.fence, entry.c.fence),
            literal_column("''"),
        )
        self.advance_rows = (
            mysql.insert(jobs)
            .from_select([column.name for column in jobs.c], given.where(member))
            .on_duplicate_key_update(
                [
                    ("next_run", moved(jobs.c.next_run, entry.c.next_run)),
                    ("due_at", moved(jobs.c.due_at, entry.c.next_run)),
                    ("fence", moved(jobs.c.fence, jobs.c.fence + literal_column("1"))),
                ]
            )
        )
        run = _given("run_time", "fence")
        self.insert_runs = insert(runs).from_select(
            [column.name for column in runs.c],
            select(run.c.job_id, run.c.run_time, me, run.c.fence, null()),
        )
        entry = _given("fence")
        held = (jobs.c.id == entry.c.job_id.collate(collation), jobs.c.fence == entry.c.fence)
        self.end_rows = delete(jobs).where(*held, member)
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
            found = connection.execute(self.select_due, {"limit": limit, **self.at(now)}).all()
            if not found:
                return self.time(connection, now), []
            present = int(found[0][-1])
            elsewhere: Counter[str] = Counter()
            for ids in chunks([row[0] for row in found], CHUNK):
                self._execute(connection, self._claim_rows, present + lease, ids)
                runs = self._execute(connection, self._select_elsewhere, member, ids)
                elsewhere.update(runs.scalars())
        return present, [
            ClaimedRow(job_id, next_run, version, record, fence + 1, elsewhere[job_id])
            for job_id, next_run, version, record, fence, _ in found
        ]

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
        on: list[Any] = []
        ended: list[Any] = []
        for job_id, fence, next_run, _, _ in entries:
            if next_run is None:
                ended.append((job_id, fence))
            else:
                on.append((job_id, fence, next_run))
        # A row that was updated counts for two, one that was inserted or left as it is for one.
        for statement, rows, each in ((self.advance_rows, on, 2), (self.end_rows, ended, 1)):
            values = {"given": _json(rows), "me": member}
            if rows and connection.execute(statement, values).rowcount != each * len(rows):
                raise Refused
        if any(entry.record is not None for entry in entries):
            connection.execute(insert(self.tables.runs), self.runs_of(member, entries))
            return
        begun = [(entry.id, time, entry.fence) for entry in entries for time in entry.times]
        connection.execute(self.insert_runs, {"given": _json(begun), "me": member})

    def delete_runs(self, connection: Connection, member: str, claims: Sequence[Claim]) -> int:
        values = {"given": _json(self.run_keys(claims)), "me": member}
        return connection.execute(self.delete_all_runs, values).rowcount


def _json(rows: Sequence[Any]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
