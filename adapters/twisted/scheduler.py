"""The scheduler that runs on a reactor."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from threading import get_ident
from typing import Any, ClassVar, cast

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorFromThreads,
    IReactorTime,
    IReadDescriptor,
)
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import threadable
from zope.interface import implementer

from tocsin.adapters.callback import CallbackScheduler
from tocsin.adapters.twisted.executor import Run, TwistedExecutor, current_run
from tocsin.adapters.twisted.logs import forward
from tocsin.adapters.twisted.simulated import SimulatedTime
from tocsin.callables import maybe_ref
from tocsin.clock import SystemClock
from tocsin.convert import as_bool
from tocsin.errors import SchedulerAlreadyRunningError
from tocsin.executors import BaseExecutor
from tocsin.scheduler import STATE_STOPPED

_SECOND = 1_000_000
_log = Logger()


def _checked_reactor(value: Any) -> Any:
    reactor = maybe_ref(value)
    if not IReactorTime.providedBy(reactor) or not (
        isinstance(reactor, Clock) or IReactorFromThreads.providedBy(reactor)
    ):
        raise TypeError(f"a reactor or a twisted.internet.task.Clock is needed, not {value!r}")
    return reactor


def checked_timeout(value: Any) -> float:
    """Turn seconds to wait at most, maybe a text, into a float; ValueError below zero."""
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
        "stop_timeout": checked_timeout,
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
        self._simulated: SimulatedTime | None = None
        if isinstance(self.reactor, Clock):
            self._simulated = SimulatedTime(self.reactor)
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
                forward.attach(self.log_prefix)
            try:
                super().start(paused)
            except BaseException:
                if self._logs:
                    forward.detach(self.log_prefix)
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
        self._limit = math.inf if timeout is None else checked_timeout(timeout)
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
        super()._stop_timer()
        if self._simulated is not None:
            self._simulated.clear()

    def _close(self, wait: bool) -> None:
        self._closing = Deferred()
        self._in_loop(partial(self._close_in_reactor, wait, self._limit, current_run.get()))

    def _close_in_reactor(self, wait: bool, limit: float, current: Run | None) -> None:
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
    def _end_of_jobs(self, current: Run | None) -> Generator[Deferred[Any], Any, None]:
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
            forward.detach(self.log_prefix)

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

    def _watch(self, file: int, function: Callable[[], None]) -> Callable[[], object]:
        if not IReactorFDSet.providedBy(self.reactor):
            raise NotImplementedError
        watched = _WatchedFile(file, function)
        self.reactor.addReader(watched)
        return partial(self.reactor.removeReader, watched)

    def _in_loop(self, function: Callable[[], None]) -> None:
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

        self._in_loop(begin)

    def _create_default_executor(self) -> BaseExecutor:
        return TwistedExecutor()


@implementer(IReadDescriptor)
class _WatchedFile:
    """A file that is not the reactor's: it tells when it can be read, and leaves it to others."""

    def __init__(self, file: int, function: Callable[[], None]) -> None:
        self._file = file
        self._function = function

    def fileno(self) -> int:
        return self._file

    def doRead(self) -> None:  # noqa: N802
        try:
            self._function()
        except BaseException:  # as for a delayed call; else the reactor would drop the file
            _log.failure("Error in the scheduler's step")

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        """Do nothing: it is the scheduler's to end."""

    def logPrefix(self) -> str:  # noqa: N802
        return "tocsin"


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
