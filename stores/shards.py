"""What the stores have in common whose jobs are spread over shards, each led by one scheduler."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from tocsin.claims import Claim, Recovered
from tocsin.errors import JobLookupError
from tocsin.job import Job
from tocsin.stores.inboxes import MOST_TRIES, InboxStore, text_of
from tocsin.stores.shardstate import Entry, Run, Shard
from tocsin.stores.shared import UNREADABLE, elapsed
from tocsin.stores.tree import Check, Delete, Op, Unavailable, size_of

__all__ = ["ShardJobStore"]

#: So many seconds runs that have ended wait for others, to be settled together.
_LINGER = 0.1
_SECOND = 1_000_000
#: Lines for the log of a shard that we lead, and the operations that write them.
_Write = tuple[Shard, bytes, list[Op]]


class ShardJobStore(InboxStore):
    """The base of stores on a `Tree`: ZooKeeper, etcd.

    The jobs are spread over shards by a hash of their ids, and the shards divided among the
    schedulers that are alive. The leader of a shard has the states of its jobs in memory, in a
    heap; a claim asks the server nothing, and to advance claims takes one transaction for up to
    a thousand of them. What others change is read when the server says so, and nothing else.
    """

    def _reset(self) -> None:
        super()._reset()
        # What may have been taken over, while that is not known.
        self._taking: list[Recovered] = []

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
            for _, entry in self._heap.pop_due(present, min(limit, self._most_claims)):
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
                entry.record = None if node is None else text_of(node.data)

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

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        """Keep a claimed job, for a reason, but never offer it again until it is changed."""
        with self._lock:
            for _ in range(MOST_TRIES):
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
            for _ in range(MOST_TRIES):
                self._hear()
                pending = self._advance_some(member, batch, pending, held)
                if not pending:
                    return held
        raise Unavailable(f"{self!r}: others changed jobs {MOST_TRIES} times meanwhile")

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
        parts: list[_Write] = []
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

    def _committed(self, parts: Sequence[_Write]) -> Iterator[tuple[_Write, int | None]]:
        """Commit what concerns shards that we lead, many in a transaction; tell of each.

        The first operation of each writes its log. What is told of those that were refused for
        another's sake is a number beyond their own operations.
        """
        tree = self._tree
        groups: list[list[_Write]] = []
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
            for _ in range(MOST_TRIES):
                pending = self._settle_some(member, claims, pending, held)
                if not pending:
                    for claim in claims:
                        self._mine.pop((claim.job_id, claim.fence), None)
                    return held
        raise Unavailable(f"{self!r}: others changed jobs {MOST_TRIES} times meanwhile")

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
        parts: list[_Write] = []
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
            numbers = {self._number(claim.job_id) for claim in claims}
            seen = {number: self._seen(number) for number in numbers}
            found = []
            for claim in claims:
                entry = seen[self._number(claim.job_id)].entries.get(claim.job_id)
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
        found = self._taken_before(member)
        try:
            if self._orphans():
                found += self._take_orphans(member)
        except Exception:
            if not found:
                raise
            # What was found is looked after all the same; the next call asks for the rest again.
        return found

    def _taken_before(self, member: str) -> list[Recovered]:
        """Give what an earlier call has taken over, if its answer was lost."""
        taking = self._taking
        held = self._recorded(member, list(map(_claim_of, taking))) if taking else []
        self._taking = []
        return [found for found, was in zip(taking, held, strict=True) if was]

    def _take_orphans(self, member: str) -> list[Recovered]:
        # A member may have come, led a shard and given it to us since we last looked.
        self._learn_members(member)
        work: dict[Shard, list[tuple[Entry, tuple[Run, ...]]]] = {}
        taking: dict[Shard, list[Recovered]] = {}
        for entry in self._orphans():
            runs, taken = self._taken(entry, member)
            if runs != entry.runs:
                work.setdefault(entry.shard, []).append((entry, runs))
                taking.setdefault(entry.shard, []).extend(taken)
        parts: list[_Write] = []
        for shard, entries in work.items():
            lines = bytearray()
            for entry, runs in entries:
                lines += shard.line(entry, entry.scheduled, entry.next_run, runs)
            parts.append((shard, bytes(lines), [self._append(shard, lines)]))
        self._taking = list(chain.from_iterable(taking.values()))
        found: list[Recovered] = []
        for (shard, _, _), refused in self._committed(parts):
            if refused is not None:
                self._doubt([shard])
                continue
            for entry, runs in work[shard]:
                shard.set_runs(entry, runs)
            found += taking[shard]
        self._taking = []
        for claim in map(_claim_of, found):
            self._mine[claim.job_id, claim.fence] = claim
        return found

    def _orphans(self) -> list[Entry]:
        return [
            entry
            for shard in self._led.values()
            for entry in shard.running.values()
            if any(run.member not in self._alive for run in entry.runs)
        ]

    def _taken(self, entry: Entry, member: str) -> tuple[tuple[Run, ...], list[Recovered]]:
        """Give the runs of a job as they are when we have those of members who are gone.

        And those that we have then; what we can't start is left as it is.
        """
        runs: list[Run] = []
        taken: list[Recovered] = []
        for run in entry.runs:
            if run.member in self._alive:
                runs.append(run)
            elif run.record is not False:  # or nobody need look after it
                new = Run(entry.shard.fence(), member, run.times, run.record)
                found = self._taken_over(entry.id, run.times, new.fence, run.record, run.member)
                runs.append(run if found is None else new)
                taken += [] if found is None else [found]
        return tuple(runs), taken


def _claim_of(found: Recovered) -> Claim:
    """Give the claim of runs that were taken over."""
    claim: Claim = found.job._handle if found.loss is None else found.loss  # type: ignore[union-attr]
    return claim


def _run_of(runs: Iterable[Run], claim: Claim, member: str) -> Run | None:
    for run in runs:
        if run.fence == claim.fence and run.member == member:
            return run
    return None
