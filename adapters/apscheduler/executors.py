"""What executors written for APScheduler are made of."""

from __future__ import annotations

import asyncio
import logging
import traceback
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from inspect import iscoroutine
from threading import RLock
from typing import TYPE_CHECKING, Any

from tocsin import executors
from tocsin.claims import Claim
from tocsin.errors import MaxInstancesReachedError
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    JobExecutionEvent,
    JobSubmissionEvent,
    SchedulerEvent,
)

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler

__all__ = ["BaseExecutor", "BasePoolExecutor", "run_coroutine_job", "run_job"]


class BaseExecutor(executors.BaseExecutor):
    """The base of executors that run jobs by `run_job` or `run_coroutine_job`.

    A subclass has its ``_do_submit_job`` see to it that ``run_job`` is called, somewhere, and
    then `_run_job_success` with the events that it gave, or `_run_job_error`. ``_instances``
    counts, under ``_lock``, the running instances of each job by its id.
    """

    _lock: Any = None
    _logger = logging.getLogger("apscheduler.executors")

    def __init__(self) -> None:
        super().__init__()
        self._instances: defaultdict[str, int] = defaultdict(int)

    @classmethod
    def __subclasshook__(cls, other: type[Any]) -> bool:
        # Those of tocsin's own, which this one is but another face of, count as well.
        mine = cls is BaseExecutor and executors.BaseExecutor in other.__mro__
        return True if mine else NotImplemented

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin, for a scheduler that calls the executor ``alias``."""
        super().start(scheduler, alias)
        self._lock = getattr(scheduler, "_create_lock", RLock)()

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        """Run a job once for each run time, one after the other, as one instance.

        Raises MaxInstancesReachedError when as many instances run as the job allows.
        """
        with self._lock:
            if self._instances[job.id] >= job.max_instances:
                raise MaxInstancesReachedError(job)
            self._instances[job.id] += 1
        if type(job._handle) is Claim:
            self._keep_claim(job, job._handle)
        try:
            if self._scheduler.listens(EVENT_JOB_SUBMITTED):
                self._scheduler._dispatch_event(
                    JobSubmissionEvent(EVENT_JOB_SUBMITTED, job.id, job._jobstore_alias, run_times)
                )
            with self._lock:
                self._do_submit_job(job, run_times)
        except BaseException:
            self._let_go(job)
            raise

    @property
    def running(self) -> int:
        """How many instances of jobs are handed over and have not ended."""
        return sum(list(self._instances.values()))

    def is_full(self, job: Job) -> bool:
        """Tell whether as many instances of a job run as it allows, those elsewhere included."""
        elsewhere = job._handle.elsewhere if type(job._handle) is Claim else 0
        return self._instances.get(job.id, 0) + elsewhere >= job.max_instances

    def _let_go(self, job: Job) -> None:
        self._count_less(job.id)
        if type(job._handle) is Claim:
            self._forget_claim((job._jobstore_alias, job.id), job._handle)

    def _release_id(self, job_id: str) -> None:
        self._count_less(job_id)
        key = next((key for key in list(self._claims) if key[1] == job_id), None)
        claim = None if key is None else self._forget_claim(key)
        if claim is not None:
            claim.settle()

    def _count_less(self, job_id: str) -> None:
        with self._lock:
            self._instances[job_id] -= 1
            if self._instances[job_id] <= 0:
                del self._instances[job_id]

    def _run_job_success(self, job_id: str, events: Sequence[SchedulerEvent]) -> None:
        """End an instance of a job, with the events of its runs."""
        self._release_id(job_id)
        for event in events:
            self._scheduler._dispatch_event(event)

    def after_fork(self) -> None:
        """Forget, in a forked child, the runs that only its parent has."""
        super().after_fork()
        self._instances.clear()


class BasePoolExecutor(BaseExecutor):
    """The base of executors on a pool with the interface of `concurrent.futures.Executor`."""

    @abstractmethod
    def __init__(self, pool: Any) -> None:
        super().__init__()
        self._pool = pool

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        def ended(future: Any) -> None:
            error = future.exception()
            if error is not None:
                self._run_job_error(job.id, error, error.__traceback__)
            else:
                self._run_job_success(job.id, future.result())

        future = self._pool.submit(run_job, job, job._jobstore_alias, run_times, self._logger.name)
        future.add_done_callback(ended)

    def shutdown(self, wait: bool = True) -> None:
        """Shut the pool down; with ``wait`` return when its jobs have ended."""
        self._pool.shutdown(wait)


def run_job(
    job: Job, jobstore_alias: str, run_times: Sequence[datetime], logger_name: str
) -> list[SchedulerEvent]:
    """Run a job in this thread, once for each run time; give the events to dispatch.

    A coroutine function runs on an event loop of its own.
    """
    runs = _Runs(job, jobstore_alias, logger_name)
    for run_time in runs.in_time(run_times):
        try:
            func, args, kwargs = job.call()
            retval = func(*args, **kwargs)
            if iscoroutine(retval):
                retval = asyncio.run(retval)
        except BaseException as error:
            runs.failed(run_time, error)
        else:
            runs.succeeded(run_time, retval)
    return runs.events


async def run_coroutine_job(
    job: Job, jobstore_alias: str, run_times: Sequence[datetime], logger_name: str
) -> list[SchedulerEvent]:
    """Run a coroutine job on the running event loop, likewise."""
    runs = _Runs(job, jobstore_alias, logger_name)
    for run_time in runs.in_time(run_times):
        try:
            func, args, kwargs = job.call()
            retval = await func(*args, **kwargs)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            runs.failed(run_time, error)
        else:
            runs.succeeded(run_time, retval)
    return runs.events


class _Runs:
    """The runs of one job, and what became of them."""

    def __init__(self, job: Job, alias: str, logger_name: str) -> None:
        self.job = job
        self.alias = alias
        self.logger = logging.getLogger(logger_name)
        self.events: list[SchedulerEvent] = []
        self.start: datetime | None = None

    def in_time(self, run_times: Sequence[datetime]) -> Iterator[datetime]:
        """Iterate over the run times that are not too late, as each one's turn comes."""
        for run_time in run_times:
            self.start = datetime.now(timezone.utc)
            late = self.start - run_time.astimezone(timezone.utc)
            grace = self.job.misfire_grace_time
            if grace is not None and late > timedelta(seconds=grace):
                self.logger.warning('Run time of job "%s" was missed by %s', self.job, late)
                self._add(EVENT_JOB_MISSED, run_time, start=None, reason=f"late by {late}")
                continue
            self.logger.info('Running job "%s" (scheduled at %s)', self.job, run_time)
            yield run_time

    def succeeded(self, run_time: datetime, retval: Any) -> None:
        self.logger.info('Job "%s" executed successfully', self.job)
        self._add(EVENT_JOB_EXECUTED, run_time, retval=retval, end=datetime.now(timezone.utc))

    def failed(self, run_time: datetime, error: BaseException) -> None:
        self.logger.error('Job "%s" raised an exception', self.job, exc_info=error)
        self._add(
            EVENT_JOB_ERROR,
            run_time,
            exception=error,
            traceback="".join(traceback.format_exception(error)),
            end=datetime.now(timezone.utc),
        )
        if error.__traceback__ is not None:
            traceback.clear_frames(error.__traceback__)

    def _add(self, code: int, run_time: datetime, **details: Any) -> None:
        given = {"start": self.start, **details}
        self.events.append(JobExecutionEvent(code, self.job.id, self.alias, run_time, **given))
