"""What the stores have in common that keep a job in a row, document or hash of its own."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tocsin.claims import Claim, Loss, Recovered
from tocsin.errors import JobLookupError
from tocsin.job import Job
from tocsin.stores.shared import SharedJobStore, elapsed

__all__ = ["Advance", "ClaimedRow", "OrphanedRuns", "Row", "RowJobStore"]

#: So often a change is tried again that others were quicker with. Each time one of them got on.
_MOST_TRIES = 100
#: Pauses, in seconds, between the attempts of a call that can be made again.
PAUSES = (0.05, 0.2, 0.8)
#: How long we wait for those who are claiming what is due.
_PAUSE = 10_000


class NotRun(Exception):
    """There was no connection, so that nothing was run on the server."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Row(NamedTuple):
    """A stored job. ``version`` grows with each change of ``record``; times are instants."""

    id: str
    next_run: int | None
    version: int
    record: str


class ClaimedRow(NamedTuple):
    """A job that was claimed; ``elsewhere`` counts the instances that other members run."""

    id: str
    next_run: int
    version: int
    record: str
    fence: int
    elsewhere: int


class Advance(NamedTuple):
    """What becomes of a claimed job: its next run time, and the runs that are recorded.

    ``record`` goes with the runs of a job with ``at_least_once``, and is None otherwise.
    """

    id: str
    fence: int
    next_run: int | None
    times: Sequence[int]
    record: str | None


class OrphanedRuns(NamedTuple):
    """The runs of one claim of a member that was expelled.

    They belong to us now, with a higher ``fence``, which no claim of the job has had or will have.
    With a ``record`` they are begun anew; without one they are lost, and ours until that was told.
    """

    id: str
    times: Sequence[int]
    fence: int
    record: str | None
    member: str


def by_next_run(row: Row) -> tuple[bool, int, str]:
    """Give the key that sorts rows by next run time, paused ones last."""
    return row.next_run is None, row.next_run or 0, row.id


class RowJobStore(SharedJobStore):
    """The base of stores that have one row for each job.

    A row has one instant, ``due_at``, at which somebody must look at it: its next run time, or
    the end of the lease of whoever has claimed it, or the time until which it was given back;
    none when it is paused. One index on it serves all. ``fence`` grows with each claim and each
    change of the next run time; what is asked with an old one is refused.

    Each method that a subclass implements is one atomic step of the server. ``now`` is None
    when the server's own clock is to be used. Times are instants (microseconds since 1970).
    """

    #: The earliest instant at which there is something to claim, as we were last told.
    _known_due: int | None = None
    _told = False

    def _reset(self) -> None:
        super()._reset()
        # Runs that were taken over and can't be begun or told of here, to be left to others.
        self._unwanted: list[OrphanedRuns] = []
        # Whether it is not known what was taken over, for the answer was lost.
        self._may_have_taken = False
        self._known_due, self._told = None, False
        self._found_none = False
        # The thread that hears of changes by others.
        self._listener: threading.Thread | None = None

    @abstractmethod
    def _row(self, job_id: str) -> Row | None:
        """Give a row, or None; O(log n)."""

    @abstractmethod
    def _rows(self) -> list[Row]:
        """Give all rows by next run time, those without one last; in pages where needed."""

    @abstractmethod
    def _insert(self, rows: Sequence[Row], replace: bool) -> list[bool]:
        """Add rows, all or none; tell for each whether it replaced one.

        A row that is replaced gets a higher version and fence, is not claimed any more, and
        loses no runs. Raises ConflictingIdError without ``replace``; an id may come twice.
        """

    @abstractmethod
    def _replace(self, row: Row, moved: bool) -> bool:
        """Write a record, if the row's version is still ``row.version``, with the next version.

        When ``moved``, the next run time is written as well, claims end, and the fence grows.
        """

    @abstractmethod
    def _delete(self, job_id: str) -> bool:
        """Take a row out, with the runs that would be begun anew; tell whether it was there."""

    @abstractmethod
    def _delete_all(self) -> None:
        """Take all rows and runs out; the fence of a row added later is higher nevertheless."""

    @abstractmethod
    def _claim_rows(self, member: str, now: int | None, limit: int) -> tuple[int, list[ClaimedRow]]:
        """Claim rows that are due, the earliest first, until a lease from now; O(k log n).

        Give the instant by the clock that decides, too.
        """

    @abstractmethod
    def _advance_rows(self, member: str, entries: Sequence[Advance]) -> list[bool]:
        """Advance rows whose fence is current and record their runs; tell for which it was."""

    @abstractmethod
    def _release_row(self, job_id: str, fence: int, until: int) -> None:
        """Give a claimed row back, if its fence is current, to be due again at an instant."""

    @abstractmethod
    def _earliest(self) -> int | None:
        """Give the earliest instant at which a row is due, or None; O(log n)."""

    @abstractmethod
    def _orphans(self, member: str, now: int | None) -> list[OrphanedRuns]:
        """Expel members whose leases ran out, and take over their runs: see `OrphanedRuns`.

        Those of jobs that were removed are taken out, if they would have been begun anew. When
        it raised, it is called again, and gives what was taken over before as well; O(k log n).
        """

    @abstractmethod
    def _hand_back(self, member: str, taken: Sequence[OrphanedRuns]) -> None:
        """Have runs that were taken over be ``runs.member``'s again, who is gone: orphans."""

    def _announce(self) -> None:
        """Wake the other schedulers: they call `_woken`. Without it they see it by polling."""

    @property
    def _microseconds(self) -> int:
        """The lease, in microseconds."""
        return round(self.lease * 1_000_000)

    # What is found on the server

    def _no_store(self) -> RuntimeError:
        """Make the error of a store that is not there, and may not be made."""
        return RuntimeError(
            f"{self!r}: there is no job store, and with create=False none is made; run"
            " `tocsin store init`, or give create=True"
        )

    def _other_version(self, found: object, known: int) -> RuntimeError:
        """Make the error of a store that this tocsin does not know."""
        return RuntimeError(
            f"{self!r}: the job store has version {found}, and this tocsin knows versions up to"
            f" {known}; use a later tocsin"
        )

    # The thread that hears of changes

    def _start_listener(self, hear: Callable[..., None], *arguments: Any) -> None:
        self._listener = threading.Thread(
            target=hear, args=arguments, name=f"tocsin-store-listener-{self._alias}", daemon=True
        )
        self._listener.start()

    def _end_listener(self, wake: Callable[[], object]) -> None:
        """Have the thread end, if there is one; ``wake`` ends its wait."""
        listener, self._listener = self._listener, None
        if listener is not None:
            wake()
            if listener is not threading.current_thread():
                listener.join(self.lease)

    # Finding

    def lookup_job(self, job_id: str) -> Job | None:
        """Give the job of an id, or None; ValueError if it can't be read."""
        row = self._row(job_id)
        return None if row is None else self._job(row)

    def get_all_jobs(self) -> list[Job]:
        """List all jobs that can be read, those that run next first; reports the others."""
        jobs = []
        for row in self._rows():
            try:
                jobs.append(self._job(row))
            except ValueError as error:
                self._unreadable(row.id, error)
        return jobs

    def _job(self, row: Row) -> Job:
        return self._restored(row.record, row.next_run, row.version, row.id)

    # Changing

    def add_jobs(self, jobs: Sequence[Job], replace: bool) -> list[bool]:
        """Add jobs, all or none; tell for each whether it replaced one."""
        if not jobs:
            return []
        rows = [Row(job.id, job._next_run, 1, self._written(job)) for job in jobs]
        replaced = self._insert(rows, replace)
        self._tell([row.next_run for row in rows])
        return replaced

    def modify_job(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change attributes of a job in one step and give it; JobLookupError without one."""
        moved = "_next_run" in changes
        for _ in range(_MOST_TRIES):
            row = self._row(job_id)
            if row is None:
                raise JobLookupError(job_id)
            job = self._job(row)
            job._apply(changes)
            if self._replace(Row(job_id, job._next_run, row.version, self._written(job)), moved):
                if moved:
                    self._tell([job._next_run])
                return job
        raise RuntimeError(f"job {job_id!r} was changed by others {_MOST_TRIES} times meanwhile")

    def remove_job(self, job_id: str) -> None:
        """Take a job out; JobLookupError without one."""
        if not self._delete(job_id):
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        """Take all jobs out."""
        self._delete_all()

    def _tell(self, times: Sequence[int | None]) -> None:
        """Wake the other schedulers if one of these is earlier than what they know of."""
        known = self._known_due
        if any(
            due is not None and (not self._told or known is None or due < known) for due in times
        ):
            self._announce()

    # Claiming

    def claim(self, now: int, limit: int) -> list[Job]:
        """Take jobs that are due, the earliest first; those that can't run here are left."""
        member = self._join(now)
        taken = elapsed()
        before = self._now() if self.clock == "store" else now
        limit = min(limit, self._most_claims)
        present, rows = self._claim_rows(member, self._given(now), limit)
        self._learn_time(before, present)
        self._found_none = not rows
        jobs = []
        for row in rows:
            job = self._runnable(row.record, row.next_run, row.version, row.id)
            if job is None:
                # Its claim ends by itself: to give back thousands, one by one, holds up the rest.
                continue
            record = row.record if job.at_least_once else None
            job._handle = Claim(self, row.id, row.fence, row.elsewhere, taken, record)
            jobs.append(job)
        return jobs

    def _advance_batch(
        self, member: str, batch: Sequence[tuple[Job, Claim, int, int | None]]
    ) -> list[bool]:
        return self._advance_rows(
            member,
            [
                Advance(job.id, claim.fence, following, claim.times, claim.record)
                for job, claim, _, following in batch
            ],
        )

    def _resolved(self, member: str) -> list[Recovered]:
        """Find out which runs are recorded as ours, when an advance can't come any more."""
        for job, claim in self._doubtful:
            # It may be on its way still, and would be found by nobody once we had asked.
            self._release_row(job.id, claim.fence, self.time(self._now()))
        return super()._resolved(member)

    def release(self, job: Job, run_time: int, until: int) -> None:
        """Give a claimed job back, to be claimed again for the same run time from ``until``."""
        self._release_row(job.id, job._handle.fence, until)

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        """Keep a claimed job, for a reason, but never offer it again until it is changed."""
        for _ in range(_MOST_TRIES):
            row = self._row(job.id)
            if row is None or row.next_run != run_time:
                return
            current = self._job(row)
            current.failure = reason
            if self._replace(Row(job.id, None, row.version, self._written(current)), True):
                return

    def next_due(self) -> int | None:
        """Give the instant of the earliest claim to be had by the scheduler's clock, or None."""
        # What others tell while we ask must not be compared with what we knew before.
        self._known_due, self._told = None, False
        due = self._earliest()
        self._known_due, self._told = due, True
        if due is None:
            return None
        now = self._now()
        if self._found_none and due <= self.time(now):
            return now + _PAUSE  # others are claiming it at this moment
        return due - self._offset

    def _take_over(self, member: str, now: int | None) -> list[Recovered]:
        found = []
        for runs in self._taken(member, now):
            each = self._taken_over(runs.id, runs.times, runs.fence, runs.record, runs.member)
            if each is None:
                self._unwanted.append(runs)
            else:
                found.append(each)
        try:
            self._leave_unwanted(member)
        except Exception:
            if not found:
                raise
            # What was found is started all the same; the next call leaves the rest to others.
        return found

    def _taken(self, member: str, now: int | None) -> list[OrphanedRuns]:
        self._may_have_taken = False
        try:
            return self._orphans(member, now)
        except BaseException:
            self._may_have_taken = True
            raise

    def _leave_losses(self, member: str, losses: Sequence[Loss]) -> None:
        """Have others tell of losses, those among them that we may have without knowing."""
        if self._may_have_taken:
            self._unwanted += self._taken(member, self._given(self._now()))
        self._unwanted += [
            OrphanedRuns(loss.job_id, loss.times, loss.fence, None, loss.member) for loss in losses
        ]
        self._leave_unwanted(member)

    def _leave_unwanted(self, member: str) -> None:
        """Leave runs to others that can't be begun or told of here; we look at them as they do."""
        if self._unwanted:
            self._hand_back(member, self._unwanted)
            self._unwanted = []
