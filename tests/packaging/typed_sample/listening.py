"""Every kind of event, and what listens to them."""

from __future__ import annotations

from datetime import datetime, timedelta

from tocsin import events
from tocsin.adapters import BackgroundScheduler
from tocsin.events import (
    EVENT_ALL,
    EVENT_JOB_BROKEN,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOBSTORE_ERROR,
    EVENT_SCHEDULER_STARTED,
    JobBrokenEvent,
    JobCoalescedEvent,
    JobEvent,
    JobExecutionEvent,
    JobStoreErrorEvent,
    JobSubmissionEvent,
    SchedulerEvent,
)

ENDED = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_LOST
code: int = ENDED | EVENT_JOB_BROKEN | EVENT_JOB_COALESCED | EVENT_JOB_SUBMITTED
name: str = events.NAMES[EVENT_JOBSTORE_ERROR]


def on_end(event: JobExecutionEvent) -> None:
    """Hear what became of a run."""
    when: datetime = event.scheduled_run_time
    duration: timedelta | None = event.duration
    failure: tuple[BaseException | None, str | None] = (event.exception, event.traceback)
    print(event.job_id, event.jobstore, when, duration, failure, event.retval, event.reason)


async def on_any(event: SchedulerEvent) -> None:
    """Hear of everything, and tell the kinds apart."""
    if isinstance(event, JobSubmissionEvent):
        times: list[datetime] = event.scheduled_run_times
        print(times)
    elif isinstance(event, JobCoalescedEvent):
        missed: timedelta = event.last_run_time - event.first_run_time
        print(missed)
    elif isinstance(event, JobBrokenEvent):
        reason: str = event.reason
        print(reason)
    elif isinstance(event, JobEvent):
        job_id: str = event.job_id
        print(job_id)
    elif isinstance(event, JobStoreErrorEvent):
        wait: float = event.retry_in
        print(wait, event.exception)
    else:
        alias: str | None = event.alias
        print(event.code == EVENT_SCHEDULER_STARTED, alias)


scheduler = BackgroundScheduler()
scheduler.add_listener(on_end, ENDED)
scheduler.add_listener(on_any, EVENT_ALL)
scheduler.add_listener(lambda event: print(event))
scheduler.remove_listener(on_end)
