"""The ReQL queries of the RethinkDB store, each one atomic step for each document that it writes.

A document of a job has its ``id``, which is a hash where the job's is too long, the job's id as
``job``, ``record``, ``version``, ``fence``, ``next``, ``due`` and ``runs``. Numbers of RethinkDB
are doubles: ``next`` and the times of runs are texts, ``due`` may be off by some microseconds from
the year 2255 on. ``claim`` is there as long as the job is claimed. ``ended`` says that the job is
gone, and only kept for its runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

try:
    from rethinkdb import RethinkDB
except ImportError as error:
    raise ImportError(
        f"this needs rethinkdb, which can't be imported ({error}): pip install tocsin[rethinkdb]"
    ) from error

__all__ = ["Queries", "key_of", "next_of"]

r: Any = RethinkDB()
#: Fences of runs that are taken over are so far from those of the claims to come.
_APART = 1_000_000
#: Before all instants. What others write in their place is no number, and in the index before or
#: after all numbers.
_EARLIEST = -(2**62)
_HASHED = "sha256:"
#: What a document has of a job, and not of runs that have outlived it.
_OF_JOBS = ("record", "version", "next", "due", "claim")


def key_of(job_id: str) -> str:
    """Give the primary key of a job, which may have 127 bytes, and none of them 0."""
    encoded = job_id.encode()
    if len(encoded) <= 120 and b"\0" not in encoded and not job_id.startswith(_HASHED):
        return job_id
    return _HASHED + sha256(encoded).hexdigest()


def next_of(due: int | None) -> dict[str, Any]:
    """Give what a document has of the next run time."""
    return {"next": None} if due is None else {"next": str(due), "due": due}


class Queries:
    """The queries on the three tables of a store."""

    def __init__(self, database: str, table: str) -> None:
        self.database = database
        self.names = (table, f"{table}_members", f"{table}_meta")
        self.jobs, self.members, self.meta = (r.db(database).table(each) for each in self.names)

    # The tables

    def make_database(self) -> Any:
        """Create the database if it is not there."""
        return r.branch(r.db_list().contains(self.database), {}, r.db_create(self.database))

    def existing(self) -> Any:
        """List the databases' tables that the store may have; empty without the database."""
        return r.branch(r.db_list().contains(self.database), r.db(self.database).table_list(), [])

    def make_table(self, name: str) -> Any:
        """Create a table if it is not there."""
        database = r.db(self.database)
        return r.branch(database.table_list().contains(name), {}, database.table_create(name))

    def make_index(self, name: str) -> Any:
        """Create an index of the table of jobs if it is not there."""
        options: dict[str, Any] = {}
        arguments: list[Any] = []
        if name == "owners":
            arguments = [lambda row: row["runs"].map(lambda run: run["member"])]
            options = {"multi": True}
        create = self.jobs.index_create(name, *arguments, **options)
        return r.branch(self.jobs.index_list().contains(name), {}, create)

    def wait(self) -> list[Any]:
        """Wait until tables and indexes can be used."""
        tables = [each.wait(timeout=30) for each in (self.jobs, self.members, self.meta)]
        return [*tables, self.jobs.index_wait()]

    def schema(self) -> Any:
        """Give the version of what is stored, or None."""
        return self.meta.get("schema")["version"].default(None)

    def occupied(self) -> Any:
        """Tell whether the table of jobs has any document."""
        return ~self.jobs.is_empty()

    def set_schema(self, version: int) -> Any:
        """Write the version, if there is none."""
        return self.meta.insert({"id": "schema", "version": version}, conflict="error")

    # Announcements

    def announce(self, sender: str, number: int) -> Any:
        """Change the document that others watch."""
        signal = {"id": "signal", "sender": sender, "number": number}
        return self.meta.insert(signal, conflict="replace", durability="soft")

    def changes(self) -> Any:
        """Watch that document."""
        return self.meta.get("signal").changes()

    # Members

    def renew(self, member: str, now: int | None, lease: int) -> Any:
        """Enter a member or prolong its lease; gives its document."""

        def renewed(row: Any) -> Any:
            renewals = r.branch(row == None, 0, row["renewals"])  # noqa: E711
            return {"id": member, "until": _instant(now) + lease, "renewals": renewals + 1}

        told = self.members.get(member).replace(renewed, durability="hard", return_changes="always")
        return told["changes"][0]["new_val"]

    def leave(self, member: str) -> Any:
        """Take out the runs of a member at most once, then the member."""
        pruned = self.jobs.get_all(member, index="owners").replace(
            lambda row: _without(
                row, lambda run: (run["member"] == member) & ~run.has_fields("record")
            ),
            durability="hard",
        )
        return pruned.do(lambda _: self.members.get(member).delete(durability="hard"))

    # Jobs

    def row(self, key: str) -> Any:
        """Give the document of a job, or None."""
        return self.jobs.get(key).do(
            lambda row: r.branch(
                row == None,  # noqa: E711
                None,
                row.has_fields("ended"),
                None,
                row.without("runs"),
            )
        )

    def rows(self) -> Any:
        """List the documents of all jobs."""
        return self.jobs.filter(lambda row: ~row.has_fields("ended")).without("runs")

    def present(self, keys: Sequence[str]) -> Any:
        """Give the ids of those jobs that are there."""
        return self.jobs.get_all(r.args(list(keys))).filter(lambda row: ~row.has_fields("ended"))[
            "job"
        ]

    def insert(self, documents: Sequence[Mapping[str, Any]], replace: bool) -> Any:
        """Add jobs; gives the ids of those that were there, and what went wrong."""

        def conflict(_: Any, old: Any, new: Any) -> Any:
            fences = r.expr([_fence(old) + 1, new["fence"]])
            revived = new.merge({"runs": old["runs"].default([]), "fence": fences.max()})
            if replace:
                return revived
            return r.branch(old.has_fields("ended"), revived, r.error("taken"))

        told = self.jobs.insert(
            list(documents), conflict=conflict, durability="hard", return_changes=True
        )
        return told.do(
            lambda told: told.pluck("errors", "first_error").merge(
                {
                    "replaced": told["changes"]
                    .filter(lambda each: each["old_val"] != None)  # noqa: E711
                    .filter(lambda each: ~each["old_val"].has_fields("ended"))
                    .map(lambda each: each["new_val"]["job"])
                }
            )
        )

    def withdraw(self, stamps: Mapping[str, int]) -> Any:
        """Take out jobs that were added, unless somebody has claimed or changed them."""
        keys = list(stamps)
        return r.expr(dict(stamps)).do(
            lambda stamps: self.jobs.get_all(r.args(list(keys))).replace(
                lambda row: r.branch(_fence(row) == stamps[row["id"]], None, row),
                durability="hard",
            )
        )

    def replace(self, key: str, version: int, record: str, moved: bool, due: int | None) -> Any:
        """Write a record if the version is still that; tells how many that were."""

        def replaced(row: Any) -> Any:
            change: dict[str, Any] = {"record": record, "version": version + 1}
            kept = row
            if moved:
                kept = row.without("claim", "due")
                change |= {**next_of(due), "fence": _fence(row) + 1}
            return r.branch(
                row == None,  # noqa: E711
                None,
                row.has_fields("ended") | (row["version"].default(0) != version),
                row,
                kept.merge(change),
            )

        return self.jobs.get(key).replace(replaced, durability="hard")["replaced"]

    def delete(self, key: str) -> Any:
        """Take a job out, but for its runs, which are not begun anew any more; tells how many."""

        def dropped(run: Any) -> Any:
            return r.branch(
                run.has_fields("record"), run.without("record").merge({"dropped": True}), run
            )

        def deleted(row: Any) -> Any:
            ended = {"ended": True, "runs": row["runs"].map(dropped)}
            return r.branch(
                row == None,  # noqa: E711
                None,
                row.has_fields("ended"),
                row,
                row["runs"].default([]).is_empty(),
                None,
                row.without(*_OF_JOBS).merge(ended),
            )

        told = self.jobs.get(key).replace(deleted, durability="hard")
        return told.do(lambda told: told["deleted"] + told["replaced"])

    def delete_all(self) -> Any:
        """Take all jobs and runs out."""
        return self.jobs.delete(durability="hard")

    # Claims and runs

    def claim(self, now: int | None, lease: int, limit: int, claim: str) -> Any:
        """Claim what is due; gives the instant, and the documents, each with when it was due."""
        instant = _instant(now)
        due = self.jobs.between(_EARLIEST, instant, index="due", right_bound="closed")
        told = (
            due.order_by(index="due")
            .limit(limit)
            .update(
                lambda row: r.branch(
                    row["due"] <= instant,
                    {"due": instant + lease, "fence": _fence(row) + 1, "claim": claim},
                    {},
                ),
                durability="hard",
                return_changes=True,
            )
        )
        return told.do(
            lambda told: {
                "now": instant,
                "rows": told["changes"].map(
                    lambda each: each["new_val"].merge({"due": each["old_val"]["due"]})
                ),
            }
        )

    def advance(self, entries: Mapping[str, Mapping[str, Any]], call: str) -> Any:
        """Advance jobs and record their runs; gives the keys of those whose claims held.

        By key, an entry has the ``fence``, the ``change`` of the document, what it has ``without``
        afterwards, and the ``run``. The same call may be made again.
        """

        def advanced(entries: Any) -> Any:
            def advance_row(row: Any) -> Any:
                entry = entries[row["id"]]
                run = entry["run"]
                held = (
                    (_fence(row) == entry["fence"])
                    & row.has_fields("claim")
                    & ~row["runs"].contains(
                        lambda other: (
                            other["times"].set_intersection(run["times"]).is_empty().not_()
                        )
                    )
                )
                change = entry["change"].merge({"runs": row["runs"].append(run)})
                return r.branch(
                    held,
                    r.branch(
                        entry["change"].has_fields("ended"),
                        row.without(*_OF_JOBS),
                        row.without("claim"),
                    ).merge(change),
                    row,
                )

            return these.replace(advance_row, durability="hard")

        these = self.jobs.get_all(r.args(list(entries)))
        return (
            r.expr(dict(entries))
            .do(advanced)
            .do(
                lambda _: these.filter(
                    lambda row: row["runs"].contains(lambda run: run["call"] == call)
                )["id"].coerce_to("array")
            )
        )

    def release(self, key: str, fence: int, until: int) -> Any:
        """Give a claimed job back until an instant."""
        return self.jobs.get(key).replace(
            lambda row: r.branch(
                row == None,  # noqa: E711
                None,
                (_fence(row) == fence) & row.has_fields("claim"),
                row.without("claim").merge({"due": until}),
                row,
            ),
            durability="hard",
        )

    def earliest(self) -> Any:
        """Give the earliest instant at which a job is due, or None."""
        due = self.jobs.between(_EARLIEST, -_EARLIEST, index="due", right_bound="closed")
        return due.order_by(index="due").nth(0)["due"].default(None)

    def settle(self, member: str, fences: Mapping[str, Sequence[int]]) -> Any:
        """Take out runs of a member; gives those that were there, as pairs of key and fence."""

        def settled(fences: Any) -> Any:
            def mine(row: Any, run: Any) -> Any:
                return (run["member"] == member) & fences[row["id"]].contains(run["fence"])

            told = self.jobs.get_all(r.args(list(keys))).replace(
                lambda row: _without(row, lambda run: mine(row, run)),
                durability="hard",
                return_changes=True,
            )
            return told["changes"].concat_map(
                lambda each: (
                    each["old_val"]["runs"]
                    .filter(lambda run: mine(each["old_val"], run))
                    .map(lambda run: [each["old_val"]["id"], run["fence"]])
                )
            )

        keys = list(fences)
        return r.expr({key: list(each) for key, each in fences.items()}).do(settled)

    def recorded(self, member: str, keys: Sequence[str]) -> Any:
        """Give the runs of a member, as pairs of key and fence, once a majority has them."""
        jobs = r.db(self.database).table(self.names[0], read_mode="majority")
        return (
            jobs.get_all(r.args(list(keys)))
            .concat_map(
                lambda row: (
                    row["runs"]
                    .filter(lambda run: run["member"] == member)
                    .map(lambda run: [row["id"], run["fence"]])
                )
            )
            .coerce_to("array")
        )

    def expel(self, member: str, now: int | None) -> Any:
        """Take out other members whose leases ran out; gives who is gone and has runs still."""
        late = self.members.filter(
            lambda row: (row["until"] <= _instant(now)) & (row["id"] != member)
        ).delete(durability="hard")
        # Who has runs had joined before: members are listed after the owners.
        return late.do(lambda _: self.jobs.distinct(index="owners").coerce_to("array")).do(
            lambda owners: owners.set_difference(self.members["id"].coerce_to("array"))
        )

    def take_over(self, member: str, gone: Sequence[str], stamp: int, call: str) -> Any:
        """Make the runs of those who are gone a member's; gives all that this call has taken.

        The same call may be made again, and gives the same.
        """

        def taken(row: Any, run: Any) -> Any:
            fences = r.expr([stamp, _fence(row) + _APART, run["fence"] + 1])
            mine = {"member": member, "fence": fences.max(), "of": run["member"], "taken": call}
            return run.merge(mine)

        def theirs(run: Any) -> Any:
            return r.expr(list(gone)).contains(run["member"])

        these = self.jobs.get_all(r.args(list(gone)), index="owners")
        changed = these.replace(
            lambda row: _without(row, lambda run: theirs(run) & run.has_fields("dropped")).do(
                lambda row: r.branch(
                    row == None,  # noqa: E711
                    None,
                    row.merge(
                        {
                            "runs": row["runs"].map(
                                lambda run: r.branch(theirs(run), taken(row, run), run)
                            )
                        }
                    ),
                )
            ),
            durability="hard",
        )
        return changed.do(
            lambda _: (
                self.jobs.get_all(member, index="owners")
                .concat_map(
                    lambda row: (
                        row["runs"]
                        .filter(lambda run: run["taken"].default(None) == call)
                        .map(lambda run: run.merge({"job": row["job"]}))
                    )
                )
                .distinct()
            )
        )

    def hand_back(self, member: str, gone: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
        """Have runs be those of members who are gone: by key, the fence of each and the member."""

        def handed(entries: Any, row: Any, run: Any) -> Any:
            found = entries[row["id"]].filter(
                lambda each: (run["member"] == member) & (each["fence"] == run["fence"])
            )
            return run.merge(found.map(lambda each: each.pluck("member")).nth(0).default({}))

        return r.expr({key: list(each) for key, each in gone.items()}).do(
            lambda entries: self.jobs.get_all(r.args(list(gone))).update(
                lambda row: {"runs": row["runs"].map(lambda run: handed(entries, row, run))},
                durability="hard",
            )
        )


def _instant(now: int | None) -> Any:
    """Give an instant, by the server's clock when there is none."""
    return (r.now().to_epoch_time() * 1_000_000).round() if now is None else r.expr(now)


def _fence(row: Any) -> Any:
    """Give the fence of a document, or 0 where others have spoilt it."""
    fence = row["fence"].default(0)
    return r.branch(fence.type_of() == "NUMBER", fence, 0)


def _without(row: Any, unwanted: Any) -> Any:
    """Take runs out of a document; None, which deletes it, when nothing is left."""
    return (
        row["runs"]
        .filter(lambda run: ~unwanted(run))
        .do(
            lambda kept: r.branch(
                row.has_fields("ended") & kept.is_empty(), None, row.merge({"runs": kept})
            )
        )
    )
