"""Every scheduler, and the whole of what they do with jobs."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tocsin import CronTrigger, IntervalTrigger
from tocsin.adapters import (
    AsyncIOScheduler,
    BackgroundScheduler,
    BlockingScheduler,
    GeventScheduler,
    QtScheduler,
    SchedulerService,
    TornadoScheduler,
    TwistedScheduler,
)
from tocsin.errors import (
    ConfigError,
    ConflictingIdError,
    JobLookupError,
    MaxInstancesReachedError,
    SchedulerAlreadyRunningError,
    SchedulerNotRunningError,
    TransientJobError,
)
from tocsin.job import Job
from tocsin.scheduler import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED, BaseScheduler


def greet(name: str, *, loudly: bool = False) -> str:
    """Be a job."""
    return name.upper() if loudly else name


async def greet_later(name: str) -> str:
    """Be a job that is a coroutine function."""
    await asyncio.sleep(0)
    return name


def fill(scheduler: BaseScheduler) -> list[Job]:
    """Add jobs in every way."""
    trigger = CronTrigger.from_crontab("@daily")
    added: Job = scheduler.add_job(greet, trigger, ["ada"], {"loudly": True}, id="daily")
    named = scheduler.add_job(
        "schedulers:greet",
        "interval",
        minutes=5,
        args=("grace",),
        name="often",
        misfire_grace_time=timedelta(minutes=1),
        coalesce=False,
        max_instances=3,
        next_run_time="2026-01-01",
        jobstore="default",
        executor="default",
        replace_existing=True,
        at_least_once=True,
    )
    soon = scheduler.add_job(
        greet_later, args=["alan"], misfire_grace_time=None, next_run_time=datetime.now()
    )
    paused = scheduler.add_job(greet, "date", args=["edsger"], next_run_time=None)
    many: list[Job] = scheduler.add_jobs(
        ({"args": [name], "id": name} for name in ("barbara", "donald")),
        func=greet,
        trigger=IntervalTrigger(hours=1),
        replace_existing=True,
    )

    @scheduler.scheduled_job("cron", hour=3, misfire_grace_time=30, max_instances=1)
    def nightly(how: str = "well") -> int:
        return len(how)

    length: int = nightly()  # the decorator leaves the function as it was
    shape: Callable[[str], int] = nightly
    return [added, named, soon, paused, *many][: length + shape("")]


def change(scheduler: BaseScheduler, job: Job) -> Job | None:
    """Change jobs by their handles and by their ids."""
    job.modify(name="other", max_instances=2).reschedule("interval", seconds=30)
    job.pause().run_now()
    resumed: Job | None = job.resume()
    scheduler.modify_job(job.id, coalesce=True)
    scheduler.reschedule_job(job.id, trigger="cron", hour=4)
    scheduler.pause_job(job.id, "default")
    scheduler.run_job_now(job.id)
    also_resumed: Job | None = scheduler.resume_job(job.id)
    times: list[datetime] = job.next_run_times(3)
    moment: datetime | None = job.next_run_time
    facts: tuple[str, str, str | None, bool] = (job.id, job.name, job.func_ref, job.pending)
    logging.info("%s %s %s", times, moment, facts)
    try:
        scheduler.remove_job("none")
        job.remove()
    except (ConflictingIdError, JobLookupError, MaxInstancesReachedError, TransientJobError):
        return resumed or also_resumed
    return scheduler.get_job(job.id)


def look(scheduler: BaseScheduler, folder: Path) -> dict[str, Any]:
    """Look jobs up, print, write and read them."""

    def is_mine(job: Job) -> bool:
        return job.name.startswith("mine")

    page: list[Job] = scheduler.get_jobs(status="paused", where=is_mine, offset=10, limit=10)
    scheduler.print_jobs(out=io.StringIO())
    scheduler.export_jobs(folder / "jobs.json")
    read: list[Job] = scheduler.import_jobs(str(folder / "jobs.json"), replace_existing=True)
    scheduler.remove_all_jobs("default")
    health: dict[str, Any] = scheduler.health()
    return {**health, "page": len(page), "read": len(read)}


def control(scheduler: BaseScheduler) -> bool:
    """Configure a scheduler and have it start, pause, resume and stop."""
    try:
        scheduler.configure(
            {"tocsin.timezone": "Europe/Berlin"},
            job_defaults={"misfire_grace_time": 30, "coalesce": False, "max_instances": 2},
        )
        scheduler.start(paused=True)
        scheduler.resume()
        scheduler.pause()
        scheduler.wakeup()
        scheduler.shutdown(wait=False)
    except (ConfigError, SchedulerAlreadyRunningError, SchedulerNotRunningError) as error:
        logging.info("%s", error)
    states: tuple[int, ...] = (STATE_STOPPED, STATE_RUNNING, STATE_PAUSED)
    running: bool = scheduler.running
    return running and scheduler.state in states


def in_threads(folder: Path) -> None:
    """Run in a thread of its own, and in the main thread."""
    with BackgroundScheduler(timezone=timezone.utc, daemon=False) as background:
        fill(background)
        look(background, folder)
    background.start()
    background.shutdown()
    blocking: BlockingScheduler = BlockingScheduler.from_toml(folder / "settings.toml")
    blocking.add_job(blocking.shutdown, kwargs={"wait": False})
    blocking.start()


async def on_asyncio() -> None:
    """Run on asyncio's loop."""
    async with AsyncIOScheduler() as scheduler:
        fill(scheduler)
    scheduler.start()
    await scheduler.shutdown()


def in_frameworks() -> list[BaseScheduler]:
    """Make the schedulers of frameworks."""
    twisted = TwistedScheduler(log_to_twisted=False)
    service = SchedulerService(twisted)
    service.startService()
    twisted.shutdown().addCallback(print)
    with GeventScheduler() as gevent:
        gevent.start().join()
        gevent.shutdown(timeout=3.5)
    tornado = TornadoScheduler()
    tornado.shutdown(wait=False).cancel()
    qt = QtScheduler()
    qt.happened.connect(print)
    return [twisted, gevent, tornado, qt]
