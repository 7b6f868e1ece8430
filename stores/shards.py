"""What the stores have in common whose jobs are spread over shards, each led by one scheduler."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tocsin.claims import Claim, Recovered
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores.leading import LeadingStore
from tocsin.stores.shardstate import (
    PAGE_BYTES,
    Entry,
    Run,
    Shard,
    apply_to_states,
    encode,
    unquoted,
)
from tocsin.stores.shared import UNREADABLE, elapsed
from tocsin.stores.tree import Check, Create, Delete, Op, Set, Unavailable, size_of

__all__ = ["ShardJobStore"]

#: So often a transaction is tried again that others were quicker with.
_MOST_TRIES = 100
#: Up to so many ids are looked for one by one; above, the names in their shards are listed.
_FEW = 64
#: So many seconds runs that have ended wait for others, to be settled together.
_LINGER = 0.1
_SECOND = 1_000_000


class Change(NamedTuple):
    """What is to become of a job. Without a ``record`` it is removed."""

    id: str
    record: str | None = None
    next_run: int | None = None
    #: Whether its next run time changes: claims of it end.
    moved: bool = True
    #: Whether it is there.
    known: bool = True


class ShardJobStore(LeadingStore):
    """The base of stores on a `Tree`: ZooKeeper, etcd.

    The jobs are spread over shards by a hash of their ids, and the shards divided among the
    schedulers that are alive. The leader of a shard has the states of its jobs in memory, in a
    heap; a claim asks the server nothing, and to advance claims takes one transaction for up to
    a thousand of them. What others change is read when the server says so, and nothing else.
    """

    # Claiming

    def claim(self, now: int, limit: int) -> list[Job]:
        """Take jobs that are due, the earliest first; O(log n) each.

        It asks the server only for records that have not been needed before.
        """
        with self._lock:
            self._tend(now)
            present = self.time(now)
            taken = elapsed()
            until = self._clock(now) + self.lease
            entries = []
            for _, entry in self._heap.pop_due(present, limit):
                entry.handle = None
                entries.append(entry)
            try:
                self._read_records([entry for entry in entries if entry.record is None])
                jobs = []
                for entry in entries:
                    job = self._job(entry)
                    if job is not None:
                        self._claimed(entry, job, taken, until)
                        jobs.append(job)
                    elif entry.scheduled:
                        entry.handle = self._heap.push(present + UNREADABLE, entry)
            except BaseException:
                for entry in entries:
                    if entry.handle is None and entry.next_run is not None:
                        self._schedule(entry, entry.next_run)
                raise
            return jobs

    def _read_records(self, entries: Sequence[Entry]) -> None:
        """Read records that are not in memory."""
        if entries:
            nodes = self._tree.read([entry.shard.definition(entry.id) for entry in entries])
            for entry, node in zip(entries, nodes, strict=True):
                # One that is not there has been removed, as we shall hear.
                entry.record = None if node is None else _text(node.data)

    def _job(self, entry: Entry) -> Job | None:
        """Make the job of an entry that is due; None if it can't run here."""
        if entry.record is None or entry.next_run is None:
            return None
        if entry.job is None:
            entry.job = self._runnable(entry.record, entry.next_run, None, entry.id)
            if entry.job is None:
                entry.record = None  # somebody may mend it
                return None
        return self._copy(entry.job, entry.next_run)

    def _claimed(self, entry: Entry, job: Job, taken: float, until: float) -> None:
        shard = entry.shard
        entry.claim = fence = shard.fence()
        shard.claims += 1
        self._claims[entry] = until
        elsewhere = sum(run.member != self._member for run in entry.runs) if entry.runs else 0
        record = entry.record if job.at_least_once else None
        job._handle = Claim(self, entry.id, fence, elsewhere, taken, record)

    def _holder(self, claim: Claim) -> Entry | None:
        """Give the entry of a claim that still holds."""
        shard = self._led.get(self._number(claim.job_id))
        entry = None if shard is None else shard.entries.get(claim.job_id)
        return entry if entry is not None and entry.claim == claim.fence else None

    def release(self, job: Job, run_time: int, until: int) -> None:
        """Give a claimed job back, to be claimed again for the same run time from ``until``."""
        with self._lock:
            entry = self._holder(job._handle)
            if entry is not None:
                self._unschedule(entry)
                entry.handle = self._heap.push(self.time(until), entry)

    def next_due(self) -> int | None:
        """Give the instant of the earliest claim to be had by the scheduler's clock, or None."""
        with self._lock:
            self._tend(self._now())
            earliest = self._heap.peek()
            due = None if earliest is None else earliest[0] - self._offset
            if self._check_at is not None:
                wait = max(self._check_at - self._clock(self._now()), 0.0)
                check = self._now() + round(wait * _SECOND)
                due = check if due is None else min(due, check)
            return due

    def _advance_batch(
        self, member: str, batch: Sequence[tuple[Job, Claim, int, int | None]]
    ) -> list[bool]:
        held = [False] * len(batch)
        with self._lock:
            self._tended = elapsed()
            pending = list(range(len(batch)))
            for _ in range(_MOST_TRIES):
                self._hear()
                pending = self._advance_some(member, batch, pending, held)
                if not pending:
                    return held
        raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")

    def _advance_some(
        self,
        member: str,
        batch: Sequence[tuple[Job, Claim, int, int | None]],
        pending: Sequence[int],
        held: list[bool],
    ) -> list[int]:
        """Advance what can be; give what is to be tried again."""
        work: dict[Shard, list[tuple[int, Entry, Run]]] = {}
        for index in pending:
            claim = batch[index][1]
            entry = self._holder(claim)
            if entry is not None:
                run = Run(claim.fence, member, tuple(claim.times), claim.record)
                work.setdefault(entry.shard, []).append((index, entry, run))
        parts: list[tuple[Shard, bytes, list[Op]]] = []
        for shard, steps in work.items():
            lines = bytearray()
            ops: list[Op] = [Check(shard.inbox, shard.inbox_version)]
            for index, entry, run in steps:
                following = batch[index][3]
                ends = following is None
                lines += shard.line(entry, not ends, following, (*entry.runs, run))
                if ends:
                    ops.append(Delete(shard.definition(entry.id)))
            parts.append((shard, bytes(lines), [self._append(shard, lines), *ops]))
        again = []
        for (shard, _, ops), refused in self._committed(parts):
            if refused is None:
                for index, entry, run in work[shard]:
                    self._advanced(entry, run, batch[index])
                    held[index] = True
            else:
                if refused == 0:
                    self._doubt([shard])
                elif refused < len(ops):
                    self._dirty.add(shard.number)
                again += [index for index, _, _ in work[shard]]
        self._tidy(work)
        return sorted(again)

    def _committed(
        self, parts: Sequence[tuple[Shard, bytes, list[Op]]]
    ) -> Iterator[tuple[tuple[Shard, bytes, list[Op]], int | None]]:
        """Commit what concerns shards that we lead, many in a transaction; tell of each.

        The first operation of each writes its log. What is told of those that were refused for
        another's sake is a number beyond their own operations.
        """
        tree = self._tree
        groups: list[list[tuple[Shard, bytes, list[Op]]]] = []
        size = count = 0
        for part in parts:
            ops = part[2]
            bytes_ = sum(size_of(op) for op in ops)
            full = size + bytes_ > tree.most_bytes or count + len(ops) > tree.most_ops
            if not groups or full:
                groups.append([])
                size = count = 0
            groups[-1].append(part)
            size += bytes_
            count += len(ops)
        began = elapsed()
        try:
            results = tree.commit([[op for part in group for op in part[2]] for group in groups])
        except Exception:
            self._doubt([shard for shard, _, _ in parts])
            raise
        if tree.prolongs and None in results:
            self._member_until = max(self._member_until, began + self.lease)
        for group, refused in zip(groups, results, strict=True):
            start = 0
            for part in group:
                if refused is None:
                    part[0].written(part[1])
                    yield part, None
                else:
                    own = start <= refused < start + len(part[2])
                    yield part, refused - start if own else len(part[2])
                start += len(part[2])

    def _advanced(self, entry: Entry, run: Run, step: tuple[Job, Claim, int, int | None]) -> None:
        _, claim, _, following = step
        self._unschedule(entry)
        if following is None:
            entry.scheduled = False
            entry.next_run = entry.record = entry.job = None
        else:
            entry.next_run = following
            entry.handle = self._heap.push(following, entry)
        entry.runs = (*entry.runs, run)
        entry.shard.running[entry.id] = entry
        self._mine[entry.id, run.fence] = claim

    # Runs

    def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        held = [False] * len(claims)
        with self._lock:
            pending = list(range(len(claims)))
            for _ in range(_MOST_TRIES):
                pending = self._settle_some(member, claims, pending, held)
                if not pending:
                    for claim in claims:
                        self._mine.pop((claim.job_id, claim.fence), None)
                    return held
        raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")

    def _settle_batch(self, claims: list[Claim]) -> None:
        # A write costs the more the more often there is one: so many runs end together.
        if not self._closing:
            time.sleep(_LINGER)
            with self._wake:
                claims += self._unsettled
                self._unsettled = []
        super()._settle_batch(claims)

    def _settle_some(
        self, member: str, claims: Sequence[Claim], pending: Sequence[int], held: list[bool]
    ) -> list[int]:
        work: dict[Shard, dict[Entry, list[int]]] = {}
        others: dict[int, list[int]] = {}
        for index in pending:
            claim = claims[index]
            shard = self._led.get(self._number(claim.job_id))
            if shard is None:
                others.setdefault(self._number(claim.job_id), []).append(index)
                continue
            entry = shard.entries.get(claim.job_id)
            if entry is not None and _run_of(entry.runs, claim, member) is not None:
                work.setdefault(shard, {}).setdefault(entry, []).append(index)
        parts: list[tuple[Shard, bytes, list[Op]]] = []
        left: dict[Entry, tuple[Run, ...]] = {}
        for shard, entries in work.items():
            lines = bytearray()
            for entry, indices in entries.items():
                ended = {claims[index].fence for index in indices}
                left[entry] = tuple(run for run in entry.runs if run.fence not in ended)
                lines += shard.line(entry, entry.scheduled, entry.next_run, left[entry])
            parts.append((shard, bytes(lines), [self._append(shard, lines)]))
        again = []
        for (shard, _, _), refused in self._committed(parts):
            if refused == 0:
                self._doubt([shard])
            for entry, indices in work[shard].items():
                if refused is None:
                    shard.set_runs(entry, left[entry])
                    for index in indices:
                        held[index] = True
                else:
                    again += indices
        self._tidy(work)
        for number, indices in others.items():
            again += self._settle_elsewhere(member, claims, number, indices, held)
        return sorted(again)

    def _settle_elsewhere(
        self,
        member: str,
        claims: Sequence[Claim],
        number: int,
        indices: Sequence[int],
        held: list[bool],
    ) -> Sequence[int]:
        """Tell the leader of a shard that runs have ended."""
        shard = self._seen(number)
        found = []
        for index in indices:
            entry = shard.entries.get(claims[index].job_id)
            if entry is not None and _run_of(entry.runs, claims[index], member) is not None:
                found.append(index)
        if not found:
            return ()
        ends = [(claims[index].job_id, claims[index].fence) for index in found]
        # Should it be taken over at this moment, the operation comes too late and ends nothing.
        operation = self._operation(shard, shard.inbox_version, {"end": ends})
        if self._commit_changes([operation])[0] is not None:
            return found
        for index in found:
            held[index] = True
        return ()

    def _recorded(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        with self._lock:
            seen = {number: self._seen(number) for number in {*map(self._number_of, claims)}}
            found = []
            for claim in claims:
                entry = seen[self._number_of(claim)].entries.get(claim.job_id)
                run = None if entry is None else _run_of(entry.runs, claim, member)
                found.append(run is not None and list(run.times) == list(claim.times))
                if found[-1]:
                    self._mine[claim.job_id, claim.fence] = claim
            return found

    def recover(self, now: int) -> Sequence[Recovered]:
        """Give the runs that need looking after, as soon as a member is gone."""
        with self._lock:
            self._tend(now)
            return super().recover(now)

    def _take_over(self, member: str, now: int | None) -> list[Recovered]:
        if not self._orphans():
            return []
        # A member may have come, led a shard and given it to us since we last looked.
        self._learn_members(member)
        found: list[Recovered] = []
        work: dict[Shard, list[tuple[Entry, list[tuple[Run, Recovered, Run | None]]]]] = {}
        for entry in self._orphans():
            runs = []
            for run in entry.runs:
                if run.member not in self._alive:
                    taken = self._taken(entry, run, member)
                    if taken is not None:
                        runs.append((run, *taken))
            if runs:
                work.setdefault(entry.shard, []).append((entry, runs))
        parts: list[tuple[Shard, bytes, list[Op]]] = []
        after: dict[Entry, tuple[Run, ...]] = {}
        for shard, steps in work.items():
            lines = bytearray()
            for entry, runs in steps:
                anew = {run.fence: new for run, _, new in runs}
                after[entry] = tuple(
                    each for run in entry.runs if (each := anew.get(run.fence, run)) is not None
                )
                lines += shard.line(entry, entry.scheduled, entry.next_run, after[entry])
            parts.append((shard, bytes(lines), [self._append(shard, lines)]))
        for (shard, _, _), refused in self._committed(parts):
            if refused is not None:
                self._doubt([shard])
                continue
            for entry, runs in work[shard]:
                shard.set_runs(entry, after[entry])
                for old, recovered, _ in runs:
                    if recovered.job is not None:
                        claim = recovered.job._handle
                        self._mine[claim.job_id, claim.fence] = claim
                    if old.record is not False:
                        found.append(recovered)
        return found

    def _orphans(self) -> list[Entry]:
        return [
            entry
            for shard in self._led.values()
            for entry in shard.running.values()
            if any(run.member not in self._alive for run in entry.runs)
        ]

    def _taken(self, entry: Entry, run: Run, member: str) -> tuple[Recovered, Run | None] | None:
        """Say what becomes of a run whose member is gone; None if we can't start it."""
        reason = f"the scheduler {run.member} that had claimed it has stopped answering"
        if not isinstance(run.record, str):
            return Recovered(entry.id, run.times, None, reason + "; it may have run"), None
        try:
            job = self._copy(self.codec.loads(run.record, None), None)
            job._call = (self.codec.resolve(job._call[0]), *job._call[1:])
        except Exception as error:  # the import of a module may raise anything
            self._unreadable(entry.id, error)
            return None
        new = Run(entry.shard.fence(), member, run.times, run.record)
        claim = Claim(self, entry.id, new.fence, 0, elapsed(), run.record)
        claim.times = run.times
        job._handle = claim
        return Recovered(entry.id, run.times, job, reason), new

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
            return self._restored(_text(node.data), entry.next_run, None, job_id)

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
                entry: _text(node.data)
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

    def _number_of(self, claim: Claim) -> int:
        return self._number(claim.job_id)

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
            for _ in range(_MOST_TRIES):
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
                raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")
        replaced = []
        for job in jobs:
            replaced.append(job.id in known)
            known.add(job.id)
        return replaced

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
            for _ in range(_MOST_TRIES):
                job, shard = self._found(job_id)
                job._apply(changes)
                if self._rewritten(shard, job, "_next_run" in changes):
                    return job
        raise Unavailable(f"job {job_id!r} was changed by others {_MOST_TRIES} times meanwhile")

    def _found(self, job_id: str) -> tuple[Job, Shard]:
        """Give a job, and its shard as it was when the job was read."""
        shard = self._seen(self._number(job_id))
        entry = shard.entries.get(job_id)
        (node,) = self._tree.read([shard.definition(job_id)])
        if node is None or entry is None or not entry.scheduled:
            raise JobLookupError(job_id)
        return self._restored(_text(node.data), entry.next_run, None, job_id), shard

    def _rewritten(self, shard: Shard, job: Job, moved: bool) -> bool:
        """Write a job anew, unless somebody was quicker."""
        change = Change(job.id, self._written(job), job._next_run, moved)
        return self._commit_changes(self._parts(shard, [change])) == [None]

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        """Keep a claimed job, for a reason, but never offer it again until it is changed."""
        with self._lock:
            for _ in range(_MOST_TRIES):
                try:
                    current, shard = self._found(job.id)
                except JobLookupError:
                    return
                if self._holder(job._handle) is None:
                    return
                current.failure = reason
                current._next_run = None
                if self._rewritten(shard, current, True):
                    return

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
        for _ in range(_MOST_TRIES):
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
        raise Unavailable(f"{self!r}: others changed jobs {_MOST_TRIES} times meanwhile")

    def _parts(
        self, shard: Shard, changes: Sequence[Change]
    ) -> list[tuple[Shard, Sequence[Change], list[Op]]]:
        """Turn changes of the jobs of a shard into operations, several if they are many."""
        tree = self._tree
        parts: list[tuple[Shard, Sequence[Change], list[Op]]] = []
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
    ) -> tuple[Shard, Sequence[Change], list[Op]]:
        put = [(c.id, int(c.moved), c.next_run) for c in changes if c.record is not None]
        remove = [change.id for change in changes if change.record is None]
        told: dict[str, Any] = {}
        if put:
            told["put"] = put
        if remove:
            told["remove"] = remove
        operation = self._operation(shard, version, told)
        return shard, changes, [*operation[2], *ops]

    def _operation(
        self, shard: Shard, version: int, told: Mapping[str, Any]
    ) -> tuple[Shard, Sequence[Change], list[Op]]:
        data = encode(told).encode(errors="surrogatepass")
        return (
            shard,
            (),
            [
                Set(shard.inbox, b"", version),
                Create(shard.operation(version + 1), data),
            ],
        )

    def _commit_changes(
        self, parts: Sequence[tuple[Shard, Sequence[Change], list[Op]]]
    ) -> list[int | None]:
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


def _run_of(runs: Iterable[Run], claim: Claim, member: str) -> Run | None:
    for run in runs:
        if run.fence == claim.fence and run.member == member:
            return run
    return None


def _text(data: bytes) -> str:
    """Give the text of a record; what is no text is left to the codec to refuse."""
    return data.decode(errors="replace")
