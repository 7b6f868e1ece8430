"""What the stores have in common that several schedulers share."""

from __future__ import annotations

import os
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache, partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.claims import Claim, Loss, Recovered
from tocsin.codecs import LARGEST, Codec
from tocsin.convert import as_bool, as_number, edge_of
from tocsin.errors import JobLookupError, TransientJobError
from tocsin.job import Job
from tocsin.stores.base import BaseJobStore

if TYPE_CHECKING:
    from tocsin.scheduler import BaseScheduler

__all__ = ["SharedJobStore", "which_replaced"]

#: Seconds that go on while the machine is suspended, where the system has such a clock.
elapsed: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
_UTC = edge_of(timezone.utc)
_SECOND = 1_000_000
#: So many jobs are kept as they were read, lest they be read again at each run.
_KEPT = 10_000
#: So many claims are settled at once, lest a backlog of them hold up the renewal of the lease.
_SETTLED = 1000
#: More claims than are had at once.
_MOST_CLAIMS = 1 << 20
#: How long a job that can't run here is left to others before it is looked at again.
UNREADABLE = 60 * _SECOND
#: What arguments can be that nobody can change.
_CONSTANTS = frozenset(
    (type(None), bool, int, float, str, bytes, date, datetime, timedelta, UUID, Decimal)
)


class SharedJobStore(BaseJobStore):
    """The base of stores that keep records of jobs, and that any number of schedulers may open.

    A scheduler becomes a member of the store with its first claim, and stays one as long as it
    renews its lease. A run is recorded in the step that advances its job, belongs to the member
    that did so, and is settled when it has ended. When a member's lease has run out, others
    take over its runs: one of a job with ``at_least_once`` is begun anew, and settled when it has
    ended; the loss of any other is reported, and settled then.

    ``lease`` is how long a claim or a membership lasts unless renewed, ``poll_interval`` how
    late at the latest a change by another scheduler is seen, both in seconds. ``clock`` says
    whose clock decides: ``"store"`` for the server's, ``"scheduler"`` for the scheduler's own.
    ``create`` has the store make, and bring up to date, what it needs on the server; without
    it that is refused. ``codec`` reads and writes the records, by default one made of the
    last four options, which are those of `tocsin.codecs.Codec`.
    """

    shared = True

    def __init__(
        self,
        *,
        lease: float = 15.0,
        poll_interval: float = 5.0,
        clock: str = "store",
        create: bool | str = True,
        allowed_modules: Iterable[str] | str | None = None,
        value_codecs: Any = None,
        pickle_key: Any = None,
        max_bytes: int | str = LARGEST,
        codec: Codec | None = None,
    ) -> None:
        self.lease = _positive(lease, "lease")
        self.poll_interval = _positive(poll_interval, "poll_interval")
        if clock not in ("store", "scheduler"):
            raise ValueError(f'clock: {clock!r} is neither "store" nor "scheduler"')
        self.clock = clock
        self.create = as_bool(create)
        self.codec = codec or Codec(
            allowed_modules=allowed_modules,
            value_codecs=value_codecs,
            pickle_key=pickle_key,
            max_bytes=int(max_bytes),
        )
        #: Callables by reference.
        self._imported = lru_cache(_KEPT)(self.codec.resolve)
        self._member: str | None = None
        self._reset()

    def _reset(self) -> None:
        """Have no member, no thread and nothing to settle."""
        self._member = None
        self._offset = 0
        self._wake = threading.Condition()
        self._unsettled: list[Claim] = []
        # Runs of which it is not known whether they were recorded, for the connection broke; and
        # those that are recorded, and can't be started as yet.
        self._doubtful: list[tuple[Job, Claim]] = []
        # So many claims at once are advanced in time, by what we know.
        self._most_claims = _MOST_CLAIMS
        self._put_off: list[tuple[Job, Claim]] = []
        # What was given to be told of, until it is settled.
        self._losses: dict[Loss, Recovered] = {}
        self._closing = False
        # The claims that have to be settled before we leave, once the store was shut down while
        # their runs went on; and whether the thread leaves by itself.
        self._awaited: set[Claim] | None = None
        self._leaving = False
        self._keeper: threading.Thread | None = None
        # When our membership ends, and when it is to be renewed, by `elapsed`; and the instant of
        # the last renewal by the clock that decides.
        self._member_until = self._renew_at = 0.0
        self._renewed = 0
        self._recover_at = 0
        # By id: version and record, and the job, of which nobody but us has more than a copy.
        self._read: dict[str, tuple[Any, str | bytes, Job]] = {}

    # What a store implements: the contract of `BaseJobStore` in batches, and

    @abstractmethod
    def _open(self) -> None:
        """Connect, and create what is missing if ``self.create``."""

    @abstractmethod
    def _close(self) -> None:
        """Disconnect; only what this store has opened itself."""

    @abstractmethod
    def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
        """Enter a member, or prolong its lease: `lease` seconds from now.

        Give the instant by the clock that decides, and whether the member was there. (``now``
        is None when the store's own clock is to be used.)
        """

    @abstractmethod
    def _leave(self, member: str) -> None:
        """Take a member out, with the runs it has not settled, but for those at least once."""

    @abstractmethod
    def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        """Take out the runs of claims; tell of each claim whether they were still the member's."""

    @abstractmethod
    def _recorded(self, member: str, claims: Sequence[Claim]) -> list[bool]:
        """Tell of each claim whether all its runs are recorded as the member's."""

    @abstractmethod
    def _take_over(self, member: str, now: int | None) -> list[Recovered]:
        """Expel members whose leases ran out, and take over their runs: see `_taken_over`.

        They become the member's, with a higher fencing token, until they are settled. Those that
        would be begun anew, of jobs that were removed, are taken out instead. An earlier call that
        raised may have taken some over: they are given now.
        """

    # Life

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Open the store, for a scheduler that calls it ``alias``.

        One whose runs go on still, after a shutdown, goes on as the member that it is.
        """
        super().start(scheduler, alias)
        with self._wake:
            is_open, self._awaited = self._awaited is not None, None
        if is_open:
            return
        if self._leaving and self._keeper is not None:
            self._keeper.join(self.lease)
        self._reset()
        self._open()

    def shutdown(self, running: Iterable[Claim] = ()) -> None:
        """Settle what has ended, leave, and close the store; it may be started again.

        Claims whose runs go on, for nobody waited for them, are not forgotten: others have to
        know that these instances run. The store remains a member, which claims nothing, until
        the last of them is settled, and leaves then, in its thread. A second call leaves at once.
        """
        with self._wake:
            awaited = {claim for claim in running if claim.store is self and not claim.settled}
            member = self._member
            linger = bool(awaited) and member is not None and self._keeper is not None
            self._awaited = awaited if linger else None
        if linger and member is not None:
            self._retire(member)
            return
        self._stop_keeping()
        if not self._leaving:
            self._end()

    def _retire(self, member: str) -> None:
        """Take part in nothing new: what a member does that stays for the runs it has."""

    def _end(self) -> None:
        member, self._member = self._member, None
        try:
            if member is not None:
                untold = self._untold()
                for loss in untold:
                    loss.leave()
                self._leave_losses(member, untold)
                self._leave(member)
        finally:
            self._close()

    def _untold(self) -> list[Loss]:
        """List the losses that are ours to tell of, and that we have not begun to tell of."""
        return [loss for loss in list(self._losses) if not loss.told]

    def _leave_losses(self, member: str, losses: Sequence[Loss]) -> None:
        """Have others tell of losses, where `_leave` would take them out."""

    def _stop_keeping(self) -> None:
        """Have the thread settle what has ended, and end."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        keeper = self._keeper
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(self.lease)

    def after_fork(self) -> None:
        """Forget, in a forked child, the connections and the member of its parent."""
        super().after_fork()
        self._reset()

    # Time

    def time(self, now: int) -> int:
        """Turn an instant of the scheduler's clock into one of the clock that decides here."""
        return now + self._offset

    def learn_time(self) -> None:
        """Ask what time it is by the clock that decides, for whoever claims nothing.

        It takes a member to be told: we are one from now on, until the shutdown.
        """
        self._renew_lease(self._now())

    def _given(self, now: int) -> int | None:
        """Give the instant to use on the server, None for the server's own."""
        return now if self.clock == "scheduler" else None

    def _learn_time(self, before: int, theirs: int) -> None:
        """Compare the store's clock, read after ``before``, with the scheduler's.

        It was read between ``before`` and now. What was thought of it until now is corrected only
        as far as that proves it wrong, so that an answer that took long spoils nothing.
        """
        if self.clock == "store":
            self._offset = min(max(self._offset, theirs - self._now()), theirs - before)

    # Membership

    def _join(self, now: int) -> str:
        """Give our name as a member, and renew the lease if that is due."""
        member = self._member
        # Whoever was asleep must not look after runs, his own among them, before he is back.
        overdue = elapsed() >= self._renew_at + self.lease / 3
        if self.clock == "scheduler":
            overdue = overdue or self.time(now) - self._renewed > self.lease * _SECOND / 3
        if member is None or overdue:
            member = self._renew_lease(now)
        if self._keeper is None:
            self._keeper = threading.Thread(
                target=self._keep, name=f"tocsin-store-{self._alias}", daemon=True
            )
            self._keeper.start()
        return member

    def _renew_lease(self, now: int) -> str:
        """Renew the lease, or become a member anew; give our name."""
        member = self._member or f"{socket.gethostname()}:{os.getpid()}:{token_hex(8)}"
        began = elapsed()
        # The caller may have waited for others since it was told the time.
        before = self._now() if self.clock == "store" else now
        present, known = self._renew(member, self._given(now))
        if self._member is not None and not known:
            self._logger.error(
                'The lease of this scheduler on job store "%s" had run out, for it could not be'
                " renewed in time; the runs that it had not settled are other schedulers' now",
                self._alias,
            )
        self._member = member
        self._learn_time(before, present)
        self._renewed = present
        self._member_until = began + self.lease
        self._renew_at = began + self.lease / 3
        return member

    def _keep(self) -> None:
        """Settle what has ended, and renew the lease; in a thread of its own, until the end."""
        mine = self._wake
        while True:
            self._keep_up(mine)
            with mine:
                if self._closing or self._wake is not mine:
                    return
                if self._awaited is None:  # started again at the last moment
                    continue
                self._awaited, self._leaving = None, True
            try:
                self._end()
            except Exception as error:
                self._logger.warning("Job store %r was not left in order: %s", self._alias, error)
            return

    def _is_over(self) -> bool:
        """Tell whether what has ended is all that is to be settled."""
        return self._closing or (self._awaited is not None and not self._awaited)

    def _keep_up(self, mine: threading.Condition) -> None:
        failures = 0
        while self._wake is mine:  # or the store was started anew while a call here was stuck
            with mine:
                while not (self._unsettled or self._is_over()):
                    wait = self._renew_at - elapsed()
                    if wait <= 0:
                        break
                    mine.wait(wait)
                batch, self._unsettled = self._unsettled[:_SETTLED], self._unsettled[_SETTLED:]
                closing = self._is_over()
            try:
                # The lease first: what has ended may have to wait for others.
                if not closing and elapsed() >= self._renew_at:
                    self._renew_lease(self._now())
                if batch:
                    self._settle_batch(batch)
                failures = 0
            except Exception as error:
                failures += 1
                wait = min(0.1 * 2 ** min(failures, 20), self.lease / 3)
                with mine:
                    self._unsettled = batch + self._unsettled
                if self._closing or (closing and elapsed() >= self._member_until):
                    count = len(self._unsettled)
                    self._logger.warning("%d runs could not be settled: %s", count, error)
                    return
                self._failed(error, wait)
                with mine:
                    mine.wait_for(lambda: self._closing, wait)
            else:
                if closing and not self._unsettled:
                    return

    def _failed(self, error: Exception, retry_in: float) -> None:
        if self._scheduler is not None:
            self._scheduler.report_store_error(self._alias, error, retry_in)

    def settle(self, claim: Claim) -> None:
        """Take note that the runs of a claim have ended; from any thread, without waiting."""
        with self._wake:
            self._unsettled.append(claim)
            if isinstance(claim, Loss):
                self._losses.pop(claim, None)
            if self._awaited is not None:
                self._awaited.discard(claim)
            self._wake.notify()

    def _settle_batch(self, claims: list[Claim]) -> None:
        member = self._member
        if member is None:
            return
        for claim, held in zip(claims, self._settle(member, claims), strict=True):
            if held:
                continue
            moment = _UTC.moment(claim.times[0])
            if isinstance(claim, Loss):
                self._logger.warning(
                    'A run of job "%s" at %s was reported lost when its lease had run out; another'
                    " scheduler reports it as well",
                    claim.job_id,
                    moment,
                )
            else:
                self._logger.warning(
                    'A run of job "%s" at %s ended when its lease had run out; another scheduler'
                    " has taken it over",
                    claim.job_id,
                    moment,
                )

    def recover(self, now: int) -> Sequence[Recovered]:
        """Give the runs that need looking after; asks the store every third of a lease."""
        present = self.time(now)
        if not self._doubtful and present < self._recover_at <= present + self.lease * _SECOND:
            return ()
        member = self._join(now)
        found = [*self._resolved(member), *self._losses.values()]
        try:
            taken = self._take_over(member, self._given(now))
            self._losses.update((each.loss, each) for each in taken if each.loss is not None)
            found += taken
        except Exception:
            if not found:
                raise
            # What was found is started all the same; the next call asks for the rest again.
        else:
            self._recover_at = self.time(now) + int(self.lease * _SECOND / 3)
            self._doubtful += self._put_off
            self._put_off = []
        return found

    def _resolved(self, member: str) -> list[Recovered]:
        """Find out which runs are recorded as ours; none of them has been started."""
        doubtful = self._doubtful
        if not doubtful:
            return []
        recorded = self._recorded(member, [claim for _, claim in doubtful])
        self._doubtful = []
        reason = "it was claimed here, and could not be started at once"
        return [
            Recovered(job.id, claim.times, job, reason)
            for (job, claim), was in zip(doubtful, recorded, strict=True)
            if was
        ]

    def put_off(self, job: Job) -> None:
        """Have `recover` give the recorded runs of a job again, after a third of a lease or so."""
        self._put_off.append((job, job._handle))

    # Advancing

    def advance(
        self,
        claims: Iterable[tuple[Job, int, int | None]],
        several: Mapping[str, Sequence[int]] = {},
    ) -> list[bool]:
        """Set the next run time of claimed jobs and record their runs; false for lost claims.

        A claim that is older than its lease is not even tried, and a run that was recorded when
        the membership may have ended is not started.
        """
        batch: list[tuple[Job, Claim, int, int | None]] = []
        for job, run_time, following in claims:
            claim: Claim = job._handle
            claim.times = several.get(job.id) or (run_time,)
            batch.append((job, claim, run_time, following))
        if not batch:
            return []
        member = self._member
        age = elapsed() - min(claim.taken for _, claim, _, _ in batch)
        if member is None or age >= self.lease * 0.8:
            # Or one that is slow would claim as many again, and never get on.
            self._most_claims = max(len(batch) // 2, 1)
            self._logger.warning(
                "%d claims on jobs were older than their lease; they are had anew, %d at once",
                len(batch),
                self._most_claims,
            )
            return [False] * len(batch)
        if age < self.lease * 0.2:
            self._most_claims = min(2 * self._most_claims, _MOST_CLAIMS)
        try:
            held = self._advance_batch(member, batch)
        except Exception:
            self._doubtful += [(job, claim) for job, claim, _, _ in batch]
            raise
        if elapsed() >= self._member_until:
            self._doubtful += [
                (job, claim) for (job, claim, _, _), holds in zip(batch, held, strict=True) if holds
            ]
            return [False] * len(batch)
        return held

    @abstractmethod
    def _advance_batch(
        self, member: str, batch: Sequence[tuple[Job, Claim, int, int | None]]
    ) -> list[bool]:
        """Advance jobs whose fencing tokens are current and record their runs, in one step each.

        A job whose next run time is None is taken out. The runs are ``claim.times``, the
        member's, with ``claim.fence``; those of a job with ``at_least_once`` keep its record,
        for the job may be gone when they are begun anew.
        """

    # Records

    def _written(self, job: Job) -> str:
        """Give the record of a job; TransientJobError that says why there is none."""
        try:
            return self.codec.dumps(job)
        except ValueError as error:
            raise TransientJobError(job.id, str(error)) from error

    def _restored(self, text: str | bytes, next_run: int | None, version: Any, job_id: str) -> Job:
        """Make the job of a record; ValueError when it can't be read."""
        kept = self._read.get(job_id)
        if kept is not None and kept[0] == version and kept[1] == text:
            return self._copy(kept[2], next_run)
        job = self.codec.loads(text, next_run)
        if job.id != job_id:
            raise ValueError(f"id: the record belongs to {job.id!r}")
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias
        return job

    def _copy(self, job: Job, next_run: int | None) -> Job:
        made: Job = Job.__new__(Job)
        made.id = job.id
        made.name = job.name
        made.trigger = job.trigger
        made.failure = job.failure
        made._rules = job._rules
        target = job._target
        if type(target) is tuple and target[2]:
            target = (target[0], target[1], dict(target[2]))
        made._target = target
        made._scheduler = self._scheduler
        made._jobstore_alias = self._alias
        made._next_run = next_run
        made._handle = None
        return made

    def _runnable(self, text: str | bytes, next_run: int, version: Any, job_id: str) -> Job | None:
        """Make the job of a record that is to run here; None, and a report, if it can't.

        The last so many are kept, for reading takes time; but not those whose arguments could be
        changed by the one run before the next gets them.
        """
        try:
            job = self._restored(text, next_run, version, job_id)
            func, args, kwargs = job._call
            if not isinstance(func, str):
                return job
            job._call = (self._imported(func), args, kwargs)
        except Exception as error:  # the import of a module may raise anything
            self._unreadable(job_id, error)
            return None
        if _are_constant(args) and not (kwargs and not _are_constant(kwargs.values())):
            while len(self._read) >= _KEPT:
                with suppress(KeyError, RuntimeError, StopIteration):
                    del self._read[next(iter(self._read))]
            self._read[job_id] = (version, text, self._copy(job, None))
        return job

    def _adopted(self, job_id: str, record: str, fence: int, times: Sequence[int]) -> Job | None:
        """Make the job of runs that were taken over; None, and a report, if it can't run here."""
        try:
            job = self._copy(self.codec.loads(record, None), None)
            job._call = (self._imported(job._call[0]), *job._call[1:])
        except Exception as error:  # the import of a module may raise anything
            self._unreadable(job_id, error)
            return None
        claim = Claim(self, job_id, fence, 0, elapsed(), record)
        claim.times = times
        job._handle = claim
        return job

    def _taken_over(
        self, job_id: str, times: Sequence[int], fence: int, record: str | None, member: str
    ) -> Recovered | None:
        """Give runs that were taken over from a member who is gone.

        With a ``record`` they are begun anew: None, and a report, if they can't be here. Without
        one they are a loss.
        """
        reason = f"the scheduler {member} that had claimed it has stopped answering"
        if record is None:
            loss = Loss(self, job_id, fence, times, member)
            return Recovered(job_id, times, None, f"{reason}; it may have run", loss)
        job = self._adopted(job_id, record, fence, times)
        return None if job is None else Recovered(job_id, times, job, reason)

    def _unreadable(self, job_id: str, error: Exception) -> None:
        if self._scheduler is not None:
            reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            self._scheduler.report_unreadable(self._alias, job_id, reason)

    # The one-job contract

    def add_job(self, job: Job) -> None:
        """Add a job; ConflictingIdError if its id is taken."""
        self.add_jobs((job,), False)

    def update_job(self, job: Job) -> None:
        """Write a job anew; JobLookupError if it is not there."""
        if self.lookup_job(job.id) is None:
            raise JobLookupError(job.id)
        self.add_jobs((job,), True)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """List the jobs whose next run time is not after ``now``, the earliest first; O(n)."""
        instant = _UTC.instant(now)
        return [
            job
            for job in self.get_all_jobs()
            if job._next_run is not None and job._next_run <= instant
        ]

    def get_next_run_time(self) -> datetime | None:
        """Give the earliest next run time of all jobs, or None; O(n)."""
        for job in self.get_all_jobs():
            return None if job._next_run is None else job.next_run_time
        return None

    def _woken(self) -> None:
        """Have the scheduler look at its jobs, for another one has changed some."""
        if self._scheduler is not None:
            with suppress(Exception):  # it may be stopping
                self._scheduler.wakeup()


def _are_constant(values: Collection[Any]) -> bool:
    """Tell whether arguments can't be changed by whoever has them."""
    return _CONSTANTS.issuperset(map(type, values)) or all(
        type(each) in _CONSTANTS or (type(each) is tuple and _are_constant(each)) for each in values
    )


def which_replaced(added: Iterable[Any], there: Iterable[str]) -> list[bool]:
    """Tell of jobs or rows that were added, by their ids, whether each replaced one.

    It may be one that was ``there`` before, or one of the same batch.
    """
    known = set(there)
    told = []
    for each in added:
        told.append(each.id in known)
        known.add(each.id)
    return told


def _positive(value: Any, name: str) -> float:
    """Turn seconds, maybe as a text, into a float; ValueError unless positive."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{name}: {value!r} is not a number of seconds") from None
    if not 0 < as_number(value, name) < float("inf"):
        raise ValueError(f"{name}: {value!r} is not a positive number of seconds")
    return float(value)
