"""Executors: where jobs run, and what is told of each run."""

from __future__ import annotations

import asyncio
import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from threading import RLock
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from tocsin.claims import Claim
from tocsin.convert import edge_of
from tocsin.errors import MaxInstancesReachedError
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    EVENT_JOB_STARTED,
    EVENT_JOB_SUBMITTED,
    JobExecutionEvent,
    JobSubmissionEvent,
    SchedulerEvent,
)
from tocsin.interfaces import IExecutor

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler

__all__ = ["BaseExecutor", "DebugExecutor"]

_UTC = edge_of(timezone.utc)
#: What a subclass may change of how jobs are taken and run.
_STEPS = frozenset(("submit_job", "_do_submit_job", "run", "run_async", "release"))


@implementer(IExecutor)
class BaseExecutor(ABC):
    """The base of all executors.

    A subclass implements `_do_submit_job`, which has the job run, somewhere, by `run` or by its
    own calls of `begin`, `succeed` and `fail`, and `release` at the end.
    """

    #: Whether a job may be a coroutine function.
    runs_coroutines = True

    _scheduler: BaseScheduler
    _logger = logging.getLogger("tocsin.executors")
    # The run times of a coroutine job that is just beginning: if it ends at once, who began it
    # counts its instance no more.
    _beginning: Iterator[Any] | None = None

    def __init__(self) -> None:
        # The jobs that run, by store and id: of those that allow one instance only, just that
        # they do, for that takes one step of a dict and no lock; of others, how often.
        self._alone: dict[tuple[str | None, str], object] = {}
        self._running: dict[tuple[str | None, str], int] = {}
        # What is to be settled when an instance ends, by store and id.
        self._claims: dict[tuple[str | None, str], list[Claim]] = {}
        # The handler of a signal that strikes within may shut the scheduler down.
        self._mutex = RLock()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "submit_jobs" not in cls.__dict__ and not _STEPS.isdisjoint(cls.__dict__):
            # The method that people override decides, not the shortcut around it.
            cls.submit_jobs = BaseExecutor.submit_jobs  # type: ignore[method-assign]

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin, for a scheduler that calls the executor ``alias``; may follow a shutdown."""
        self._scheduler = scheduler
        self._logger = logging.getLogger(f"{scheduler.log_prefix}.executors.{alias}")

    def shutdown(self, wait: bool = True) -> None:
        """End; with ``wait`` only after the running jobs have."""

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        """Run a job once for each run time, one after the other, as one instance.

        Raises MaxInstancesReachedError when as many instances run as the job allows.
        """
        key = (job._jobstore_alias, job.id)
        if job._rules.max_instances == 1:
            mine = object()
            if key in self._running or self._alone.setdefault(key, mine) is not mine:
                raise MaxInstancesReachedError(job)
        else:
            with self._mutex:
                running = self._running.get(key, 0)
                if running + (key in self._alone) >= job.max_instances:
                    raise MaxInstancesReachedError(job)
                self._running[key] = running + 1
        if type(job._handle) is Claim:
            self._keep_claim(job, job._handle)
        try:
            if self._scheduler._listeners.mask & EVENT_JOB_SUBMITTED:
                self._scheduler._dispatch_event(
                    JobSubmissionEvent(EVENT_JOB_SUBMITTED, job.id, job._jobstore_alias, run_times)
                )
            self._do_submit_job(job, run_times)
        except Exception:
            self._let_go(job)
            raise

    def submit_jobs(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
    ) -> None:
        """Submit many jobs, each with its run times, which are instants, in their order.

        ``refused`` is told of each that is not run, and of what `submit_job` raised. ``runs``
        may be an iterator that does some work for each job when it is asked for the next one.
        """
        for job, times in runs:
            try:
                self.submit_job(job, [job.moment(each) for each in times])
            except Exception as error:
                refused(job, times, error)

    def _submit_here(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
        begin: Callable[[Job, Sequence[int], bool], bool],
    ) -> None:
        """Do what `submit_jobs` does, for jobs that begin in this thread.

        ``begin`` gets a job, its run times, and whether they are watched, as `_run` does. It
        tells whether the instance has ended; if not, `release` or `drop` is called later.
        """
        listeners = self._scheduler._listeners
        told = self._logger.isEnabledFor(logging.INFO)
        alone, running = self._alone, self._running
        rules, single, watched = None, False, False
        for job, times in runs:
            if job._rules is not rules:
                rules = job._rules
                single = rules.max_instances == 1
                watched = told or rules.misfire_grace_time is not None
            if listeners.mask & EVENT_JOB_SUBMITTED or not single or type(job._handle) is Claim:
                try:
                    self.submit_job(job, [job.moment(each) for each in times])
                except Exception as error:
                    refused(job, times, error)
                continue
            # What `submit_job` does for a job of which one instance may run, and no more.
            key = (job._jobstore_alias, job.id)
            mine = times  # an object that no other run has
            if key in running or alone.setdefault(key, mine) is not mine:
                refused(job, times, MaxInstancesReachedError(job))
                continue
            ended = True
            try:
                ended = begin(job, times, watched)
            except Exception as error:
                refused(job, times, error)
            finally:
                if ended:
                    alone.pop(key, None)

    @abstractmethod
    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        """Have the job run; called by `submit_job`, from the scheduler's thread.

        What it raises, an Exception, means that the job will not run.
        """

    @property
    def running(self) -> int:
        """How many instances of jobs are handed over and have not ended."""
        with self._mutex:
            return len(self._alone) + sum(self._running.values())

    def is_full(self, job: Job) -> bool:
        """Tell whether as many instances of a job run as it allows, those elsewhere included."""
        key = (job._jobstore_alias, job.id)
        running = (key in self._alone) + self._running.get(key, 0)
        if type(job._handle) is Claim:
            running += job._handle.elsewhere
        return running >= job.max_instances

    def release(self, job: Job) -> None:
        """Say that an instance of a job has ended."""
        self._let_go(job)
        if type(job._handle) is Claim:
            job._handle.settle()

    def _let_go(self, job: Job) -> None:
        """Count an instance no more, whose claim is settled by others, if at all."""
        key = (job._jobstore_alias, job.id)
        if self._alone.pop(key, None) is None:
            self._count_down(key)
        if type(job._handle) is Claim:
            self._forget_claim(key, job._handle)

    def drop(self, job: Job, run_times: Iterable[datetime], error: BaseException) -> None:
        """Report that an instance of a job will not begin, and why.

        When the scheduler stops, runs at least once are left to the others that share the store.
        """
        for run_time in run_times:
            self.fail(job, run_time, None, error)
        if job.at_least_once and not self._scheduler.running:
            self._let_go(job)
        else:
            self.release(job)

    def _keep_claim(self, job: Job, claim: Claim) -> None:
        """Keep a claim for when its instance ends, of which maybe only the job's id is told."""
        with self._mutex:
            self._claims.setdefault((job._jobstore_alias, job.id), []).append(claim)

    def _forget_claim(
        self, key: tuple[str | None, str], claim: Claim | None = None
    ) -> Claim | None:
        """Keep a claim no longer, or else the oldest of a job, and give it."""
        with self._mutex:
            claims = self._claims.get(key, [])
            if claim is None and claims:
                claim = claims[0]
            if claim in claims:
                claims.remove(claim)
            if not claims:
                self._claims.pop(key, None)
        return claim

    def _count_down(self, key: tuple[str | None, str]) -> None:
        with self._mutex:
            running = self._running.pop(key, 0)
            if running > 1:
                self._running[key] = running - 1

    def _is_watched(self, job: Job) -> bool:
        """Tell whether a log or a grace time needs to know of each begin and end of a run."""
        return job._rules.misfire_grace_time is not None or self._logger.isEnabledFor(logging.INFO)

    def run(self, job: Job, run_times: Iterable[datetime | int]) -> None:
        """Run a job in this thread, once for each run time, and report."""
        try:
            self._run(job, run_times, self._is_watched(job))
        finally:
            self.release(job)

    def _run(self, job: Job, run_times: Iterable[datetime | int], watched: bool) -> bool:
        """Do what `run` does, but for the release, for which it gives True.

        Run times may be instants. ``watched`` is what `_is_watched` tells of the job.
        """
        scheduler = self._scheduler
        listeners = scheduler._listeners
        for run_time in run_times:
            # Most runs are watched by nobody: that costs them neither a call nor a text.
            if watched or listeners.mask & EVENT_JOB_STARTED:
                start = self.begin(job, moment_of(job, run_time))
                if start is None:
                    continue
            else:
                start = scheduler.clock.now()
            try:
                func = job._target
                if type(func) is FunctionType:  # without arguments
                    retval = func()
                else:
                    func, args, kwargs = job.call()
                    # An empty mapping after ** is not free.
                    retval = func(*args, **kwargs) if kwargs else func(*args)
                if retval is not None and isinstance(retval, CoroutineType):
                    retval = self.wait_for(retval)
            except BaseException as error:
                self.fail(job, moment_of(job, run_time), start, error)
                if not isinstance(error, Exception):
                    self.interrupted(error)
            else:
                if watched or listeners.mask & EVENT_JOB_EXECUTED:
                    self.succeed(job, moment_of(job, run_time), start, retval)
        return True

    def run_async(self, job: Job, run_times: Iterable[datetime | int]) -> Coroutine[Any, Any, None]:
        """Run a coroutine job on the running event loop, once for each run time, and report."""
        return self._run_async(job, run_times, self._is_watched(job))

    async def _run_async(
        self, job: Job, run_times: Iterable[datetime | int], watched: bool
    ) -> None:
        """Do what `run_async` does; ``watched`` is what `_is_watched` tells of the job."""
        scheduler = self._scheduler
        listeners = scheduler._listeners
        try:
            for run_time in run_times:
                if watched or listeners.mask & EVENT_JOB_STARTED:
                    start = self.begin(job, moment_of(job, run_time))
                    if start is None:
                        continue
                else:
                    start = scheduler.clock.now()
                try:
                    func = job._target
                    if type(func) is FunctionType:  # without arguments
                        retval = await func()
                    else:
                        func, args, kwargs = job.call()
                        retval = await (func(*args, **kwargs) if kwargs else func(*args))
                except BaseException as error:
                    self.fail(job, moment_of(job, run_time), start, error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    if watched or listeners.mask & EVENT_JOB_EXECUTED:
                        self.succeed(job, moment_of(job, run_time), start, retval)
        finally:
            if run_times is not self._beginning:
                self.release(job)

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run to its end the coroutine that a job gave; here on an event loop of its own.

        Raises RuntimeError in a thread that runs an event loop already.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(coroutine)
        coroutine.close()
        raise RuntimeError(
            f"{coroutine!r} can't run here, in the thread of an event loop;"
            " give the job an AsyncIOExecutor"
        )

    def interrupted(self, error: BaseException) -> None:
        """Take note that a job raised SystemExit, KeyboardInterrupt or the like; ends there."""

    def begin(self, job: Job, run_time: datetime) -> int | None:
        """Say that a run begins; give the instant, or None if it is too late for it.

        It is too late when more than the job's grace time has passed since the run time.
        """
        scheduler = self._scheduler
        now = scheduler.clock.now()
        grace = job.misfire_grace_time
        if grace is not None:
            present = scheduler.time_of(job._jobstore_alias)
            if present - _UTC.instant(run_time) > grace * 1_000_000:
                self.miss(job, run_time, present)
                return None
        if self._logger.isEnabledFor(logging.INFO):
            self._logger.info('Running job "%s" (scheduled at %s)', job, run_time)
        if scheduler._listeners.mask & EVENT_JOB_STARTED:
            self._tell(EVENT_JOB_STARTED, job, run_time, start=_UTC.moment(now))
        return now

    def miss(self, job: Job, run_time: datetime, now: int) -> None:
        """Report a run that was found later than its grace time."""
        late = (now - _UTC.instant(run_time)) / 1_000_000
        reason = f"{late:.3f} s late, more than its grace time of {job.misfire_grace_time} s"
        self._logger.warning('Run time of job "%s" at %s was missed: %s', job, run_time, reason)
        self._tell(EVENT_JOB_MISSED, job, run_time, reason=reason)

    def succeed(self, job: Job, run_time: datetime, start: int, retval: Any) -> None:
        """Report a run that ended well."""
        if self._logger.isEnabledFor(logging.INFO):
            self._logger.info('Job "%s" executed successfully', job)
        if self._scheduler._listeners.mask & EVENT_JOB_EXECUTED:
            self._tell(
                EVENT_JOB_EXECUTED,
                job,
                run_time,
                retval=retval,
                start=_UTC.moment(start),
                end=_UTC.moment(self._scheduler.now()),
            )

    def fail(
        self,
        job: Job,
        run_time: datetime,
        start: int | None,
        error: BaseException,
        trace: str | None = None,
    ) -> None:
        """Report a run that raised, or (without ``start``) that could not even begin."""
        if trace is None:
            trace = "".join(traceback.format_exception(error))
        self._logger.error(
            'Job "%s" raised an exception\n%s', job, trace.rstrip(), extra={"error": error}
        )
        self._tell(
            EVENT_JOB_ERROR,
            job,
            run_time,
            exception=error,
            traceback=trace,
            start=None if start is None else _UTC.moment(start),
            end=_UTC.moment(self._scheduler.now()),
        )
        # A frame that outlives its job keeps all that the job had in hand.
        if error.__traceback__ is not None:
            traceback.clear_frames(error.__traceback__)

    def _tell(self, code: int, job: Job, run_time: datetime, **details: Any) -> None:
        if self._scheduler.listens(code):
            self._scheduler._dispatch_event(
                JobExecutionEvent(code, job.id, job._jobstore_alias, run_time, **details)
            )

    def _run_job_success(self, job_id: str, events: Sequence[SchedulerEvent]) -> None:
        """End an instance of a job; what executors written for APScheduler 3 call."""
        for event in events:
            self._scheduler._dispatch_event(event)
        self._release_id(job_id)

    def _run_job_error(self, job_id: str, exc: BaseException, traceback: Any = None) -> None:
        """End an instance of a job that could not run, likewise."""
        self._logger.error("Error running job %s", job_id, exc_info=(type(exc), exc, traceback))
        self._release_id(job_id)

    def _release_id(self, job_id: str) -> None:
        for key in [*self._alone, *self._running]:
            if key[1] == job_id:
                if self._alone.pop(key, None) is None:
                    self._count_down(key)
                claim = self._forget_claim(key)
                if claim is not None:
                    claim.settle()
                return

    def after_fork(self) -> None:
        """Forget, in a forked child, the runs that only its parent has."""
        self._mutex = RLock()
        self._alone = {}
        self._running = {}
        self._claims = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def moment_of(job: Job, run_time: datetime | int) -> datetime:
    """Give a run time of a job as a datetime, if it is not one already."""
    return job.moment(run_time) if isinstance(run_time, int) else run_time


class DebugExecutor(BaseExecutor):
    """Run jobs at once, in the scheduler's own thread, one after the other."""

    _do_submit_job = BaseExecutor.run

    def submit_jobs(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
    ) -> None:
        """Run many jobs, each with its run times, which are instants, one after the other."""
        self._submit_here(runs, refused, self._run)

    def interrupted(self, error: BaseException) -> None:
        """Let Ctrl-C and SystemExit through: in this thread they are meant for the program."""
        raise error
