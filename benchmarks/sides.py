"""The schedulers that are raced against each other, each holding so many jobs.

Every job is an interval of its own; in each minute `Side.due` of them are due. The number of jobs
is the same before and after each step, so that the step's cost can be told for that number.
APScheduler and ``schedule`` are imported only where they are raced, for a version of tocsin that
is compared with another has an environment without them.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from time import perf_counter_ns
from typing import Any

#: When the clocks of all schedulers begin.
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
#: So many jobs are due in a minute, added or removed at a time, however many there are.
DUE = 100
STEPS = ("dispatch", "add", "add in bulk", "remove")
OURS, PURE, THEIRS, SCHEDULE = "tocsin", "tocsin, interpreted", "APScheduler", "schedule"
_runs = [0]


def job() -> None:
    """Be a job; count the runs."""
    _runs[0] += 1


def make(side: str) -> tuple[Any, Any, Any]:
    """Give a scheduler, what advances its clock, and its interval trigger."""
    if side == OURS:
        from tocsin import IntervalTrigger
        from tocsin.testing import FakeClock, FakeScheduler

        ours = FakeScheduler(clock=FakeClock(START), timezone="UTC")
        ours.start()
        return ours, ours.clock.advance, IntervalTrigger
    from apscheduler.triggers.interval import IntervalTrigger as PeerTrigger

    from benchmarks.peers import PeerScheduler

    theirs = PeerScheduler()
    return theirs, theirs.advance, PeerTrigger


class Side(ABC):
    """A scheduler with so many jobs, and the steps that are timed on it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.due = min(DUE, max(1, size // 10))
        self.minutes = size // self.due
        self.chance = random.Random(1)

    @abstractmethod
    def fill(self) -> None:
        """Add all jobs, in an order that says nothing of when they are due."""

    @abstractmethod
    def advance(self) -> None:
        """Let a minute pass, and run what is due then."""

    @abstractmethod
    def prepare(self) -> Sequence[Any]:
        """Make all that can be made of as many more jobs as are due in a minute."""

    @abstractmethod
    def add(self, prepared: Sequence[Any]) -> Sequence[Any]:
        """Add them one by one; give what `remove` takes."""

    @abstractmethod
    def remove(self, added: Sequence[Any]) -> None:
        """Remove these one by one."""

    def add_in_bulk(self, prepared: Sequence[Any]) -> Sequence[Any]:
        """Add them in the way that the scheduler has for many, if any."""
        return self.add(prepared)

    def undo(self, added: Sequence[Any]) -> None:
        """Remove what was added last."""
        self.remove(added)

    def measure(self, step: str) -> float:
        """Give the nanoseconds that a job takes in one of the `STEPS`."""
        gc.collect()
        gc.disable()  # what one step leaves behind must not be charged to the next
        try:
            nanoseconds = getattr(self, f"_time_{step.replace(' ', '_')}")()
        finally:
            gc.enable()
        return float(nanoseconds / self.due)

    def _time_dispatch(self) -> int:
        _runs[0] = 0
        elapsed = _timed(self.advance)
        assert _runs[0] == self.due, f"{_runs[0]} jobs ran, of {self.due}"
        return elapsed

    def _time_add(self) -> int:
        return self._time_adding(self.add)

    def _time_add_in_bulk(self) -> int:
        return self._time_adding(self.add_in_bulk)

    def _time_adding(self, add: Callable[[Sequence[Any]], Sequence[Any]]) -> int:
        prepared = self.prepare()
        added: list[Sequence[Any]] = []
        elapsed = _timed(lambda: added.append(add(prepared)))
        self.undo(added[0])
        return elapsed

    def _time_remove(self) -> int:
        added = list(self.add(self.prepare()))
        self.chance.shuffle(added)
        return _timed(lambda: self.remove(added))


def _timed(call: Callable[[], object]) -> int:
    before = perf_counter_ns()
    call()
    return perf_counter_ns() - before


class SchedulerSide(Side):
    """tocsin or APScheduler, which have the same calls."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(size)
        self.scheduler, self._advance, self._trigger = make(name)
        self._bulk = hasattr(self.scheduler, "add_jobs")
        self._passed = 0
        self._added = 0

    def _triggers(self, numbers: Sequence[int]) -> list[Any]:
        first = START + (1 + self._passed) * MINUTE
        return [
            self._trigger(
                minutes=self.minutes,
                start_date=first + number % self.minutes * MINUTE,
                timezone="UTC",
            )
            for number in numbers
        ]

    def fill(self) -> None:
        numbers = list(range(self.size))
        if self._bulk:
            self.chance.shuffle(numbers)
        else:
            # In the order of their times, which a sorted list takes without moving any.
            numbers.sort(key=lambda number: number % self.minutes)
        for first in range(0, self.size, 10_000):
            some = numbers[first : first + 10_000]
            self.add_in_bulk(
                [
                    (f"job {number}", trigger)
                    for number, trigger in zip(some, self._triggers(some), strict=True)
                ]
            )

    def advance(self) -> None:
        self._passed += 1
        self._advance(MINUTE)

    def prepare(self) -> Sequence[tuple[str, Any]]:
        first = self._added = self._added + self.due
        numbers = self.chance.sample(range(self.size), self.due)
        triggers = self._triggers(numbers)
        return [(f"more {first + number}", each) for number, each in enumerate(triggers)]

    def add(self, prepared: Sequence[tuple[str, Any]]) -> Sequence[str]:
        add_job = self.scheduler.add_job
        for job_id, trigger in prepared:
            add_job(job, trigger, id=job_id)
        return [job_id for job_id, _ in prepared]

    def add_in_bulk(self, prepared: Sequence[tuple[str, Any]]) -> Sequence[str]:
        if not self._bulk:
            return self.add(prepared)
        jobs = ({"id": job_id, "trigger": trigger} for job_id, trigger in prepared)
        self.scheduler.add_jobs(jobs, func=job)
        return [job_id for job_id, _ in prepared]

    def remove(self, added: Sequence[str]) -> None:
        remove_job = self.scheduler.remove_job
        for job_id in added:
            remove_job(job_id)


class ScheduleSide(Side):
    """``schedule``, as its documentation has it: sleep for ``idle_seconds``, then ``run_pending``.

    A job is made and added in one, by ``every(n).minutes.do(job)``, and first due after the
    interval.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        from benchmarks.peers import ScheduleClock

        self.clock = ScheduleClock()
        self.scheduler = self.clock.scheduler()

    def fill(self) -> None:
        for minute in range(self.minutes):
            self.clock.set_time(START + (1 + minute - self.minutes) * MINUTE)
            self.add(range(self.due))
        self.clock.set_time(START)

    def advance(self) -> None:
        idle = self.scheduler.idle_seconds
        assert idle is not None
        self.clock.advance(timedelta(seconds=idle))
        self.scheduler.run_pending()

    def prepare(self) -> Sequence[int]:
        return range(self.due)

    def add(self, prepared: Sequence[int]) -> Sequence[Any]:
        every, minutes = self.scheduler.every, self.minutes
        return [every(minutes).minutes.do(job) for _ in prepared]

    def remove(self, added: Sequence[Any]) -> None:
        cancel_job = self.scheduler.cancel_job
        for each in added:
            cancel_job(each)

    def undo(self, added: Sequence[Any]) -> None:
        del self.scheduler.jobs[-len(added) :]


def side(name: str, size: int) -> Side:
    """Make a side by its name, without jobs yet."""
    return ScheduleSide(size) if name == SCHEDULE else SchedulerSide(name, size)


def memory(name: str, size: int) -> float:
    """Measure the bytes of a job, its trigger and its part of the scheduler."""
    made = side(name, size)
    gc.collect()
    tracemalloc.start()
    made.fill()
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / size
