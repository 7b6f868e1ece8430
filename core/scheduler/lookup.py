"""Finding, listing and writing down the jobs of a scheduler."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from tocsin import records
from tocsin.errors import JobLookupError, SchedulerNotRunningError
from tocsin.job import Job, undefined
from tocsin.scheduler.parts import FOREVER, STATE_STOPPED, Parts
from tocsin.stores.base import BaseJobStore

_STATUSES = ("scheduled", "paused", "broken", "pending")


class JobLookup(Parts):
    """The calls that read the jobs in all stores, and those that wait for the start."""

    def get_job(self, job_id: str, jobstore: str | None = None) -> Job | None:
        """Give the job of an id, or None."""
        try:
            return self._lookup_job(job_id, jobstore)[0]
        except JobLookupError:
            return None

    def get_jobs(
        self,
        jobstore: str | None = None,
        pending: bool | None = None,
        *,
        name: str | None = None,
        executor: str | None = None,
        status: str | None = None,
        where: Callable[[Job], bool] | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> list[Job]:
        """List jobs, those that run next first, paused ones last.

        While the scheduler is stopped these are the ones that wait for it (``pending=True``
        gives only them, False only those in stores). ``name``, ``executor``, ``status``
        (``"scheduled"``, ``"paused"``, ``"broken"`` or ``"pending"``) and ``where`` select;
        ``offset`` and ``limit`` give a page. Of these stores all jobs are read, whatever is asked
        for: O(n log n). Raises ValueError for another status.
        """
        if status not in (None, *_STATUSES):
            raise ValueError(f"status: {status!r} is none of {', '.join(_STATUSES)}")
        jobs: list[Job] = []
        if pending is not False:
            with self._list_lock:
                jobs += [job for job, alias, _ in self._pending if jobstore in (None, alias)]
        if pending is not True and self.state != STATE_STOPPED:
            stores = self._stores(jobstore)
            for store in stores.values():
                jobs += store.get_all_jobs()
            if len(stores) > 1:
                jobs.sort(key=lambda job: FOREVER if job._next_run is None else job._next_run)
        jobs = [
            job
            for job in jobs
            if (name is None or job.name == name)
            and (executor is None or job.executor == executor)
            and (status is None or _status(job) == status)
            and (where is None or where(job))
        ]
        return jobs[offset : None if limit is None else offset + limit]

    def _lookup_job(self, job_id: str, jobstore: str | None) -> tuple[Job, str | None]:
        """Give a job and the alias of its store, which is None while it waits."""
        if self._pending:
            with self._list_lock:
                for job, alias, _ in self._pending:
                    if job.id == job_id and jobstore in (None, alias):
                        return job, None
        if self.state != STATE_STOPPED:
            stores = self._jobstores if jobstore is None else self._stores(jobstore)
            for alias in stores:
                found = stores[alias].lookup_job(job_id)
                if found is not None:
                    found._scheduler = self  # type: ignore[assignment]
                    found._jobstore_alias = alias
                    return found, alias
        raise JobLookupError(job_id)

    def _stores(self, alias: str | None) -> Mapping[str, BaseJobStore]:
        """Give one store, if there is one of that alias, or all."""
        stores = self._jobstores
        if alias is None:
            return stores
        return {alias: stores[alias]} if alias in stores else {}

    def _store(self, alias: str) -> BaseJobStore:
        try:
            return self._jobstores[alias]
        except KeyError:
            raise KeyError(
                f'No such job store: "{alias}"; there are: {", ".join(self._jobstores)}'
            ) from None

    def print_jobs(self, jobstore: str | None = None, out: IO[str] | None = None) -> None:
        """Print the jobs of all stores, or of one, and those that wait for the start."""
        out = out or sys.stdout
        if self.state == STATE_STOPPED:
            print("Pending jobs:", file=out)
            self._print(self.get_jobs(jobstore), "No pending jobs", out)
        else:
            for alias, store in self._stores(jobstore).items():
                print(f"Jobstore {alias}:", file=out)
                self._print(store.get_all_jobs(), "No scheduled jobs", out)

    @staticmethod
    def _print(jobs: Sequence[Job], none: str, out: IO[str]) -> None:
        for line in [str(job) for job in jobs] or [none]:
            print(f"    {line}", file=out)

    def export_jobs(
        self, outfile: IO[str] | str | os.PathLike[str], jobstore: str | None = None
    ) -> None:
        """Write jobs as JSON records to a file or path; see `tocsin.records`.

        Raises SchedulerNotRunningError, ValueError for a job that can't be written down.
        """
        if self.state == STATE_STOPPED:
            raise SchedulerNotRunningError("Scheduler is not running; start it to export its jobs")
        records.dump(self.get_jobs(jobstore, pending=False), outfile)


def _status(job: Job) -> str:
    if job.failure is not None:
        return "broken"
    if job._next_run is undefined:
        return "pending"
    return "paused" if job._next_run is None else "scheduled"
