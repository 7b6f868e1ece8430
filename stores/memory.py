"""Jobs in memory, on the heap of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from threading import Lock
from typing import Any

from tocsin.convert import edge_of
from tocsin.engine.table import DueTable
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores.base import BaseJobStore

__all__ = ["MemoryJobStore"]

_UTC = edge_of(timezone.utc)


class MemoryJobStore(BaseJobStore):
    """Keep jobs in this process, live and unserialized: any callable and argument will do.

    They are there as long as the store is, also while the scheduler is stopped. Adding,
    changing, removing, claiming and advancing a job take O(log n), a look-up O(1), listing all
    jobs O(n log n).
    """

    blocking = False

    def __init__(self) -> None:
        self._table = DueTable()
        self._mutex = Lock()

    def lookup_job(self, job_id: str) -> Job | None:
        """Give the job of an id, or None; O(1)."""
        job: Job | None = self._table.get(job_id)
        return job

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """List the jobs whose next run time is not after ``now``; O(k log k) for so many."""
        instant = _UTC.instant(now)
        with self._mutex:
            return self._table.due(instant)

    def get_next_run_time(self) -> datetime | None:
        """Give the earliest next run time of all jobs, or None; O(1)."""
        with self._mutex:
            earliest = self._table.peek()
        return None if earliest is None else earliest[1].next_run_time

    def get_all_jobs(self) -> list[Job]:
        """List all jobs, those that run next first, paused ones last; O(n log n)."""
        with self._mutex:
            jobs = self._table.entries()
        scheduled = [job for job in jobs if job._next_run is not None]
        scheduled.sort(key=lambda job: job._next_run or 0)
        return scheduled + [job for job in jobs if job._next_run is None]

    def add_job(self, job: Job) -> None:
        """Add a job; ConflictingIdError if its id is taken."""
        self.add_jobs((job,), False)

    def add_jobs(self, jobs: Sequence[Job], replace: bool) -> list[bool]:
        """Add jobs, all or none; tell for each whether it replaced one."""
        with self._mutex:
            try:
                return self._table.add(jobs, replace)
            except KeyError as error:
                raise ConflictingIdError(error.args[0]) from None

    def update_job(self, job: Job) -> None:
        """Put another job in the place of the one with its id; JobLookupError without one."""
        with self._mutex:
            try:
                self._table.put(job)
            except KeyError:
                raise JobLookupError(job.id) from None

    def modify_job(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change attributes of a job in one step and give it; JobLookupError without one."""
        with self._mutex:
            job: Job | None = self._table.get(job_id)
            if job is None:
                raise JobLookupError(job_id)
            job._apply(changes)
            if "_next_run" in changes:
                self._table.move(job, job._next_run)
        return job

    def remove_job(self, job_id: str) -> None:
        """Take a job out; JobLookupError without one."""
        mutex = self._mutex
        mutex.acquire()  # ``with`` takes a tenth of the whole call longer
        try:
            self._table.remove(job_id)
        except KeyError:
            raise JobLookupError(job_id) from None
        finally:
            mutex.release()

    def remove_all_jobs(self) -> None:
        """Take all jobs out; O(n)."""
        with self._mutex:
            self._table.clear()

    def claim(self, now: int, limit: int) -> list[Job]:
        """Take jobs that are due at an instant, the earliest first; O(log n) each."""
        with self._mutex:
            return self._table.claim(now, limit)

    def advance(
        self,
        claims: Iterable[tuple[Job, int, int | None]],
        several: Mapping[str, Sequence[int]] = {},
    ) -> list[bool]:
        """Set the next run time of claimed jobs; O(log n) each."""
        with self._mutex:
            return self._table.advance(claims)

    def release(self, job: Job, run_time: int, until: int) -> None:
        """Give a claimed job back, to be claimed again from ``until``; O(log n)."""
        with self._mutex:
            self._table.release(job, until)

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        """Keep a claimed job, for a reason, but never offer it again until it is changed."""
        with self._mutex:
            if self._table.hold(job):
                job._next_run = None
                job.failure = reason

    def next_due(self) -> int | None:
        """Give the instant of the earliest claim to be had, or None; O(1)."""
        with self._mutex:
            earliest = self._table.peek()
        return None if earliest is None else earliest[0]

    def after_fork(self) -> None:
        """Make the lock anew in a forked child, where whoever held it is gone."""
        self._mutex = Lock()
