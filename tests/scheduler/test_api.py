"""The calls of a scheduler and of its jobs, on a fake clock."""

from __future__ import annotations

import functools
import io
import logging
import pickle
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tocsin import CronTrigger, DateTrigger, IntervalTrigger, adapters
from tocsin.errors import (
    ConflictingIdError,
    JobLookupError,
    MaxInstancesReachedError,
    SchedulerNotRunningError,
    TocsinError,
)
from tocsin.events import (
    EVENT_ALL,
    EVENT_ALL_JOBS_REMOVED,
    EVENT_EXECUTOR_ADDED,
    EVENT_EXECUTOR_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOBSTORE_ADDED,
    EVENT_JOBSTORE_REMOVED,
    EVENT_SCHEDULER_SHUTDOWN,
    NAMES,
    SchedulerEvent,
)
from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.interfaces import IExecutor, IScheduler
from tocsin.job import Job
from tocsin.scheduler import BaseScheduler
from tocsin.stores import MemoryJobStore
from tocsin.testing import FakeClock, FakeScheduler

UTC = timezone.utc
START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def work(first: Any = None, *, second: Any = None) -> Any:
    return first, second


class Worker:
    def method(self) -> None:
        """Do nothing."""

    def __call__(self) -> None:
        """Do nothing."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def stopped(clock: FakeClock, events: list[Any]) -> FakeScheduler:
    scheduler = FakeScheduler(clock=clock, timezone=UTC)
    scheduler.add_listener(events.append, EVENT_ALL)
    return scheduler


@pytest.fixture
def scheduler(stopped: FakeScheduler) -> Iterator[FakeScheduler]:
    stopped.start()
    yield stopped
    if stopped.running:
        stopped.shutdown()


def of(events: list[Any], code: int) -> list[Any]:
    return [event for event in events if event.code & code]


# Adding


def test_a_job_has_what_it_was_given(scheduler: FakeScheduler) -> None:
    trigger = IntervalTrigger(hours=1, start_date=START + HOUR)
    job = scheduler.add_job(
        work,
        trigger,
        [1],
        {"second": 2},
        "the-id",
        "the name",
        misfire_grace_time=timedelta(minutes=1),
        coalesce=False,
        max_instances=3,
    )
    assert (job.id, job.name, job.func, job.args, dict(job.kwargs)) == (
        "the-id",
        "the name",
        work,
        (1,),
        {"second": 2},
    )
    assert job.trigger is trigger
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (60.0, False, 3)
    assert job.next_run_time == START + HOUR
    assert job.executor == "default"
    assert not job.pending
    assert scheduler.get_job("the-id") is job
    assert repr(job) == "<Job (id=the-id name=the name)>"
    assert str(job) == (
        "the name (trigger: interval[1:00:00], next run at: 2026-03-01 01:00:00 UTC)"
    )


def test_a_job_has_defaults(clock: FakeClock) -> None:
    scheduler = FakeScheduler(
        clock=clock,
        job_defaults={"misfire_grace_time": 5, "coalesce": False, "max_instances": 2},
    )
    scheduler.start()
    job = scheduler.add_job(work, "interval", hours=1)
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (5, False, 2)
    assert re.fullmatch("[0-9a-f]{32}", job.id)
    assert job.name == "work"
    plain = FakeScheduler(clock=clock)
    plain.start()
    job = plain.add_job(work, "interval", hours=1)
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (None, True, 1)


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (work, "work"),
        (Worker().method, "Worker.method"),
        (Worker(), "Worker"),
        (functools.partial(work, 1), "work"),
        (len, "len"),
        ("tests_do_not_import:nothing", None),
    ],
)
def test_any_callable_will_do(scheduler: FakeScheduler, func: Any, name: str | None) -> None:
    if name is None:
        with pytest.raises(LookupError, match="could not import module 'tests_do_not_import'"):
            scheduler.add_job(func)
    else:
        job = scheduler.add_job(func, "interval", hours=1, args=[()] if func is len else None)
        assert job.name == name


def test_a_reference_is_imported(scheduler: FakeScheduler) -> None:
    job = scheduler.add_job("operator:add", args=[1, 2])
    assert job.func(*job.args) == 3
    assert job.func_ref == "_operator:add"


def test_a_trigger_of_a_name_starts_from_the_clock_of_the_scheduler(
    scheduler: FakeScheduler,
) -> None:
    assert scheduler.add_job(work, "interval", hours=1).next_run_time == START + HOUR
    assert scheduler.add_job(work).next_run_time == START
    assert scheduler.add_job(work, "cron", hour=6).next_run_time == START + 6 * HOUR
    daily = scheduler.add_job(work, "calendarinterval", days=1, hour=2)
    assert daily.next_run_time == START + 2 * HOUR


def test_combining_triggers_are_made_by_name(scheduler: FakeScheduler) -> None:
    both = [CronTrigger(hour="*/2", timezone=UTC), CronTrigger(hour="*/3", timezone=UTC)]
    job = scheduler.add_job(work, "and", triggers=both, next_run_time=START)
    assert job.next_run_times(3) == [START + n * HOUR for n in (0, 6, 12)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"func": "nonsense"}, ValueError, "invalid reference 'nonsense'"),
        ({"func": 5}, TypeError, "5 can't be called"),
        ({"func": work, "args": "text"}, TypeError, "args: a list or tuple"),
        ({"func": work, "args": 5}, TypeError, "args: a list or tuple"),
        ({"func": work, "kwargs": [1]}, TypeError, "kwargs: a mapping"),
        ({"func": work, "args": [1, 2]}, ValueError, "too many positional arguments"),
        ({"func": work, "kwargs": {"third": 3}}, ValueError, "unexpected keyword argument 'third'"),
        ({"func": Worker.method}, ValueError, "missing a required argument: 'self'"),
        ({"func": Worker().method, "args": [1]}, ValueError, "too many positional arguments"),
        ({"func": work, "id": 5}, TypeError, "id: a text is needed, not 5"),
        ({"func": work, "id": ""}, ValueError, "id: the text is empty"),
        ({"func": work, "name": 5}, TypeError, "name: a text"),
        ({"func": work, "misfire_grace_time": 0}, ValueError, "misfire_grace_time: 0 is not"),
        ({"func": work, "misfire_grace_time": "5"}, TypeError, "misfire_grace_time: a number"),
        ({"func": work, "max_instances": 0}, ValueError, "max_instances: 0 is less than 1"),
        ({"func": work, "max_instances": 1.5}, TypeError, "max_instances: a whole number"),
        ({"func": work, "next_run_time": "soon"}, ValueError, "next_run_time: 'soon'"),
        ({"func": work, "trigger": "hourly"}, LookupError, 'No trigger by the name "hourly"'),
        ({"func": work, "trigger": 5}, TypeError, "trigger: a trigger or the name of one"),
        ({"func": work, "trigger": "interval", "hour": 5}, TypeError, "hour: neither arguments"),
        ({"func": work, "trigger": "cron", "hour": 25}, ValueError, "hour: '25'"),
        ({"func": work, "trigger": DateTrigger(START), "hours": 1}, TypeError, "hours: not arg"),
        ({"func": work, "misfire_gracetime": 5}, TypeError, "misfire_gracetime"),
        ({"func": work, "jobstore": "other"}, KeyError, 'No such job store: "other"; there are: d'),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    scheduler: FakeScheduler, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        scheduler.add_job(**arguments)
    assert scheduler.get_jobs() == []
    with pytest.raises(error, match=re.escape(message)):
        scheduler.add_jobs([{}], **arguments)
    assert scheduler.get_jobs() == []


def test_a_taken_id_is_refused_or_replaced(scheduler: FakeScheduler, events: list[Any]) -> None:
    scheduler.add_job(work, "interval", hours=1, id="one")
    with pytest.raises(ConflictingIdError, match=r"\(one\) conflicts.*replace_existing=True"):
        scheduler.add_job(work, "interval", hours=2, id="one")
    new = scheduler.add_job(work, "interval", hours=3, id="one", replace_existing=True)
    assert scheduler.get_jobs() == [new]
    assert new.next_run_time == START + 3 * HOUR
    assert len(of(events, EVENT_JOB_ADDED)) == 2


def test_a_job_added_with_no_next_run_time_is_paused(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    job = scheduler.add_job(work, "interval", hours=1, next_run_time=None)
    assert job.next_run_time is None
    assert "paused" in str(job)
    clock.advance(timedelta(days=1))
    assert not of(events, EVENT_JOB_EXECUTED)


def test_a_job_that_never_runs_is_kept_with_a_warning(
    scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    ended = IntervalTrigger(hours=1, start_date=START - 2 * HOUR, end_date=START - HOUR)
    job = scheduler.add_job(work, ended, name="late")
    assert job.next_run_time is None
    assert 'Job "late" will never run' in caplog.text


def test_bulk_adding_is_all_or_nothing(scheduler: FakeScheduler, events: list[Any]) -> None:
    jobs = scheduler.add_jobs(
        [{"args": [1]}, {"id": "two", "name": "second"}, {"trigger": "cron", "hour": 5}],
        func=work,
        trigger=IntervalTrigger(hours=1, start_date=START + HOUR),
        max_instances=2,
    )
    assert [job.next_run_time for job in jobs] == [START + HOUR, START + HOUR, START + 5 * HOUR]
    assert [job.args for job in jobs] == [(1,), (), ()]
    assert [job.name for job in jobs] == ["work", "second", "work"]
    assert {job.max_instances for job in jobs} == {2}
    assert len({job.id for job in jobs}) == 3
    assert [event.job_id for event in of(events, EVENT_JOB_ADDED)] == [job.id for job in jobs]
    with pytest.raises(ConflictingIdError, match="two"):
        scheduler.add_jobs([{"id": "three"}, {"id": "two"}], func=work, trigger="interval", hours=1)
    with pytest.raises(ConflictingIdError, match="four"):
        scheduler.add_jobs([{"id": "four"}, {"id": "four"}], func=work, trigger="interval", hours=1)
    with pytest.raises(ValueError, match="too many positional"):
        scheduler.add_jobs([{"args": [1]}, {"args": [1, 2]}], func=work)
    assert len(scheduler.get_jobs()) == 3
    scheduler.add_jobs([{"id": "two"}], func=work, trigger="date", replace_existing=True)
    assert len(scheduler.get_jobs()) == 3


def test_a_decorated_function_is_a_job(scheduler: FakeScheduler) -> None:
    @scheduler.scheduled_job("interval", hours=1, id="decorated")
    def decorated() -> str:
        return "called"

    assert decorated() == "called"
    assert scheduler.get_job("decorated").func is decorated  # type: ignore[union-attr]


# Before the start


def test_pending_jobs_can_be_changed(
    stopped: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    job = stopped.add_job(work, "interval", hours=1, id="pending")
    assert job.pending
    assert str(job) == "work (trigger: interval[1:00:00], pending)"
    assert not hasattr(job, "next_run_time")
    assert job.next_run_times(2) == [START + HOUR, START + 2 * HOUR]
    job.modify(name="renamed")
    job.reschedule("interval", hours=2)
    stopped.add_job(work, id="dropped").remove()
    with pytest.raises(JobLookupError, match="No job by the id of dropped was found"):
        stopped.remove_job("dropped")
    assert [event.jobstore for event in of(events, EVENT_JOB_MODIFIED)] == [None, None]
    stopped.start()
    assert stopped.get_jobs() == [job]
    assert (job.name, job.next_run_time) == ("renamed", START + 2 * HOUR)


def test_a_conflict_of_pending_jobs_is_found_at_the_start(stopped: FakeScheduler) -> None:
    stopped.add_job(work, "interval", hours=1, id="same")
    stopped.add_job(work, "interval", hours=2, id="same")
    with pytest.raises(ConflictingIdError, match="same"):
        stopped.start()
    assert not stopped.running
    assert len(stopped.get_jobs()) == 2


# Changing


def test_all_changes_or_none_are_made(scheduler: FakeScheduler, events: list[Any]) -> None:
    job = scheduler.add_job(work, "interval", hours=1, id="it")
    changed = job.modify(name="new", args=[1], kwargs={"second": 3}, max_instances=5)
    assert changed is job
    assert (job.name, job.args, dict(job.kwargs), job.max_instances) == (
        "new",
        (1,),
        {"second": 3},
        5,
    )
    with pytest.raises(ValueError, match="max_instances: 0"):
        job.modify(name="never", max_instances=0)
    with pytest.raises(AttributeError, match="not modifiable attributes of Job: pending, tags"):
        job.modify(name="never", pending=True, tags=[])
    with pytest.raises(ValueError, match="id: the id of job 'it' can't be changed"):
        job.modify(id="other")
    with pytest.raises(ValueError, match="too many positional"):
        job.modify(args=[1, 2, 3])
    with pytest.raises(TypeError, match="trigger: an instance of a trigger is needed"):
        job.modify(trigger="cron")
    assert job.name == "new"
    assert len(of(events, EVENT_JOB_MODIFIED)) == 1


def test_a_job_moves_to_another_time(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    job = scheduler.add_job(work, "interval", hours=1)
    job.modify(next_run_time=START + timedelta(minutes=1))
    clock.advance(60)
    assert of(events, EVENT_JOB_EXECUTED)[0].scheduled_run_time == START + timedelta(minutes=1)
    assert job.next_run_time == START + timedelta(hours=1, minutes=1)


def test_pausing_and_resuming(
    scheduler: FakeScheduler, clock: FakeClock, events: list[Any]
) -> None:
    job = scheduler.add_job(work, CronTrigger(minute=0, timezone=UTC), id="it")
    assert job.pause() is job
    assert scheduler.get_jobs(status="paused") == [job]
    clock.advance(timedelta(hours=5, minutes=30))
    assert not of(events, EVENT_JOB_EXECUTED)
    assert job.resume() is job
    assert job.next_run_time == START + 6 * HOUR
    ended = scheduler.add_job(work, IntervalTrigger(hours=1, start_date=START, end_date=START))
    assert ended.resume() is None
    assert scheduler.get_jobs() == [job]


def test_rescheduling(scheduler: FakeScheduler) -> None:
    job = scheduler.add_job(work, "interval", hours=1)
    job.pause()
    assert job.reschedule("cron", hour=7) is job
    assert job.next_run_time == START + 7 * HOUR
    with pytest.raises(TypeError, match="hours: neither"):
        job.reschedule("cron", hours=7)


@pytest.mark.parametrize(
    "call", ["modify_job", "reschedule_job", "pause_job", "resume_job", "remove_job", "run_job_now"]
)
def test_an_unknown_job_is_refused_by_id(scheduler: FakeScheduler, call: str) -> None:
    scheduler.add_job(work, "interval", hours=1, id="known")
    for arguments in (["unknown"], ["known", "no-such-store"]):
        with pytest.raises(JobLookupError, match=f"No job by the id of {arguments[0]} was found"):
            getattr(scheduler, call)(*arguments)
    assert scheduler.get_job("unknown") is None
    assert scheduler.get_job("known", "no-such-store") is None


def test_removing(scheduler: FakeScheduler, clock: FakeClock, events: list[Any]) -> None:
    job = scheduler.add_job(work, "interval", hours=1, id="one")
    scheduler.add_job(work, "interval", hours=1, id="two")
    job.remove()
    assert [event.job_id for event in of(events, EVENT_JOB_REMOVED)] == ["one"]
    scheduler.remove_all_jobs()
    assert of(events, EVENT_ALL_JOBS_REMOVED)[0].alias is None
    assert scheduler.get_jobs() == []
    clock.advance(timedelta(days=1))
    assert not of(events, EVENT_JOB_EXECUTED)


def test_running_a_job_now_minds_its_instances(scheduler: FakeScheduler) -> None:
    again: list[Exception] = []

    def greedy() -> None:
        try:
            scheduler.run_job_now("it")
        except MaxInstancesReachedError as error:
            again.append(error)

    scheduler.add_job(greedy, "interval", hours=1, id="it")
    scheduler.run_job_now("it")
    assert len(again) == 1
    assert isinstance(again[0], TocsinError)
    scheduler.modify_job("it", executor="absent")
    with pytest.raises(LookupError, match='no executor is called "absent"'):
        scheduler.run_job_now("it")
    scheduler.shutdown()
    with pytest.raises(SchedulerNotRunningError):
        scheduler.run_job_now("it")


# Looking up


def test_jobs_are_listed_in_their_order_filtered_and_in_pages(scheduler: FakeScheduler) -> None:
    scheduler.add_jobstore(MemoryJobStore(), "second")
    for number, store in ((3, "default"), (1, "second"), (2, "default")):
        scheduler.add_job(
            work, "interval", hours=number, id=f"job {number}", jobstore=store, name=store
        )
    paused = scheduler.add_job(work, "interval", hours=1, id="paused", next_run_time=None)
    ids = [job.id for job in scheduler.get_jobs()]
    assert ids == ["job 1", "job 2", "job 3", "paused"]
    assert [job.id for job in scheduler.get_jobs("second")] == ["job 1"]
    assert scheduler.get_jobs("third") == []
    assert [job.id for job in scheduler.get_jobs(name="default")] == ["job 2", "job 3"]
    assert [job.id for job in scheduler.get_jobs(offset=1, limit=2)] == ["job 2", "job 3"]
    assert scheduler.get_jobs(status="paused") == [paused]
    assert len(scheduler.get_jobs(status="scheduled")) == 3
    assert [job.id for job in scheduler.get_jobs(where=lambda job: job.id.endswith("3"))] == [
        "job 3"
    ]
    assert scheduler.get_jobs(executor="none") == []
    with pytest.raises(ValueError, match="status: 'asleep' is none of scheduled, paused"):
        scheduler.get_jobs(status="asleep")


def test_printing(stopped: FakeScheduler) -> None:
    def printed() -> str:
        out = io.StringIO()
        stopped.print_jobs(out=out)
        return out.getvalue()

    assert printed() == "Pending jobs:\n    No pending jobs\n"
    stopped.add_job(work, "interval", hours=1)
    assert printed() == "Pending jobs:\n    work (trigger: interval[1:00:00], pending)\n"
    stopped.start()
    assert printed() == (
        "Jobstore default:\n"
        "    work (trigger: interval[1:00:00], next run at: 2026-03-01 01:00:00 UTC)\n"
    )
    stopped.remove_all_jobs()
    assert printed() == "Jobstore default:\n    No scheduled jobs\n"


def test_jobs_go_through_a_file(
    scheduler: FakeScheduler, clock: FakeClock, tmp_path: Any, events: list[Any]
) -> None:
    path = tmp_path / "jobs.json"
    scheduler.add_job("operator:add", CronTrigger(hour=4, timezone=UTC), [1, 2], id="sum")
    scheduler.add_job("operator:neg", "interval", hours=1, args=[1], next_run_time=None, id="off")
    scheduler.export_jobs(path)
    with pytest.raises(ConflictingIdError, match=r"sum|off"):
        scheduler.import_jobs(path)
    scheduler.remove_all_jobs()
    jobs = scheduler.import_jobs(path)
    assert {job.id for job in jobs} == {"sum", "off"}
    assert scheduler.get_job("off").next_run_time is None  # type: ignore[union-attr]
    clock.advance(timedelta(hours=4))
    (event,) = of(events, EVENT_JOB_EXECUTED)
    assert (event.job_id, event.retval) == ("sum", 3)
    scheduler.shutdown()
    with pytest.raises(SchedulerNotRunningError, match="start it to export"):
        scheduler.export_jobs(path)


# Plug-ins, listeners, events


def test_executors_and_stores_come_and_go(scheduler: FakeScheduler, events: list[Any]) -> None:
    scheduler.add_executor("threadpool", "pool", max_workers=3)
    scheduler.add_jobstore("memory", "second")
    with pytest.raises(ValueError, match='already has an executor by the alias of "pool"'):
        scheduler.add_executor(DebugExecutor(), "pool")
    with pytest.raises(ValueError, match='already has a job store by the alias of "second"'):
        scheduler.add_jobstore(MemoryJobStore(), "second")
    with pytest.raises(LookupError, match='No executor by the name "pools"'):
        scheduler.add_executor("pools", "third")
    with pytest.raises(TypeError, match=r"lacks methods of IExecutor: is_full, submit_job"):
        scheduler.add_executor(MemoryJobStore(), "third")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_workers: options go with the name of a plug-in"):
        scheduler.add_executor(DebugExecutor(), "third", max_workers=3)
    scheduler.remove_executor("pool")
    scheduler.remove_jobstore("second")
    with pytest.raises(KeyError, match="No such executor"):
        scheduler.remove_executor("pool")
    with pytest.raises(KeyError, match="No such job store"):
        scheduler.remove_jobstore("second")
    for code, aliases in (
        (EVENT_EXECUTOR_ADDED, ["default", "pool"]),
        (EVENT_EXECUTOR_REMOVED, ["pool"]),
        (EVENT_JOBSTORE_ADDED, ["default", "second"]),
        (EVENT_JOBSTORE_REMOVED, ["second"]),
    ):
        assert [event.alias for event in of(events, code)] == aliases


class Stubborn(MemoryJobStore):
    def shutdown(self) -> None:
        raise ZeroDivisionError("on purpose")


def test_a_plugin_that_can_not_be_shut_down_holds_nobody_up(
    stopped: FakeScheduler, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    stopped.add_jobstore(Stubborn(), "first")
    stopped.start()
    stopped.add_job(work, id="kept", next_run_time=None, jobstore="first")
    stopped.shutdown()
    assert not stopped.running
    assert of(events, EVENT_SCHEDULER_SHUTDOWN)
    assert "Error shutting down" in caplog.text
    assert "ZeroDivisionError: on purpose" in caplog.text
    stopped.start()
    assert stopped.get_job("kept") is not None


def test_coroutines_are_refused_where_they_cannot_run(scheduler: FakeScheduler) -> None:
    class Plain(BaseExecutor):
        runs_coroutines = False

        def _do_submit_job(self, job: Job, run_times: Any) -> None:
            self.run(job, run_times)

    async def coroutine() -> None:
        """Do nothing."""

    scheduler.add_executor(Plain(), "plain")
    with pytest.raises(TypeError, match=r'coroutine is a coroutine function.*"plain" \(Plain\)'):
        scheduler.add_job(coroutine, executor="plain")
    assert scheduler.get_jobs() == []


def test_a_coroutine_listener_that_raises_is_logged_and_harms_nobody(
    stopped: FakeScheduler, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    async def listen(event: SchedulerEvent) -> None:
        heard.append(event.code)
        raise ZeroDivisionError("on purpose")

    stopped.add_listener(listen, EVENT_JOB_EXECUTED)
    stopped.start()
    stopped.add_job(work, "interval", hours=1)
    clock.advance(2 * HOUR)
    assert heard == [EVENT_JOB_EXECUTED] * 2
    (first, _) = [each for each in caplog.records if "notifying listener" in each.getMessage()]
    assert first.exc_info is not None
    assert first.exc_info[0] is ZeroDivisionError


def test_a_listener_hears_what_its_mask_has(
    stopped: FakeScheduler, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    stopped.add_listener(heard.append, EVENT_JOB_EXECUTED | EVENT_JOB_REMOVED)
    stopped.start()
    stopped.add_job(work, args=[1])
    clock.advance(0)
    assert sorted(event.code for event in heard) == [EVENT_JOB_REMOVED, EVENT_JOB_EXECUTED]
    stopped.remove_listener(heard.append)
    stopped.add_job(work, args=[1])
    clock.advance(0)
    assert len(heard) == 2
    with pytest.raises(TypeError, match="callback: 5 can't be called"):
        stopped.add_listener(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(adapters._MODULES))
def test_what_an_adapter_offers_keeps_its_contract(name: str) -> None:
    made = getattr(adapters, name)
    contract = IScheduler if issubclass(made, BaseScheduler) else IExecutor
    if not name.endswith("Service"):
        assert contract.implementedBy(made)
        assert not made.__abstractmethods__


def test_events_say_what_they_are() -> None:
    assert len(NAMES) == 22
    assert repr(SchedulerEvent(1)) == "<SchedulerEvent SCHEDULER_STARTED>"
    assert repr(SchedulerEvent(64, "second")) == "<SchedulerEvent JOBSTORE_ADDED alias='second'>"


def test_the_scheduler_says_how_it_is(scheduler: FakeScheduler) -> None:
    scheduler.add_job(work, "interval", hours=1)
    scheduler._process_jobs()
    assert scheduler.health() == {
        "ok": True,
        "state": "running",
        "next_wakeup": "2026-03-01T01:00:00+00:00",
        "jobstores": {"default": {"ok": True, "error": None, "failures": 0}},
        "executors": {"default": {"running": 0}},
        "failing_jobs": [],
        "broken_jobs": [],
    }
    scheduler.shutdown()
    assert scheduler.health()["state"] == "stopped"


def test_a_scheduler_is_not_pickled(scheduler: FakeScheduler) -> None:
    with pytest.raises(TypeError, match="can't be pickled: give jobs a function of a module"):
        pickle.dumps(scheduler)


def test_a_job_has_the_state_that_others_pickle(scheduler: FakeScheduler) -> None:
    job = scheduler.add_job("operator:add", "interval", hours=1, args=[1, 2], id="sum")
    restored = Job.__new__(Job)
    restored.__setstate__(pickle.loads(pickle.dumps(job.__getstate__())))
    assert restored == job
    assert hash(restored) == hash(job)
    assert restored.func(*restored.args) == 3
    assert restored.next_run_time == job.next_run_time
    assert restored.trigger == job.trigger
    with pytest.raises(ValueError, match="is a lambda: give it a name"):
        scheduler.add_job(lambda: None).__getstate__()
    with pytest.raises(ValueError, match="version 2"):
        restored.__setstate__({**job.__getstate__(), "version": 2})


def test_logs_name_the_scheduler(
    scheduler: FakeScheduler, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        scheduler.add_job(work, args=[1], name="shown")
        clock.advance(0)
    names = {record.name for record in caplog.records}
    assert names == {"tocsin.scheduler", "tocsin.executors.default"}
    assert 'Added job "shown" to job store "default"' in caplog.text
    assert 'Running job "shown' in caplog.text
    assert "executed successfully" in caplog.text
