"""What the loop says of what is lost, late or wrong: whole lines, whole events, the delays."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tocsin import AndTrigger, IntervalTrigger
from tocsin.events import (
    EVENT_JOB_BROKEN,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_REMOVED,
    EVENT_JOBSTORE_ERROR,
    JobEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.loop import MOST_RUN_TIMES, MOST_SEARCHES, _most_run_times
from tocsin.stores import MemoryJobStore
from tocsin.testing import FakeClock, FakeScheduler
from tocsin.triggers import BaseTrigger
from tocsin.triggers.combining import MOST_STEPS
from tocsin.triggers.limits import most_searches

UTC = timezone.utc
START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE, TWO, THREE = (START + n * MINUTE for n in (1, 2, 3))


class Stuck(BaseExecutor):
    """An executor whose runs never end."""

    def _do_submit_job(self, job: Job, run_times: Any) -> None:
        pass


class Refusing(BaseExecutor):
    def _do_submit_job(self, job: Job, run_times: Any) -> None:
        raise OSError("no thread to be had")


class Moody(BaseTrigger):
    """A trigger that fails until it is good."""

    def __init__(self) -> None:
        self.good = False

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        if previous is not None and not self.good:
            raise RuntimeError("no idea")
        return ONE if previous is None else previous + MINUTE


class Shaky(MemoryJobStore):
    """A store that is polled, and fails while it is told to."""

    failing = False
    poll_interval = None

    def __init__(self) -> None:
        super().__init__()
        self.given_back: list[tuple[str, int, Any]] = []

    def release(self, job: Job, run_time: int, until: int) -> None:
        self.given_back.append((job.id, run_time, until))
        super().release(job, run_time, until)

    def set_aside(self, job: Job, run_time: int, reason: str) -> None:
        self.given_back.append((job.id, run_time, reason))
        super().set_aside(job, run_time, reason)

    def claim(self, now: int, limit: int) -> list[Job]:
        if self.failing:
            raise ConnectionError("the server is gone")
        return super().claim(now, limit)


@pytest.fixture
def shaky() -> Shaky:
    return Shaky()


@pytest.fixture
def scheduler(shaky: Shaky) -> Iterator[FakeScheduler]:
    """Give a scheduler that has a store and executors of each kind, and has started."""
    scheduler = FakeScheduler(
        clock=FakeClock(START),
        timezone=UTC,
        jobstores={"shaky": shaky},
        executors={"stuck": Stuck(), "refusing": Refusing()},
    )
    scheduler.start()
    yield scheduler
    scheduler.shutdown(wait=False)


@pytest.fixture
def events(scheduler: FakeScheduler) -> list[Any]:
    """Give what the scheduler tells of, but for the jobs that are added, changed and run."""
    heard: list[Any] = []
    scheduler.add_listener(
        heard.append,
        EVENT_JOB_BROKEN
        | EVENT_JOB_COALESCED
        | EVENT_JOB_ERROR
        | EVENT_JOB_MAX_INSTANCES
        | EVENT_JOB_MISSED
        | EVENT_JOB_REMOVED
        | EVENT_JOBSTORE_ERROR,
    )
    return heard


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """Give a function that lists the lines of the loop so far, and forgets them."""
    caplog.set_level(logging.INFO)

    def said() -> list[tuple[str, str]]:
        found = [
            (record.levelname, record.getMessage())
            for record in caplog.records
            if record.module == "loop"
        ]
        caplog.clear()
        return found

    return said


def add(scheduler: FakeScheduler, **options: Any) -> Job:
    """Add a job that runs every minute from a minute on, in the store "shaky"."""
    options = {"id": "job", "name": "Job", "jobstore": "shaky", **options}
    end = options.pop("end", None)
    trigger = options.pop("trigger", None) or IntervalTrigger(
        minutes=1, start_date=ONE, end_date=end, timezone=UTC
    )
    return scheduler.add_job(int, trigger, **options)


def told(event: Any) -> tuple[Any, ...]:
    """Give what an event has beside its job and store, with the text of an exception."""
    found = {name: value for name, value in vars(event).items() if value is not None}
    if isinstance(event, JobEvent):
        assert (found.pop("job_id"), found.pop("jobstore")) == ("job", "shaky")
    else:
        assert found.pop("alias") == "shaky"
    return tuple(repr(each) if isinstance(each, BaseException) else each for each in found.values())


def test_runs_that_are_coalesced(scheduler: FakeScheduler, events: list[Any], lines: Any) -> None:
    add(scheduler)
    scheduler.clock.set_time(START + 3.5 * MINUTE)
    scheduler.clock.advance(0)
    assert [told(event) for event in events] == [(EVENT_JOB_COALESCED, ONE, THREE)]
    assert lines() == [
        (
            "WARNING",
            (
                'Runs of job "Job (trigger: interval[0:01:00], next run at: 2026-03-01 00:04:00'
                ' UTC)"'
                " from 2026-03-01 00:01:00+00:00 on were coalesced into the one at"
                " 2026-03-01 00:03:00+00:00"
            ),
        )
    ]


def test_runs_of_a_trigger_of_datetimes_are_coalesced(
    scheduler: FakeScheduler, events: list[Any]
) -> None:
    trigger = Moody()
    trigger.good = True
    job = add(scheduler, trigger=trigger)
    scheduler.clock.set_time(START + 3.5 * MINUTE)
    scheduler.clock.advance(0)
    assert [told(event) for event in events] == [(EVENT_JOB_COALESCED, ONE, THREE)]
    assert job.next_run_time == START + 4 * MINUTE


def test_runs_that_are_late(scheduler: FakeScheduler, events: list[Any], lines: Any) -> None:
    add(scheduler, coalesce=False, misfire_grace_time=60)
    scheduler.clock.set_time(THREE)
    scheduler.clock.advance(0)  # the second one is late by just the grace time: it runs
    reason = "120.000 s late, more than its grace time of 60 s"
    assert [told(event) for event in events] == [(EVENT_JOB_MISSED, ONE, reason)]
    assert lines() == [
        (
            "WARNING",
            (
                "Run time of job"
                ' "Job (trigger: interval[0:01:00], next run at: 2026-03-01 00:04:00 UTC)"'
                f" at 2026-03-01 00:01:00+00:00 was missed: {reason}"
            ),
        )
    ]


def test_runs_of_too_many_instances(
    scheduler: FakeScheduler, events: list[Any], lines: Any
) -> None:
    add(scheduler, executor="stuck", max_instances=1)
    scheduler.clock.advance(2 * MINUTE)
    assert [told(event) for event in events] == [(EVENT_JOB_MAX_INSTANCES, [TWO])]
    assert lines() == [
        (
            "WARNING",
            (
                'Run of job "Job (trigger: interval[0:01:00], next run at: 2026-03-01 00:03:00'
                ' UTC)"'
                " at 2026-03-01 00:02:00+00:00 was skipped: 1 instances are running, as many as its"
                " max_instances allows"
            ),
        )
    ]


def test_runs_that_an_executor_refuses(
    scheduler: FakeScheduler, events: list[Any], lines: Any
) -> None:
    add(scheduler, executor="refusing", coalesce=False)
    scheduler.clock.set_time(TWO)
    scheduler.clock.advance(0)
    error = "OSError('no thread to be had')"
    assert [told(event) for event in events] == [
        (EVENT_JOB_ERROR, ONE, error),
        (EVENT_JOB_ERROR, TWO, error),
    ]
    assert lines() == [
        (
            "ERROR",
            (
                'Run of job "Job (trigger: interval[0:01:00], next run at: 2026-03-01 00:03:00'
                ' UTC)"'
                f" at 2026-03-01 00:01:00+00:00 could not be started: {error}"
            ),
        )
    ]


def test_runs_without_an_executor(scheduler: FakeScheduler, events: list[Any]) -> None:
    add(scheduler, executor="absent")
    scheduler.clock.advance(MINUTE)
    (event,) = events
    assert str(event.exception) == (
        'no executor is called "absent"; add it with add_executor, or give the job one of:'
        " stuck, refusing, default"
    )


def test_a_schedule_that_has_ended(scheduler: FakeScheduler, events: list[Any], lines: Any) -> None:
    add(scheduler, end=ONE)
    scheduler.clock.advance(MINUTE)
    assert [told(event) for event in events] == [(EVENT_JOB_REMOVED,)]
    assert lines() == [("INFO", 'Removed job "Job": its schedule has ended')]


def test_ctrl_c_tells_of_every_run_that_it_keeps_from_starting(
    scheduler: FakeScheduler, events: list[Any], lines: Any
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    scheduler.add_job(
        interrupted, "date", run_date=ONE, jobstore="shaky", id="interrupted", name="Interrupted"
    )
    add(scheduler, coalesce=False, end=TWO)
    scheduler.clock.set_time(TWO)
    with pytest.raises(KeyboardInterrupt):
        scheduler.clock.advance(0)
    assert [told(event) for event in events if event.job_id == "job"] == [
        (EVENT_JOB_ERROR, ONE, "KeyboardInterrupt()"),
        (EVENT_JOB_ERROR, TWO, "KeyboardInterrupt()"),
        (EVENT_JOB_REMOVED,),
    ]
    assert [line.rpartition(" at ")[2] for _, line in lines()] == [
        'Removed job "Interrupted": its schedule has ended',
        "2026-03-01 00:01:00+00:00 could not be started: KeyboardInterrupt()",
        'Removed job "Job": its schedule has ended',
    ]


@pytest.mark.parametrize(
    ("longest", "waits"), [(600, [1, 2, 4, 8]), (3, [1, 2, 3, 3])], ids=["double", "at most"]
)
def test_a_job_that_cannot_be_computed(
    scheduler: FakeScheduler,
    shaky: Shaky,
    events: list[Any],
    lines: Any,
    caplog: pytest.LogCaptureFixture,
    longest: float,
    waits: list[int],
) -> None:
    scheduler.jobstore_retry_interval = longest
    trigger = Moody()
    job = add(scheduler, trigger=trigger)
    text = str(job)
    add(scheduler, id="other", name="Other", trigger=(other := Moody()))
    other.good = True
    scheduler.clock.advance(MINUTE)
    first = scheduler.clock.now()
    for wait in waits:
        assert events == []
        assert lines() == [
            (
                "WARNING",
                (
                    f'The next run time of job "{text}" could not be worked out'
                    f" (RuntimeError: no idea); trying again in {wait} s"
                ),
            )
        ]
        assert job.next_run_time == ONE
        now = scheduler.clock.now()
        assert shaky.given_back.pop() == ("job", first, now + wait * 1_000_000)
        scheduler.pause_job("other", "shaky")
        assert not scheduler.health()["ok"]  # a change of another job mends nothing
        scheduler.clock.advance(wait - 0.001)
        assert lines() == []
        scheduler.clock.advance(0.001)
    assert [told(event) for event in events] == [(EVENT_JOB_BROKEN, "RuntimeError: no idea")]
    assert shaky.given_back == [("job", first, "RuntimeError: no idea")]
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert str(record.exc_info[1]) == "no idea"
    assert lines() == [
        (
            "ERROR",
            (
                f'Job "{job}" was set aside, for its next run time could not be worked out 5'
                " times in a row; mend it and call reschedule_job or resume_job"
            ),
        )
    ]
    health = scheduler.health()
    assert health["failing_jobs"] == []
    assert health["broken_jobs"] == [
        {"id": "job", "jobstore": "shaky", "error": "RuntimeError: no idea"}
    ]
    scheduler.resume_job("other", "shaky")
    assert scheduler.health()["broken_jobs"] == health["broken_jobs"]


@pytest.mark.parametrize("change", ["pause_job", "remove_job"])
def test_a_job_that_is_changed_is_in_no_trouble(scheduler: FakeScheduler, change: str) -> None:
    add(scheduler, trigger=Moody())
    scheduler.clock.advance(MINUTE)
    assert not scheduler.health()["ok"]
    getattr(scheduler, change)("job", "shaky")
    assert scheduler.health()["ok"]


@pytest.mark.parametrize(
    ("longest", "waits"),
    [(600, [0.1, 0.2, 0.4, 0.8, 1.6]), (0.3, [0.1, 0.2, 0.3, 0.3])],
    ids=["double", "at most"],
)
def test_a_store_that_fails(
    scheduler: FakeScheduler,
    shaky: Shaky,
    events: list[Any],
    lines: Any,
    caplog: pytest.LogCaptureFixture,
    longest: float,
    waits: list[float],
) -> None:
    scheduler.jobstore_retry_interval = longest
    add(scheduler)
    for _ in range(2):  # what was mended starts anew
        shaky.failing = True
        scheduler.wakeup()
        scheduler.clock.advance(0)
        for number, wait in enumerate(waits):
            assert [told(event) for event in events] == [
                (EVENT_JOBSTORE_ERROR, "ConnectionError('the server is gone')", wait)
            ]
            assert (caplog.records[-1].exc_info is not None) == (number == 0)
            assert lines() == [
                (
                    "WARNING",
                    (
                        'Job store "shaky" failed (ConnectionError: the server is gone); trying'
                        f" again in {wait:g} s"
                    ),
                )
            ]
            error = scheduler.health()["jobstores"]["shaky"]["error"]
            assert error == "ConnectionError: the server is gone"
            events.clear()
            scheduler.clock.advance(wait - 0.001)
            assert events == []
            shaky.failing = number + 1 < len(waits)
            scheduler.clock.advance(0.001)
        assert events == []
        assert lines() == [("INFO", 'Job store "shaky" works again')]
        assert scheduler.health()["ok"]


def test_a_store_that_fails_is_left_alone_however_often_others_are_served(
    scheduler: FakeScheduler, shaky: Shaky, events: list[Any]
) -> None:
    scheduler.jobstore_retry_interval = 0.2
    shaky.failing = True

    def failures() -> int:
        for _ in range(3):
            scheduler.wakeup()
            scheduler.clock.advance(0)
        return len(events)

    assert failures() == 1
    scheduler.clock.advance(0.05)
    assert failures() == 1
    scheduler.clock.advance(0.05)
    assert failures() == 2  # and the longest wait begins, to its last instant
    scheduler.clock.set_time(START - timedelta(days=1))
    assert failures() == 3  # for the clock was set back, and it would be left alone for a day


def test_a_store_that_answers_too_little_is_one_that_fails(
    scheduler: FakeScheduler, shaky: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = shaky.advance
    monkeypatch.setattr(shaky, "advance", lambda *claims: advance(*claims)[1:])
    add(scheduler)
    scheduler.clock.advance(MINUTE)
    assert scheduler.health()["jobstores"]["shaky"]["error"].startswith("ValueError: zip() ")


def test_a_store_is_polled_though_nothing_is_due_before() -> None:
    store = Shaky()
    store.poll_interval = 2.5
    scheduler = FakeScheduler(clock=FakeClock(START), timezone=UTC, jobstores={"default": store})
    scheduler.start(paused=True)
    now = scheduler.clock.now()
    assert scheduler._loop.advance(now) == now + 2_500_000
    job = scheduler.add_job(int, "date", run_date=START + timedelta(seconds=1))
    assert scheduler._loop.advance(now) == now + 1_000_000
    job.reschedule("date", run_date=START + timedelta(seconds=3))
    assert scheduler._loop.advance(now) == now + 2_500_000
    scheduler.shutdown()


def test_once_a_backlog_is_handed_over_too_many_instances_are_skipped_again(
    scheduler: FakeScheduler, events: list[Any]
) -> None:
    add(scheduler, executor="stuck", coalesce=False, max_instances=2)
    scheduler.clock.set_time(START + 1500 * MINUTE)
    scheduler.clock.advance(1)
    assert events == []
    scheduler.clock.advance(MINUTE)
    assert [told(event) for event in events] == [(EVENT_JOB_MAX_INSTANCES, [START + 1501 * MINUTE])]


def test_the_rest_of_a_backlog_is_given_back_until_there_is_room(
    scheduler: FakeScheduler, shaky: Shaky, events: list[Any]
) -> None:
    ran: list[str] = []
    add(scheduler, executor="stuck", coalesce=False)
    scheduler.add_job(
        ran.append, IntervalTrigger(minutes=1, start_date=ONE), args=["other"], jobstore="shaky"
    )
    # As many as are handed over at once, and one that is due this very instant.
    scheduler.clock.set_time(last := START + (MOST_RUN_TIMES + 1) * MINUTE)
    scheduler.clock.advance(0)
    now = scheduler.clock.now()
    assert shaky.given_back == [("job", now, now + 100_000)]
    assert ran == ["other"]
    behind = last + timedelta(seconds=0.1)
    scheduler.add_job(ran.append, "date", run_date=behind, args=["behind"], jobstore="shaky")
    scheduler.clock.advance(0.1)
    assert ran == ["other", "behind"]  # which is not held up
    scheduler.clock.advance(59.9)
    assert {each[:2] for each in shaky.given_back} == {("job", now)}
    assert len(shaky.given_back) == 601  # once each tenth of a second
    assert ran == ["other", "behind", "other"]
    assert [told(event) for event in events if event.job_id == "job"] == []
    shaky.given_back.clear()
    scheduler.modify_job("job", "shaky", max_instances=2)
    scheduler.clock.advance(1)
    assert shaky.given_back == []
    assert scheduler.get_job("job", "shaky").next_run_time == last + 2 * MINUTE


def test_run_times_that_take_long_to_find_are_handed_over_a_few_at_once(
    scheduler: FakeScheduler, shaky: Shaky
) -> None:
    every_minute = IntervalTrigger(minutes=1, start_date=ONE, timezone=UTC)
    job = add(scheduler, trigger=AndTrigger([every_minute]), executor="stuck", coalesce=False)
    scheduler.clock.set_time(START + 100 * MINUTE)
    scheduler.clock.advance(0)
    assert job.next_run_time == ONE + MOST_SEARCHES // MOST_STEPS * MINUTE


def test_a_trigger_that_searches_long_gives_few_run_times_at_once() -> None:
    every_minute = IntervalTrigger(minutes=1, start_date=ONE, timezone=UTC)
    one = AndTrigger([every_minute])
    for trigger, searches, most in (
        (every_minute, 1, MOST_RUN_TIMES),
        (one, MOST_STEPS, MOST_SEARCHES // MOST_STEPS),
        (AndTrigger([one]), MOST_STEPS**2, 1),
        (IntervalTrigger(microseconds=5, start_date=ONE), None, MOST_RUN_TIMES),
    ):
        if searches is not None:
            assert most_searches(trigger) == searches
        assert _most_run_times(trigger) == most
