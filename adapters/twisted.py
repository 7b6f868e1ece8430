"""The scheduler, the executor and the service of Twisted."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from threading import get_ident
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tocsin.adapters.callback import CallbackScheduler
from tocsin.callables import maybe_ref, runs_coroutine
from tocsin.clock import SystemClock
from tocsin.convert import as_bool
from tocsin.errors import SchedulerAlreadyRunningError
from tocsin.events import EVENT_JOB_EXECUTED, EVENT_JOB_STARTED
from tocsin.executors import BaseExecutor, moment_of
from tocsin.scheduler import STATE_STOPPED

try:
    from twisted.application.service import IService, Service
    from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
    from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
    from twisted.internet.task import Clock
    from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
    from twisted.logger import Logger, LogLevel
    from twisted.python import threadable
    from twisted.python.failure import Failure
    from zope.interface import implementer
except ModuleNotFoundError as error:
    # Without Twisted there still is a package of that name: its plug-ins, tocsin's among them.
    if (error.name or "").partition(".")[0] != "twisted":
        raise
    raise ModuleNotFoundError(
        "tocsin.adapters.twisted needs Twisted: pip install tocsin[twisted]", name=error.name
    ) from error

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler

__all__ = ["SchedulerService", "TwistedExecutor", "TwistedScheduler"]

_SECOND = 1_000_000


def _checked_reactor(value: Any) -> Any:
    reactor = maybe_ref(value)
    if not IReactorTime.providedBy(reactor) or not (
        isinstance(reactor, Clock) or IReactorFromThreads.providedBy(reactor)
    ):
        raise TypeError(f"a reactor or a twisted.internet.task.Clock is needed, not {value!r}")
    return reactor


def _checked_timeout(value: Any) -> float:
    seconds = float(value)
    if not seconds >= 0:
        raise ValueError(f"{value!r} is not a number of seconds from 0 to inf")
    return seconds


class TwistedScheduler(CallbackScheduler):
    """Run on a reactor: ``reactor``, or at the start the one that is installed.

    Start it before ``reactor.run()`` or in the reactor's thread; all else may be called from any
    thread. When the reactor stops, so does the scheduler, and the reactor waits for the jobs that
    run, at most ``stop_timeout`` seconds (30; ``inf`` for no limit). What tocsin logs goes to
    Twisted's log as well, unless ``log_to_twisted`` is false.

    With a `twisted.internet.task.Clock` as the reactor the time is that of the clock, in seconds
    since 1970, and all jobs run in the thread that advances it, each at its own time.

    There are two executors from the beginning: "default", a `TwistedExecutor`, and "reactor",
    which runs every job in the reactor's thread.
    """

    extra_options: ClassVar[Any] = {
        "reactor": _checked_reactor,
        "stop_timeout": _checked_timeout,
        "log_to_twisted": as_bool,
    }

    #: The reactor; None before the first start, unless one was given.
    reactor: Any
    #: How many seconds the reactor, and a `SchedulerService`, wait for the jobs at the end.
    stop_timeout: float

    _closing: Deferred[None] | None = None
    #: Fires when the stores have been shut down.
    _closer: Deferred[None]
    _limit = math.inf
    _trigger: Any = None

    def _configure(self, options: Any) -> None:
        self.reactor = options.get("reactor")
        self.stop_timeout = options.get("stop_timeout", 30.0)
        self._logs: bool = options.get("log_to_twisted", True)
        self._simulated: _SimulatedTime | None = None
        if isinstance(self.reactor, Clock):
            self._simulated = _SimulatedTime(self.reactor)
            self.longest_sleep = math.inf
            if isinstance(self.clock, SystemClock):
                self.clock = self._simulated

    def start(self, paused: bool = False) -> None:
        """Start on the reactor; see `BaseScheduler.start`.

        Raises RuntimeError when the reactor runs in another thread or has been stopped.
        """
        if self.state == STATE_STOPPED:
            if self._closing is not None and not self._closing.called:
                raise SchedulerAlreadyRunningError(
                    "Scheduler is still shutting down; wait for the Deferred of shutdown()"
                )
            if self.reactor is None:
                from twisted.internet import reactor

                self.reactor = reactor
            if self._simulated is None:
                _check_usable(self.reactor)
            if "reactor" not in self._executors:
                self._executors = {**self._executors, "reactor": TwistedExecutor(threads=False)}
            if self._logs:
                _forward.attach(self.log_prefix)
            try:
                super().start(paused)
            except BaseException:
                if self._logs:
                    _forward.detach(self.log_prefix)
                raise
            if self._simulated is None:
                self._trigger = self.reactor.addSystemEventTrigger(
                    "before", "shutdown", self._reactor_stops
                )
        else:
            super().start(paused)

    def _reactor_stops(self) -> Deferred[None]:
        self._trigger = None
        if self.state == STATE_STOPPED:  # in a forked child
            return self.closed()
        return self.shutdown(timeout=self.stop_timeout)

    def shutdown(self, wait: bool = True, timeout: float | None = None) -> Deferred[None]:
        """Stop at once, and give a Deferred that fires when the running jobs have ended.

        It fires in the reactor's thread; in another one, wait for it with
        ``blockingCallFromThread(reactor, scheduler.shutdown)``. After ``timeout`` seconds, or
        without ``wait``, the Deferreds that jobs wait for are cancelled, and threads left alone.
        Raises SchedulerNotRunningError.
        """
        self._limit = math.inf if timeout is None else _checked_timeout(timeout)
        super().shutdown(wait)
        return self.closed()

    def closed(self) -> Deferred[None]:
        """Give a Deferred that fires when a shutdown that was begun has ended."""
        if self._closing is None:
            return succeed(None)
        mine: Deferred[None] = Deferred()

        def pass_on(result: Any) -> Any:
            mine.callback(None)
            return result

        self._closing.addCallback(pass_on)
        return mine

    def _stop_timer(self) -> None:
        self._in_reactor(self._drop_timer)
        if self._simulated is not None:
            self._simulated.clear()

    def _close(self, wait: bool) -> None:
        self._closing = Deferred()
        self._in_reactor(partial(self._close_in_reactor, wait, self._limit, _current.get()))

    def _close_in_reactor(self, wait: bool, limit: float, current: _Run | None) -> None:
        trigger, self._trigger = self._trigger, None
        if trigger is not None:
            self.reactor.removeSystemEventTrigger(trigger)
        closing = cast("Deferred[None]", self._closing)
        ended: Deferred[Any] = succeed(None)
        if wait and (self._simulated is not None or self.reactor.running):
            ended = self._end_of_jobs(current)
            if limit < math.inf:
                ended.addTimeout(limit, self.reactor, onTimeoutCancel=self._too_slow)
        ended.addErrback(lambda failure: self.logger.error("%s", failure.getTraceback()))
        ended.addCallback(lambda _: self._close_now())
        ended.addBoth(lambda _: closing.callback(None))

    @inlineCallbacks
    def _end_of_jobs(self, current: _Run | None) -> Generator[Deferred[Any], Any, None]:
        """Wait for the jobs that run, but not for the one that asks."""
        if self._step is not None and not self._step.done():
            step: Deferred[None] = Deferred()
            self._step.add_done_callback(lambda _: self.reactor.callFromThread(step.callback, None))
            yield step
        waits: list[Deferred[Any]] = []
        for executor in self._executors.values():
            if isinstance(executor, TwistedExecutor):
                waits.append(executor.join(current))
            elif executor.running and self._simulated is None:
                pool = self.reactor.getThreadPool()
                waits.append(deferToThreadPool(self.reactor, pool, executor.shutdown, True))
        yield DeferredList(waits, consumeErrors=True)

    def _too_slow(self, result: Any, limit: float) -> None:
        running = [
            str(run.job)
            for executor in self._executors.values()
            if isinstance(executor, TwistedExecutor)
            for run in executor.runs()
        ]
        self.logger.warning(
            "Jobs still run %g s after the shutdown began: %s", limit, ", ".join(running) or "?"
        )

    def _close_now(self) -> Deferred[None]:
        self._closer = succeed(None)
        super()._close(False)
        return self._closer.addBoth(self._detach)

    def _detach(self, _: object) -> None:
        if self._logs:
            _forward.detach(self.log_prefix)

    def _aside(self, function: Callable[[], None]) -> bool:
        if not self.reactor.running or not self.is_in_reactor():
            return False
        pool = self.reactor.getThreadPool()
        self._closer = deferToThreadPool(self.reactor, pool, function)
        return True

    def _call_later(self, delay: float, function: Callable[[], None]) -> Any:
        if self._simulated is not None:
            instant = self._simulated.now() + round(delay * _SECOND)
            return self._simulated.call_at(instant, function)
        return self.reactor.callLater(delay, function)

    def _cancel(self, timer: Any) -> None:
        if timer.active():
            timer.cancel()

    def _call_soon(self, function: Callable[[], None]) -> None:
        if self._simulated is not None:
            self._simulated.call_soon(function)
        else:
            self.reactor.callFromThread(function)

    def _in_reactor(self, function: Callable[[], None]) -> None:
        """Call a function in the reactor's thread: now, if this is it or there is none yet."""
        if self.is_in_reactor() or not self.reactor.running:
            function()
        else:
            self.reactor.callFromThread(function)

    def is_in_reactor(self) -> bool:
        """Tell whether this is the reactor's thread."""
        return self._simulated is not None or threadable.ioThread == get_ident()

    def _stores_block(self) -> bool:
        return self._simulated is None and super()._stores_block()

    def _start_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        def begin() -> None:
            Deferred.fromCoroutine(coroutine)

        self._in_reactor(begin)

    def _create_default_executor(self) -> BaseExecutor:
        return TwistedExecutor()


def _check_usable(reactor: Any) -> None:
    """Refuse a reactor that runs elsewhere or no more."""
    if reactor.running and threadable.ioThread != get_ident():
        raise RuntimeError(
            "the reactor runs in another thread than the one that called start(); call"
            " reactor.callFromThread(scheduler.start)"
        )
    if getattr(reactor, "_startedBefore", False):
        raise RuntimeError(
            "the reactor has been stopped, and Twisted can't start one again; start the scheduler"
            " before reactor.stop(), or in a new process"
        )


class _SimulatedTime:
    """The time of a Twisted clock, which is set forward before it makes the calls of meanwhile.

    During such a call this is the time that the call was meant for.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._instant: int | None = None
        self._soon: set[Any] = set()

    def now(self) -> int:
        """Give the instant: microseconds since 1970-01-01T00:00Z."""
        if self._instant is not None:
            return self._instant
        return round(self._clock.seconds() * _SECOND)

    def call_at(self, instant: int, function: Callable[[], None]) -> Any:
        """Call a function at an instant, which may be past."""
        delay = instant / _SECOND - self._clock.seconds()
        return self._clock.callLater(delay, self._call, instant, function)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function when the clock is next advanced, be it by nothing."""

        def call() -> None:
            self._soon.discard(timer)
            function()

        timer = self.call_at(self.now(), call)
        self._soon.add(timer)

    def clear(self) -> None:
        """Take back what was to be called soon."""
        while self._soon:
            self._soon.pop().cancel()

    def _call(self, instant: int, function: Callable[[], None]) -> None:
        before, self._instant = self._instant, instant
        try:
            function()
        finally:
            self._instant = before


class _Run:
    """An instance of a job that runs."""

    __slots__ = ("job", "pending")

    def __init__(self, job: Job) -> None:
        self.job = job
        #: What it waits for.
        self.pending: Deferred[Any] | None = None


#: The run that the code which asks belongs to.
_current: ContextVar[_Run | None] = ContextVar("tocsin_twisted_run", default=None)

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
        self._runs: set[_Run] = set()
        self._waiting: list[tuple[set[_Run], Deferred[None]]] = []
        self._warned: set[str] = set()

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin, on the reactor of a `TwistedScheduler`; RuntimeError for another scheduler."""
        if not isinstance(scheduler, TwistedScheduler):
            raise RuntimeError(
                f"a TwistedExecutor needs a reactor, which a {type(scheduler).__name__} does not"
                " have; use a TwistedScheduler, or a ThreadPoolExecutor"
            )
        super().start(scheduler, alias)
        self._reactor = scheduler.reactor
        self._pooled = self.threads and scheduler._simulated is None

    def submit_jobs(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
    ) -> None:
        """Submit many jobs; see `BaseExecutor.submit_jobs`."""
        if self._pooled or not self._scheduler.is_in_reactor():
            super().submit_jobs(runs, refused)
            return
        run: _Run | None = None

        def begin(job: Job, times: Sequence[int], watched: bool) -> bool:
            nonlocal run
            if run is None:
                run = _Run(job)
                _current.set(run)
            run.job = job
            run_times = iter(times)
            awaited = self._call(run, run_times, watched)
            if awaited is None:
                return True  # and the next job's run may be this one
            self._await(run, run_times, awaited, watched)
            run = None
            _current.set(None)  # what follows, a listener maybe, is no part of it
            return False

        token = _current.set(None)
        try:
            self._submit_here(runs, refused, begin)
        finally:
            _current.reset(token)

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        run = _Run(job)
        if self._pooled and not _for_reactor(job.func):
            self._began(run)
            self._reactor.getThreadPool().callInThread(self._run_in_thread, run, iter(run_times))
        elif self._scheduler.is_in_reactor():
            self._run_in_reactor(run, iter(run_times))
        else:
            self._began(run)
            self._reactor.callFromThread(self._run_in_reactor, run, iter(run_times))

    def _call(self, run: _Run, run_times: _RunTimes, watched: bool) -> _Awaited | None:
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

    def _run_in_reactor(self, run: _Run, run_times: _RunTimes) -> None:
        token = _current.set(run)
        watched = self._is_watched(run.job)
        try:
            awaited = self._call(run, run_times, watched)
            if awaited is not None:
                self._await(run, run_times, awaited, watched)
                return
        finally:
            _current.reset(token)
        self._ended(run)

    def _await(self, run: _Run, run_times: _RunTimes, awaited: _Awaited, watched: bool) -> None:
        """Have a run go on when what it gave has come; in the reactor's thread."""
        self._began(run)
        self._wait(run, run_times, awaited, watched).addBoth(lambda _: self._ended(run))

    @inlineCallbacks
    def _wait(
        self, run: _Run, run_times: _RunTimes, awaited: _Awaited | None, watched: bool
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

    def _run_in_thread(self, run: _Run, run_times: _RunTimes) -> None:
        token = _current.set(run)
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
            _current.reset(token)
            self._ended(run)

    def _pending(self, run: _Run, awaited: Any) -> Deferred[Any]:
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

    def _began(self, run: _Run) -> None:
        """Keep a run that goes on after this call, for those who wait for its end."""
        with self._mutex:
            self._runs.add(run)

    def _ended(self, run: _Run) -> None:
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
            self._scheduler._in_reactor(partial(deferred.callback, None))

    def runs(self) -> list[_Run]:
        """List the runs that have not ended."""
        with self._mutex:
            return list(self._runs)

    def join(self, current: _Run | None = None) -> Deferred[None]:
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
            current = _current.get()
            for run in self.runs():
                if run.pending is not None and run is not current:
                    self._scheduler._in_reactor(run.pending.cancel)

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


@implementer(IService)
class SchedulerService(Service):
    """A scheduler as a service of `twisted.application`.

    It starts with the service. ``stopService`` gives a Deferred that fires when the running jobs
    have ended; ``timeout``, in seconds, is the scheduler's ``stop_timeout`` unless given.
    """

    def __init__(self, scheduler: TwistedScheduler, timeout: float | None = None) -> None:
        if not isinstance(scheduler, TwistedScheduler):
            raise TypeError(f"scheduler: a TwistedScheduler is needed, not {scheduler!r}")
        self.scheduler: TwistedScheduler | None = scheduler
        if timeout is not None:
            # The reactor's end, which may come first, waits for the jobs as well.
            scheduler.stop_timeout = _checked_timeout(timeout)

    def startService(self) -> None:  # noqa: N802
        """Start the scheduler; raises what `TwistedScheduler.start` raises."""
        if self.scheduler is None:
            raise RuntimeError(
                "a scheduler can't be saved with its application; run the .tac file or the plug-in"
                " that made it"
            )
        self.scheduler.start()
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:  # noqa: N802
        """Stop the scheduler; the Deferred fires when the running jobs have ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        scheduler = self.scheduler
        if scheduler is None:
            return succeed(None)
        if scheduler.state == STATE_STOPPED:
            return scheduler.closed()
        return scheduler.shutdown(timeout=scheduler.stop_timeout)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the scheduler out of what ``twistd`` saves of an application at its end."""
        return {**super().__getstate__(), "scheduler": None}  # type: ignore[no-untyped-call]


class _Forward(logging.Handler):
    """Pass what tocsin logs on to Twisted's log, under the same names, while schedulers run."""

    _levels: ClassVar[Any] = {
        logging.DEBUG: LogLevel.debug,
        logging.INFO: LogLevel.info,
        logging.WARNING: LogLevel.warn,
        logging.ERROR: LogLevel.error,
        logging.CRITICAL: LogLevel.critical,
    }

    def __init__(self) -> None:
        super().__init__()
        self._users: dict[str, int] = {}

    def attach(self, name: str) -> None:
        """Begin, for one more scheduler whose loggers' names begin with ``name``."""
        self._users[name] = self._users.get(name, 0) + 1
        logging.getLogger(name).addHandler(self)

    def detach(self, name: str) -> None:
        """End, for one scheduler."""
        self._users[name] -= 1
        if not self._users[name]:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on; with the failure of a job, or what else was raised."""
        message = record.getMessage()
        details: dict[str, Any] = {}
        error = getattr(record, "error", None)
        if isinstance(error, BaseException) and error.__traceback__ is not None:
            message = message.partition("\n")[0]
            details["log_failure"] = _failure(error, error.__traceback__)
        elif record.exc_info and record.exc_info[1] is not None:
            details["log_failure"] = _failure(record.exc_info[1], record.exc_info[2])
        level = max((each for each in self._levels if each <= record.levelno), default=10)
        Logger(namespace=record.name).emit(
            self._levels[level], "{message}", message=message, log_time=record.created, **details
        )


def _failure(error: BaseException, traceback: TracebackType | None) -> Failure:
    return Failure(error, type(error), traceback)


_forward = _Forward()
