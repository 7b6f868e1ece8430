"""What `test_twisted.py` measures, in a process with a reactor; prints JSON.

    python benchmarks/twisted_process.py dispatch JOBS ROUNDS SIDE...
    python benchmarks/twisted_process.py lateness SECONDS SIDE...
    python benchmarks/twisted_process.py idle JOBS SECONDS

The sides, which take turns on one reactor: "callLater", a timer for each job; "tocsin", with the
jobs in the reactor's thread; "tocsin threads" and "APScheduler", both as they come, with the jobs
in the reactor's thread pool.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from apscheduler.schedulers.twisted import TwistedScheduler as PeerScheduler
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from tocsin.adapters import TwistedScheduler

reactor: Any = _reactor
FIRES = 2000


def moment(due: float) -> datetime:
    return datetime.fromtimestamp(due, timezone.utc)


def plan(side: str, schedulers: dict[str, Any], due: float, jobs: int, job: Any) -> None:
    """Have so many jobs start at one time."""
    if side == "callLater":
        for _ in range(jobs):
            reactor.callLater(due - time.time(), job)
    elif side == "APScheduler":
        for _ in range(jobs):
            schedulers[side].add_job(job, "date", run_date=moment(due), misfire_grace_time=None)
    else:
        schedulers[side].add_jobs(
            [{"func": job}] * jobs,
            trigger="date",
            run_date=moment(due),
            executor="reactor" if side == "tocsin" else "default",
        )


def started(sides: list[str]) -> dict[str, Any]:
    schedulers: dict[str, Any] = {}
    for side in sides:
        if side != "callLater":
            schedulers[side] = PeerScheduler() if side == "APScheduler" else TwistedScheduler()
            schedulers[side].start()
    return schedulers


@inlineCallbacks
def dispatch(jobs: int, rounds: int, sides: list[str]) -> Iterator[Any]:
    """Measure the nanoseconds a job takes from when all are due to when the last has started."""
    schedulers = started(sides)
    times: dict[str, list[float]] = {side: [] for side in sides}
    warm_up = int(rounds > 1)
    for number in range(rounds + warm_up):
        for side in sides:
            done: Deferred[float] = Deferred()
            left = [jobs]

            def job(left: list[int] = left, done: Deferred[float] = done) -> None:
                left[0] -= 1
                if not left[0]:
                    reactor.callFromThread(done.callback, time.time())

            gc.collect()
            patience = 6e-4 if side == "APScheduler" else 1e-4
            due = time.time() + 0.2 + jobs * patience
            plan(side, schedulers, due, jobs, job)
            assert time.time() < due, f"{side}: planned too late"
            end = yield done
            if number >= warm_up:
                times[side].append((end - due) / jobs * 1e9)
    return times


@inlineCallbacks
def lateness(seconds: float, sides: list[str]) -> Iterator[Any]:
    """Measure the 99th percentile, in nanoseconds, of how late jobs start at 2,000 a second.

    Each second has a job every half millisecond; a timer sets the next one itself.
    """
    schedulers = started(sides)
    found = {}
    for side in sides:
        late: list[float] = []
        first = time.time() + 1.0
        if side == "callLater":

            def fire(due: float, late: list[float] = late) -> None:
                late.append(time.time() - due)
                if len(late) < FIRES * seconds:
                    reactor.callLater(due + 1 - time.time(), fire, due + 1)

            for number in range(FIRES):
                due = first + number / FIRES
                reactor.callLater(due - time.time(), fire, due)
        else:
            for number in range(FIRES):
                start = first + number / FIRES
                schedulers[side].add_job(
                    lambda start=start: late.append((time.time() - start) % 1),  # noqa: B023
                    "interval",
                    seconds=1,
                    start_date=moment(start),
                    **({"executor": "reactor"} if side == "tocsin" else {}),
                )
        gc.collect()
        yield deferLater(reactor, 1 + seconds)
        if side != "callLater":
            schedulers[side].remove_all_jobs()
        assert len(late) > FIRES * seconds * 0.9, f"{side}: {len(late)} jobs ran"
        found[side] = sorted(late)[int(len(late) * 0.99)] * 1e9
    return found


@inlineCallbacks
def idle(jobs: int, seconds: float) -> Iterator[Any]:
    """Measure what a scheduler does that has nothing to do for an hour."""
    (scheduler,) = started(["tocsin"]).values()
    later = moment(time.time()) + timedelta(hours=2)
    scheduler.add_jobs([{"func": print}] * jobs, trigger="interval", hours=1, start_date=later)
    yield deferLater(reactor, 0.1)
    ticks = []
    tick = scheduler._loop.advance
    scheduler._loop.advance = lambda now: ticks.append(now) or tick(now)
    before = time.process_time()
    yield deferLater(reactor, seconds)
    return {"processor": (time.process_time() - before) / seconds, "wakeups": len(ticks)}


def main(what: str, *arguments: str) -> None:
    measure: Callable[[], Any]
    if what == "dispatch":
        jobs, rounds, *sides = arguments
        measure = lambda: dispatch(int(jobs), int(rounds), sides)  # noqa: E731
    elif what == "lateness":
        duration, *sides = arguments
        measure = lambda: lateness(float(duration), sides)  # noqa: E731
    else:
        measure = lambda: idle(int(arguments[0]), float(arguments[1]))  # noqa: E731

    def begin() -> None:
        result = measure()
        result.addCallback(lambda found: print(json.dumps(found)))
        result.addErrback(lambda failure: failure.printTraceback())
        result.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
