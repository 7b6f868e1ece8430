"""Many jobs at once: in which order, by which executor, and what they share."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tocsin import IntervalTrigger
from tocsin.errors import MaxInstancesReachedError
from tocsin.events import EVENT_JOB_EXECUTED, EVENT_JOB_REMOVED
from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.job import Job
from tocsin.testing import FakeClock, FakeScheduler

UTC = timezone.utc
START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class OneByOne(DebugExecutor):
    """An executor that overrides how one job is submitted."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self.seen.append(job.id)
        super().submit_job(job, run_times)


class Runs(DebugExecutor):
    """An executor that overrides how a job is run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _do_submit_job(self, job: Job, run_times: Any) -> None:
        self.seen.append(job.id)
        super()._do_submit_job(job, run_times)


class Stranger:
    """An executor without tocsin's base class."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def start(self, scheduler: Any, alias: str) -> None:
        pass

    def shutdown(self, wait: bool = True) -> None:
        pass

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self.seen.append(job.id)
        func, args, kwargs = job.call()
        func(*args, **kwargs)

    def is_full(self, job: Job) -> bool:
        return False

    def after_fork(self) -> None:
        pass


@pytest.fixture
def scheduler() -> FakeScheduler:
    """Give a scheduler that nobody listens to."""
    scheduler = FakeScheduler(clock=FakeClock(START), timezone=UTC)
    scheduler.start()
    return scheduler


def each_minute() -> IntervalTrigger:
    return IntervalTrigger(minutes=1, start_date=START + MINUTE)


@pytest.mark.parametrize("kind", [DebugExecutor, OneByOne, Runs, Stranger])
def test_jobs_run_in_order_each_by_its_executor(scheduler: FakeScheduler, kind: Any) -> None:
    other = kind()
    scheduler.add_executor(other, "other")
    ran: list[int] = []
    for number in range(30):
        executor = "other" if number % 3 else "default"
        scheduler.add_job(
            ran.append, each_minute(), args=[number], executor=executor, id=str(number)
        )
    scheduler.clock.advance(MINUTE)
    assert ran == list(range(30))
    if kind is not DebugExecutor:
        assert other.seen == [str(number) for number in range(30) if number % 3]
    scheduler.clock.advance(MINUTE)
    assert ran == [*range(30), *range(30)]


def test_what_one_job_raises_harms_no_other(
    scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    async def coroutine() -> None:
        ran.append("coroutine")

    def fails() -> None:
        raise LookupError("no such thing")

    scheduler.add_job(ran.append, each_minute(), args=["before"])
    scheduler.add_job(fails, each_minute())
    scheduler.add_job(coroutine, each_minute())
    scheduler.add_job(ran.append, each_minute(), args=["nowhere"], executor="missing")
    scheduler.add_job(ran.append, each_minute(), args=["after"])
    with caplog.at_level(logging.ERROR):
        scheduler.clock.advance(MINUTE)
    assert ran == ["before", "coroutine", "after"]
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == 2
    assert "LookupError: no such thing" in found[0]
    assert 'no executor is called "missing"' in found[1]


def test_a_job_that_runs_is_not_run_again_by_itself(scheduler: FakeScheduler) -> None:
    refused = []

    def again() -> None:
        with pytest.raises(MaxInstancesReachedError) as caught:
            scheduler.run_job_now("again")
        refused.append(caught.value)

    scheduler.add_job(again, each_minute(), id="again")
    scheduler.clock.advance(2 * MINUTE)
    assert len(refused) == 2
    scheduler.modify_job("again", func=lambda: refused.clear())
    scheduler.run_job_now("again")
    assert refused == []


def test_a_listener_that_a_job_adds_hears_of_its_run_and_its_end(
    scheduler: FakeScheduler,
) -> None:
    heard: list[Any] = []

    def listen() -> None:
        scheduler.add_listener(heard.append, EVENT_JOB_EXECUTED | EVENT_JOB_REMOVED)

    scheduler.add_job(listen, "date", run_date=START + MINUTE, id="first")
    scheduler.add_job(int, "date", run_date=START + MINUTE, id="second")
    scheduler.clock.advance(MINUTE)
    assert [(event.code, event.job_id) for event in heard] == [
        (EVENT_JOB_EXECUTED, "first"),
        (EVENT_JOB_REMOVED, "first"),
        (EVENT_JOB_EXECUTED, "second"),
        (EVENT_JOB_REMOVED, "second"),
    ]


def test_ctrl_c_in_a_job_reports_those_that_can_not_start(
    scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    ran: list[str] = []
    scheduler.add_job(ran.append, each_minute(), args=["before"])
    scheduler.add_job(interrupted, each_minute())
    scheduler.add_job(ran.append, each_minute(), args=["after"], name="after")
    with caplog.at_level(logging.ERROR), pytest.raises(KeyboardInterrupt):
        scheduler.clock.advance(MINUTE)
    assert ran == ["before"]
    assert 'Run of job "after' in caplog.records[-1].getMessage()
    assert "could not be started: KeyboardInterrupt()" in caplog.records[-1].getMessage()


def test_an_executor_may_take_a_batch_as_a_whole(scheduler: FakeScheduler) -> None:
    class Whole(BaseExecutor):
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[list[str]] = []

        def submit_jobs(self, runs: Any, refused: Any) -> None:
            self.batches.append([job.id for job, _ in runs])

        def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
            raise AssertionError("the batch was taken")

    whole = Whole()
    scheduler.add_executor(whole, "whole")
    # Whatever else they differ in.
    jobs = ({"id": str(number), "max_instances": 1 + number % 2} for number in range(5))
    scheduler.add_jobs(jobs, func=int, trigger=each_minute(), executor="whole")
    scheduler.clock.advance(MINUTE)
    assert whole.batches == [["0", "1", "2", "3", "4"]]


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_is_held_off_while_jobs_are_made(
    scheduler: FakeScheduler, collecting: bool
) -> None:
    seen: list[bool] = []

    def jobs() -> Iterator[dict[str, Any]]:
        seen.append(gc.isenabled())
        yield {"func": int}
        yield {"func": "no reference"}

    assert gc.isenabled()
    if not collecting:
        gc.disable()
    try:
        with pytest.raises(ValueError, match="no reference"):
            scheduler.add_jobs(jobs(), trigger=each_minute())
        assert seen == [False]
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


def test_jobs_share_their_rules_until_one_is_changed(scheduler: FakeScheduler) -> None:
    one, two = (scheduler.add_job(int, each_minute(), misfire_grace_time=1) for _ in range(2))
    third = scheduler.add_job(int, each_minute(), misfire_grace_time=1.0)
    assert one._rules is two._rules
    assert [type(each.misfire_grace_time) for each in (one, third)] == [int, float]
    one.modify(max_instances=3, coalesce=False)
    assert (one.max_instances, one.coalesce) == (3, False)
    assert (two.max_instances, two.coalesce) == (1, True)
    two.modify(max_instances=3, coalesce=False)
    assert one._rules is two._rules


def test_the_arguments_of_one_job_are_not_those_of_the_next(scheduler: FakeScheduler) -> None:
    ran: list[tuple[Any, ...]] = []

    def note(*args: Any, **kwargs: Any) -> None:
        ran.append((args, kwargs))

    jobs: list[dict[str, Any]] = [
        {},
        {"args": (1,)},
        {},
        {"kwargs": {"two": 2}},
        {"args": (3,)},
        {},
    ]
    made = scheduler.add_jobs(jobs, func=note, args=(0,), trigger=each_minute())
    assert [job.args for job in made] == [(0,), (1,), (0,), (0,), (3,), (0,)]
    scheduler.clock.advance(MINUTE)
    assert ran == [
        ((0,), {}),
        ((1,), {}),
        ((0,), {}),
        ((0,), {"two": 2}),
        ((3,), {}),
        ((0,), {}),
    ]
    made[0].modify(args=[])
    assert (made[0].args, made[0].kwargs) == ((), {})
    with pytest.raises(ValueError, match="do not fit"):
        scheduler.add_jobs(
            [{}, {"args": (1, 2)}], func=ran.append, args=(0,), trigger=each_minute()
        )
