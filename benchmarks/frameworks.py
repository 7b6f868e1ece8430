"""The event loops that schedulers are measured in, each with its timers and its kind of job."""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib import import_module
from math import ceil
from typing import Any

#: A measurement; it yields the seconds after which it wants to go on.
Steps = Generator[float, None, Any]


class Framework:
    """A loop with timers, and the schedulers for it."""

    #: What a scheduler of tocsin's is told about each job.
    options: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, module: str, scheduler: str) -> None:
        self.module, self.scheduler = module, scheduler
        self._result: Any = None
        self._error: BaseException | None = None

    def make(self, home: str = "tocsin.adapters", **options: Any) -> Any:
        """Make the scheduler of a package for this framework."""
        return getattr(import_module(f"{home}.{self.module}"), self.scheduler)(
            timezone="UTC", **options
        )

    def job(self, function: Callable[..., None]) -> Callable[..., Any]:
        """Make a job of a function, as the framework runs it best."""
        return function

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError

    def timer(self, delay: float, job: Callable[..., Any], *args: Any) -> None:
        """Have a timer of the framework's start a job."""
        self.later(delay, job, *args)

    def measure(self, steps: Steps) -> Any:
        """Run a measurement in the loop; give what it gives, and raise what it raises."""
        self._run(steps)
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self, steps: Steps) -> None:
        """Run the loop until the measurement has ended."""
        raise NotImplementedError

    def _resume(self, steps: Steps, stop: Callable[[], None]) -> None:
        """Run a measurement up to its next pause; at its end, stop the loop."""
        try:
            delay = next(steps)
        except StopIteration as end:
            self._result = end.value
            stop()
        except BaseException as error:
            self._error = error
            stop()
        else:
            self.later(delay, self._resume, steps, stop)


class AsyncIO(Framework):
    def __init__(self) -> None:
        super().__init__("asyncio", "AsyncIOScheduler")

    def job(self, function: Callable[..., None]) -> Callable[..., Any]:
        async def job(*args: Any) -> None:
            function(*args)

        return job

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        if asyncio.iscoroutinefunction(function):
            loop.call_at(loop.time() + delay, lambda: loop.create_task(function(*args)))
        else:
            loop.call_at(loop.time() + delay, function, *args)

    def _run(self, steps: Steps) -> None:
        import asyncio

        async def main() -> None:
            done = asyncio.Event()
            self._resume(steps, done.set)
            await done.wait()

        asyncio.run(main())


class Tornado(AsyncIO):
    def __init__(self) -> None:
        Framework.__init__(self, "tornado", "TornadoScheduler")

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        from tornado.ioloop import IOLoop

        IOLoop.current().call_later(delay, function, *args)


class Gevent(Framework):
    def __init__(self) -> None:
        super().__init__("gevent", "GeventScheduler")

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        import gevent

        gevent.get_hub().loop.update_now()  # or the delay would count from the last wake-up
        gevent.spawn_later(max(delay, 0), function, *args)

    def _run(self, steps: Steps) -> None:
        from gevent.event import Event

        done = Event()
        self._resume(steps, done.set)
        done.wait()


class Twisted(Framework):
    options = {"executor": "reactor"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__("twisted", "TwistedScheduler")

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        from twisted.internet import reactor

        reactor.callLater(max(delay, 0), function, *args)  # type: ignore[attr-defined]

    def _run(self, steps: Steps) -> None:
        from twisted.internet import reactor

        reactor.callWhenRunning(self._resume, steps, reactor.stop)  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]


class Qt(Framework):
    options = {"executor": "gui"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__("qt", "QtScheduler")
        self._timers: set[Any] = set()

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        from PySide6.QtCore import Qt, QTimer

        timer = QTimer()  # singleShot() would take five percent more or less
        timer.setSingleShot(True)
        timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timers.add(timer)

        def fire() -> None:
            self._timers.remove(timer)
            timer.deleteLater()
            function(*args)

        timer.timeout.connect(fire)
        timer.start(max(ceil(delay * 1000), 0))

    def _run(self, steps: Steps) -> None:
        from PySide6.QtCore import QCoreApplication

        app = QCoreApplication([])
        self.later(0, self._resume, steps, app.quit)
        app.exec()


class Threads(Framework):
    """The standard library's ``sched``, which hands jobs to a pool of threads."""

    def __init__(self) -> None:
        super().__init__("background", "BackgroundScheduler")
        import sched
        import time
        from concurrent.futures import ThreadPoolExecutor

        self._events = sched.scheduler(time.time)
        self._pool = ThreadPoolExecutor(10)  # as many as both schedulers have

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        self._events.enter(delay, 1, function, args)

    def timer(self, delay: float, job: Callable[..., Any], *args: Any) -> None:
        self._events.enter(delay, 1, self._pool.submit, (job, *args))

    def _run(self, steps: Steps) -> None:
        self.later(0, self._resume, steps, lambda: None)
        self._events.run()


FRAMEWORKS = {"asyncio": AsyncIO, "gevent": Gevent, "Tornado": Tornado, "Twisted": Twisted}
#: Those that are raced.
RACED: dict[str, type[Framework]] = {**FRAMEWORKS, "Qt": Qt, "threads": Threads}
