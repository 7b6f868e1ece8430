"""Every scheduler under one suite: a harness says how to run each in its framework.

The tests of `test_contract.py` drive the scheduler from the outside, by calls that are safe from
any thread, while the harness runs the framework in a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from tocsin.events import EVENT_ALL, JobEvent, SchedulerEvent
from tocsin.scheduler import STATE_STOPPED, BaseScheduler

#: The longest that anything in these tests may take, in seconds; no test waits that long.
PATIENCE = 20.0


class Recorder:
    """A listener that keeps all events and lets a test wait for some of them."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, event: SchedulerEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, code: int, count: int = 1, job_id: str | None = None) -> list[Any]:
        """Wait for so many events of a code, and give them; AssertionError if they don't come."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.of(code, job_id)) >= count, PATIENCE)
            assert came, f"{count} of {code} did not come: {self.events}"
            return self.of(code, job_id)

    def of(self, code: int, job_id: str | None = None) -> list[Any]:
        """Give the events that some codes have, of one job or of all."""
        return [
            event
            for event in self.events
            if event.code & code
            and (job_id is None or (isinstance(event, JobEvent) and event.job_id == job_id))
        ]

    def codes(self, job_id: str) -> list[int]:
        """Give the codes of a job's events in their order."""
        return [event.code for event in self.of(EVENT_ALL, job_id)]


class OtherClock:
    """The computer's clock, but not known as such: schedulers have to use their loops' timers."""

    def now(self) -> int:
        return time.time_ns() // 1000


def kernel_timers() -> int:
    """Count the timers of the kernel's that this process has."""
    count = 0
    for link in Path("/proc/self/fd").glob("*"):  # none where there is no Linux
        with suppress(FileNotFoundError):  # it was closed meanwhile
            count += "timerfd" in os.readlink(link)
    return count


class Harness:
    """How to run one kind of scheduler."""

    name: ClassVar[str]
    #: Whether jobs and listeners may be coroutine functions.
    coroutines: ClassVar[bool] = True

    def make(self, **options: Any) -> BaseScheduler:
        """Make a scheduler."""
        raise NotImplementedError

    def event(self) -> threading.Event:
        """Make an event that jobs may wait for without stopping the framework."""
        return threading.Event()

    def start(self, scheduler: BaseScheduler, paused: bool = False) -> None:
        """Start it in its framework; return when it has started, raise what it raises."""
        raise NotImplementedError

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        """Shut it down; return when that has ended."""
        raise NotImplementedError

    def stop_all(self, schedulers: Iterable[BaseScheduler]) -> None:
        """Shut down those that have not been."""
        for scheduler in schedulers:
            if scheduler.state != STATE_STOPPED:
                self.stop(scheduler)

    def close(self) -> None:
        """End the framework; afterwards none of its threads is left."""


class BlockingHarness(Harness):
    name = "blocking"

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def make(self, **options: Any) -> BaseScheduler:
        from tocsin.adapters import BlockingScheduler

        return BlockingScheduler(**options)

    def start(self, scheduler: BaseScheduler, paused: bool = False) -> None:
        from tocsin.events import EVENT_SCHEDULER_STARTED

        started = threading.Event()
        problem: list[BaseException] = []

        def main() -> None:
            try:
                scheduler.start(paused)
            except BaseException as error:
                problem.append(error)
                started.set()

        def ready(event: SchedulerEvent) -> None:
            started.set()

        scheduler.add_listener(ready, EVENT_SCHEDULER_STARTED)
        thread = threading.Thread(target=main)
        self.threads.append(thread)
        thread.start()
        assert started.wait(PATIENCE)
        scheduler.remove_listener(ready)
        if problem:
            raise problem[0]

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        scheduler.shutdown(wait)

    def close(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


class BackgroundHarness(Harness):
    name = "background"

    def make(self, **options: Any) -> BaseScheduler:
        from tocsin.adapters import BackgroundScheduler

        return BackgroundScheduler(**options)

    def start(self, scheduler: BaseScheduler, paused: bool = False) -> None:
        scheduler.start(paused)

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        scheduler.shutdown(wait)


class LoopHarness(Harness):
    """The base for frameworks with an event loop: `call` runs a function in it."""

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function in the loop's thread; give what it returns, raise what it raises."""
        raise NotImplementedError

    def start(self, scheduler: BaseScheduler, paused: bool = False) -> None:
        self.call(lambda: scheduler.start(paused))


class AsyncIOHarness(LoopHarness):
    name = "asyncio"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def make(self, **options: Any) -> BaseScheduler:
        from tocsin.adapters import AsyncIOScheduler

        return AsyncIOScheduler(**options)

    def call(self, function: Callable[[], Any]) -> Any:
        async def main() -> Any:
            result = function()
            return await result if asyncio.isfuture(result) else result

        return asyncio.run_coroutine_threadsafe(main(), self.loop).result(PATIENCE)

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        self.call(lambda: scheduler.shutdown(wait))

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()


class TornadoHarness(AsyncIOHarness):
    name = "tornado"

    def __init__(self) -> None:
        from tornado.ioloop import IOLoop

        self.io_loop = IOLoop(make_current=False)
        self.loop = self.io_loop.asyncio_loop
        self.thread = threading.Thread(target=self.io_loop.start)
        self.thread.start()

    def make(self, **options: Any) -> BaseScheduler:
        from tocsin.adapters import TornadoScheduler

        return TornadoScheduler(**options)

    def close(self) -> None:
        self.io_loop.add_callback(self.io_loop.stop)
        self.thread.join(PATIENCE)
        self.io_loop.close(all_fds=True)


class GeventHarness(LoopHarness):
    """A hub in a thread, nothing patched."""

    name = "gevent"
    coroutines = False

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.main)
        self.thread.start()
        assert self.ready.wait(PATIENCE)

    def main(self) -> None:
        import gevent

        self.hub = gevent.get_hub()
        # A watcher keeps the loop from ending, or from counting as deadlocked.
        watcher = self.hub.loop.async_()
        self.end = gevent.event.AsyncResult()
        watcher.start(lambda: None)
        self.ready.set()
        self.end.get()
        watcher.close()
        self.hub.destroy(destroy_loop=True)

    def make(self, **options: Any) -> BaseScheduler:
        from tocsin.adapters import GeventScheduler

        return GeventScheduler(**options)

    def event(self) -> threading.Event:
        return _GreenWaitEvent()

    def call(self, function: Callable[[], Any]) -> Any:
        import gevent

        called: Future[Any] = Future()

        def call() -> None:
            try:
                called.set_result(function())
            except BaseException as error:
                called.set_exception(error)

        self.hub.loop.run_callback_threadsafe(gevent.spawn, call)
        return called.result(PATIENCE)

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        scheduler.shutdown(wait)

    def close(self) -> None:
        self.hub.loop.run_callback_threadsafe(self.end.set, None)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


class TwistedHarness(LoopHarness):
    """A reactor of its own for each test: one that was stopped can't be started again."""

    name = "twisted"

    def __init__(self) -> None:
        from twisted.internet.selectreactor import SelectReactor

        self.reactor: Any = SelectReactor()
        running = threading.Event()
        self.reactor.callWhenRunning(running.set)
        self.thread = threading.Thread(target=self.reactor.run, args=(False,))
        self.thread.start()
        assert running.wait(PATIENCE)

    def make(self, **options: Any) -> BaseScheduler:
        from tocsin.adapters import TwistedScheduler

        return TwistedScheduler(reactor=self.reactor, **options)

    def call(self, function: Callable[[], Any]) -> Any:
        from twisted.internet.threads import blockingCallFromThread

        return blockingCallFromThread(self.reactor, function)

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        self.call(lambda: scheduler.shutdown(wait))

    def close(self) -> None:
        self.reactor.callFromThread(self.reactor.stop)
        self.thread.join(PATIENCE)
        for reader in self.reactor.removeAll():
            reader.connectionLost(None)
        for reader in self.reactor._internalReaders:
            reader.connectionLost(None)


class QtHarness(LoopHarness):
    """A QCoreApplication for each test, in a thread that plays the main thread."""

    name = "qt"

    def __init__(self) -> None:
        running = threading.Event()
        self.thread = threading.Thread(target=self.main, args=(running,))
        self.thread.start()
        assert running.wait(PATIENCE)

    def main(self, running: threading.Event) -> None:
        import shiboken6
        from PySide6.QtCore import QCoreApplication, QObject, Qt, Signal

        class Caller(QObject):
            called = Signal(object)

        self.app = QCoreApplication([])
        self.caller = Caller()
        self.caller.called.connect(lambda call: call(), Qt.ConnectionType.QueuedConnection)
        self.caller.called.emit(running.set)
        self.app.exec()
        shiboken6.delete(self.caller)
        shiboken6.delete(self.app)

    def make(self, **options: Any) -> BaseScheduler:
        from tocsin.adapters import QtScheduler

        return QtScheduler(**options)

    def call(self, function: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()

        def call() -> None:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

        self.caller.called.emit(call)
        return done.result(PATIENCE)

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        scheduler.shutdown(wait)

    def close(self) -> None:
        self.caller.called.emit(self.app.quit)
        self.thread.join(PATIENCE)


class _GreenWaitEvent(threading.Event):
    """An event of threads for which greenlets wait in their hub's thread pool."""

    def wait(self, timeout: float | None = None) -> bool:
        import gevent

        if isinstance(gevent.getcurrent(), gevent.Greenlet):
            return bool(gevent.get_hub().threadpool.apply(super().wait, (timeout,)))
        return super().wait(timeout)


LOOP_HARNESSES: list[type[LoopHarness]] = [
    AsyncIOHarness,
    GeventHarness,
    TornadoHarness,
    TwistedHarness,
    QtHarness,
]
HARNESSES: list[type[Harness]] = [
    BlockingHarness,
    BackgroundHarness,
    *LOOP_HARNESSES,
]
