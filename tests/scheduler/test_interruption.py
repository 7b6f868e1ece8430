"""Ctrl-C in the middle of a step: no job is lost, and no run without an event."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tocsin import IntervalTrigger
from tocsin.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_REMOVED
from tocsin.job import Job
from tocsin.stores import MemoryJobStore
from tocsin.testing import FakeScheduler


@pytest.fixture
def scheduler() -> FakeScheduler:
    scheduler = FakeScheduler(timezone="UTC")
    scheduler.start()
    return scheduler


def ended(scheduler: FakeScheduler) -> list[tuple[str, int, str | None]]:
    """Keep the end of each run: the job, the code, and the kind of exception."""
    kept: list[tuple[str, int, str | None]] = []

    def keep(event: Any) -> None:
        kept.append((event.job_id, event.code, event.exception and type(event.exception).__name__))

    scheduler.add_listener(keep, EVENT_JOB_ERROR | EVENT_JOB_EXECUTED)
    return kept


def test_between_the_starts_of_runs(scheduler: FakeScheduler) -> None:
    calls = []

    def job(number: int) -> None:
        calls.append(number)
        if calls == [0, 1]:
            raise KeyboardInterrupt

    kept = ended(scheduler)
    for number in range(4):
        scheduler.add_job(job, "interval", hours=1, args=[number], id=str(number))
    with pytest.raises(KeyboardInterrupt):
        scheduler.clock.advance(3600)
    assert kept == [
        ("0", EVENT_JOB_EXECUTED, None),
        ("1", EVENT_JOB_ERROR, "KeyboardInterrupt"),
        ("2", EVENT_JOB_ERROR, "KeyboardInterrupt"),
        ("3", EVENT_JOB_ERROR, "KeyboardInterrupt"),
    ]
    assert {job.next_run_time.hour for job in scheduler.get_jobs()} == {2}
    scheduler.wakeup()
    scheduler.clock.advance(3600)
    assert [each[:2] for each in kept[4:]] == [(str(n), EVENT_JOB_EXECUTED) for n in range(4)]


class Stuck(MemoryJobStore):
    """A store whose answer nobody waits for any longer."""

    def claim(self, now: int, limit: int) -> list[Job]:
        raise KeyboardInterrupt


def test_before_anything_is_claimed(scheduler: FakeScheduler) -> None:
    scheduler.add_jobstore(Stuck(), "stuck")
    job = scheduler.add_job(int, "date", run_date="2026-01-01 01:00", jobstore="stuck")
    with pytest.raises(KeyboardInterrupt):
        scheduler.clock.advance(3600)
    assert scheduler.get_jobs() == [job]


class Interrupted(IntervalTrigger):
    """A trigger that is interrupted when it is asked for the second time."""

    asked = 0

    def next_run(self, previous: int | None, now: int, edge: Any) -> int | None:
        self.asked += 1
        if self.asked == 2:
            raise KeyboardInterrupt
        return super().next_run(previous, now, edge)


def test_before_the_jobs_are_advanced(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ended(scheduler)
    store = scheduler._jobstores["default"]
    release = store.release
    released: list[tuple[str, int, int]] = []

    def watched(job: Job, run_time: int, until: int) -> None:
        released.append((job.id, run_time, until))
        release(job, run_time, until)

    monkeypatch.setattr(store, "release", watched)
    scheduler.add_job(lambda: None, "interval", hours=1, id="before")
    scheduler.add_job(
        lambda: None, Interrupted(hours=1, start_date=datetime(2026, 1, 1, 1)), id="x"
    )
    scheduler.add_job(lambda: None, "interval", hours=1, id="after")
    with pytest.raises(KeyboardInterrupt):
        scheduler.clock.advance(3600)
    assert kept == []
    now = scheduler.clock.now()
    assert released == [(name, now, now) for name in ("before", "x", "after")]
    assert {job.next_run_time.hour for job in scheduler.get_jobs()} == {1}
    scheduler.wakeup()
    scheduler.clock.advance(0)
    assert sorted(kept) == [(name, EVENT_JOB_EXECUTED, None) for name in ("after", "before", "x")]


def test_in_the_last_run_of_a_job(scheduler: FakeScheduler) -> None:
    """Each job that will not run again is said to have ended, the interrupted one as well."""

    def job(number: int) -> None:
        if number == 0:
            raise KeyboardInterrupt

    kept = ended(scheduler)
    removed: list[tuple[str, str]] = []
    scheduler.add_listener(
        lambda event: removed.append((event.job_id, event.jobstore)), EVENT_JOB_REMOVED
    )
    for number in range(3):
        scheduler.add_job(job, "date", run_date="2026-01-01 01:00", args=[number], id=str(number))
    with pytest.raises(KeyboardInterrupt):
        scheduler.clock.advance(3600)
    assert [each[0] for each in kept] == ["0", "1", "2"]
    assert sorted(removed) == [(str(number), "default") for number in range(3)]
    assert scheduler.get_jobs() == []
