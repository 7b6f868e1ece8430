"""Every executor, and one of the user's own."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from datetime import datetime

from tocsin.adapters import (
    AsyncIOExecutor,
    BackgroundScheduler,
    FuturesExecutor,
    GeventExecutor,
    ProcessPoolExecutor,
    QtExecutor,
    ThreadPoolExecutor,
    TornadoExecutor,
    TwistedExecutor,
)
from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.job import Job

pool = concurrent.futures.ThreadPoolExecutor(2)
every: list[BaseExecutor] = [
    AsyncIOExecutor(4),
    DebugExecutor(),
    FuturesExecutor(pool),
    GeventExecutor(size=None, when_full="reject"),
    ProcessPoolExecutor(max_workers=2, pool_kwargs={"max_tasks_per_child": 10}),
    QtExecutor(),
    ThreadPoolExecutor(20, {"thread_name_prefix": "shop"}),
    TornadoExecutor(max_workers=8),
    TwistedExecutor(threads=False),
]


class AtOnceExecutor(BaseExecutor):
    """An executor of the user's own."""

    runs_coroutines = False

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self.run(job, run_times)
        self.release(job)


scheduler = BackgroundScheduler(executors={"default": AtOnceExecutor(), "pool": every[6]})
scheduler.add_executor("processpool", "processes", max_workers=2)
scheduler.add_executor(ThreadPoolExecutor(), alias="more")
scheduler.remove_executor("more", shutdown=False)
busy: int = every[0].running
