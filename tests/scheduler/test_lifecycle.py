"""Threads, forks and the end of the program, with real clocks and real processes."""

from __future__ import annotations

import os
import random
import textwrap
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from support.programs import python

from tocsin.adapters import BackgroundScheduler
from tocsin.errors import JobLookupError, MaxInstancesReachedError
from tocsin.events import (
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
)

#: How long the threads hammer; a minute is the promise.
SECONDS = float(os.environ.get("TOCSIN_STRESS_SECONDS", "60"))
THREADS = 16


def run(program: str, *, timeout: float = 60, code: int = 0) -> str:
    """Run a program in another interpreter; give what it prints, errors after it."""
    done = python("-c", textwrap.dedent(program), patience=timeout)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def nothing(*_: Any) -> None:
    """Do nothing."""


@pytest.mark.timeout(SECONDS + 120)
def test_threads_hammer_the_calls_while_jobs_run() -> None:
    """No run is lost or doubled, nothing deadlocks, and all calls give what they promise."""
    scheduler = BackgroundScheduler(
        timezone="UTC", executors={"default": {"type": "threadpool", "max_workers": 8}}
    )
    lock = threading.Lock()
    ran: Counter[tuple[str, datetime]] = Counter()
    lost: list[Any] = []
    problems: list[BaseException] = []
    steady = [f"steady {number}" for number in range(50)]

    def count(event: Any) -> None:
        with lock:
            ran[event.job_id, event.scheduled_run_time] += 1

    scheduler.add_listener(count, EVENT_JOB_EXECUTED)
    scheduler.add_listener(
        lost.append,
        EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_COALESCED,
    )
    start = datetime.now(timezone.utc) + timedelta(seconds=0.5)
    period = timedelta(seconds=0.05)
    end = start + int(timedelta(seconds=SECONDS) / period) * period
    for job_id in steady:
        # These nobody touches but to read or rename: every one of their runs must come.
        scheduler.add_job(
            nothing,
            "interval",
            seconds=0.05,
            start_date=start,
            end_date=end,
            id=job_id,
            coalesce=False,
            max_instances=1000,
        )
    scheduler.start()
    stop = threading.Event()

    def hammer(seed: int) -> None:
        chance = random.Random(seed)
        mine: list[str] = []
        try:
            while not stop.is_set():
                act = chance.randrange(12)
                if act < 3 or not mine:
                    job = scheduler.add_job(
                        nothing, "interval", seconds=chance.choice((0.01, 0.5, 3600))
                    )
                    mine.append(job.id)
                elif act == 3:
                    scheduler.remove_job(mine.pop(chance.randrange(len(mine))))
                elif act == 4:
                    scheduler.pause_job(chance.choice(mine))
                elif act == 5:
                    assert scheduler.resume_job(chance.choice(mine)) is not None
                elif act == 6:
                    scheduler.reschedule_job(chance.choice(mine), trigger="interval", seconds=7)
                elif act == 7:
                    scheduler.modify_job(chance.choice(mine), args=[seed], name=f"of {seed}")
                elif act == 8:
                    try:
                        scheduler.modify_job(chance.choice(steady), name=f"named by {seed}")
                    except JobLookupError:  # it has ended, and is gone, but not before its end
                        assert datetime.now(timezone.utc) >= end
                elif act == 9:
                    assert scheduler.get_job(chance.choice(mine)).id in mine  # type: ignore[union-attr]
                    with pytest.raises(JobLookupError):
                        scheduler.remove_job("nobody's")
                elif act == 10:
                    scheduler.wakeup()
                    assert scheduler.get_jobs(limit=5)
                elif len(mine) > 50:
                    while mine:
                        scheduler.remove_job(mine.pop())
                if mine and act == 2:
                    with suppress(MaxInstancesReachedError):
                        scheduler.run_job_now(chance.choice(mine))
            for job_id in mine:
                scheduler.remove_job(job_id)
        except BaseException as error:
            problems.append(error)
            raise

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, (end - datetime.now(timezone.utc)).total_seconds()))
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a deadlock"
    deadline = time.monotonic() + 60
    while scheduler.get_jobs() and time.monotonic() < deadline:
        time.sleep(0.05)  # the last of the steady runs are handed over, and the jobs removed
    assert scheduler.get_jobs() == []
    scheduler.shutdown()
    assert not problems
    expected = int((end - start) / period) + 1
    for job_id in steady:
        times = {when: number for (of, when), number in ran.items() if of == job_id}
        assert set(times.values()) == {1}, "a run was doubled"
        assert sorted(times) == [start + n * period for n in range(expected)], "a run was lost"
    assert not [event for event in lost if event.job_id in steady]


def test_the_end_of_the_program_waits_for_the_running_job() -> None:
    printed = run(
        """
        import threading, time
        from tocsin.adapters import BackgroundScheduler

        begun = threading.Event()

        def job():
            begun.set()
            time.sleep(0.3)
            print("whole", flush=True)

        scheduler = BackgroundScheduler(timezone="UTC")
        scheduler.add_job(job)
        # As many as there may be: of one that is skipped a slow machine would tell.
        dots = {"args": ["."], "kwargs": {"end": ""}, "max_instances": 1000}
        scheduler.add_job(print, "interval", seconds=0.01, **dots)
        scheduler.start()
        begun.wait()
        """
    )
    assert printed.replace(".", "") == "whole\n"


def test_a_scheduler_that_is_no_daemon_goes_on_after_the_main_thread() -> None:
    printed = run(
        """
        from tocsin.adapters import BackgroundScheduler

        count = 0

        def job():
            global count
            count += 1
            print(count, flush=True)
            if count == 5:
                scheduler.shutdown()

        scheduler = BackgroundScheduler(timezone="UTC", daemon=False)
        scheduler.add_job(job, "interval", seconds=0.1, max_instances=2)
        scheduler.start()
        """
    )
    assert printed.split() == ["1", "2", "3", "4", "5"]


def test_ctrl_c_comes_out_of_a_blocking_scheduler() -> None:
    printed = run(
        """
        import os, signal, threading
        from tocsin.adapters import BlockingScheduler

        scheduler = BlockingScheduler(timezone="UTC")
        scheduler.longest_sleep = 1  # when it comes while the main thread is falling asleep
        scheduler.add_job(lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            scheduler.start()
        except KeyboardInterrupt:
            print("interrupted", scheduler.running)
            scheduler.shutdown()
        print([thread.name for thread in threading.enumerate()])
        """
    )
    assert printed.splitlines() == ["interrupted True", "['MainThread']"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_no_running_scheduler_and_is_told_so() -> None:
    printed = run(
        """
        import os, threading, time, warnings
        from tocsin.adapters import BackgroundScheduler
        from tocsin.errors import SchedulerNotRunningError

        warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads, from 3.12 on
        scheduler = BackgroundScheduler(timezone="UTC")
        scheduler.add_job(print, "interval", hours=1, id="parent's")
        scheduler.start()
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                scheduler.add_job(print, "interval", hours=1, id="x", replace_existing=True)

        thread = threading.Thread(target=busy)
        thread.start()
        for _ in range(20):  # a lock may be held at any of these forks
            child = os.fork()
            if child == 0:
                try:
                    assert not scheduler.running
                    try:
                        scheduler.add_job(print)
                    except SchedulerNotRunningError as error:
                        assert "forked" in str(error)
                    else:
                        os._exit(1)
                    ran = threading.Event()
                    scheduler.start()
                    scheduler.add_job(ran.set)
                    assert ran.wait(10)
                    scheduler.shutdown()
                    os._exit(0)
                except BaseException as error:
                    print(repr(error), flush=True)
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.set()
        thread.join()
        assert scheduler.running
        print(sorted(job.id for job in scheduler.get_jobs()))
        scheduler.shutdown()
        """
    )
    assert printed.strip() == "[\"parent's\", 'x']"


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    for wait in (True, False):
        scheduler = BackgroundScheduler(timezone="UTC")
        done = threading.Event()
        scheduler.start()
        scheduler.add_job(done.set)
        assert done.wait(10)
        scheduler.shutdown(wait)
        for thread in set(threading.enumerate()) - before:
            thread.join(10)
        assert set(threading.enumerate()) == before
