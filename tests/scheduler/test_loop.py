"""The scheduling loop on a fake clock: what runs, when, how often, and what is said of the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tocsin import CronTrigger, IntervalTrigger, OrTrigger
from tocsin.events import (
    EVENT_ALL,
    EVENT_JOB_BROKEN,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOBSTORE_ERROR,
)
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.loop import BATCH, MOST_FAILURES, MOST_RUN_TIMES
from tocsin.stores import MemoryJobStore
from tocsin.testing import FakeClock, FakeScheduler
from tocsin.triggers import BaseTrigger

UTC = timezone.utc
START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Held(BaseExecutor):
    """An executor that starts nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Job, Any]] = []

    def _do_submit_job(self, job: Job, run_times: Any) -> None:
        self.waiting.append((job, run_times))

    def go(self) -> None:
        waiting, self.waiting = self.waiting, []
        for job, run_times in waiting:
            self.run(job, run_times)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def scheduler(clock: FakeClock, events: list[Any]) -> Iterator[FakeScheduler]:
    scheduler = FakeScheduler(clock=clock, timezone=UTC)
    scheduler.add_listener(events.append, EVENT_ALL)
    scheduler.start()
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


@pytest.fixture
def ran(clock: FakeClock) -> list[datetime]:
    return []


def of(events: list[Any], code: int) -> list[Any]:
    return [event for event in events if event.code & code]


def note(ran: list[datetime], clock: FakeClock) -> Callable[[], None]:
    return lambda: ran.append(clock.time)


def every_minute(**options: Any) -> IntervalTrigger:
    return IntervalTrigger(minutes=1, start_date=START + MINUTE, **options)


def test_a_month_of_schedules_runs_at_its_times(
    scheduler: FakeScheduler, clock: FakeClock, ran: list[datetime]
) -> None:
    scheduler.add_job(note(ran, clock), CronTrigger(hour=9, timezone="Europe/Berlin"))
    clock.advance(timedelta(days=31))
    berlin = CronTrigger(hour=9, timezone="Europe/Berlin")
    assert ran == list(berlin.fire_times(START, START + timedelta(days=31)))
    assert len(ran) == 31
    assert {moment.astimezone(UTC).hour for moment in ran} == {7, 8}  # the clocks change


def test_runs_come_in_the_order_of_their_times_and_then_of_their_arrival(
    scheduler: FakeScheduler, clock: FakeClock
) -> None:
    order: list[str] = []
    scheduler.add_job(order.append, "date", run_date=START + 2 * MINUTE, args=["third"])
    scheduler.add_job(order.append, "date", run_date=START + MINUTE, args=["first"])
    scheduler.add_job(order.append, "date", run_date=START + MINUTE, args=["second"])
    clock.advance(300)
    assert order == ["first", "second", "third"]


def test_missed_runs_coalesce_into_the_last_with_one_event(
    scheduler: FakeScheduler,
    clock: FakeClock,
    ran: list[datetime],
    events: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = scheduler.add_job(note(ran, clock), every_minute())
    clock.set_time(START + timedelta(minutes=10, seconds=30))
    clock.advance(0)
    assert ran == [START + timedelta(minutes=10, seconds=30)]
    (event,) = of(events, EVENT_JOB_COALESCED)
    assert (event.first_run_time, event.last_run_time) == (START + MINUTE, START + 10 * MINUTE)
    assert of(events, EVENT_JOB_EXECUTED)[0].scheduled_run_time == START + 10 * MINUTE
    assert sum("coalesced" in record.message for record in caplog.records) == 1
    assert job.next_run_time == START + 11 * MINUTE


def test_without_coalescing_every_missed_run_runs(
    scheduler: FakeScheduler, clock: FakeClock, ran: list[datetime], events: list[Any]
) -> None:
    scheduler.add_job(note(ran, clock), every_minute(), coalesce=False)
    clock.set_time(START + timedelta(minutes=10, seconds=30))
    clock.advance(0)
    assert [event.scheduled_run_time for event in of(events, EVENT_JOB_EXECUTED)] == [
        START + n * MINUTE for n in range(1, 11)
    ]
    assert not of(events, EVENT_JOB_COALESCED)


def test_a_long_backlog_is_handed_over_in_parts_and_none_is_lost(
    clock: FakeClock, events: list[Any]
) -> None:
    held = Held()
    scheduler = FakeScheduler(clock=clock, executors={"default": held})
    scheduler.add_listener(events.append)
    scheduler.start()
    scheduler.add_job(print, every_minute(), coalesce=False, kwargs={"end": ""})
    count = 2 * MOST_RUN_TIMES + 500
    clock.set_time(START + count * MINUTE)
    while len(of(events, EVENT_JOB_EXECUTED)) < count:
        clock.advance(1)
        assert len(held.waiting) == 1
        assert len(held.waiting[0][1]) <= MOST_RUN_TIMES
        clock.advance(1)  # the next part waits for its turn, it is not skipped
        held.go()
    assert [event.scheduled_run_time for event in of(events, EVENT_JOB_EXECUTED)] == [
        START + n * MINUTE for n in range(1, count + 1)
    ]
    assert not of(events, EVENT_JOB_MAX_INSTANCES)


def test_a_run_beyond_its_grace_time_is_missed_when_it_is_handed_over(
    scheduler: FakeScheduler,
    clock: FakeClock,
    ran: list[datetime],
    events: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    scheduler.add_job(note(ran, clock), every_minute(), coalesce=False, misfire_grace_time=90)
    clock.set_time(START + 5 * MINUTE + timedelta(seconds=15))
    clock.advance(0)
    missed = of(events, EVENT_JOB_MISSED)
    assert [event.scheduled_run_time for event in missed] == [START + n * MINUTE for n in (1, 2, 3)]
    assert missed[0].reason == "255.000 s late, more than its grace time of 90 s"
    assert [event.scheduled_run_time for event in of(events, EVENT_JOB_EXECUTED)] == [
        START + n * MINUTE for n in (4, 5)
    ]
    assert sum("was missed" in record.message for record in caplog.records) == 3


def test_a_run_beyond_its_grace_time_is_missed_when_it_starts(
    clock: FakeClock, events: list[Any]
) -> None:
    held = Held()
    scheduler = FakeScheduler(clock=clock, executors={"default": held})
    scheduler.add_listener(events.append)
    scheduler.start()
    scheduler.add_job(print, every_minute(), misfire_grace_time=5)
    clock.advance(60)
    clock.advance(10)
    held.go()
    assert not of(events, EVENT_JOB_EXECUTED)
    (event,) = of(events, EVENT_JOB_MISSED)
    assert event.scheduled_run_time == START + MINUTE
    assert event.reason == "10.000 s late, more than its grace time of 5 s"


def test_a_run_at_the_end_of_its_grace_time_is_in_time(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    scheduler.add_job(int, every_minute(), coalesce=False, misfire_grace_time=60)
    clock.set_time(START + 3 * MINUTE)
    clock.advance(0)
    runs = of(events, EVENT_JOB_EXECUTED | EVENT_JOB_MISSED)
    assert [(event.code, event.scheduled_run_time) for event in runs] == [
        (EVENT_JOB_MISSED, START + MINUTE),
        (EVENT_JOB_EXECUTED, START + 2 * MINUTE),
        (EVENT_JOB_EXECUTED, START + 3 * MINUTE),
    ]


def test_nothing_is_dropped_for_being_late_by_default(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    scheduler.add_job(print, "date", run_date=START + MINUTE, kwargs={"end": ""})
    clock.set_time(START + timedelta(days=400))
    clock.advance(0)
    assert len(of(events, EVENT_JOB_EXECUTED)) == 1


def test_a_year_asleep_costs_a_coalescing_job_one_step(
    scheduler: FakeScheduler, clock: FakeClock, ran: list[datetime]
) -> None:
    calls = 0

    class Counting(CronTrigger):
        def next_run(self, previous: int | None, now: int, edge: Any) -> int | None:
            nonlocal calls
            calls += 1
            return super().next_run(previous, now, edge)

    scheduler.add_job(note(ran, clock), Counting(minute="*", timezone=UTC))
    calls = 0
    clock.set_time(START + timedelta(days=365))
    clock.advance(0)
    assert len(ran) == 1
    assert calls <= 3


def test_the_clock_set_back_repeats_no_run(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    scheduler.add_job(print, CronTrigger(minute="*", timezone=UTC), kwargs={"end": ""})
    clock.advance(180)
    clock.set_time(START + timedelta(seconds=30))
    clock.advance(600)
    times = [event.scheduled_run_time for event in of(events, EVENT_JOB_EXECUTED)]
    assert times == [START + n * MINUTE for n in range(11)]


def test_the_clock_set_forward_runs_what_became_due(
    scheduler: FakeScheduler, clock: FakeClock, ran: list[datetime]
) -> None:
    scheduler.add_job(note(ran, clock), "date", run_date=START + timedelta(hours=5))
    clock.set_time(START + timedelta(hours=6))
    clock.advance(0)
    assert ran == [START + timedelta(hours=6)]


def test_too_many_instances_are_skipped_with_one_event_and_line(
    clock: FakeClock, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    scheduler = FakeScheduler(clock=clock, executors={"default": held})
    scheduler.add_listener(events.append)
    scheduler.start()
    scheduler.add_job(print, every_minute(), max_instances=2, kwargs={"end": ""})
    clock.advance(180)
    assert len(held.waiting) == 2
    (event,) = of(events, EVENT_JOB_MAX_INSTANCES)
    assert event.scheduled_run_times == [START + 3 * MINUTE]
    assert sum("was skipped" in record.message for record in caplog.records) == 1
    held.go()
    clock.advance(60)
    assert len(held.waiting) == 1


def test_jitter_never_accumulates(
    scheduler: FakeScheduler, clock: FakeClock, ran: list[datetime]
) -> None:
    scheduler.add_job(note(ran, clock), every_minute(jitter=30))
    clock.advance(timedelta(minutes=1001))
    delays = [moment - (START + n * MINUTE) for n, moment in enumerate(ran, 1)]
    assert len(delays) >= 1000
    assert all(timedelta(0) <= delay <= timedelta(seconds=30) for delay in delays)
    assert len(set(delays)) > 900


def test_a_finished_schedule_is_removed(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    job = scheduler.add_job(print, every_minute(end_date=START + 3 * MINUTE), kwargs={"end": ""})
    clock.advance(3600)
    assert len(of(events, EVENT_JOB_EXECUTED)) == 3
    assert [event.job_id for event in of(events, EVENT_JOB_REMOVED)] == [job.id]
    assert scheduler.get_jobs() == []


def test_a_missing_executor_loses_the_run_but_not_the_job(
    scheduler: FakeScheduler,
    clock: FakeClock,
    events: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = scheduler.add_job(print, every_minute(), executor="absent", kwargs={"end": ""})
    clock.advance(60)
    (event,) = of(events, EVENT_JOB_ERROR)
    assert isinstance(event.exception, LookupError)
    assert 'no executor is called "absent"' in str(event.exception)
    assert "could not be started" in caplog.text
    scheduler.add_executor("debug", "absent")
    clock.advance(60)
    assert [event.job_id for event in of(events, EVENT_JOB_EXECUTED)] == [job.id]


def test_an_executor_that_refuses_is_reported_and_the_instance_is_free_again(
    clock: FakeClock, events: list[Any]
) -> None:
    class Broken(BaseExecutor):
        def _do_submit_job(self, job: Job, run_times: Any) -> None:
            raise OSError("no thread to be had")

    scheduler = FakeScheduler(clock=clock, executors={"default": Broken()})
    scheduler.add_listener(events.append)
    scheduler.start()
    scheduler.add_job(print, every_minute())
    clock.advance(180)
    errors = of(events, EVENT_JOB_ERROR)
    assert [str(event.exception) for event in errors] == ["no thread to be had"] * 3
    assert not of(events, EVENT_JOB_MAX_INSTANCES)


class Moody(BaseTrigger):
    """A trigger that fails when it is told to."""

    def __init__(self) -> None:
        self.good = True

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        if not self.good:
            raise RuntimeError("no idea")
        return (previous_fire_time or now) + MINUTE


def test_a_job_that_cannot_be_computed_is_tried_again_and_then_set_aside(
    scheduler: FakeScheduler, clock: FakeClock, ran: list[datetime], events: list[Any]
) -> None:
    trigger = Moody()
    moody = scheduler.add_job(print, trigger, id="moody", kwargs={"end": ""})
    scheduler.add_job(note(ran, clock), every_minute(), id="good")
    trigger.good = False
    clock.advance(61)
    assert scheduler.health()["failing_jobs"] == [
        {"id": "moody", "jobstore": "default", "error": "RuntimeError: no idea"}
    ]
    assert not scheduler.health()["ok"]
    clock.advance(60)
    assert len(ran) == 2
    assert moody.failure == "RuntimeError: no idea"
    assert scheduler.get_jobs(status="broken") == [moody]
    (event,) = of(events, EVENT_JOB_BROKEN)
    assert (event.job_id, event.reason) == ("moody", "RuntimeError: no idea")
    assert scheduler.health()["broken_jobs"][0]["id"] == "moody"
    clock.advance(timedelta(days=1))
    assert len(of(events, EVENT_JOB_BROKEN)) == 1
    trigger.good = True
    assert moody.resume() is moody
    assert moody.failure is None
    assert scheduler.health()["ok"]
    clock.advance(60)
    assert [event.job_id for event in of(events, EVENT_JOB_EXECUTED)].count("moody") == 1


def test_a_trigger_of_datetimes_is_asked_in_the_scheduler_s_zone(clock: FakeClock) -> None:
    events: list[Any] = []
    berlin = ZoneInfo("Europe/Berlin")
    scheduler = FakeScheduler(clock=clock, timezone=berlin)
    scheduler.add_listener(events.append, EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.add_job(int, Moody(), coalesce=False)
    clock.advance(60)
    clock.set_time(START + 4 * MINUTE)
    clock.advance(0)
    moments = [event.scheduled_run_time for event in events]
    assert moments == [START + n * MINUTE for n in range(1, 5)]
    assert {moment.tzinfo for moment in moments} == {berlin}


def test_a_job_that_another_scheduler_mended_is_not_broken_any_more(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    trigger = Moody()
    scheduler.add_job(int, trigger, id="moody")
    trigger.good = False
    clock.advance(120)
    assert [each["id"] for each in scheduler.health()["broken_jobs"]] == ["moody"]
    trigger.good = True
    changes = {"_next_run": clock.now() + 1_000_000, "failure": None}
    scheduler._jobstores["default"].modify_job("moody", changes)
    scheduler.wakeup()
    clock.advance(1)
    assert scheduler.health()["broken_jobs"] == []


def test_a_job_that_fails_for_a_moment_runs_late_and_is_not_set_aside(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    trigger = Moody()
    scheduler.add_job(print, trigger, id="moody", kwargs={"end": ""})
    trigger.good = False
    clock.advance(60.5)
    trigger.good = True
    clock.advance(5)
    (event,) = of(events, EVENT_JOB_EXECUTED)
    assert event.scheduled_run_time == START + MINUTE
    assert scheduler.health()["ok"]
    assert MOST_FAILURES > 1


class Shaky(MemoryJobStore):
    """A store that fails at what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()

    def _maybe(self, what: str) -> None:
        if what in self.failing:
            raise ConnectionError(f"{what}: the server is gone")

    def claim(self, now: int, limit: int) -> list[Job]:
        self._maybe("claim")
        return super().claim(now, limit)

    def next_due(self) -> int | None:
        self._maybe("next_due")
        return super().next_due()


@pytest.mark.parametrize("what", ["claim", "next_due"])
def test_a_store_that_fails_is_tried_again_while_the_others_run_on_time(
    clock: FakeClock,
    ran: list[datetime],
    events: list[Any],
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shaky = Shaky()
    scheduler = FakeScheduler(clock=clock, jobstores={"shaky": shaky})
    scheduler.add_listener(events.append)
    scheduler.start()
    scheduler.add_job(print, every_minute(), jobstore="shaky", kwargs={"end": ""})
    scheduler.add_job(note(ran, clock), every_minute(), id="good")
    shaky.failing.add(what)
    clock.advance(600)
    assert ran == [START + n * MINUTE for n in range(1, 11)]
    errors = of(events, EVENT_JOBSTORE_ERROR)
    assert 10 < len(errors) < 100  # it backs off, to a try every ten seconds
    assert (errors[0].alias, errors[0].retry_in) == ("shaky", 0.1)
    assert errors[-1].retry_in == 10
    assert not scheduler.health()["ok"]
    assert "the server is gone" in scheduler.health()["jobstores"]["shaky"]["error"]
    shaky.failing.clear()
    clock.advance(60)
    assert scheduler.health()["ok"]
    with caplog.at_level(logging.INFO):
        clock.advance(120)
    assert of(events, EVENT_JOB_EXECUTED)[-1].scheduled_run_time >= START + 11 * MINUTE


def test_what_was_changed_since_its_claim_does_not_run(clock: FakeClock, events: list[Any]) -> None:
    """A job is paused, moved or removed by another thread between claim and advance."""

    class Meddling(MemoryJobStore):
        meddle: Callable[[], Any]

        def claim(self, now: int, limit: int) -> list[Job]:
            claimed = super().claim(now, limit)
            if claimed:
                self.meddle()
            return claimed

    store = Meddling()
    scheduler = FakeScheduler(clock=clock, jobstores={"default": store})
    scheduler.add_listener(events.append)
    scheduler.start()

    def postpone() -> None:
        scheduler.modify_job("it", next_run_time=clock.time + timedelta(hours=3))

    for meddle, runs in (
        (lambda: scheduler.pause_job("it"), 0),
        (postpone, 1),
        (lambda: scheduler.remove_job("it"), 0),
    ):
        store.meddle = meddle
        for job_id in ("it", "behind it"):
            scheduler.add_job(
                print, "date", run_date=clock.time + MINUTE, id=job_id, replace_existing=True
            )
        clock.advance(120)
        assert [event.job_id for event in of(events, EVENT_JOB_SUBMITTED)] == ["behind it"]
        events.clear()
        store.meddle = lambda: None
        clock.advance(timedelta(hours=4))
        assert len(of(events, EVENT_JOB_EXECUTED)) == runs
        events.clear()


def test_more_due_jobs_than_a_batch_all_run(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    scheduler.add_jobs(
        ({"id": str(n)} for n in range(2 * BATCH + 7)), func=int, trigger=every_minute()
    )
    clock.advance(60)
    assert len(of(events, EVENT_JOB_EXECUTED)) == 2 * BATCH + 7


@pytest.mark.parametrize(("count", "wake"), [(BATCH - 1, 120), (BATCH, 90)])
def test_after_a_whole_batch_it_is_to_be_woken_at_once(count: int, wake: int) -> None:
    scheduler = FakeScheduler(clock=FakeClock(START), timezone=UTC)
    scheduler.start(paused=True)
    scheduler.add_jobs(({"id": str(n)} for n in range(count)), func=int, trigger=every_minute())
    now = scheduler.clock.now() + 90 * 1_000_000
    assert scheduler._loop.advance(now) == now + (wake - 90) * 1_000_000
    scheduler.shutdown()


def test_a_combined_trigger_runs_as_its_parts_say(
    scheduler: FakeScheduler, clock: FakeClock, ran: list[datetime]
) -> None:
    ten = IntervalTrigger(minutes=10, start_date=START)
    fifteen = IntervalTrigger(minutes=15, start_date=START)
    scheduler.add_job(note(ran, clock), OrTrigger([ten, fifteen]))
    clock.advance(timedelta(hours=1))
    assert [moment.minute for moment in ran] == [0, 10, 15, 20, 30, 40, 45, 50, 0]


def test_the_wake_up_is_that_of_the_earliest_job_and_none_without_jobs() -> None:
    clock = FakeClock(START)
    scheduler = FakeScheduler(clock=clock)
    scheduler.start(paused=True)
    assert scheduler._loop.advance(clock.now()) is None
    scheduler.add_job(print, "date", run_date=START + timedelta(days=9000))
    scheduler.add_job(print, "date", run_date=START + timedelta(hours=2))
    assert scheduler._loop.advance(clock.now()) == clock.now() + 7200 * 1_000_000
