"""The scheduler against APScheduler: MemoryJobStore, inline executor, the same jobs in both.

There are 100,000 jobs. Each has its own trigger, an interval of 100 minutes; in each minute 1,000
of them are due. The calls of one chunk are on 1,000 jobs; chunks are made in turns, first on one
scheduler, then on the other, until all jobs had their turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import pytest
from apscheduler.triggers.interval import IntervalTrigger as PeerTrigger

from benchmarks.peers import START, PeerScheduler
from benchmarks.races import Contestant, Race, Report, ratios
from tocsin import IntervalTrigger
from tocsin.testing import FakeClock, FakeScheduler

CHUNK = 1_000
CHUNKS = 100
JOBS = CHUNKS * CHUNK
MINUTE = timedelta(minutes=1)
OURS, THEIRS = "tocsin", "APScheduler"

#: Race both sides under a name, with the ratio to reach; give the ratios.
Compare = Callable[..., list[float]]


def noop(number: int = 0) -> None:
    """Be a job."""


class Side:
    """One scheduler with its share of the jobs, and the calls of one chunk after the other."""

    def __init__(self, scheduler: Any, advance: Callable[[timedelta], None], trigger: type) -> None:
        self.scheduler = scheduler
        self.advance = advance
        # The place of a job in the order of calls says nothing of when it is due.
        self.ids = [f"job {number}" for number in range(JOBS)]
        random.Random(1).shuffle(self.ids)
        first = [START + (1 + number % CHUNKS) * MINUTE for number in range(JOBS)]
        self.triggers: list[Any] = [
            trigger(minutes=CHUNKS, start_date=date, timezone="UTC") for date in first
        ]
        self.times = [date + 2 * CHUNKS * MINUTE for date in reversed(first)]

    def chunks(self, call: Callable[[int, str], object]) -> Contestant:
        """Call with the number and the id of each job of a chunk."""
        numbers = iter(range(0, JOBS, CHUNK))

        def batch() -> None:
            first = next(numbers)
            for number, job_id in enumerate(self.ids[first : first + CHUNK], first):
                call(number, job_id)

        return Contestant(batch, CHUNK)

    def add(self) -> Contestant:
        add_job, triggers = self.scheduler.add_job, self.triggers
        return self.chunks(lambda number, job_id: add_job(noop, triggers[number], id=job_id))

    def add_by_name(self) -> Contestant:
        add_job, minutes = self.scheduler.add_job, CHUNKS
        return self.chunks(
            lambda number, job_id: add_job(noop, "interval", minutes=minutes, id=job_id)
        )

    def add_in_bulk(self) -> Contestant:
        numbers = iter(range(0, JOBS, CHUNK))

        def batch() -> None:
            chunk = range(first := next(numbers), first + CHUNK)
            ids, triggers = self.ids, self.triggers
            self.scheduler.add_jobs(
                ({"id": ids[number], "trigger": triggers[number]} for number in chunk), func=noop
            )

        return Contestant(batch, CHUNK)

    def change(self, name: str) -> Contestant:
        modify_job, pause_job = self.scheduler.modify_job, self.scheduler.pause_job
        reschedule_job = self.scheduler.reschedule_job
        times, triggers = self.times, self.triggers
        calls: dict[str, Callable[[int, str], object]] = {
            "name": lambda number, job_id: modify_job(job_id, name="another"),
            "args": lambda number, job_id: modify_job(job_id, args=(number,)),
            "next_run_time": lambda number, job_id: modify_job(job_id, next_run_time=times[number]),
            "pause": lambda number, job_id: pause_job(job_id),
            "reschedule": lambda number, job_id: reschedule_job(
                job_id, trigger=triggers[number ^ 1]
            ),
        }
        return self.chunks(calls[name])

    def remove(self) -> Contestant:
        remove_job, numbers = self.scheduler.remove_job, iter(range(0, JOBS, CHUNK))

        def batch() -> None:
            first = next(numbers)
            for job_id in self.ids[first : first + CHUNK]:
                remove_job(job_id)

        return Contestant(batch, CHUNK)

    def dispatch(self) -> Contestant:
        """Advance by a minute, in which a hundredth of all jobs is due."""
        return Contestant(lambda: self.advance(MINUTE), CHUNK)

    def plan(self) -> dict[str, datetime | None]:
        """Tell when each job runs next."""
        return {job.id: job.next_run_time for job in self.scheduler.get_jobs()}


def ours() -> Side:
    scheduler = FakeScheduler(clock=FakeClock(START), timezone="UTC")
    scheduler.start()
    return Side(scheduler, scheduler.clock.advance, IntervalTrigger)


def theirs() -> Side:
    scheduler = PeerScheduler()
    return Side(scheduler, scheduler.advance, PeerTrigger)


@pytest.fixture(scope="module")
def sides() -> Iterator[dict[str, Side]]:
    sides = {OURS: ours(), THEIRS: theirs()}
    yield sides
    for side in sides.values():
        side.scheduler.shutdown()


@pytest.fixture
def compare(race: Race, report: Report) -> Compare:
    """Race the sides through all chunks, and report how many times as fast ours is."""

    def compare(
        name: str, contestants: dict[str, Contestant], at_least: float | None = None
    ) -> list[float]:
        # One chunk warms up.
        times = race(contestants, rounds=CHUNKS - 1)
        found = ratios(times, THEIRS, OURS)
        size = "100,000 jobs: "
        report.figure(f"{size}APScheduler / tocsin, {name}", found, at_least=at_least)
        for side, each in times.items():
            report.figure(f"{size}{side}, {name}, ns", each)
        return found

    return compare


def test_add(sides: dict[str, Side], compare: Compare) -> None:
    compare("add_job", {name: side.add() for name, side in sides.items()}, at_least=10)
    first, second = (side.plan() for side in sides.values())
    assert first == second
    assert len(first) == JOBS


def test_dispatch(sides: dict[str, Side], compare: Compare) -> None:
    compare("dispatch", {name: side.dispatch() for name, side in sides.items()}, at_least=15)
    first, second = (side.plan() for side in sides.values())
    assert first == second
    assert min(time for time in first.values() if time) == START + (CHUNKS + 1) * MINUTE


CHANGES = ("name", "args", "next_run_time", "pause", "reschedule")


@pytest.fixture(scope="module")
def modified(report: Report) -> Iterator[dict[str, list[float]]]:
    """Keep the ratios of all kinds of change, and report their median at the end."""
    found: dict[str, list[float]] = {}
    yield found
    middle = [median(each) for each in zip(*found.values(), strict=True)]
    report.figure("100,000 jobs: APScheduler / tocsin, modify: median", middle, at_least=10)


@pytest.mark.parametrize("change", CHANGES)
def test_modify(
    sides: dict[str, Side], change: str, compare: Compare, modified: dict[str, list[float]]
) -> None:
    contestants = {name: side.change(change) for name, side in sides.items()}
    modified[change] = compare(f"modify: {change}", contestants)
    first, second = (side.plan() for side in sides.values())
    assert first == second


def test_remove(sides: dict[str, Side], compare: Compare) -> None:
    compare("remove", {name: side.remove() for name, side in sides.items()}, at_least=10)
    for side in sides.values():
        assert side.scheduler.get_jobs() == []


def test_add_by_name(sides: dict[str, Side], compare: Compare) -> None:
    contestants = {name: side.add_by_name() for name, side in sides.items()}
    compare("add_job with the trigger by name", contestants)
    for side in sides.values():
        assert len(side.scheduler.get_jobs()) == JOBS
        side.scheduler.remove_all_jobs()


def test_add_jobs(sides: dict[str, Side], compare: Compare) -> None:
    contestants = {OURS: sides[OURS].add_in_bulk(), THEIRS: sides[THEIRS].add()}
    compare("add_jobs", contestants, at_least=25)
    for side in sides.values():
        assert len(side.scheduler.get_jobs()) == JOBS
        side.scheduler.remove_all_jobs()
