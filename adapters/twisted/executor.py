"""The executor whose jobs run in the reactor's thread or in its thread pool."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import blockingCallFromThread

from tocsin.callables import runs_coroutine
from tocsin.convert import as_bool
from tocsin.events import EVENT_JOB_EXECUTED, EVENT_JOB_STARTED
from tocsin.executors import BaseExecutor, moment_of

if TYPE_CHECKING:
    from tocsin.adapters.twisted.scheduler import TwistedScheduler
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler


class Run:
    """An instance of a job that runs."""

    __slots__ = ("job", "pending")

    def __init__(self, job: Job) -> None:
        self.job = job
        #: What it waits for.
        self.pending: Deferred[Any] | None = None


#: The run that the code which asks belongs to.
current_run: ContextVar[Run | None] = ContextVar("tocsin_twisted_run", default=None)

#: The run time and the start of a run, and what it gave: a Deferred or a coroutine.
_Awaited = tuple[datetime, int, Any]
_RunTimes = Iterator[datetime | int]


class TwistedExecutor(BaseExecutor):
    """Run jobs in the reactor's thread or in its thread pool, until their Deferred fires.

    Coroutine functions, those of ``inlineCallbacks`` and those whose annotation says that they
    return a Deferred are called in the reactor's thread. So are all others with
    ``threads=False``; else they are called in the reactor's thread pool.
    """

    #: A shutdown that does not wait cuts runs short: those at least once are left to others.
    cancels = True

    _reactor: Any
    _scheduler: TwistedScheduler

    def __init__(self, threads: bool | str = True) -> None:
        super().__init__()
        self.threads = as_bool(threads)
        self._runs: set[Run] = set()
        self._waiting: list[tuple[set[Run], Deferred[None]]] = []
        self._warned: set[str] = set()

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin, on the reactor of a `TwistedScheduler`; RuntimeError for another scheduler."""
        reactor = getattr(scheduler, "reactor", None)
        if reactor is None:
            raise RuntimeError(
                f"a TwistedExecutor needs a reactor, which a {type(scheduler).__name__} does not"
                " have; use a TwistedScheduler, or a ThreadPoolExecutor"
            )
        super().start(scheduler, alias)
        self._reactor = reactor
        self._pooled = self.threads and self._scheduler._simulated is None

    def submit_jobs(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
    ) -> None:
        """Submit many jobs; see `BaseExecutor.submit_jobs`."""
        if self._pooled or not self._scheduler.is_in_reactor():
            super().submit_jobs(runs, refused)
            return
        run: Run | None = None

        def begin(job: Job, times: Sequence[int], watched: bool) -> bool:
            nonlocal run
            if run is None:
                run = Run(job)
                current_run.set(run)
            run.job = job
            run_times = iter(times)
            awaited = self._call(run, run_times, watched)
            if awaited is None:
                return True  # and the next job's run may be this one
            self._await(run, run_times, awaited, watched)
            run = None
            current_run.set(None)  # what follows, a listener maybe, is no part of it
            return False

        token = current_run.set(None)
        try:
            self._submit_here(runs, refused, begin)
        finally:
            current_run.reset(token)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        run = Run(job)
        if self._pooled and not _for_reactor(job.func):
            self._began(run)
            self._reactor.getThreadPool().callInThread(self._run_in_thread, run, iter(run_times))
        elif self._scheduler.is_in_reactor():
            self._run_in_reactor(run, iter(run_times))
        else:
            self._began(run)
            self._reactor.callFromThread(self._run_in_reactor, run, iter(run_times))

    def _call(self, run: Run, run_times: _RunTimes, watched: bool) -> _Awaited | None:
        """Run a job for one run time after the other, and report.

        When a run gives what is to be waited for, give that; None at the end of the run times.
        """
        job = run.job
        listeners = self._scheduler._listeners
        for run_time in run_times:
            # As in BaseExecutor.run: what nobody hears of costs no call.
            if watched or listeners.mask & EVENT_JOB_STARTED:
                start = self.begin(job, moment_of(job, run_time))
                if start is None:
                    continue
            else:
                start = self._scheduler.clock.now()
            try:
                func, args, kwargs = job.call()
                retval = func(*args, **kwargs) if kwargs else func(*args)
            except BaseException as error:
                self.fail(job, moment_of(job, run_time), start, error)
                continue
            if retval is not None and isinstance(retval, (Deferred, CoroutineType)):
                return moment_of(job, run_time), start, retval
            if watched or listeners.mask & EVENT_JOB_EXECUTED:
                self.succeed(job, moment_of(job, run_time), start, retval)
        return None

    def _run_in_reactor(self, run: Run, run_times: _RunTimes) -> None:
        token = current_run.set(run)
        watched = self._is_watched(run.job)
        try:
            awaited = self._call(run, run_times, watched)
            if awaited is not None:
                self._await(run, run_times, awaited, watched)
                return
        finally:
            current_run.reset(token)
        self._ended(run)

    def _await(self, run: Run, run_times: _RunTimes, awaited: _Awaited, watched: bool) -> None:
        """Have a run go on when what it gave has come; in the reactor's thread."""
        self._began(run)
        self._wait(run, run_times, awaited, watched).addBoth(lambda _: self._ended(run))

    @inlineCallbacks
    def _wait(
        self, run: Run, run_times: _RunTimes, awaited: _Awaited | None, watched: bool
    ) -> Generator[Deferred[Any], Any, None]:
        while awaited is not None:
            run_time, start, pending = awaited
            try:
                retval = yield self._pending(run, pending)
            except BaseException as error:
                self.fail(run.job, run_time, start, error)
            else:
                self.succeed(run.job, run_time, start, retval)
            awaited = self._call(run, run_times, watched)

    def _run_in_thread(self, run: Run, run_times: _RunTimes) -> None:
        token = current_run.set(run)
        watched = self._is_watched(run.job)
        try:
            awaited = self._call(run, run_times, watched)
            while awaited is not None:
                self._warn(run.job, awaited[2])
                # For one run time only: the next one begins in this thread again.
                wait: Any = self._wait
                blockingCallFromThread(self._reactor, wait, run, iter(()), awaited, watched)
                awaited = self._call(run, run_times, watched)
        finally:
            current_run.reset(token)
            self._ended(run)

    def _pending(self, run: Run, awaited: Any) -> Deferred[Any]:
        """Give the Deferred of what a job gave; in the reactor's thread."""
        if isinstance(awaited, CoroutineType):
            awaited = Deferred.fromCoroutine(awaited)
        run.pending = awaited
        return cast("Deferred[Any]", awaited)

    def _warn(self, job: Job, awaited: Any) -> None:
        """Say once of each job that it gave a Deferred in the wrong thread."""
        if isinstance(awaited, Deferred) and job.name not in self._warned:
            self._warned.add(job.name)
            self._logger.warning(
                'Job "%s" returned a Deferred in a thread of the pool, where Twisted is not safe;'
                ' give the job executor="reactor", or its function the annotation "-> Deferred"',
                job,
            )

    def _began(self, run: Run) -> None:
        """Keep a run that goes on after this call, for those who wait for its end."""
        with self._mutex:
            self._runs.add(run)

    def _ended(self, run: Run) -> None:
        self.release(run.job)
        if run not in self._runs:
            return
        fire = []
        with self._mutex:
            self._runs.discard(run)
            for waiter in list(self._waiting):
                waiter[0].discard(run)
                if not waiter[0]:
                    self._waiting.remove(waiter)
                    fire.append(waiter[1])
        for deferred in fire:
            self._scheduler._in_loop(partial(deferred.callback, None))

    def runs(self) -> list[Run]:
        """List the runs that have not ended."""
        with self._mutex:
            return list(self._runs)

    def join(self, current: Run | None = None) -> Deferred[None]:
        """Give a Deferred that fires when all runs of now have ended, but for one."""
        ended: Deferred[None] = Deferred()
        with self._mutex:
            awaited = self._runs - {current}
            if awaited:
                self._waiting.append((awaited, ended))
        if not awaited:
            ended.callback(None)
        return ended

    def shutdown(self, wait: bool = True) -> None:
        """End; without ``wait`` cancel the Deferreds that jobs wait for, but the caller's own.

        It never waits, for the reactor has to go on: for that there is `join`.
        """
        if not wait:
            current = current_run.get()
            for run in self.runs():
                if run.pending is not None and run is not current:
                    self._scheduler._in_loop(run.pending.cancel)

    def after_fork(self) -> None:
        """Forget, in a forked child, the runs that only its parent has."""
        super().after_fork()
        self._runs = set()
        self._waiting = []


_INLINE_CALLBACKS = inlineCallbacks(lambda: iter(())).__code__  # type: ignore[arg-type, return-value]
_DEFERRED = re.compile(r"(\w+\.)*Deferred\b")


def _for_reactor(func: Any) -> bool:
    """Tell whether a function says that it belongs in the reactor's thread."""
    if runs_coroutine(func):
        return True
    while isinstance(func, partial):
        func = func.func
    while func is not None:
        if getattr(func, "__code__", None) is _INLINE_CALLBACKS:
            return True
        try:
            returned = getattr(func, "__annotations__", {}).get("return")
        except NameError:  # annotations that only a type checker can read, from Python 3.14 on
            returned = None
        if isinstance(returned, str):
            if _DEFERRED.match(returned):
                return True
        elif returned is Deferred or getattr(returned, "__origin__", None) is Deferred:
            return True
        func = getattr(func, "__wrapped__", None)
    return False
