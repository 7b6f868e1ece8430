"""What a scheduler reports: codes that combine to masks, and one class for each kind of event.

The codes and classes of APScheduler 3 have its values and attributes; the codes from
`EVENT_JOB_STARTED` on are new, and part of `EVENT_ALL`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

EVENT_SCHEDULER_STARTED = EVENT_SCHEDULER_START = 1 << 0
EVENT_SCHEDULER_SHUTDOWN = 1 << 1
EVENT_SCHEDULER_PAUSED = 1 << 2
EVENT_SCHEDULER_RESUMED = 1 << 3
EVENT_EXECUTOR_ADDED = 1 << 4
EVENT_EXECUTOR_REMOVED = 1 << 5
EVENT_JOBSTORE_ADDED = 1 << 6
EVENT_JOBSTORE_REMOVED = 1 << 7
EVENT_ALL_JOBS_REMOVED = 1 << 8
EVENT_JOB_ADDED = 1 << 9
EVENT_JOB_REMOVED = 1 << 10
EVENT_JOB_MODIFIED = 1 << 11
EVENT_JOB_EXECUTED = 1 << 12
EVENT_JOB_ERROR = 1 << 13
EVENT_JOB_MISSED = 1 << 14
EVENT_JOB_SUBMITTED = 1 << 15
EVENT_JOB_MAX_INSTANCES = 1 << 16
#: A run begins.
EVENT_JOB_STARTED = 1 << 17
#: Several run times that were due at once became one run.
EVENT_JOB_COALESCED = 1 << 18
#: A job was set aside: its next run time or its record could not be worked out.
EVENT_JOB_BROKEN = 1 << 19
#: A job store failed; the scheduler tries again.
EVENT_JOBSTORE_ERROR = 1 << 20
#: A run is lost: the scheduler that had claimed it stopped answering before it had ended.
EVENT_JOB_LOST = 1 << 21
EVENT_ALL = (1 << 22) - 1

#: The names of the codes.
NAMES: dict[int, str] = {
    code: name.removeprefix("EVENT_")
    for name, code in list(globals().items())
    if name.startswith("EVENT_") and name not in ("EVENT_ALL", "EVENT_SCHEDULER_START")
}


class SchedulerEvent:
    """Something that happened to the scheduler, or to the plug-in called ``alias``."""

    def __init__(self, code: int, alias: str | None = None) -> None:
        self.code = code
        self.alias = alias

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name not in ("code", "traceback") and value is not None
        )
        name = NAMES.get(self.code, str(self.code))
        return f"<{type(self).__name__} {name}{' ' if shown else ''}{shown}>"


class JobStoreErrorEvent(SchedulerEvent):
    """A job store failed with ``exception``; it is tried again after ``retry_in`` seconds."""

    def __init__(self, code: int, alias: str, exception: BaseException, retry_in: float) -> None:
        super().__init__(code, alias)
        self.exception = exception
        self.retry_in = retry_in


class JobEvent(SchedulerEvent):
    """Something that happened to the job ``job_id`` in the store called ``jobstore``."""

    def __init__(self, code: int, job_id: str, jobstore: str | None) -> None:
        super().__init__(code)
        self.job_id = job_id
        self.jobstore = jobstore


class JobBrokenEvent(JobEvent):
    """A job was set aside, for ``reason``."""

    def __init__(self, code: int, job_id: str, jobstore: str | None, reason: str) -> None:
        super().__init__(code, job_id, jobstore)
        self.reason = reason


class JobSubmissionEvent(JobEvent):
    """Runs of a job were handed to its executor, or skipped for want of a free instance."""

    def __init__(
        self,
        code: int,
        job_id: str,
        jobstore: str | None,
        scheduled_run_times: Sequence[datetime],
    ) -> None:
        super().__init__(code, job_id, jobstore)
        self.scheduled_run_times = list(scheduled_run_times)


class JobCoalescedEvent(JobEvent):
    """The run times from the first to the one before the last were left out for the last."""

    def __init__(
        self,
        code: int,
        job_id: str,
        jobstore: str | None,
        first_run_time: datetime,
        last_run_time: datetime,
    ) -> None:
        super().__init__(code, job_id, jobstore)
        self.first_run_time = first_run_time
        self.last_run_time = last_run_time


class JobExecutionEvent(JobEvent):
    """What became of one run.

    ``start`` and ``end`` are when it ran (None for a run that never did), ``duration`` the
    time between them. ``traceback`` is the text of the exception's traceback. ``reason`` says
    why a run was missed or lost.
    """

    def __init__(
        self,
        code: int,
        job_id: str,
        jobstore: str | None,
        scheduled_run_time: datetime,
        retval: Any = None,
        exception: BaseException | None = None,
        traceback: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(code, job_id, jobstore)
        self.scheduled_run_time = scheduled_run_time
        self.retval = retval
        self.exception = exception
        self.traceback = traceback
        self.start = start
        self.end = end
        self.reason = reason

    @property
    def duration(self) -> timedelta | None:
        """How long the job ran."""
        return None if self.start is None or self.end is None else self.end - self.start
