"""How the jobs of a store on shards are found and changed, whoever leads their shards.

To change a job is to write its record, and an operation in the inbox of its shard; the leader
takes that into the state of the shard. `tocsin.stores.leading` has the layout.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores.leading import LeadingStore
from tocsin.stores.shardstate import PAGE_BYTES, Shard, apply_to_states, encode, unquoted
from tocsin.stores.shared import which_replaced
from tocsin.stores.tree import Create, Delete, Op, Set, Unavailable, size_of

__all__ = ["MOST_TRIES", "InboxStore", "text_of"]

#: So often a transaction is tried again that others were quicker with.
MOST_TRIES = 100
#: Up to so many ids are looked for one by one; above, the names in their shards are listed.
_FEW = 64


class Change(NamedTuple):
    """What is to become of a job. Without a ``record`` it is removed."""

    id: str
    record: str | None = None
    next_run: int | None = None
    #: Whether its next run time changes: claims of it end.
    moved: bool = True
    #: Whether it is there.
    known: bool = True


#: What one operation asks of a shard, and how it is written.
Request = tuple[Shard, Sequence[Change], list[Op]]


class InboxStore(LeadingStore):
    """The part of a `ShardJobStore` that has to do with jobs, whoever leads their shards."""

    # Finding

    def lookup_job(self, job_id: str) -> Job | None:
        """Give the job of an id, or None; ValueError if it can't be read.

        O(1) for what this scheduler leads, else O(n) in the number of jobs of its shard.
        """
        with self._lock:
            shard = self._seen(self._number(job_id))
            entry = shard.entries.get(job_id)
            (node,) = self._tree.read([shard.definition(job_id)])
            if node is None or entry is None or not entry.scheduled:
                return None
            return self._restored(text_of(node.data), entry.next_run, None, job_id)

    def get_all_jobs(self) -> list[Job]:
        """List all jobs that can be read, those that run next first; reports the others. O(n)."""
        with self._lock:
            shards = self._see(range(self.shards))
            entries = [
                entry for shard in shards for entry in shard.entries.values() if entry.scheduled
            ]
            missing = [entry for entry in entries if entry.record is None]
            nodes = self._tree.read([entry.shard.definition(entry.id) for entry in missing])
            texts = {
                entry: text_of(node.data)
                for entry, node in zip(missing, nodes, strict=True)
                if node is not None
            }
            jobs = []
            for entry in entries:
                text = texts.get(entry, entry.record)
                if text is not None:
                    try:
                        jobs.append(self._restored(text, entry.next_run, None, entry.id))
                    except ValueError as error:
                        self._unreadable(entry.id, error)
        jobs.sort(key=lambda job: (job._next_run is None, job._next_run or 0, job.id))
        return jobs

    def _number(self, job_id: str) -> int:
        return zlib.crc32(job_id.encode(errors="surrogatepass")) % self.shards

    def _seen(self, number: int) -> Shard:
        return self._see([number])[0]

    def _see(self, numbers: Iterable[int]) -> list[Shard]:
        """Give shards as they are now; those that we do not lead are read."""
        tree = self._tree
        for _ in range(3):
            if self._session == tree.session and self._connection == tree.connection:
                led = [self._led[number] for number in numbers if number in self._led]
                if led:
                    self._take_in(led)
                ours = self._led
            else:
                ours = {}
            shards = [ours.get(number) or Shard(number) for number in numbers]
            others = [shard for shard in shards if shard.number not in ours]
            if not others or self._see_others(others):
                return shards
        raise Unavailable(f"{self!r}: a shard was written again and again while it was read")

    def _see_others(self, shards: Sequence[Shard]) -> bool:
        """Read shards that others lead; false if one was written meanwhile."""
        tree = self._tree
        # In this order: what has been moved from the first to the second is seen in the second.
        nodes = tree.read([*(shard.inbox for shard in shards), *(shard.log for shard in shards)])
        rest: list[list[bytes]] = []
        operations: list[list[str]] = []
        for shard, inbox, log in zip(shards, nodes, nodes[len(shards) :], strict=False):
            rest.append(shard.read_log(log))
            shard.inbox_version = 0 if inbox is None else inbox.version
            numbers = range(shard.applied + 1, shard.inbox_version + 1)
            operations.append([shard.operation(number) for number in numbers])
        paths = [path for found in operations for path in found]
        paths += [page for shard in shards for page in shard.pages]
        read: dict[str, bytes] = {}
        for path, node in zip(paths, tree.read(paths), strict=True):
            if node is None:
                return False
            read[path] = node.data
        for shard, lines, found in zip(shards, rest, operations, strict=True):
            shard.apply_lines(read[page].replace(b"\n", b",") for page in shard.pages)
            shard.apply_lines(lines)
            for path in found:
                apply_to_states(shard, json.loads(read[path]))
        return True

    # Changing

    def add_jobs(self, jobs: Sequence[Job], replace: bool) -> list[bool]:
        """Add jobs, all or none; tell for each whether it replaced one.

        What fits into one transaction is added in one step. O(log n) each.
        """
        if not jobs:
            return []
        changes: dict[str, Change] = {}
        for job in jobs:
            if job.id in changes and not replace:
                raise ConflictingIdError(job.id)
            changes[job.id] = Change(job.id, self._written(job), job._next_run)
        pending: dict[int, list[Change]] = {}
        for change in changes.values():
            pending.setdefault(self._number(change.id), []).append(change)
        known: set[str] = set()
        done: list[Change] = []
        with self._lock:
            for _ in range(MOST_TRIES):
                try:
                    added = self._add_some(pending, replace, known)
                except ConflictingIdError:
                    self._remove_jobs([change.id for change in done])
                    raise
                for number in added:
                    done += pending.pop(number)
                if not pending:
                    break
            else:
                raise Unavailable(f"{self!r}: others changed jobs {MOST_TRIES} times meanwhile")
        return which_replaced(jobs, known)

    def _add_some(
        self, pending: Mapping[int, Sequence[Change]], replace: bool, known: set[str]
    ) -> list[int]:
        """Add jobs; give the shards where nobody was quicker. ``known`` learns of ids."""
        shards = self._with_inboxes(pending)
        here = self._known([change.id for changes in pending.values() for change in changes])
        if here and not replace:
            raise ConflictingIdError(
                next(c.id for changes in pending.values() for c in changes if c.id in here)
            )
        parts = []
        for shard in shards:
            changes = [change._replace(known=change.id in here) for change in pending[shard.number]]
            parts += self._parts(shard, changes)
        failed = {
            part[0].number
            for part, refused in zip(parts, self._commit_changes(parts), strict=True)
            if refused is not None
        }
        known |= {job_id for job_id in here if self._number(job_id) not in failed}
        return [number for number in pending if number not in failed]

    def _with_inboxes(self, numbers: Iterable[int]) -> list[Shard]:
        """Give shards of which the version of the inbox is known."""
        shards = [Shard(number) for number in numbers]
        nodes = self._tree.read([shard.inbox for shard in shards])
        for shard, node in zip(shards, nodes, strict=True):
            shard.inbox_version = 0 if node is None else node.version
        return shards

    def _known(self, ids: Sequence[str]) -> set[str]:
        """Give those of ids that are there."""
        numbers = {self._number(job_id) for job_id in ids}
        shards = {number: Shard(number) for number in numbers}
        if len(ids) <= _FEW:
            paths = [shards[self._number(job_id)].definition(job_id) for job_id in ids]
            nodes = self._tree.read(paths)
            return {job_id for job_id, node in zip(ids, nodes, strict=True) if node is not None}
        names = self._tree.names([shard.defs for shard in shards.values()])
        return {unquoted(name) for found in names for name in found} & set(ids)

    def modify_job(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change attributes of a job in one step and give it; JobLookupError without one."""
        with self._lock:
            for _ in range(MOST_TRIES):
                job, shard = self._found(job_id)
                job._apply(changes)
                if self._rewritten(shard, job, "_next_run" in changes):
                    return job
        raise Unavailable(f"job {job_id!r} was changed by others {MOST_TRIES} times meanwhile")

    def _found(self, job_id: str) -> tuple[Job, Shard]:
        """Give a job, and its shard as it was when the job was read."""
        shard = self._seen(self._number(job_id))
        entry = shard.entries.get(job_id)
        (node,) = self._tree.read([shard.definition(job_id)])
        if node is None or entry is None or not entry.scheduled:
            raise JobLookupError(job_id)
        return self._restored(text_of(node.data), entry.next_run, None, job_id), shard

    def _rewritten(self, shard: Shard, job: Job, moved: bool) -> bool:
        """Write a job anew, unless somebody was quicker."""
        change = Change(job.id, self._written(job), job._next_run, moved)
        return self._commit_changes(self._parts(shard, [change])) == [None]

    def remove_job(self, job_id: str) -> None:
        """Take a job out; JobLookupError without one."""
        with self._lock:
            if not self._remove_jobs([job_id]):
                raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        """Take all jobs out; O(n)."""
        with self._lock:
            folders = [Shard(number).defs for number in range(self.shards)]
            names = self._tree.names(folders)
            self._remove_jobs([unquoted(name) for found in names for name in found])

    def _remove_jobs(self, ids: Sequence[str]) -> set[str]:
        """Take jobs out, and give the ids of those that were there."""
        pending: dict[int, list[str]] = {}
        for job_id in ids:
            pending.setdefault(self._number(job_id), []).append(job_id)
        removed: set[str] = set()
        for _ in range(MOST_TRIES):
            if not pending:
                return removed
            shards = self._with_inboxes(pending)
            known = self._known([job_id for some in pending.values() for job_id in some])
            parts = []
            for shard in shards:
                here = [job_id for job_id in pending.pop(shard.number) if job_id in known]
                parts += self._parts(shard, [Change(job_id) for job_id in here])
            for (shard, changes, _), refused in zip(
                parts, self._commit_changes(parts), strict=True
            ):
                if refused is None:
                    removed.update(change.id for change in changes)
                else:
                    pending.setdefault(shard.number, []).extend(c.id for c in changes)
        raise Unavailable(f"{self!r}: others changed jobs {MOST_TRIES} times meanwhile")

    def _parts(self, shard: Shard, changes: Sequence[Change]) -> list[Request]:
        """Turn changes of the jobs of a shard into operations, several if they are many."""
        tree = self._tree
        parts: list[Request] = []
        some: list[Change] = []
        ops: list[Op] = []
        size = 0
        version = shard.inbox_version
        for change in changes:
            path = shard.definition(change.id)
            op: Op
            if change.record is None:
                op = Delete(path)
            elif change.known:
                op = Set(path, change.record.encode(), None)
            else:
                op = Create(path, change.record.encode())
            # Its id is in the operation as well.
            more = size_of(op) + len(path)
            if some and (size + more > PAGE_BYTES or len(ops) + 2 >= tree.most_ops):
                parts.append(self._part(shard, version, some, ops))
                version += 1
                some, ops, size = [], [], 0
            some.append(change)
            ops.append(op)
            size += more
        if some:
            parts.append(self._part(shard, version, some, ops))
        return parts

    def _part(
        self, shard: Shard, version: int, changes: Sequence[Change], ops: list[Op]
    ) -> Request:
        put = [(c.id, int(c.moved), c.next_run) for c in changes if c.record is not None]
        remove = [change.id for change in changes if change.record is None]
        told: dict[str, Any] = {}
        if put:
            told["put"] = put
        if remove:
            told["remove"] = remove
        operation = self._operation(shard, version, told)
        return shard, changes, [*operation[2], *ops]

    def _operation(self, shard: Shard, version: int, told: Mapping[str, Any]) -> Request:
        data = encode(told).encode(errors="surrogatepass")
        return (
            shard,
            (),
            [
                Set(shard.inbox, b"", version),
                Create(shard.operation(version + 1), data),
            ],
        )

    def _commit_changes(self, parts: Sequence[Request]) -> list[int | None]:
        """Commit operations, many in a transaction; tell which were refused."""
        tree = self._tree
        groups: list[list[int]] = []
        size = count = 0
        numbers: set[int] = set()
        for index, (shard, _, ops) in enumerate(parts):
            more = sum(size_of(op) for op in ops)
            full = size + more > tree.most_bytes or count + len(ops) > tree.most_ops
            # One transaction does not write an inbox twice.
            if not groups or full or shard.number in numbers:
                groups.append([])
                size = count = 0
                numbers = set()
            groups[-1].append(index)
            numbers.add(shard.number)
            size += more
            count += len(ops)
        results: list[int | None] = [None] * len(parts)
        outcome = tree.commit([[op for i in group for op in parts[i][2]] for group in groups])
        for some, refused in zip(groups, outcome, strict=True):
            for index in some:
                shard, changes, ops = parts[index]
                results[index] = refused
                if refused is None and shard.number in self._led:
                    self._dirty.add(shard.number)
                    records = {c.id: c.record for c in changes if c.record is not None}
                    # The number of the operation, which is made second.
                    number = int(ops[1].path.rpartition("/")[2])
                    self._fresh[shard.number, number] = records
        return results


def text_of(data: bytes) -> str:
    """Give the text of a record; what is no text is left to the codec to refuse."""
    return data.decode(errors="replace")
