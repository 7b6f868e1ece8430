"""What `test_adapters.py` measures, in a process with one framework; prints JSON.

    python benchmarks/adapter_process.py FRAMEWORK dispatch JOBS ROUNDS SIDE...
    python benchmarks/adapter_process.py FRAMEWORK lateness SECONDS ROUNDS SIDE...
    python benchmarks/adapter_process.py FRAMEWORK idle JOBS SECONDS

The sides, which take turns on one loop: "timer", one of the framework's own for each job;
"tocsin"; and "APScheduler", its adapter for the same framework as it comes. Jobs are what the
framework runs best: coroutines on asyncio and Tornado, functions in greenlets on gevent, functions
in the reactor's thread on Twisted and in Qt's (APScheduler has but a pool of threads in both;
"tocsin threads" does the same). "threads" is the BackgroundScheduler, whose loop the
BlockingScheduler has as well, beside the ``sched`` of the standard library.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.frameworks import RACED, Framework, Steps

FIRES = 2000
#: The shares of all jobs whose lateness is told.
QUANTILES = (0.5, 0.9, 0.99, 0.999)


def noop() -> None:
    """Be a job."""


def moment(due: float) -> datetime:
    return datetime.fromtimestamp(due, timezone.utc)


def started(framework: Framework, sides: list[str]) -> dict[str, Any]:
    schedulers = {
        side: framework.make("apscheduler.schedulers")
        if side == "APScheduler"
        else framework.make()
        for side in sides
        if side != "timer"
    }
    for each in schedulers.values():
        each.start()
    return schedulers


def plan(
    framework: Framework, side: str, schedulers: dict[str, Any], due: float, jobs: int, job: Any
) -> None:
    """Have so many jobs start at one time."""
    if side == "timer":
        for _ in range(jobs):
            framework.timer(due - time.time(), job)
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

            def function(numbers: Any = count(1), ends: list[float] = ends) -> None:  # noqa: B008
                if next(numbers) == jobs:  # one step for all threads
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
            yield from quiet()
    return times


def quiet() -> Steps:
    """Wait until what a side has left behind is over, or it would count as the next one's.

    On Qt, APScheduler has set a timer for each job that was added, which it can't take back.
    """
    used, before = math.inf, time.process_time()
    while used > 0.005:
        yield 0.1
        now = time.process_time()
        used, before = now - before, now


def lateness(framework: Framework, seconds: float, rounds: int, sides: list[str]) -> Steps:
    """Measure how late jobs start at 2,000 a second: by side and round, nanoseconds by quantile.

    Each second has a job every half millisecond; a timer sets the next one itself.
    """
    schedulers = started(framework, sides)
    found: dict[str, list[list[float]]] = {side: [] for side in sides}
    for side in sides * rounds:
        late: list[float] = []
        first = time.time() + 2.0
        for number in range(FIRES):
            due = first + number / FIRES
            if side == "timer":

                def fire(due: float, late: list[float] = late) -> None:
                    late.append(time.time() - due)
                    if len(late) < FIRES * seconds:
                        framework.timer(due + 1 - time.time(), framework.job(fire), due + 1)

                framework.timer(due - time.time(), framework.job(fire), due)
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
        assert time.time() < first, f"{side}: planned too late"
        gc.collect()
        yield first + seconds - time.time()
        if side != "timer":
            schedulers[side].remove_all_jobs()
        yield 1.5  # until the last timers have fired
        assert len(late) > FIRES * seconds * 0.9, f"{side}: {len(late)} jobs ran"
        late.sort()
        found[side].append([late[int(len(late) * share)] * 1e9 for share in QUANTILES])
    return found


def idle(framework: Framework, jobs: int, seconds: float) -> Steps:
    """Measure what a scheduler does that has nothing to do for an hour."""
    (scheduler,) = started(framework, ["tocsin"]).values()
    later = moment(time.time()) + timedelta(hours=2)
    scheduler.add_jobs([{"func": noop}] * jobs, trigger="interval", hours=1, start_date=later)
    yield 0.1
    ticks: list[int] = []
    tick = scheduler._loop.advance
    scheduler._loop.advance = lambda now: ticks.append(now) or tick(now)
    before = time.process_time()
    yield seconds
    return {"processor": (time.process_time() - before) / seconds, "wakeups": len(ticks)}


def main(name: str, what: str, *arguments: str) -> Any:
    framework = RACED[name]()
    if what == "dispatch":
        jobs, rounds, *sides = arguments
        return framework.measure(dispatch(framework, int(jobs), int(rounds), sides))
    if what == "lateness":
        duration, rounds, *sides = arguments
        return framework.measure(lateness(framework, float(duration), int(rounds), sides))
    return framework.measure(idle(framework, int(arguments[0]), float(arguments[1])))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
