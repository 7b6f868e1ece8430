"""Plug-ins as third parties write them for APScheduler 3: one job a call, ends told by id."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tocsin import IntervalTrigger, records
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOBSTORE_ERROR,
    JobExecutionEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.stores import BaseJobStore
from tocsin.testing import FakeClock, FakeScheduler

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def scheduler(clock: FakeClock) -> Iterator[FakeScheduler]:
    scheduler = FakeScheduler(clock=clock, timezone="UTC")
    scheduler.start()
    yield scheduler
    scheduler.shutdown()


class Remote(BaseExecutor):
    """Hand jobs to something that answers, some time, with the job's id and the events."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[tuple[Job, list[datetime]]] = []

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self.handed.append((job, list(run_times)))

    def answer(self) -> None:
        job, times = self.handed.pop(0)
        alias = job._jobstore_alias
        self._run_job_success(
            job.id,
            [
                JobExecutionEvent(EVENT_JOB_EXECUTED, job.id, alias, time, retval=7)
                for time in times
            ],
        )

    def fail(self, error: Exception) -> None:
        job, _ = self.handed.pop(0)
        self._run_job_error(job.id, error, error.__traceback__)


@pytest.mark.parametrize("instances", [1, 2])
def test_an_executor_tells_the_end_of_an_instance_by_the_id_of_its_job(
    instances: int,
    scheduler: FakeScheduler,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    remote = Remote()
    scheduler.add_executor(remote, "remote")
    events: list[Any] = []
    scheduler.add_listener(
        events.append, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES
    )
    job = scheduler.add_job(
        print, "interval", minutes=1, executor="remote", max_instances=instances
    )
    other = scheduler.add_job(print, "interval", minutes=1, executor="remote")
    clock.advance((instances + 1) * MINUTE)
    busy = [event.job_id for event in events if event.code == EVENT_JOB_MAX_INSTANCES]
    assert sorted(busy) == sorted([job.id] + [other.id] * instances)
    assert remote.running == len(remote.handed) == instances + 1
    assert remote.is_full(job)

    events.clear()
    mine = [times for each, times in remote.handed if each.id == job.id]
    remote.handed.sort(key=lambda pair: pair[0].id != job.id)
    remote.answer()
    assert [(event.job_id, event.retval) for event in events] == [(job.id, 7)]
    assert events[0].scheduled_run_time == mine[0][0]
    assert not remote.is_full(job)
    assert remote.running == instances

    clock.advance(MINUTE)  # its place is free again, that of the other is not
    assert remote.is_full(job)
    remote.handed.sort(key=lambda pair: pair[0].id != job.id)
    try:
        raise ZeroDivisionError("on purpose")
    except ZeroDivisionError as error:
        remote.fail(error)
    assert not remote.is_full(job)
    assert f"Error running job {job.id}" in caplog.text
    assert "ZeroDivisionError: on purpose" in caplog.text
    remote._run_job_success("unknown", [])  # it ended after it had been forgotten
    assert remote.running == instances


class Kept(BaseJobStore):
    """A store of the one-job contract, which can't write some of its jobs.

    It gives copies, as a store does that keeps jobs elsewhere.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.broken: set[str] = set()

    def lookup_job(self, job_id: str) -> Job | None:
        return copy.copy(self.jobs.get(job_id))

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return [
            job for job in self.get_all_jobs() if job.next_run_time and job.next_run_time <= now
        ]

    def get_next_run_time(self) -> datetime | None:
        return min(
            (job.next_run_time for job in self.jobs.values() if job.next_run_time), default=None
        )

    def get_all_jobs(self) -> list[Job]:
        jobs = [copy.copy(job) for job in self.jobs.values()]
        return sorted(jobs, key=lambda job: job.next_run_time or START.replace(year=9000))

    def add_job(self, job: Job) -> None:
        if job.id in self.jobs:
            raise ConflictingIdError(job.id)
        self.jobs[job.id] = job

    def update_job(self, job: Job) -> None:
        if job.id in self.broken:
            raise OSError(f"the row of {job.id} is locked")
        self.jobs[job.id] = job

    def remove_job(self, job_id: str) -> None:
        if self.jobs.pop(job_id, None) is None:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        self.jobs.clear()


def test_a_job_that_a_store_can_not_write_waits_and_the_others_run(
    scheduler: FakeScheduler, clock: FakeClock
) -> None:
    store = Kept()
    scheduler.add_jobstore(store, "kept")
    errors: list[Any] = []
    scheduler.add_listener(errors.append, EVENT_JOBSTORE_ERROR)
    ran: list[tuple[str, datetime]] = []
    scheduler.add_listener(
        lambda event: ran.append((event.job_id, event.scheduled_run_time)), EVENT_JOB_EXECUTED
    )
    for name in ("bad", "good"):
        trigger = IntervalTrigger(minutes=1, now=START)
        scheduler.add_job("tocsin.testing.stores:other", trigger, id=name, jobstore="kept")
    store.broken.add("bad")
    clock.advance(MINUTE + timedelta(seconds=2.5))
    assert ran == [("good", START + MINUTE)]
    assert {event.alias for event in errors} == {"kept"}
    assert {str(event.exception) for event in errors} == {"the row of bad is locked"}
    assert errors[0].retry_in == 1
    store.broken.clear()
    clock.advance(20)
    assert ran == [("good", START + MINUTE), ("bad", START + MINUTE)]  # late, and once
    clock.advance(MINUTE)
    assert sorted(ran[2:]) == [("bad", START + 2 * MINUTE), ("good", START + 2 * MINUTE)]


def test_a_job_that_was_read_from_a_file_has_no_scheduler_to_ask(
    scheduler: FakeScheduler, tmp_path: Any
) -> None:
    scheduler.add_job(print, "interval", minutes=1, id="mine")
    scheduler.export_jobs(tmp_path / "jobs.json")
    (job,) = records.load(tmp_path / "jobs.json")
    assert job.next_run_times(2)
    for call in (job.pause, job.resume, job.remove, job.run_now, job.modify):
        with pytest.raises(RuntimeError, match=r"mine.* belongs to no scheduler"):
            call()
