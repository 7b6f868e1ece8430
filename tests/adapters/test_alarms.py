"""What wakes schedulers in event loops: a timer of the kernel's where there is one, or the loop's.

All that schedulers do is in test_contract.py, on the kernel's timers, which Linux has.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from support.programs import run_script
from support.schedulers import (
    LOOP_HARNESSES,
    PATIENCE,
    LoopHarness,
    OtherClock,
    Recorder,
    kernel_timers,
)

from tocsin.adapters import AsyncIOScheduler
from tocsin.adapters.alarms import KernelAlarm, LoopAlarm
from tocsin.adapters.callback import CallbackScheduler
from tocsin.events import EVENT_JOB_EXECUTED

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a timerfd")


@pytest.fixture(params=LOOP_HARNESSES, ids=lambda kind: kind.name)
def harness(request: pytest.FixtureRequest) -> Iterator[LoopHarness]:
    harness = request.param()
    yield harness
    harness.close()


@pytest.fixture
def make(harness: LoopHarness) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(**options: Any) -> Any:
        scheduler = harness.make(**options)
        # Nothing but the alarm wakes it.
        scheduler.longest_sleep = float("inf")
        made.append(scheduler)
        return scheduler

    yield make
    harness.stop_all(made)


def soon(seconds: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def runs(scheduler: CallbackScheduler, seconds: float) -> None:
    """Check that a job runs, and not before it is due."""
    recorder = Recorder()
    scheduler.add_listener(recorder)
    job = scheduler.add_job(time.time, "date", run_date=soon(seconds))
    (event,) = recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)
    assert event.start >= event.scheduled_run_time
    scheduler.remove_listener(recorder)


@pytest.mark.parametrize(
    ("options", "alarm"),
    [
        pytest.param({}, KernelAlarm, marks=linux, id="the kernel's"),
        pytest.param({"clock": OtherClock()}, LoopAlarm, id="the loop's"),
    ],
)
def test_an_alarm_goes_off_when_a_job_is_due(
    harness: LoopHarness, make: Callable[..., Any], options: Any, alarm: type
) -> None:
    scheduler = make(**options)
    harness.start(scheduler)
    scheduler.add_job(time.time, "interval", hours=1)
    for seconds in (0.05, 0.0203, 0.0007, -1):
        runs(scheduler, seconds)
    assert type(scheduler._alarm) is alarm


@linux
def test_a_tick_that_was_lost_comes_again(harness: LoopHarness, make: Callable[..., Any]) -> None:
    scheduler = make()
    tick, due, lost = scheduler._tick, soon(0.2), threading.Event()

    def flaky() -> None:
        """End at once when the job is due, as if Ctrl-C had struck."""
        if lost.is_set() or datetime.now(timezone.utc) < due:
            tick()
        else:
            lost.set()

    scheduler._tick = flaky
    recorder = Recorder()
    scheduler.add_listener(recorder)
    harness.start(scheduler)
    scheduler.add_job(time.time, "date", run_date=due)
    recorder.wait(EVENT_JOB_EXECUTED)
    assert lost.is_set()


def test_a_tick_that_something_struck_comes_again(
    harness: LoopHarness, make: Callable[..., Any]
) -> None:
    class Struck(BaseException):
        """What is no Exception, so that it goes through to the framework."""

    scheduler = make()
    advance = scheduler._loop.advance
    due, strikes = soon(0.1), [Struck("on purpose")]

    def advance_or_be_struck(now: int) -> int | None:
        if strikes and datetime.now(timezone.utc) >= due:
            raise strikes.pop()
        return advance(now)  # type: ignore[no-any-return]

    scheduler._loop.advance = advance_or_be_struck
    recorder = Recorder()
    scheduler.add_listener(recorder)
    harness.start(scheduler)
    scheduler.add_job(time.time, "date", run_date=due)
    recorder.wait(EVENT_JOB_EXECUTED)
    assert not strikes
    runs(scheduler, 0.01)


@linux
def test_there_is_one_timer_as_long_as_the_scheduler_runs(
    harness: LoopHarness, make: Callable[..., Any]
) -> None:
    before = kernel_timers()
    scheduler = make()
    for _ in range(2):
        harness.start(scheduler)
        runs(scheduler, 0.01)
        runs(scheduler, 0.01)
        assert kernel_timers() == before + 1
        harness.stop(scheduler)
        harness.call(lambda: None)  # the alarm is closed in the loop
        assert kernel_timers() == before


@linux
def test_it_looks_at_its_jobs_when_the_clock_is_set(
    harness: LoopHarness, make: Callable[..., Any]
) -> None:
    scheduler = make()
    harness.start(scheduler)
    runs(scheduler, 0.01)
    looked = threading.Semaphore(0)
    advance = scheduler._loop.advance

    def advance_and_tell(now: int) -> int | None:
        try:
            return advance(now)  # type: ignore[no-any-return]
        finally:
            looked.release()

    scheduler._loop.advance = advance_and_tell
    scheduler.add_job(time.time, "interval", hours=1)
    assert looked.acquire(timeout=PATIENCE), "nothing woke it for a job that was added"
    harness.call(lambda: None)  # the alarm is set by now
    try:
        # By the microsecond that this takes; it counts as a jump.
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns())
    except PermissionError:
        pytest.skip("this user may not set the computer's clock")
    assert looked.acquire(timeout=PATIENCE), "the clock was set, and it did not look"


@linux
def test_a_forked_child_leaves_the_timer_of_its_parent_alone() -> None:
    output = run_script("""
        import asyncio, os
        from datetime import datetime, timedelta, timezone
        from tocsin.adapters import AsyncIOScheduler

        async def main():
            ran = asyncio.Event()
            async def job():
                ran.set()
            scheduler = AsyncIOScheduler()
            scheduler.longest_sleep = float("inf")
            scheduler.start()
            due = datetime.now(timezone.utc) + timedelta(seconds=0.3)
            scheduler.add_job(job, "date", run_date=due)
            await asyncio.sleep(0.05)
            child = os.fork()
            if child == 0:
                again = AsyncIOScheduler()
                asyncio._set_running_loop(None)
                async def fresh():
                    ran = asyncio.Event()
                    async def job():
                        ran.set()
                    async with again:
                        again.add_job(job)
                        await asyncio.wait_for(ran.wait(), 20)
                asyncio.run(fresh())
                os._exit(0 if not scheduler.running else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            await asyncio.wait_for(ran.wait(), 20)
            await scheduler.shutdown()

        asyncio.run(main())
        print("ran")
    """)
    assert output == "0\nran\n"


@linux
def test_without_a_file_to_be_had_the_timer_is_the_loop_s() -> None:
    output = run_script("""
        import asyncio, os, resource
        from tocsin.adapters import AsyncIOScheduler
        from tocsin.adapters.alarms import LoopAlarm

        async def main():
            ran = asyncio.Event()
            async def job():
                ran.set()
            scheduler = AsyncIOScheduler()
            most = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, most[1]))
            scheduler.start()
            scheduler.add_job(job, "interval", seconds=0.05)
            await asyncio.wait_for(ran.wait(), 20)
            print(type(scheduler._alarm) is LoopAlarm)
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
            await scheduler.shutdown()

        asyncio.run(main())
    """)
    assert output == "True\n"


class Unwatching(asyncio.SelectorEventLoop):
    """A loop that can't watch files, as Windows' is."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        raise NotImplementedError


def test_a_loop_that_watches_no_files_has_timers() -> None:
    async def main() -> None:
        ran = asyncio.Event()

        async def job() -> None:
            ran.set()

        async with AsyncIOScheduler() as scheduler:
            scheduler.add_job(job, "interval", seconds=0.02)
            await asyncio.wait_for(ran.wait(), PATIENCE)
            assert type(scheduler._alarm) is LoopAlarm

    loop = Unwatching()
    loop.run_until_complete(main())
    loop.close()
