"""The steps of the SQL store, as every database can take them: in transactions with row locks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from socket import socket
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from tocsin.claims import Claim
from tocsin.errors import ConflictingIdError
from tocsin.stores.rows import Advance, ClaimedRow, OrphanedRuns, Row
from tocsin.stores.shared import which_replaced
from tocsin.stores.sql.schema import Tables

__all__ = ["Database", "Refused"]

#: So many rows, or values in a list, at once.
CHUNK = 1000
#: So much higher is the fence of runs that are taken over: a job is not claimed as often while one
#: of its runs goes on, so that no claim before or after has the same one.
_APART = 1 << 32
_Item = TypeVar("_Item")


class Refused(Exception):
    """Not all rows of a batch could be changed; the transaction is to be undone."""


class Database:
    """Reads and changes the tables of a store, over a connection that it is handed.

    ``given`` says that instants are handed in, or else they are the server's. Each method is one
    atomic step, or a transaction.
    """

    #: The isolation level of the connections that are wanted.
    isolation = "READ COMMITTED"

    def __init__(self, tables: Tables, given: bool) -> None:
        self.tables = tables
        self.given = given
        self.now: ColumnElement[int] = bindparam("now", type_=BigInteger) if given else self.clock()
        jobs, runs, members, _ = tables
        me: BindParameter[str] = bindparam("me")
        ids: BindParameter[Any] = bindparam("ids", expanding=True)
        columns = (jobs.c.id, jobs.c.next_run, jobs.c.version, jobs.c.record)
        self.select_row = select(*columns).where(jobs.c.id == bindparam("of_job"))
        self.select_rows = select(*columns).order_by(jobs.c.next_run.is_(None), jobs.c.next_run)
        self.select_earliest = (
            select(jobs.c.due_at).where(jobs.c.due_at.is_not(None)).order_by(jobs.c.due_at).limit(1)
        )
        self.select_taken = select(jobs.c.id).where(jobs.c.id.in_(ids)).with_for_update()
        self.elsewhere = (
            select(func.count(runs.c.fence.distinct()))
            .where(runs.c.job_id == jobs.c.id, runs.c.member != me)
            .scalar_subquery()
        )
        self.select_fences = (
            select(jobs.c.id, jobs.c.fence).where(jobs.c.id.in_(ids)).with_for_update()
        )
        self.select_runs = (
            select(runs.c.job_id, runs.c.run_time, runs.c.fence, runs.c.member)
            .where(runs.c.job_id.in_(ids))
            .with_for_update()
        )
        self.select_member = select(members.c.name).where(members.c.name == me)
        version = jobs.c.version == bindparam("known")
        of_job = jobs.c.id == bindparam("of_job")
        self.write_record = (
            update(jobs)
            .where(of_job, version)
            .values(record=bindparam("text"), version=jobs.c.version + 1)
        )
        self.move = self.write_record.values(
            next_run=bindparam("instant", type_=BigInteger),
            due_at=bindparam("instant", type_=BigInteger),
            fence=jobs.c.fence + 1,
        )
        self.release_row = (
            update(jobs)
            .where(of_job, jobs.c.fence == bindparam("known"))
            .values(due_at=bindparam("instant", type_=BigInteger), fence=jobs.c.fence + 1)
        )
        self.delete_row = delete(jobs).where(of_job)
        self.drop_repeats = (
            update(runs)
            .where(runs.c.job_id == bindparam("of_job"), runs.c.record.is_not(None))
            .values(record="")
        )
        self.prolong = (
            update(members)
            .where(members.c.name == me)
            .values(expires_at=bindparam("until", type_=BigInteger))
        )
        self.leave_runs = delete(runs).where(
            runs.c.member == me, runs.c.record.is_(None) | (runs.c.record == "")
        )
        self.delete_member = delete(members).where(members.c.name == me)
        self.select_members = select(members.c.name, members.c.expires_at)
        self.select_owners = select(runs.c.member).distinct()
        self.expel = delete(members).where(
            members.c.name.in_(ids), members.c.expires_at <= bindparam("instant")
        )
        self.select_orphans = (
            select(runs)
            .where(runs.c.member.in_(ids), runs.c.member.not_in(select(members.c.name)))
            .with_for_update()
        )
        run = (
            runs.c.job_id == bindparam("of_job"),
            runs.c.run_time == bindparam("of_time"),
            runs.c.fence == bindparam("known"),
        )
        self.take_run = (
            update(runs).where(*run).values(member=bindparam("taker"), fence=runs.c.fence + _APART)
        )
        self.hand_back = (
            update(runs)
            .where(
                *(runs.c.job_id == bindparam("of_job"), runs.c.fence == bindparam("known")),
                runs.c.member == bindparam("taker"),
            )
            .values(member=bindparam("gone"))
        )
        self.drop_run = delete(runs).where(*run)

    # What differs

    def clock(self) -> ColumnElement[int]:
        """Give the server's clock as an expression, in microseconds since 1970."""
        raise NotImplementedError

    def instant(self, connection: Connection) -> int:
        """Read the server's clock."""
        return int(connection.execute(select(self.clock())).scalar_one())

    def begin(self, connection: Connection) -> None:
        """Begin a transaction, where that is not done by its first statement."""

    def commit(self, connection: Connection) -> None:
        connection.commit()

    def rollback(self, connection: Connection) -> None:
        connection.rollback()

    def check(self, connection: Connection) -> None:
        """Prepare the database; RuntimeError for one that is too old."""

    @contextmanager
    def making(self, connection: Connection) -> Iterator[None]:
        """Have others wait who want to make the tables, too."""
        with self.transaction(connection):
            self.lock_schema(connection)
            yield

    def make(self, connection: Connection) -> None:
        """Make the tables."""
        self.tables.meta.metadata.create_all(connection, tables=list(self.tables))

    def lock_schema(self, connection: Connection) -> None:
        """Have others wait until the transaction ends."""

    def announce(self, connection: Connection, sender: str) -> None:
        """Tell others that something is due earlier than it was; only where there is a way."""

    def changes(self, connection: Connection, sender: str, stop: socket) -> Iterator[int | None]:
        """Wait for others to change something, until ``stop`` can be read; () if there is no way.

        Give what is due first then, or None where that is not known.
        """
        return iter(())

    def upsert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Insert rows, or replace the record and the next run time of those that are there."""
        raise NotImplementedError

    def advance_held(self, connection: Connection, member: str, entries: Sequence[Advance]) -> None:
        """Advance rows and insert their runs; raise `Refused` unless all fences are current."""
        raise NotImplementedError

    def delete_runs(self, connection: Connection, member: str, claims: Sequence[Claim]) -> int:
        """Take out the runs of claims as far as they are the member's; give how many they were."""
        raise NotImplementedError

    def is_undone(self, error: Exception) -> bool:
        """Tell whether the database has undone the transaction and it is to be tried again."""
        return False

    def at(self, now: int | None) -> dict[str, Any]:
        """Give the parameters of statements that need the time."""
        return {"now": now} if self.given else {}

    def time(self, connection: Connection, now: int | None) -> int:
        """Give the instant that decides."""
        return self.instant(connection) if now is None else now

    @contextmanager
    def transaction(self, connection: Connection) -> Iterator[None]:
        """Do all of the block, or nothing."""
        self.begin(connection)
        try:
            yield
        except BaseException:
            if not connection.invalidated:
                self.rollback(connection)
            raise
        self.commit(connection)

    # Rows

    def row(self, connection: Connection, job_id: str) -> Row | None:
        found = connection.execute(self.select_row, {"of_job": job_id}).first()
        return None if found is None else Row(*found)

    def rows(self, connection: Connection) -> list[Row]:
        return [Row(*found) for found in connection.execute(self.select_rows)]

    def earliest(self, connection: Connection) -> int | None:
        return connection.execute(self.select_earliest).scalar()

    def insert(self, connection: Connection, rows: Sequence[Row], replace: bool) -> list[bool]:
        if replace:
            return self._insert_or_replace(connection, rows)
        ids = [row.id for row in rows]
        twice = [job_id for job_id, count in Counter(ids).items() if count > 1]
        if twice:
            raise ConflictingIdError(twice[0])
        try:
            self.insert_new(connection, rows)
        except IntegrityError:
            taken = self._taken(connection, ids)
            if not taken:  # it was removed meanwhile
                raise
            raise ConflictingIdError(next(each for each in ids if each in taken)) from None
        return [False] * len(rows)

    def insert_new(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Insert rows, all or none; IntegrityError when an id is taken."""
        with self.transaction(connection):
            for chunk in chunks(self.values(rows, self.instant(connection)), 10 * CHUNK):
                connection.execute(insert(self.tables.jobs), chunk)

    def _insert_or_replace(self, connection: Connection, rows: Sequence[Row]) -> list[bool]:
        last = {row.id: row for row in rows}
        with self.transaction(connection):
            taken = self._taken(connection, list(last))
            for chunk in chunks(last.values(), CHUNK):
                self.upsert(connection, chunk)
        return which_replaced(rows, taken)

    @staticmethod
    def values(rows: Iterable[Row], base: int) -> list[dict[str, Any]]:
        """Give columns for new rows.

        An id that is removed and added again must not have a version or a fence that it had
        before: both begin with the time, and no row is changed a million times a second.
        """
        return [
            {
                "id": row.id,
                "next_run": row.next_run,
                "due_at": row.next_run,
                "version": base,
                "fence": base,
                "record": row.record,
            }
            for row in rows
        ]

    def _taken(self, connection: Connection, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for chunk in chunks(ids, CHUNK):
            found.update(connection.execute(self.select_taken, {"ids": chunk}).scalars())
        return found

    def replace(self, connection: Connection, row: Row, moved: bool) -> bool:
        values = {"of_job": row.id, "known": row.version, "text": row.record}
        if not moved:
            return self.change(connection, self.write_record, values) == 1
        return self.change(connection, self.move, {**values, "instant": row.next_run}) == 1

    def change(self, connection: Connection, statement: Any, values: Any) -> int:
        """Execute one statement, as a transaction; give the number of rows."""
        if self.isolation == "AUTOCOMMIT":
            return connection.execute(statement, values).rowcount
        with self.transaction(connection):
            return connection.execute(statement, values).rowcount

    def remove(self, connection: Connection, job_id: str) -> bool:
        with self.transaction(connection):
            found = connection.execute(self.delete_row, {"of_job": job_id}).rowcount
            connection.execute(self.drop_repeats, {"of_job": job_id})
        return found > 0

    def remove_all(self, connection: Connection) -> None:
        with self.transaction(connection):
            connection.execute(delete(self.tables.jobs))
            connection.execute(delete(self.tables.runs))

    def release(self, connection: Connection, job_id: str, fence: int, until: int) -> None:
        values = {"of_job": job_id, "known": fence, "instant": until}
        self.change(connection, self.release_row, values)

    # Claims and runs

    def claim(
        self, connection: Connection, member: str, now: int | None, lease: int, limit: int
    ) -> tuple[int, list[ClaimedRow]]:
        """Claim rows that are due, for so many microseconds; give the instant that decides, too."""
        raise NotImplementedError

    def advance(
        self, connection: Connection, member: str, entries: Sequence[Advance]
    ) -> list[bool]:
        try:
            with self.transaction(connection):
                self.advance_held(connection, member, entries)
        except (Refused, IntegrityError):
            pass
        else:
            return [True] * len(entries)
        with self.transaction(connection):
            held = self._held(connection, member, entries)
            kept = [entry for entry, holds in zip(entries, held, strict=True) if holds]
            if kept:
                self.advance_held(connection, member, kept)
        return held

    def _held(self, connection: Connection, member: str, entries: Sequence[Advance]) -> list[bool]:
        """Lock rows and tell which fences are current, of runs that are not recorded yet."""
        if connection.execute(self.select_member, {"me": member}).first() is None:
            return [False] * len(entries)
        fences: dict[str, int] = {}
        recorded: set[tuple[str, int]] = set()
        for chunk in chunks(sorted(entry.id for entry in entries), CHUNK):
            rows = connection.execute(self.select_fences, {"ids": chunk})
            fences.update((job_id, fence) for job_id, fence in rows)
            runs = connection.execute(self.select_runs, {"ids": chunk})
            recorded.update((run.job_id, run.run_time) for run in runs)
        return [
            fences.get(entry.id) == entry.fence
            and not any((entry.id, time) in recorded for time in entry.times)
            for entry in entries
        ]

    def runs_of(self, member: str, entries: Sequence[Advance]) -> list[dict[str, Any]]:
        """Give the columns of the runs to insert."""
        return [
            {
                "job_id": entry.id,
                "run_time": time,
                "member": member,
                "fence": entry.fence,
                "record": entry.record,
            }
            for entry in entries
            for time in entry.times
        ]

    def settle(self, connection: Connection, member: str, claims: Sequence[Claim]) -> list[bool]:
        wanted = sum(len(claim.times) for claim in claims)
        try:
            with self.transaction(connection):
                if self.delete_runs(connection, member, claims) != wanted:
                    raise Refused
        except Refused:
            with self.transaction(connection):
                held = self.recorded(connection, member, claims)
                self.delete_runs(connection, member, claims)
            return held
        return [True] * len(claims)

    def recorded(self, connection: Connection, member: str, claims: Sequence[Claim]) -> list[bool]:
        found: set[tuple[Any, ...]] = set()
        for chunk in chunks(sorted(claim.job_id for claim in claims), CHUNK):
            runs = connection.execute(self.select_runs, {"ids": chunk})
            found.update(tuple(run) for run in runs)
        return [
            all((claim.job_id, time, claim.fence, member) in found for time in claim.times)
            for claim in claims
        ]

    def run_keys(self, claims: Sequence[Claim]) -> list[tuple[str, int, int]]:
        """Give the keys and the fences of the runs of claims."""
        return [(claim.job_id, time, claim.fence) for claim in claims for time in claim.times]

    # Members

    def renew(
        self, connection: Connection, member: str, now: int | None, lease: int
    ) -> tuple[int, bool]:
        try:
            return self._renew(connection, member, now, lease)
        except IntegrityError:  # another thread of this member has begun its lease meanwhile
            return self._renew(connection, member, now, lease)

    def _renew(
        self, connection: Connection, member: str, now: int | None, lease: int
    ) -> tuple[int, bool]:
        with self.transaction(connection):
            present = self.time(connection, now)
            values = {"me": member, "until": present + lease}
            known = connection.execute(self.prolong, values).rowcount == 1
            if not known:
                row = {"name": member, "expires_at": present + lease}
                connection.execute(insert(self.tables.members), row)
        return present, known

    def leave(self, connection: Connection, member: str) -> None:
        with self.transaction(connection):
            connection.execute(self.leave_runs, {"me": member})
            connection.execute(self.delete_member, {"me": member})

    def orphans(
        self, connection: Connection, member: str, now: int | None, taking: list[Any]
    ) -> list[OrphanedRuns]:
        """Expel members, and take their runs over: ``taking`` has them if the answer is lost."""
        present = self.time(connection, now)
        leases = dict(connection.execute(self.select_members).all())
        late = [name for name, until in leases.items() if until <= present and name != member]
        owners = set(connection.execute(self.select_owners).scalars())
        connection.rollback()
        if not late and owners <= leases.keys():
            return []
        with self.transaction(connection):
            # Who renews the lease now waits until this is done, and is told that it was too late.
            if late:
                connection.execute(self.expel, {"ids": late, "instant": present})
            gone = sorted(owners.difference(leases).union(late))
            runs = connection.execute(self.select_orphans, {"ids": gone}).all()
            kept = [run for run in runs if run.record != ""]
            removed = [run for run in runs if run.record == ""]
            taking[:] = kept
            if kept:
                connection.execute(self.take_run, [{**_key(run), "taker": member} for run in kept])
            if removed:
                connection.execute(self.drop_run, [_key(run) for run in removed])
        taking.clear()
        return _claims(kept)

    def taken(
        self, connection: Connection, member: str, taking: Sequence[Any]
    ) -> list[OrphanedRuns]:
        """Give those of runs that an earlier call of `orphans` was taking that it has taken."""
        current: dict[tuple[str, int], tuple[int, str]] = {}
        for chunk in chunks(sorted({run.job_id for run in taking}), CHUNK):
            for job_id, at, fence, owner in connection.execute(self.select_runs, {"ids": chunk}):
                current[job_id, at] = (fence, owner)
        return _claims(
            run
            for run in taking
            if current.get((run.job_id, run.run_time)) == (run.fence + _APART, member)
        )

    def give_back(self, connection: Connection, member: str, taken: Sequence[OrphanedRuns]) -> None:
        """Have runs be those of members who are gone."""
        with self.transaction(connection):
            connection.execute(
                self.hand_back,
                [
                    {"of_job": runs.id, "known": runs.fence, "taker": member, "gone": runs.member}
                    for runs in taken
                ],
            )


def _claims(runs: Iterable[Any]) -> list[OrphanedRuns]:
    """Put together the runs of each claim, with the fence that they have now."""
    found: dict[tuple[str, int], list[Any]] = {}
    for run in runs:
        found.setdefault((run.job_id, run.fence), []).append(run)
    return [
        OrphanedRuns(
            job_id,
            sorted(run.run_time for run in several),
            fence + _APART,
            several[0].record,
            several[0].member,
        )
        for (job_id, fence), several in found.items()
    ]


def _key(run: Any) -> dict[str, Any]:
    return {"of_job": run.job_id, "of_time": run.run_time, "known": run.fence}


def chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Give the items in lists of at most so many."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
