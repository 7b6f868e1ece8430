"""APScheduler's memory store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.stores import memory
from tocsin.stores.base import BaseJobStore

if TYPE_CHECKING:
    from tocsin.job import Job

__all__ = ["MemoryJobStore"]

_ONE_JOB = ("get_due_jobs", "get_next_run_time", "add_job", "update_job", "remove_job")
_BATCH = ("add_jobs", "modify_job", "claim", "advance", "release", "set_aside", "next_due")


class MemoryJobStore(memory.MemoryJobStore):
    """Keep jobs in this process until the scheduler is shut down, which drops them."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if any(getattr(cls, name) is not getattr(MemoryJobStore, name) for name in _ONE_JOB):
            # The methods that people override decide, not the batches around them.
            for name in _BATCH:
                setattr(cls, name, getattr(BaseJobStore, name))

    def get_all_jobs(self) -> list[Job]:
        """List all jobs, those that run next first, paused ones last; where equal, by id."""
        jobs = super().get_all_jobs()
        jobs.sort(key=lambda job: (job._next_run is None, job._next_run or 0, job.id))
        return jobs

    def add_job(self, job: Job) -> None:
        """Add a job; ConflictingIdError if its id is taken."""
        memory.MemoryJobStore.add_jobs(self, (job,), False)

    def shutdown(self) -> None:
        """Close the store, and drop its jobs."""
        super().shutdown()
        self.remove_all_jobs()
