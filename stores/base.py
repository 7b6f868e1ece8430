"""What all job stores share, and the batch contract over the one-job contract."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from threading import RLock
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from tocsin.claims import Recovered
from tocsin.convert import edge_of
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.interfaces import IJobStore
from tocsin.job import Job

if TYPE_CHECKING:
    from tocsin.scheduler import BaseScheduler

__all__ = ["BaseJobStore"]

_UTC = edge_of(timezone.utc)
#: How long a store of the one-job contract is not asked again while all it offers is held back.
_PATIENCE = 1_000_000


@implementer(IJobStore)
class BaseJobStore(ABC):
    """The base of all job stores.

    A store of a third party implements the abstract methods, the contract of APScheduler 3:
    one job a call, datetimes. It works, for one scheduler. A store of tocsin's implements the
    batch calls instead, from `add_jobs` to `next_due`, on instants.

    The lock makes one step of looking a job up and changing it, among the threads of this
    process. It is held across the calls of a one-job store, for these have no other way.
    """

    #: Whether calls wait for something outside of this process. Schedulers of event loops make
    #: them in threads then, so that the loop goes on.
    blocking: bool = True
    #: Whether they wait in the sockets of Python alone, which gevent's monkey patching turns
    #: into waiting of the greenlet: no thread is needed, or fit, where they are patched.
    python_sockets: bool = False
    #: Whether schedulers may share the jobs: each that is claimed has a `Claim` as its handle.
    shared: bool = False
    #: How long the loop sleeps at the longest, in seconds, for others may change the jobs.
    poll_interval: float | None = None

    _scheduler: BaseScheduler | None = None
    _alias: str = ""
    _logger = logging.getLogger("tocsin.jobstores")

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Open the store, for a scheduler that calls it ``alias``."""
        self._scheduler = scheduler
        self._alias = alias
        self._logger = logging.getLogger(f"{scheduler.log_prefix}.jobstores.{alias}")

    def shutdown(self) -> None:
        """Close the store; it may be started again."""

    @abstractmethod
    def lookup_job(self, job_id: str) -> Job | None:
        """Give the job of an id, or None."""

    @abstractmethod
    def get_due_jobs(self, now: datetime) -> list[Job]:
        """List the jobs whose next run time is not after ``now``, the earliest first."""

    @abstractmethod
    def get_next_run_time(self) -> datetime | None:
        """Give the earliest next run time of all jobs, or None."""

    @abstractmethod
    def get_all_jobs(self) -> list[Job]:
        """List all jobs, those that run next first, paused ones last."""

    @abstractmethod
    def add_job(self, job: Job) -> None:
        """Add a job; ConflictingIdError if its id is taken."""

    @abstractmethod
    def update_job(self, job: Job) -> None:
        """Write a job anew; JobLookupError if it is not there."""

    @abstractmethod
    def remove_job(self, job_id: str) -> None:
        """Take a job out; JobLookupError if it is not there."""

    @abstractmethod
    def remove_all_jobs(self) -> None:
        """Take all jobs out."""

    def add_jobs(self, jobs: Sequence[Job], replace: bool) -> list[bool]:
        """Add jobs one by one; when one can't be added, all is made as it was."""
        before: list[tuple[str, Job | None]] = []
        replaced = []
        with self._guard():
            try:
                for job in jobs:
                    try:
                        self.add_job(job)
                        replaced.append(False)
                        before.append((job.id, None))
                    except ConflictingIdError:
                        if not replace:
                            raise
                        before.append((job.id, self.lookup_job(job.id)))
                        self.update_job(job)
                        replaced.append(True)
            except Exception:
                for job_id, old in reversed(before):
                    if old is None:
                        self.remove_job(job_id)
                    else:
                        self.update_job(old)
                raise
        return replaced

    def modify_job(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change attributes of a job in one step and give it; JobLookupError without one."""
        with self._guard():
            job = self.lookup_job(job_id)
            if job is None:
                raise JobLookupError(job_id)
            job._apply(changes)
            self.update_job(job)
            if "_next_run" in changes:
                self._held().pop(job_id, None)
        return job

    def claim(self, now: int, limit: int) -> list[Job]:
        """Take jobs that are due at an instant, the earliest first."""
        moment = self._edge().moment(now)
        if moment is None:
            return []
        return [job for job in self.get_due_jobs(moment) if self._offered(job) <= now][:limit]

    def advance(
        self,
        claims: Iterable[tuple[Job, int, int | None]],
        several: Mapping[str, Sequence[int]] = {},
    ) -> list[bool]:
        """Set the next run time of claimed jobs; tell for each whether the claim still held.

        A job that fails here is held back for a second, without its run. Raises what the last
        one raised when all do.
        """
        held = []
        failure: Exception | None = None
        for job, run_time, following in claims:
            try:
                held.append(self._advance(job, run_time, following))
            except Exception as error:
                failure = error
                held.append(False)
                self.release(job, run_time, self._now() + _PATIENCE)
                if self._scheduler is not None:
                    self._scheduler.report_store_error(self._alias, error, _PATIENCE / 1_000_000)
        if failure is not None and not any(held):
            raise failure
        return held

    def _advance(self, job: Job, run_time: int, following: int | None) -> bool:
        with self._guard():
            current = self.lookup_job(job.id)
            if current is None or current._next_run != run_time:
                return False
            self._held().pop(job.id, None)
            if following is None:
                self.remove_job(job.id)
            else:
                current._next_run = following
                self.update_job(current)
        return True

    def release(self, job: Job, run_time: int, until: int) -> None:
        """Give a claimed job back, to be claimed again for the same run time from ``until``."""
        self._held()[job.id] = (run_time, until)

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        """Keep a claimed job but never offer it again: paused, since the contract has no more."""
        with self._guard():
            current = self.lookup_job(job.id)
            if current is not None and current._next_run == run_time:
                current._next_run = None
                current.failure = reason
                self.update_job(current)
                self._held().pop(job.id, None)

    def time(self, now: int) -> int:
        """Turn an instant of the scheduler's clock into one of the clock that decides here."""
        return now

    def recover(self, now: int) -> Sequence[Recovered]:
        """Give the runs that need looking after, for their scheduler is gone."""
        return ()

    def next_due(self) -> int | None:
        """Give the instant of the earliest claim to be had, or None."""
        moment = self.get_next_run_time()
        if moment is None:
            return None
        due = _UTC.instant(moment)
        if not self._held() or due > self._now():
            return due
        # The store knows nothing of what is held back, so look at all that is due soon.
        horizon = self._now() + _PATIENCE
        soon = self.get_due_jobs(self._edge().moment(horizon))
        return min([horizon, *(self._offered(job) for job in soon)])

    def _offered(self, job: Job) -> int:
        """Give the instant from which a job can be claimed."""
        due = job._next_run or 0
        run_time, until = self._held().get(job.id, (due, due))
        return until if run_time == due else due

    def _guard(self) -> AbstractContextManager[Any]:
        """Give the lock; made on use, for subclasses need not call our constructor.

        Its name must not be one that a subclass is likely to have: nobody else may hold it.
        """
        return self.__dict__.setdefault("_step_lock", RLock())  # type: ignore[no-any-return]

    def _held(self) -> dict[str, tuple[int, int]]:
        """Give the jobs that are held back, by id: for which run time, and until when."""
        return self.__dict__.setdefault("_held_back", {})  # type: ignore[no-any-return]

    def _edge(self) -> Any:
        return edge_of(timezone.utc if self._scheduler is None else self._scheduler.timezone)

    def _now(self) -> int:
        return 0 if self._scheduler is None else self._scheduler.now()

    def before_fork(self) -> None:
        """Come to the end of what a forked child must not have the middle of, and begin no more."""

    def after_fork_in_parent(self) -> None:
        """Go on where `before_fork` has stopped."""

    def after_fork(self) -> None:
        """Make the locks anew in a forked child, where whoever held them is gone."""
        self.__dict__.pop("_step_lock", None)

    def _fix_paused_jobs_sorting(self, jobs: list[Job]) -> None:
        """Move the paused jobs, which a sort by run time puts first, to the end."""
        for position, job in enumerate(jobs):
            if job._next_run is not None:
                if position:
                    jobs[:] = jobs[position:] + jobs[:position]
                return

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
