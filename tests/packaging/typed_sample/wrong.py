"""Mistakes: each line that ends with "# wrong" has one that a type checker has to report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from tocsin import COMPILED, BaseTrigger, CronTrigger, IntervalTrigger, adapters, stores
from tocsin.adapters import BackgroundScheduler, ThreadPoolExecutor
from tocsin.events import JobExecutionEvent
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.stores import BaseJobStore, MemoryJobStore
from tocsin.testing import FakeClock

trigger = CronTrigger(hour=9)
number: int = trigger.next_fire_time(datetime.now(timezone.utc))  # wrong
trigger.no_such_method()  # wrong
trigger.next_fire_time("now")  # wrong
CronTrigger(hours=9)  # wrong
CronTrigger.from_crontab(5)  # wrong
IntervalTrigger(minutes="5")  # wrong
text: str = COMPILED  # wrong
adapters.NoSuchScheduler()  # wrong
stores.NoSuchStore()  # wrong


def work(name: str) -> None:
    """Be a job."""


scheduler = BackgroundScheduler()
scheduler.add_job(42)  # wrong
scheduler.add_job(work, 5)  # wrong
scheduler.add_job(work, id=5)  # wrong
scheduler.add_job(work, args=5)  # wrong
scheduler.add_job(work, kwargs=["name"])  # wrong
scheduler.add_job(work, misfire_grace_time="soon")  # wrong
scheduler.add_job(work, coalesce="latest")  # wrong
scheduler.add_job(work, max_instances=None)  # wrong
scheduler.add_job(work, next_run_time=0)  # wrong
job: int = scheduler.add_job(work)  # wrong
scheduler.add_job(work).no_such_method()  # wrong
scheduler.get_job("it").pause()  # wrong
scheduler.get_jobs("default", True, "it")  # wrong
scheduler.add_jobstore(ThreadPoolExecutor())  # wrong
scheduler.add_executor(MemoryJobStore())  # wrong
scheduler.add_listener(work, "all")  # wrong
scheduler.start("paused")  # wrong
scheduler.shutdown(timeout=3)  # wrong
FakeClock(42)  # wrong
FakeClock().advance("1 h")  # wrong


@scheduler.scheduled_job("interval", hours=1)
def decorated(name: str) -> int:
    """Be a function that stays as it was."""
    return len(name)


decorated(5)  # wrong


def on_event(event: JobExecutionEvent) -> str:
    """Listen."""
    return event.duration  # wrong


class Unfinished(BaseJobStore):
    """A store without methods."""


Unfinished()  # wrong
BaseExecutor()  # wrong
BaseTrigger()  # wrong


class Executor(BaseExecutor):
    """An executor with another contract."""

    def _do_submit_job(self, job: Job, run_times: Sequence[str]) -> None: ...  # wrong
