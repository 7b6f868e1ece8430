"""APScheduler's memory store."""

from __future__ import annotations

from tocsin.stores import memory

__all__ = ["MemoryJobStore"]


class MemoryJobStore(memory.MemoryJobStore):
    """Keep jobs in this process until the scheduler is shut down, which drops them."""

    def shutdown(self) -> None:
        """Close the store, and drop its jobs."""
        super().shutdown()
        self.remove_all_jobs()
