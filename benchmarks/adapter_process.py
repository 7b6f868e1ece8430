"""What `test_adapters.py` measures, in a process with one framework; prints JSON.

    python benchmarks/adapter_process.py FRAMEWORK dispatch JOBS ROUNDS SIDE...
    python benchmarks/adapter_process.py FRAMEWORK lateness SECONDS SIDE...
    python benchmarks/adapter_process.py FRAMEWORK idle JOBS SECONDS

The sides, which take turns on one loop: "timer", one of the framework's own for each job;
"tocsin"; and "APScheduler", its adapter for the same framework as it comes. Jobs are what the
framework runs best: coroutines on asyncio and Tornado, functions in greenlets on gevent, functions
in the reactor's thread on Twisted (APScheduler has but the reactor's thread pool; "tocsin threads"
does the same).
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Generator
from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import Any

FIRES = 2000
#: A measurement; it yields the seconds after which it wants to go on.
Steps = Generator[float, None, Any]


def moment(due: float) -> datetime:
    return datetime.fromtimestamp(due, timezone.utc)


class Framework:
    """A loop with timers, and the schedulers for it."""

    #: What a scheduler of tocsin's is told about each job.
    options: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, module: str, scheduler: str) -> None:
        self.module, self.scheduler = module, scheduler

    def make(self, side: str) -> Any:
        home = "apscheduler.schedulers" if side == "APScheduler" else "tocsin.adapters"
        made = getattr(import_module(f"{home}.{self.module}"), self.scheduler)(timezone="UTC")
        made.start()
        return made

    def job(self, function: Callable[..., None]) -> Callable[..., Any]:
        """Make a job of a function, as the framework runs it best."""
        return function

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError

    def run(self, steps: Steps) -> None:
        """Run a measurement in the loop, and print what it gives."""
        raise NotImplementedError


def resume(framework: Framework, steps: Steps, stop: Callable[[], None]) -> None:
    try:
        delay = next(steps)
    except StopIteration as end:
        print(json.dumps(end.value))
        stop()
    except BaseException:
        stop()
        raise
    else:
        framework.later(delay, resume, framework, steps, stop)


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

    def run(self, steps: Steps) -> None:
        import asyncio

        async def main() -> None:
            done = asyncio.Event()
            resume(self, steps, done.set)
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

    def run(self, steps: Steps) -> None:
        from gevent.event import Event

        done = Event()
        resume(self, steps, done.set)
        done.wait()


class Twisted(Framework):
    options = {"executor": "reactor"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__("twisted", "TwistedScheduler")

    def later(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        from twisted.internet import reactor

        reactor.callLater(max(delay, 0), function, *args)  # type: ignore[attr-defined]

    def run(self, steps: Steps) -> None:
        from twisted.internet import reactor

        reactor.callWhenRunning(resume, self, steps, reactor.stop)  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]


FRAMEWORKS = {"asyncio": AsyncIO, "gevent": Gevent, "Tornado": Tornado, "Twisted": Twisted}


def started(framework: Framework, sides: list[str]) -> dict[str, Any]:
    return {side: framework.make(side) for side in sides if side != "timer"}


def plan(
    framework: Framework, side: str, schedulers: dict[str, Any], due: float, jobs: int, job: Any
) -> None:
    """Have so many jobs start at one time."""
    if side == "timer":
        for _ in range(jobs):
            framework.later(due - time.time(), job)
    elif side == "APScheduler":
        for _ in range(jobs):
            schedulers[side].add_job(job, "date", run_date=moment(due), misfire_grace_time=None)
    else:
        options = framework.options if side == "tocsin" else {}
        schedulers[side].add_jobs(
            [{"func": job}] * jobs, trigger="date", run_date=moment(due), **options
        )


def dispatch(framework: Framework, jobs: int, rounds: int, sides: list[str]) -> Steps:
    """Measure the nanoseconds a job takes from when all are due to when the last has started."""
    schedulers = started(framework, sides)
    times: dict[str, list[float]] = {side: [] for side in sides}
    warm_up = int(rounds > 1)
    for number in range(rounds + warm_up):
        for side in sides:
            ends: list[float] = []
            left = [jobs]

            def function(left: list[int] = left, ends: list[float] = ends) -> None:
                left[0] -= 1
                if not left[0]:
                    ends.append(time.time())

            gc.collect()
            patience = 6e-4 if side == "APScheduler" else 1e-4
            due = time.time() + 0.2 + jobs * patience
            plan(framework, side, schedulers, due, jobs, framework.job(function))
            assert time.time() < due, f"{side}: planned too late"
            yield due - time.time()
            while not ends:
                yield 0.02
            if number >= warm_up:
                times[side].append((ends[0] - due) / jobs * 1e9)
    return times


def lateness(framework: Framework, seconds: float, sides: list[str]) -> Steps:
    """Measure the 99th percentile, in nanoseconds, of how late jobs start at 2,000 a second.

    Each second has a job every half millisecond; a timer sets the next one itself.
    """
    schedulers = started(framework, sides)
    found = {}
    for side in sides:
        late: list[float] = []
        first = time.time() + 1.0
        for number in range(FIRES):
            due = first + number / FIRES
            if side == "timer":

                def fire(due: float, late: list[float] = late) -> None:
                    late.append(time.time() - due)
                    if len(late) < FIRES * seconds:
                        framework.later(due + 1 - time.time(), framework.job(fire), due + 1)

                framework.later(due - time.time(), framework.job(fire), due)
            else:

                def note(due: float = due, late: list[float] = late) -> None:
                    late.append((time.time() - due) % 1)

                schedulers[side].add_job(
                    framework.job(note),
                    "interval",
                    seconds=1,
                    start_date=moment(due),
                    **(framework.options if side == "tocsin" else {}),
                )
        gc.collect()
        yield 1 + seconds
        if side != "timer":
            schedulers[side].remove_all_jobs()
        assert len(late) > FIRES * seconds * 0.9, f"{side}: {len(late)} jobs ran"
        found[side] = sorted(late)[int(len(late) * 0.99)] * 1e9
    return found


def idle(framework: Framework, jobs: int, seconds: float) -> Steps:
    """Measure what a scheduler does that has nothing to do for an hour."""
    (scheduler,) = started(framework, ["tocsin"]).values()
    later = moment(time.time()) + timedelta(hours=2)
    scheduler.add_jobs([{"func": print}] * jobs, trigger="interval", hours=1, start_date=later)
    yield 0.1
    ticks: list[int] = []
    tick = scheduler._loop.advance
    scheduler._loop.advance = lambda now: ticks.append(now) or tick(now)
    before = time.process_time()
    yield seconds
    return {"processor": (time.process_time() - before) / seconds, "wakeups": len(ticks)}


def main(name: str, what: str, *arguments: str) -> None:
    framework = FRAMEWORKS[name]()
    if what == "dispatch":
        jobs, rounds, *sides = arguments
        framework.run(dispatch(framework, int(jobs), int(rounds), sides))
    elif what == "lateness":
        duration, *sides = arguments
        framework.run(lateness(framework, float(duration), sides))
    else:
        framework.run(idle(framework, int(arguments[0]), float(arguments[1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
