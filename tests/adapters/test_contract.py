"""What every scheduler does, whatever its framework."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.schedulers import (
    HARNESSES,
    PATIENCE,
    Harness,
    LoopHarness,
    Recorder,
    kernel_timers,
)

from tocsin.errors import SchedulerAlreadyRunningError, SchedulerNotRunningError
from tocsin.events import (
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_STARTED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
)
from tocsin.scheduler import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED, BaseScheduler
from tocsin.stores.memory import MemoryJobStore

ENDED = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR


@pytest.fixture(params=HARNESSES, ids=lambda kind: kind.name)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    before = set(threading.enumerate())
    timers = kernel_timers()
    harness = request.param()
    yield harness
    harness.close()
    left = [
        thread
        for thread in set(threading.enumerate()) - before
        # Those of gevent's hub, which keeps them, show as dummies.
        if thread.name != "reactor" and not isinstance(thread, threading._DummyThread)
    ]
    for thread in left:
        thread.join(PATIENCE)
    assert not [thread for thread in left if thread.is_alive()], "threads were left behind"
    assert kernel_timers() == timers, "timers were left behind"


@pytest.fixture
def make(harness: Harness) -> Iterator[Callable[..., BaseScheduler]]:
    made = []

    def make(**options: Any) -> BaseScheduler:
        scheduler = harness.make(**options)
        scheduler.recorder = Recorder()  # type: ignore[attr-defined]
        scheduler.add_listener(scheduler.recorder)  # type: ignore[attr-defined]
        made.append(scheduler)
        return scheduler

    yield make
    harness.stop_all(made)


@pytest.fixture
def scheduler(harness: Harness, make: Callable[..., BaseScheduler]) -> BaseScheduler:
    scheduler = make()
    harness.start(scheduler)
    return scheduler


@pytest.fixture
def recorder(scheduler: BaseScheduler) -> Recorder:
    return scheduler.recorder  # type: ignore[attr-defined, no-any-return]


def give(value: Any) -> Any:
    return value


async def give_later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def fail() -> None:
    raise ZeroDivisionError("on purpose")


def test_a_job_runs_now_and_reports(scheduler: BaseScheduler, recorder: Recorder) -> None:
    before = datetime.now(timezone.utc)
    job = scheduler.add_job(give, args=["result"])
    (event,) = recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)
    assert event.retval == "result"
    assert event.exception is None
    assert before - timedelta(milliseconds=1) <= event.scheduled_run_time <= event.start
    assert event.start <= event.end
    assert event.duration == event.end - event.start
    recorder.wait(EVENT_JOB_REMOVED, job_id=job.id)
    of_runs = EVENT_JOB_SUBMITTED | EVENT_JOB_STARTED | EVENT_JOB_EXECUTED
    assert [event.code for event in recorder.of(of_runs, job.id)] == [
        EVENT_JOB_SUBMITTED,
        EVENT_JOB_STARTED,
        EVENT_JOB_EXECUTED,
    ]
    assert scheduler.get_job(job.id) is None


def test_jobs_added_before_the_start_wait_for_it(
    harness: Harness, make: Callable[..., BaseScheduler]
) -> None:
    scheduler = make()
    job = scheduler.add_job(give, args=[1])
    assert job.pending
    assert scheduler.get_jobs() == [job]
    harness.start(scheduler)
    scheduler.recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)  # type: ignore[attr-defined]
    assert not job.pending


def test_an_idle_scheduler_wakes_up_for_a_job_of_another_thread(
    scheduler: BaseScheduler, recorder: Recorder
) -> None:
    later = scheduler.add_job(give, "interval", hours=1, args=[1])
    job = scheduler.add_job(give, "interval", seconds=0.05, args=[2])
    recorder.wait(EVENT_JOB_EXECUTED, 2, job.id)
    assert not recorder.of(EVENT_JOB_EXECUTED, later.id)
    later.modify(next_run_time=datetime.now(timezone.utc))
    recorder.wait(EVENT_JOB_EXECUTED, 1, later.id)


def test_an_interval_keeps_its_grid(scheduler: BaseScheduler, recorder: Recorder) -> None:
    start = datetime.now(timezone.utc) + timedelta(milliseconds=20)
    job = scheduler.add_job(
        give, "interval", seconds=0.03, start_date=start, args=[1], coalesce=False, max_instances=99
    )
    events = recorder.wait(EVENT_JOB_EXECUTED, 5, job.id)
    job.remove()
    times = sorted(event.scheduled_run_time for event in events)[:5]
    assert times == [start + timedelta(seconds=0.03) * n for n in range(5)]


def test_a_failing_job_is_reported_and_harms_nobody(
    scheduler: BaseScheduler, recorder: Recorder
) -> None:
    scheduler.add_job(fail, "interval", seconds=0.02, id="bad")
    scheduler.add_job(give, "interval", seconds=0.02, args=[1], id="good")
    event = recorder.wait(EVENT_JOB_ERROR, 2, "bad")[0]
    assert isinstance(event.exception, ZeroDivisionError)
    assert "in fail" in event.traceback
    assert "ZeroDivisionError: on purpose" in event.traceback
    recorder.wait(EVENT_JOB_EXECUTED, 2, "good")


def test_coroutine_jobs_run_or_are_refused(
    harness: Harness, scheduler: BaseScheduler, recorder: Recorder
) -> None:
    if harness.coroutines:
        job = scheduler.add_job(give_later, args=["later"])
        assert recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)[0].retval == "later"
    else:
        with pytest.raises(TypeError, match=r"give_later is a coroutine function.*executor"):
            scheduler.add_job(give_later, args=["later"])
        assert scheduler.get_jobs() == []


def test_coroutine_listeners_are_called_or_refused(
    harness: Harness, scheduler: BaseScheduler, recorder: Recorder
) -> None:
    heard = threading.Event()

    async def listener(event: Any) -> None:
        await asyncio.sleep(0)
        heard.set()

    if harness.coroutines:
        scheduler.add_listener(listener, EVENT_JOB_EXECUTED)
        scheduler.add_job(give, args=[1])
        assert heard.wait(PATIENCE)
    else:
        with pytest.raises(TypeError, match="coroutine"):
            scheduler.add_listener(listener, EVENT_JOB_EXECUTED)


def test_a_listener_that_raises_harms_nobody(
    scheduler: BaseScheduler, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(event: Any) -> None:
        raise ValueError("a bad listener")

    scheduler.remove_listener(recorder)
    scheduler.add_listener(listener)
    scheduler.add_listener(recorder)
    job = scheduler.add_job(give, args=[1])
    recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)
    assert "Error notifying listener" in caplog.text
    scheduler.remove_listener(listener)


def test_pause_and_resume(scheduler: BaseScheduler, recorder: Recorder) -> None:
    scheduler.pause()
    assert scheduler.state == STATE_PAUSED
    assert scheduler.running
    job = scheduler.add_job(give, args=[1])
    recorder.wait(EVENT_JOB_ADDED, job_id=job.id)
    assert not recorder.of(EVENT_JOB_SUBMITTED)
    scheduler.resume()
    assert scheduler.state == STATE_RUNNING
    recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)
    assert (
        len(recorder.of(EVENT_SCHEDULER_PAUSED)) == len(recorder.of(EVENT_SCHEDULER_RESUMED)) == 1
    )


def test_a_start_that_is_paused_runs_nothing(
    harness: Harness, make: Callable[..., BaseScheduler]
) -> None:
    scheduler = make()
    job = scheduler.add_job(give, args=[1])
    harness.start(scheduler, paused=True)
    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    recorder.wait(EVENT_SCHEDULER_STARTED)
    assert not recorder.of(EVENT_JOB_SUBMITTED)
    scheduler.resume()
    recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)


def test_a_second_start_is_refused(harness: Harness, scheduler: BaseScheduler) -> None:
    with pytest.raises(SchedulerAlreadyRunningError, match="already running"):
        scheduler.start()
    with pytest.raises(SchedulerAlreadyRunningError, match="settings"):
        scheduler.configure()


def test_what_needs_a_started_scheduler_says_so(make: Callable[..., BaseScheduler]) -> None:
    scheduler = make()
    for call in (scheduler.shutdown, scheduler.pause, scheduler.resume):
        with pytest.raises(SchedulerNotRunningError, match="not running"):
            call()


def test_shutdown_waits_for_the_running_job(
    harness: Harness, scheduler: BaseScheduler, recorder: Recorder
) -> None:
    begun, finish = threading.Event(), harness.event()

    def long_job() -> str:
        begun.set()
        assert finish.wait(PATIENCE)
        return "whole"

    job = scheduler.add_job(long_job)
    assert begun.wait(PATIENCE)
    stopper = threading.Thread(target=harness.stop, args=(scheduler,))
    stopper.start()
    assert not recorder.of(EVENT_JOB_EXECUTED)
    finish.set()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    assert recorder.of(EVENT_JOB_EXECUTED, job.id)[0].retval == "whole"
    recorder.wait(EVENT_SCHEDULER_SHUTDOWN)
    assert scheduler.state == STATE_STOPPED


def test_a_job_may_shut_the_scheduler_down(scheduler: BaseScheduler, recorder: Recorder) -> None:
    job = scheduler.add_job(lambda: scheduler.shutdown() and None)
    recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)
    recorder.wait(EVENT_SCHEDULER_SHUTDOWN)
    assert scheduler.state == STATE_STOPPED


def test_a_stopped_scheduler_starts_again(
    harness: Harness, scheduler: BaseScheduler, recorder: Recorder
) -> None:
    kept = scheduler.add_job(give, "interval", seconds=0.02, args=[1])
    recorder.wait(EVENT_JOB_EXECUTED, 1, kept.id)
    harness.stop(scheduler)
    recorder.wait(EVENT_SCHEDULER_SHUTDOWN)
    count = len(recorder.of(EVENT_JOB_EXECUTED, kept.id))
    harness.start(scheduler)
    recorder.wait(EVENT_JOB_EXECUTED, count + 2, kept.id)
    fresh = scheduler.add_job(give, args=[2])
    recorder.wait(EVENT_JOB_EXECUTED, 1, fresh.id)


class SlowStore(MemoryJobStore):
    """A store whose claims wait until they are let go on."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.claiming, self.go_on = threading.Event(), threading.Event()

    def claim(self, now: int, limit: int) -> Any:
        self.claiming.set()
        assert self.go_on.wait(PATIENCE), "nobody could let it go on"
        return super().claim(now, limit)


def test_a_store_that_waits_stops_neither_loop_nor_job(
    harness: Harness, make: Callable[..., BaseScheduler]
) -> None:
    store = SlowStore()
    scheduler = make(jobstores={"default": store})
    harness.start(scheduler)
    job = scheduler.add_job(give, args=["result"])
    assert store.claiming.wait(PATIENCE)
    if isinstance(harness, LoopHarness):
        assert harness.call(lambda: "alive") == "alive"
    store.go_on.set()
    (event,) = scheduler.recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)  # type: ignore[attr-defined]
    assert event.retval == "result"


def test_a_wake_up_that_comes_after_the_end_starts_nothing(
    harness: Harness, make: Callable[..., BaseScheduler]
) -> None:
    class BlockingStore(MemoryJobStore):
        blocking = True

    scheduler = make(jobstores={"default": BlockingStore()})
    harness.start(scheduler)
    job = scheduler.add_job(give, args=[1])
    scheduler.recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)  # type: ignore[attr-defined]
    harness.stop(scheduler)
    scheduler.wakeup()
    if isinstance(harness, LoopHarness):
        harness.call(lambda: None)  # what the wake-up does has been done
    # The harness' fixture looks for threads.
    assert scheduler.state == STATE_STOPPED


class LeisurelyStore(MemoryJobStore):
    """A store that closes when a gate opens, and keeps a list of what it did."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.closing, self.gate = threading.Event(), threading.Event()
        self.did: list[str] = []

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        super().start(scheduler, alias)
        self.did.append("opened")

    def shutdown(self) -> None:
        self.closing.set()
        assert self.gate.wait(PATIENCE), "the loop stood still: nobody opened the gate"
        self.did.append("closed")


#: The frameworks whose schedulers answer a shutdown in the loop with what is waited for.
WITH_FUTURES = ("asyncio", "tornado", "twisted")


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("runs", [True, False], ids=["while a job runs", "idle"])
def test_a_store_that_takes_its_time_to_close_does_not_stop_the_loop(
    harness: Harness, make: Callable[..., BaseScheduler], wait: bool, runs: bool
) -> None:
    if not isinstance(harness, LoopHarness) or harness.name not in WITH_FUTURES:
        pytest.skip("its shutdown returns when all is over")
    store = LeisurelyStore()
    scheduler = make(jobstores={"default": store})
    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    harness.start(scheduler)
    finish = harness.event()
    job = scheduler.add_job(lambda: finish.wait(PATIENCE))
    recorder.wait(EVENT_JOB_STARTED, job_id=job.id)
    if not runs:
        finish.set()
        recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)
    ends: list[Any] = []
    harness.call(lambda: ends.append(scheduler.shutdown(wait)))
    finish.set()
    assert store.closing.wait(PATIENCE)
    assert harness.call(lambda: "alive") == "alive"
    assert recorder.of(EVENT_SCHEDULER_SHUTDOWN) == []
    store.gate.set()
    harness.call(lambda: ends[0])  # what the shutdown gave is done when the store is closed
    assert store.did == ["opened", "closed"]
    recorder.wait(EVENT_SCHEDULER_SHUTDOWN)


def test_a_start_waits_until_the_stores_have_been_closed(
    harness: Harness, make: Callable[..., BaseScheduler]
) -> None:
    if not isinstance(harness, LoopHarness) or harness.name not in ("asyncio", "tornado"):
        pytest.skip("nothing goes on after its shutdown, or a start is refused then")
    store = LeisurelyStore()
    scheduler = make(jobstores={"default": store})
    harness.start(scheduler)

    def restart() -> None:
        scheduler.shutdown()
        threading.Thread(target=open_gate).start()
        scheduler.start()

    def open_gate() -> None:
        assert store.closing.wait(PATIENCE)
        store.gate.set()

    harness.call(restart)
    assert store.did == ["opened", "closed", "opened"]
    job = scheduler.add_job(give, args=[1])
    scheduler.recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)  # type: ignore[attr-defined]


def test_a_start_that_fails_leaves_all_as_it_was(
    harness: Harness, make: Callable[..., BaseScheduler]
) -> None:
    scheduler = make()
    scheduler.add_job(give, "interval", hours=1, args=[1], id="one")
    scheduler.add_job(give, "interval", hours=1, args=[1], id="two", jobstore="nowhere")
    with pytest.raises(KeyError, match="nowhere"):
        harness.start(scheduler)
    assert scheduler.state == STATE_STOPPED
    assert [job.id for job in scheduler.get_jobs()] == ["one", "two"]
    scheduler.add_jobstore("memory", "nowhere")
    harness.start(scheduler)
    assert {job.id for job in scheduler.get_jobs()} == {"one", "two"}


def test_no_more_instances_than_allowed(
    harness: Harness, scheduler: BaseScheduler, recorder: Recorder
) -> None:
    finish = harness.event()
    job = scheduler.add_job(
        lambda: finish.wait(PATIENCE), "interval", seconds=0.02, max_instances=2
    )
    recorder.wait(EVENT_JOB_MAX_INSTANCES, 2, job.id)
    assert len(recorder.of(EVENT_JOB_SUBMITTED, job.id)) == 2
    job.remove()
    finish.set()
    recorder.wait(EVENT_JOB_EXECUTED, 2, job.id)


def test_jobs_may_change_jobs_and_themselves(scheduler: BaseScheduler, recorder: Recorder) -> None:
    counts: dict[str, int] = {}

    def busy() -> None:
        counts["busy"] = counts.get("busy", 0) + 1
        if counts["busy"] == 1:
            scheduler.add_job(give, args=[1], id="child")
            scheduler.modify_job("busy", name="renamed")
        else:
            scheduler.remove_job("busy")

    scheduler.add_job(busy, "interval", seconds=0.02, id="busy")
    recorder.wait(EVENT_JOB_REMOVED, 1, "busy")
    recorder.wait(EVENT_JOB_EXECUTED, 1, "child")
    recorder.wait(EVENT_JOB_EXECUTED, 2, "busy")
    assert recorder.of(EVENT_JOB_MODIFIED, "busy")
    assert counts == {"busy": 2}


def test_a_job_runs_out_of_turn(scheduler: BaseScheduler, recorder: Recorder) -> None:
    job = scheduler.add_job(give, "interval", hours=1, args=["now"])
    planned = job.next_run_time
    scheduler.run_job_now(job.id)
    assert recorder.wait(EVENT_JOB_EXECUTED, 1, job.id)[0].retval == "now"
    assert job.next_run_time == planned


@pytest.fixture(params=["memory", "sqlite", "redis"])
def jobstore(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/jobs.sqlite"}
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        return {"type": "redis", "url": server.url, "jobs_key": f"jobs:{uuid4()}"}
    return {"type": "memory"}


def test_the_same_application_gives_the_same_events(
    harness: Harness, make: Callable[..., BaseScheduler], jobstore: dict[str, Any]
) -> None:
    scheduler = make(jobstores={"default": jobstore})
    harness.start(scheduler)
    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    once = scheduler.add_job(give, args=[1], id="once")
    recorder.wait(EVENT_JOB_EXECUTED, 1, "once")
    recorder.wait(EVENT_JOB_REMOVED, 1, "once")
    scheduler.add_job(fail, id="bad")
    recorder.wait(EVENT_JOB_ERROR, 1, "bad")
    recorder.wait(EVENT_JOB_REMOVED, 1, "bad")
    later = scheduler.add_job(give, "interval", hours=1, args=[1], id="later")
    later.pause()
    later.resume()
    later.reschedule("interval", hours=2)
    scheduler.run_job_now("later")
    recorder.wait(EVENT_JOB_EXECUTED, 1, "later")
    later.remove()
    harness.stop(scheduler)
    recorder.wait(EVENT_SCHEDULER_SHUTDOWN)
    run = [EVENT_JOB_SUBMITTED, EVENT_JOB_STARTED]
    assert recorder.codes("later") == [
        EVENT_JOB_ADDED,
        *[EVENT_JOB_MODIFIED] * 3,
        *run,
        EVENT_JOB_EXECUTED,
        EVENT_JOB_REMOVED,
    ]
    for job_id, end in ((once.id, EVENT_JOB_EXECUTED), ("bad", EVENT_JOB_ERROR)):
        # The schedule ends when the run is handed over, the run whenever it likes.
        assert sorted(recorder.codes(job_id)) == sorted(
            [EVENT_JOB_ADDED, *run, end, EVENT_JOB_REMOVED]
        )
        # A store that others read too may give the job away before it is told of as added.
        aside = (EVENT_JOB_ADDED, EVENT_JOB_REMOVED)
        assert [code for code in recorder.codes(job_id) if code not in aside] == [*run, end]
