"""What the loop does with claims of a shared store, and with runs of schedulers that are gone.

The store is one that says what it is told to say; real ones are in ``tests/stores``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tocsin import IntervalTrigger
from tocsin.claims import Claim, Loss, Recovered
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
)
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.stores import MemoryJobStore
from tocsin.testing import FakeClock, FakeScheduler

UTC = timezone.utc
START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE, TWO = START + MINUTE, START + 2 * MINUTE
EARLIER = [START - 2 * MINUTE, START - MINUTE]


class Shared(MemoryJobStore):
    """A store that others seem to share."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere = 0
        self.orphans: list[Recovered] = []
        self.asked: list[int] = []
        self.recorded: list[dict[str, Sequence[int]]] = []
        self.settled: list[str] = []
        self.delayed: list[str] = []

    def hold(self, job: Job) -> None:
        """Give a job a claim with runs that were recorded."""
        job._handle = Claim(self, job.id, 1, self.elsewhere, 0.0)
        job._handle.times = (0,)

    def claim(self, now: int, limit: int) -> list[Job]:
        jobs = super().claim(now, limit)
        for job in jobs:
            self.hold(job)
        return jobs

    def recover(self, now: int) -> Sequence[Recovered]:
        self.asked.append(now)
        found, self.orphans = self.orphans, []
        return found

    def advance(self, claims: Any, times: Any = ()) -> list[bool]:
        self.recorded.append(dict(times))
        return super().advance(claims, times)

    def settle(self, claim: Claim) -> None:
        self.settled.append(claim.job_id)

    def put_off(self, job: Job) -> None:
        self.delayed.append(job.id)


class Keeping(BaseExecutor):
    """An executor that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[str, list[datetime]]] = []

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self.given.append((job.id, list(run_times)))


class Refusing(BaseExecutor):
    """An executor that takes nothing, and may be stopped by it."""

    stops = False

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        if self.stops:
            self._scheduler.state = 0  # by another thread, which stops the store next
        raise OSError("no thread to be had")


@pytest.fixture
def store() -> Shared:
    return Shared()


@pytest.fixture
def keeping() -> Keeping:
    return Keeping()


@pytest.fixture
def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
def scheduler(store: Shared, keeping: Keeping, refusing: Refusing) -> Iterator[FakeScheduler]:
    scheduler = FakeScheduler(
        clock=FakeClock(START),
        timezone=UTC,
        jobstores={"shared": store},
        executors={"default": keeping, "refusing": refusing},
    )
    scheduler.start()
    yield scheduler
    if scheduler.running:
        scheduler.shutdown(wait=False)


@pytest.fixture
def events(scheduler: FakeScheduler) -> list[Any]:
    heard: list[Any] = []
    scheduler.add_listener(
        lambda event: heard.append((event.code, event.job_id, event.jobstore, *times(event))),
        EVENT_JOB_ERROR
        | EVENT_JOB_EXECUTED
        | EVENT_JOB_LOST
        | EVENT_JOB_MAX_INSTANCES
        | EVENT_JOB_MISSED,
    )
    return heard


def times(event: Any) -> list[datetime]:
    several: list[datetime] | None = getattr(event, "scheduled_run_times", None)
    return [event.scheduled_run_time] if several is None else several


def add(scheduler: FakeScheduler, **options: Any) -> Job:
    trigger = IntervalTrigger(minutes=1, start_date=ONE, timezone=UTC)
    return scheduler.add_job(int, trigger, id="job", name="Job", jobstore="shared", **options)


def take_over(scheduler: FakeScheduler, store: Shared, job: Job | None) -> None:
    """Have the store say that the runs of a job, or those of one that is lost, are found."""
    instants = [scheduler.clock.now() - n * 60_000_000 for n in (2, 1)]
    if job is not None:
        store.hold(job)
    store.orphans.append(Recovered("job", instants, job, "its scheduler is gone"))
    scheduler.wakeup()
    scheduler.clock.advance(0)


def test_lost_runs_are_told_of(
    scheduler: FakeScheduler,
    store: Shared,
    events: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Any] = []
    scheduler.add_listener(heard.append, EVENT_JOB_LOST)
    take_over(scheduler, store, None)
    assert events == [(EVENT_JOB_LOST, "job", "shared", moment) for moment in EARLIER]
    assert [event.reason for event in heard] == ["its scheduler is gone"] * 2
    assert set(store.asked) == {scheduler.clock.now()}
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "ERROR",
            'Run of job "job" at 2026-02-28 23:58:00+00:00 is lost: its scheduler is gone',
        )
    ]


def lose(scheduler: FakeScheduler, store: Shared, count: int) -> list[Loss]:
    """Have the store say that a run of each of some jobs is lost."""
    now = scheduler.clock.now()
    losses = [Loss(store, f"job {number}", 1, [now], "gone") for number in range(count)]
    store.orphans += [Recovered(each.job_id, [now], None, "lost", each) for each in losses]
    scheduler.wakeup()
    return losses


def test_a_loss_is_settled_when_it_was_told_of(
    scheduler: FakeScheduler, store: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    losses = lose(scheduler, store, 2)
    course: list[Any] = []

    def tell(event: Any) -> None:
        course.append((event.job_id, len(caplog.records), list(store.settled)))

    scheduler.add_listener(tell, EVENT_JOB_LOST)
    scheduler.clock.advance(0)
    assert course == [("job 0", 1, []), ("job 1", 2, ["job 0"])]
    assert store.settled == ["job 0", "job 1"]
    assert all(each.told for each in losses)


def test_a_loss_that_nobody_listens_for_is_settled(scheduler: FakeScheduler, store: Shared) -> None:
    lose(scheduler, store, 1)
    scheduler.clock.advance(0)
    assert store.settled == ["job 0"]


@pytest.mark.parametrize("where", ["log", "listener"])
def test_losses_are_not_settled_when_their_telling_is_interrupted(
    scheduler: FakeScheduler, store: Shared, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    losses = lose(scheduler, store, 3)

    def interrupt(*message: Any) -> None:
        if "job 1" in message or getattr(message[0], "job_id", "") == "job 1":
            raise KeyboardInterrupt

    if where == "log":
        monkeypatch.setattr(scheduler.logger, "error", interrupt)
    else:
        scheduler.add_listener(interrupt, EVENT_JOB_LOST)
    with pytest.raises(KeyboardInterrupt):
        scheduler.clock.advance(0)
    assert store.settled == ["job 0"]
    # Whoever was stopped in his log has told nobody.
    assert [each.told for each in losses] == [True, where == "listener", False]


def test_found_runs_are_started_here(
    scheduler: FakeScheduler,
    store: Shared,
    keeping: Keeping,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = add(scheduler)
    caplog.set_level(logging.WARNING)
    take_over(scheduler, store, job)
    assert keeping.given == [("job", EARLIER)]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            (
                'Run of job "job" at 2026-02-28 23:58:00+00:00 is started here: its scheduler'
                " is gone"
            ),
        )
    ]
    assert store.settled == []


def test_found_runs_without_an_executor_are_settled(
    scheduler: FakeScheduler, store: Shared, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    take_over(scheduler, store, add(scheduler, executor="absent"))
    assert events == [(EVENT_JOB_ERROR, "job", "shared", moment) for moment in EARLIER]
    assert 'no executor is called "absent"' in caplog.text
    assert store.settled == ["job"]


def test_found_runs_are_looked_after_one_by_one(
    scheduler: FakeScheduler, store: Shared, keeping: Keeping, events: list[Any]
) -> None:
    """Behind those that are lost, and those that have to wait, come others."""
    busy = add(scheduler, at_least_once=True)
    scheduler.clock.advance(MINUTE)
    idle = scheduler.add_job(int, "interval", hours=1, id="idle", jobstore="shared")
    for job in (busy, idle):
        store.hold(job)
    now = scheduler.clock.now()
    store.orphans += [
        Recovered("gone", [now], None, "its scheduler is gone"),
        Recovered("job", [now], busy, "its scheduler is gone"),
        Recovered("idle", [now], idle, "its scheduler is gone"),
    ]
    scheduler.wakeup()
    scheduler.clock.advance(0)
    assert events == [(EVENT_JOB_LOST, "gone", "shared", ONE)]
    assert store.delayed == ["job"]
    assert keeping.given == [("job", [ONE]), ("idle", [ONE])]


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("elsewhere", [0, 1])
def test_found_runs_of_too_many_instances(
    scheduler: FakeScheduler,
    store: Shared,
    keeping: Keeping,
    events: list[Any],
    repeat: bool,
    elsewhere: int,
) -> None:
    """What has to run waits for an instance here to end; those elsewhere are not ours to see."""
    job = add(scheduler, at_least_once=repeat)
    scheduler.clock.advance(MINUTE)
    assert keeping.given == [("job", [ONE])]
    store.elsewhere = elsewhere
    take_over(scheduler, store, job)
    assert keeping.given == [("job", [ONE])]
    if repeat and not elsewhere:
        assert (store.delayed, store.settled, events) == (["job"], [], [])
    else:
        assert (store.delayed, store.settled) == ([], ["job"])
        moments = [START - MINUTE, START]
        assert events == [(EVENT_JOB_MAX_INSTANCES, "job", "shared", *moments)]


@pytest.mark.parametrize(("coalesce", "right"), [(True, [TWO]), (False, [ONE, TWO])])
def test_the_run_times_that_count_are_recorded_with_the_claim(
    scheduler: FakeScheduler,
    store: Shared,
    keeping: Keeping,
    coalesce: bool,
    right: list[datetime],
) -> None:
    """For whoever takes the runs over; of a job with one run time the store knows it."""
    add(scheduler, coalesce=coalesce)
    scheduler.clock.set_time(TWO)
    scheduler.clock.advance(0)
    assert keeping.given == [("job", right)]
    assert store.recorded == [{"job": [int(each.timestamp()) * 1_000_000 for each in right]}]
    keeping.release(scheduler.get_job("job"))
    scheduler.clock.advance(MINUTE)
    assert store.recorded[1:] == [{}]


def test_instances_elsewhere_count(
    scheduler: FakeScheduler, store: Shared, keeping: Keeping, events: list[Any]
) -> None:
    add(scheduler, max_instances=2)
    store.elsewhere = 2
    scheduler.clock.advance(MINUTE)
    assert events == [(EVENT_JOB_MAX_INSTANCES, "job", "shared", ONE)]
    assert (keeping.given, store.settled) == ([], ["job"])
    store.elsewhere = 1
    scheduler.clock.advance(MINUTE)
    assert keeping.given == [("job", [TWO])]


def test_a_claim_whose_runs_are_all_missed_is_settled(
    scheduler: FakeScheduler, store: Shared, keeping: Keeping, events: list[Any]
) -> None:
    add(scheduler, misfire_grace_time=5)
    scheduler.clock.set_time(ONE + timedelta(seconds=10))
    scheduler.clock.advance(0)
    assert events == [(EVENT_JOB_MISSED, "job", "shared", ONE)]
    assert (keeping.given, store.settled) == ([], ["job"])


def test_a_claim_without_an_executor_is_settled(
    scheduler: FakeScheduler, store: Shared, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    add(scheduler, executor="absent")
    scheduler.clock.advance(MINUTE)
    assert 'no executor is called "absent"' in caplog.text
    assert scheduler.health()["ok"]
    assert events == [(EVENT_JOB_ERROR, "job", "shared", ONE)]
    assert store.settled == ["job"]


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("stops", [False, True])
def test_what_an_executor_refuses_is_left_to_others_only_as_it_stops(
    scheduler: FakeScheduler,
    store: Shared,
    refusing: Refusing,
    events: list[Any],
    repeat: bool,
    stops: bool,
) -> None:
    refusing.stops = stops
    add(scheduler, executor="refusing", at_least_once=repeat)
    scheduler.clock.advance(MINUTE)
    assert events == [(EVENT_JOB_ERROR, "job", "shared", ONE)]
    left = repeat and stops
    assert (store.delayed, store.settled) == ((["job"], []) if left else ([], ["job"]))
