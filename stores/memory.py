"""Jobs in memory, on the heap of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from threading import Lock
from typing import Any

from tocsin.convert import edge_of
from tocsin.engine.heap import DueHeap
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores.base import BaseJobStore

__all__ = ["MemoryJobStore"]

_UTC = edge_of(timezone.utc)
#: The entry of a job that is not in the heap, for it is paused.
_NONE = -1
#: That of one that is not there, for it is claimed. Whatever is done to it meanwhile gives it
#: another.
_CLAIMED = -2


class MemoryJobStore(BaseJobStore):
    """Keep jobs in this process, live and unserialized: any callable and argument will do.

    They are there as long as the store is, also while the scheduler is stopped. Adding,
    changing, removing, claiming and advancing a job take O(log n), a look-up O(1), listing all
    jobs O(n log n).
    """

    blocking = False

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._heap = DueHeap()
        self._mutex = Lock()

    def lookup_job(self, job_id: str) -> Job | None:
        """Give the job of an id, or None; O(1)."""
        return self._jobs.get(job_id)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """List the jobs whose next run time is not after ``now``; O(k log k) for so many."""
        instant = _UTC.instant(now)
        with self._mutex:
            return [job for _, job in self._heap.due(instant)]

    def get_next_run_time(self) -> datetime | None:
        """Give the earliest next run time of all jobs, or None; O(1)."""
        with self._mutex:
            earliest = self._heap.peek()
        return None if earliest is None else earliest[1].next_run_time

    def get_all_jobs(self) -> list[Job]:
        """List all jobs, those that run next first, paused ones last; O(n log n)."""
        with self._mutex:
            jobs = list(self._jobs.values())
        scheduled = [job for job in jobs if job._next_run is not None]
        scheduled.sort(key=lambda job: job._next_run or 0)
        return scheduled + [job for job in jobs if job._next_run is None]

    def add_job(self, job: Job) -> None:
        """Add a job; ConflictingIdError if its id is taken."""
        self.add_jobs((job,), False)

    def add_jobs(self, jobs: Sequence[Job], replace: bool) -> list[bool]:
        """Add jobs, all or none; tell for each whether it replaced one."""
        replaced: list[bool] = []
        with self._mutex:
            known, push = self._jobs, self._heap.push
            for job in jobs:
                old = known.get(job.id)
                if old is not None:
                    if not replace:
                        for added in jobs[: len(replaced)]:
                            del known[added.id]
                            self._unschedule(added)
                        raise ConflictingIdError(job.id)
                    self._unschedule(old)
                known[job.id] = job
                due = job._next_run
                job._entry = _NONE if due is None else push(due, job)
                replaced.append(old is not None)
        return replaced

    def update_job(self, job: Job) -> None:
        """Put another job in the place of the one with its id; JobLookupError without one."""
        with self._mutex:
            old = self._jobs.get(job.id)
            if old is None:
                raise JobLookupError(job.id)
            self._unschedule(old)
            self._jobs[job.id] = job
            self._schedule(job)

    def modify_job(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Change attributes of a job in one step and give it; JobLookupError without one."""
        with self._mutex:
            job = self._jobs.get(job_id)
            if job is None:
                raise JobLookupError(job_id)
            job._apply(changes)
            if "_next_run" in changes:
                entry = job._entry
                when = job._next_run
                if when is not None and entry >= 0:
                    self._heap.rekey(entry, when)
                else:
                    self._unschedule(job)
                    self._schedule(job)
        return job

    def remove_job(self, job_id: str) -> None:
        """Take a job out; JobLookupError without one."""
        with self._mutex:
            job = self._jobs.pop(job_id, None)
            if job is None:
                raise JobLookupError(job_id)
            entry = job._entry
            if entry >= 0:
                self._heap.remove(entry)
            else:
                job._entry = _NONE

    def remove_all_jobs(self) -> None:
        """Take all jobs out; O(n)."""
        with self._mutex:
            for job in self._jobs.values():
                job._entry = _NONE
            self._jobs.clear()
            self._heap.clear()

    def claim(self, now: int, limit: int) -> list[Job]:
        """Take jobs that are due at an instant, the earliest first; O(log n) each."""
        with self._mutex:
            due = []
            for _, job in self._heap.pop_due(now, limit):
                job._entry = _CLAIMED
                due.append(job)
        return due

    def advance(
        self,
        claims: Iterable[tuple[Job, int, int | None]],
        several: Mapping[str, Sequence[int]] = {},
    ) -> list[bool]:
        """Set the next run time of claimed jobs; O(log n) each."""
        held = []
        with self._mutex:
            push = self._heap.push
            for job, _, following in claims:
                holds = job._entry == _CLAIMED
                held.append(holds)
                if not holds:
                    continue
                if following is None:
                    job._entry = _NONE
                    del self._jobs[job.id]
                else:
                    job._next_run = following
                    job._entry = push(following, job)
        return held

    def release(self, job: Job, run_time: int, until: int) -> None:
        """Give a claimed job back, to be claimed again from ``until``; O(log n)."""
        with self._mutex:
            if job._entry == _CLAIMED:
                job._entry = self._heap.push(until, job)

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        """Keep a claimed job, for a reason, but never offer it again until it is changed."""
        with self._mutex:
            if job._entry == _CLAIMED:
                job._entry = _NONE
                job._next_run = None
                job.failure = reason

    def next_due(self) -> int | None:
        """Give the instant of the earliest claim to be had, or None; O(1)."""
        with self._mutex:
            earliest = self._heap.peek()
        return None if earliest is None else earliest[0]

    def _unschedule(self, job: Job) -> None:
        """Take a job out of the heap; a claim on it no longer holds."""
        entry = job._entry
        if entry >= 0:
            self._heap.remove(entry)
        job._entry = _NONE

    def _schedule(self, job: Job) -> None:
        """Put a job into the heap, unless it is paused."""
        due = job._next_run
        job._entry = _NONE if due is None else self._heap.push(due, job)

    def after_fork(self) -> None:
        """Make the lock anew in a forked child, where whoever held it is gone."""
        self._mutex = Lock()
