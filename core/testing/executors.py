"""What an executor must do, as tests."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from tocsin import plugins
from tocsin.adapters.background import BackgroundScheduler
from tocsin.callables import ref_to_obj
from tocsin.errors import MaxInstancesReachedError
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    EVENT_JOB_STARTED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
    JobEvent,
    SchedulerEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.scheduler import STATE_STOPPED, BaseScheduler

_ENDED = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED
_OF_RUNS = EVENT_JOB_SUBMITTED | EVENT_JOB_STARTED | _ENDED


class Halt(BaseException):
    """An exception that is no Exception."""


class Unpicklable(Exception):
    """An exception that does not survive pickling."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.lock = threading.Lock()


# The jobs of these tests: functions of a module, so that they can run in other processes.


def give(*args: Any, **kwargs: Any) -> Any:
    """Return what the job was called with."""
    return args, kwargs


async def give_later(value: Any) -> Any:
    """Return a value, after the event loop has had its turn."""
    await asyncio.sleep(0)
    return value


async def fail_later() -> None:
    """Raise after the event loop has had its turn."""
    await asyncio.sleep(0)
    raise ZeroDivisionError("on purpose")


def fail(reference: str = "builtins:ZeroDivisionError", *args: Any) -> None:
    """Raise an exception."""
    raise ref_to_obj(reference)(*(args or ("on purpose",)))


def hold(folder: str, nap: Callable[[float], Any]) -> str:
    """Say that the job has begun, by a file, and go on until there is a file ``go``."""
    Path(folder, f"begun-{uuid.uuid4().hex}").touch()
    while not Path(folder, "go").exists():
        nap(0.005)
    return "whole"


class ExecutorCompliance:
    """The contract of executors. A subclass says how one is made, and pytest does the rest:

        from tocsin.testing import ExecutorCompliance

        class TestMyExecutor(ExecutorCompliance):
            def make_executor(self):
                return MyExecutor()

    It goes under a `BackgroundScheduler`; for an executor that needs a framework, override
    `make_scheduler`, `start`, `stop`, `call` and `close`. Executors that run jobs beside each
    other have more to prove: for them there is `PoolCompliance`.
    """

    #: The longest that anything in these tests may take, in seconds; no test waits that long.
    patience: float = 30.0

    def make_executor(self) -> BaseExecutor:
        """Make an executor, not started."""
        raise NotImplementedError("a compliance suite needs make_executor()")

    def make_scheduler(self, executor: BaseExecutor) -> BaseScheduler:
        """Make a scheduler whose default executor this is."""
        return BackgroundScheduler(executors={"default": executor})

    def start(self, scheduler: BaseScheduler) -> None:
        """Start the scheduler in its framework."""
        scheduler.start()

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        """Shut the scheduler down; return when that has ended."""
        scheduler.shutdown(wait)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the thread of the framework, from which jobs are submitted."""
        return function()

    def close(self) -> None:
        """End the framework, and all that `make_executor` has made beside the executor."""

    def setup_method(self) -> None:
        """Start an executor."""
        self.folder = Path(mkdtemp())
        self._threads = set(threading.enumerate())
        self._changed = threading.Condition()
        self.events: list[Any] = []
        self.executor = self.make_executor()
        self.scheduler = self.make_scheduler(self.executor)
        self.scheduler.add_listener(self._record)
        self.start(self.scheduler)

    def teardown_method(self) -> None:
        """Stop it, and look for threads and processes that it has left behind."""
        (self.folder / "go").touch()
        if self.scheduler.state != STATE_STOPPED:
            self.stop(self.scheduler)
        self.close()
        rmtree(self.folder)
        deadline = time.monotonic() + self.patience
        for thread in set(threading.enumerate()) - self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread} was left behind"
        for process in multiprocessing.active_children():
            process.join(max(0.0, deadline - time.monotonic()))
            assert not process.is_alive(), f"{process} was left behind"

    def _record(self, event: SchedulerEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, codes: int, job_id: str | None = None) -> list[Any]:
        """List the events that have one of the codes, of one job or of all."""
        return [
            event
            for event in list(self.events)
            if event.code & codes
            and (job_id is None or (isinstance(event, JobEvent) and event.job_id == job_id))
        ]

    def wait(self, codes: int, job_id: str | None = None, count: int = 1) -> list[Any]:
        """Wait for so many events of the codes, and list them."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: len(self.of(codes, job_id)) >= count, self.patience
            )
        assert came, f"{count} events did not come within {self.patience} s: {self.events}"
        return self.of(codes, job_id)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so that no event tells."""
        deadline = time.monotonic() + self.patience
        while not condition():
            assert time.monotonic() < deadline, f"it did not come true within {self.patience} s"
            time.sleep(0.002)

    def job(self, func: Callable[..., Any], *args: Any, **rules: Any) -> Job:
        """Add a job that the scheduler does not run by itself."""
        far = datetime(2100, 1, 1, tzinfo=timezone.utc)
        return self.scheduler.add_job(func, "date", run_date=far, args=args, **rules)

    def submit(self, job: Job, *lateness: float) -> list[datetime]:
        """Submit a job for run times that lie so many seconds back; give these."""
        now = datetime.now(timezone.utc)
        times = [now - timedelta(seconds=late) for late in lateness or (0.0,)]
        self.call(lambda: self.executor.submit_job(job, times))
        return times

    def is_free(self) -> None:
        """Wait until no job counts as running."""
        self.until(lambda: self.executor.running == 0)

    def test_it_is_a_plugin(self) -> None:
        assert isinstance(self.executor, BaseExecutor)
        plugins.verify("executors", type(self.executor))

    def test_a_run_reports_its_course(self) -> None:
        before = datetime.now(timezone.utc)
        job = self.scheduler.add_job(give, args=[1, "two"], kwargs={"three": [3]})
        (ended,) = self.wait(_ENDED, job.id)
        submitted, started, executed = self.of(_OF_RUNS, job.id)
        assert submitted.code == EVENT_JOB_SUBMITTED
        assert started.code == EVENT_JOB_STARTED
        assert executed is ended
        assert executed.code == EVENT_JOB_EXECUTED
        assert executed.retval == ((1, "two"), {"three": [3]})
        assert executed.exception is None
        assert executed.traceback is None
        assert executed.jobstore == "default"
        (run_time,) = submitted.scheduled_run_times
        assert started.scheduled_run_time == executed.scheduled_run_time == run_time
        assert before - timedelta(milliseconds=1) <= run_time <= executed.start <= executed.end
        assert started.start == executed.start
        self.is_free()

    def test_a_job_that_raises_reports_it(self) -> None:
        job = self.job(fail)
        for count in (1, 2):
            self.submit(job)
            event = self.wait(_ENDED, job.id, count)[-1]
            assert event.code == EVENT_JOB_ERROR
            assert type(event.exception) is ZeroDivisionError
            assert str(event.exception) == "on purpose"
            assert "in fail" in event.traceback
            assert "ZeroDivisionError: on purpose" in event.traceback
            assert event.retval is None
            assert event.start <= event.end
            self.is_free()

    def test_a_job_that_raises_what_can_not_be_pickled_reports_it(self) -> None:
        job = self.job(fail, f"{__name__}:Unpicklable", "odd one", 7)
        self.submit(job)
        (event,) = self.wait(_ENDED, job.id)
        assert event.code == EVENT_JOB_ERROR
        assert "odd one" in str(event.exception)
        assert "Unpicklable" in event.traceback
        self.is_free()

    def test_several_run_times_follow_each_other_as_one_instance(self) -> None:
        job = self.job(give, "again")
        times = self.submit(job, 3, 2, 1)
        self.wait(EVENT_JOB_EXECUTED, job.id, 3)
        submitted, *course = self.of(_OF_RUNS, job.id)
        assert submitted.scheduled_run_times == times
        assert [event.code for event in course] == [EVENT_JOB_STARTED, EVENT_JOB_EXECUTED] * 3
        assert [event.scheduled_run_time for event in course[::2]] == times
        assert [event.scheduled_run_time for event in course[1::2]] == times
        self.is_free()

    def test_the_other_run_times_of_one_that_raises_count(self) -> None:
        job = self.job(fail)
        times = self.submit(job, 2, 1)
        found = self.wait(EVENT_JOB_ERROR, job.id, 2)
        assert [event.scheduled_run_time for event in found] == times
        self.is_free()

    def test_a_run_that_is_too_late_is_missed(self) -> None:
        job = self.job(give, misfire_grace_time=60)
        late, soon = self.submit(job, 3600, 1)
        missed, executed = self.wait(_ENDED, job.id, 2)
        assert (missed.code, executed.code) == (EVENT_JOB_MISSED, EVENT_JOB_EXECUTED)
        assert (missed.scheduled_run_time, executed.scheduled_run_time) == (late, soon)
        assert "3600" in missed.reason
        assert "60 s" in missed.reason
        assert missed.start is None
        assert len(self.of(EVENT_JOB_STARTED, job.id)) == 1
        self.submit(job, 3600)
        self.wait(EVENT_JOB_MISSED, job.id, 2)
        self.is_free()

    def test_no_run_is_too_late_without_a_grace_time(self) -> None:
        job = self.job(give)
        self.submit(job, 1e6)
        assert self.wait(_ENDED, job.id)[0].code == EVENT_JOB_EXECUTED

    def test_jobs_that_are_due_together_end_once_each(self) -> None:
        # Who hears of each submission keeps an executor from taking them as a batch.
        self.scheduler.remove_listener(self._record)
        self.scheduler.add_listener(self._record, _ENDED)
        jobs = self.scheduler.add_jobs(
            ({"func": fail} if number % 5 == 1 else {"func": give} for number in range(50)),
            trigger="date",
            run_date=datetime.now(timezone.utc) + timedelta(seconds=0.1),
        )
        self.wait(_ENDED, count=len(jobs))
        self.is_free()
        ends = {job.id: [event.code for event in self.of(_ENDED, job.id)] for job in jobs}
        assert ends == {
            job.id: [EVENT_JOB_ERROR if number % 5 == 1 else EVENT_JOB_EXECUTED]
            for number, job in enumerate(jobs)
        }

    def test_coroutine_jobs_run_or_are_refused(self) -> None:
        if not self.executor.runs_coroutines:
            try:
                self.job(give_later, 1)
            except TypeError as error:
                assert "give_later is a coroutine function" in str(error)
            else:
                raise AssertionError("a coroutine function was not refused")
            return
        job, bad = self.job(give_later, "later"), self.job(fail_later)
        self.submit(job, 2, 1)
        found = self.wait(_ENDED, job.id, 2)
        assert [event.retval for event in found] == ["later", "later"]
        self.submit(bad)
        (event,) = self.wait(_ENDED, bad.id)
        assert type(event.exception) is ZeroDivisionError
        assert "in fail_later" in event.traceback
        self.is_free()

    def test_it_can_be_started_again(self) -> None:
        first = self.scheduler.add_job(give, args=[1])
        self.wait(EVENT_JOB_EXECUTED, first.id)
        for wait in (True, False):
            self.stop(self.scheduler, wait)
            self.wait(EVENT_SCHEDULER_SHUTDOWN)
            self.start(self.scheduler)
            again = self.scheduler.add_job(give, args=[2])
            self.wait(EVENT_JOB_EXECUTED, again.id)
            self.is_free()


class PoolCompliance(ExecutorCompliance):
    """The contract of executors that run jobs beside each other, and beside the scheduler.

    The executor must have room for at least two.
    """

    #: Whether jobs run in other processes.
    processes: bool = False
    #: How a job waits, in seconds, without stopping the framework: a function of a module.
    nap: Any = staticmethod(time.sleep)
    #: Whether a job's BaseException, SystemExit among them, is an error of that job like others.
    contains_all_errors: bool = True

    def holding(self, **rules: Any) -> Job:
        """Add a job that goes on until `let_go`."""
        return self.job(hold, str(self.folder), self.nap, **rules)

    def begun(self, count: int) -> None:
        """Wait until so many such jobs have begun."""
        self.until(lambda: len(list(self.folder.glob("begun-*"))) >= count)

    def let_go(self) -> None:
        """Let them end."""
        (self.folder / "go").touch()

    def ends(self, jobs: Sequence[Job]) -> dict[str, list[int]]:
        """Give the codes of the events that ended the runs of jobs."""
        return {job.id: [event.code for event in self.of(_ENDED, job.id)] for job in jobs}

    def test_what_is_no_exception_is_contained(self) -> None:
        references = [f"{__name__}:Halt"]
        if self.contains_all_errors:
            references += ["builtins:SystemExit", "builtins:KeyboardInterrupt"]
        for reference in references:
            bad, good = self.job(fail, reference), self.job(give, 1)
            self.submit(bad)
            (event,) = self.wait(_ENDED, bad.id)
            assert event.code == EVENT_JOB_ERROR
            assert type(event.exception) is ref_to_obj(reference)
            assert "in fail" in event.traceback
            self.submit(good)
            assert self.wait(_ENDED, good.id)[0].code == EVENT_JOB_EXECUTED
            self.is_free()

    def test_no_more_instances_than_allowed(self) -> None:
        job, other = self.holding(max_instances=2), self.job(give, 1)
        self.submit(job)
        self.submit(job)
        self.begun(2)
        try:
            self.submit(job)
        except MaxInstancesReachedError as error:
            assert "(2)" in str(error)
        else:
            raise AssertionError("a third instance was taken")
        assert self.executor.running == 2
        self.let_go()
        self.wait(EVENT_JOB_EXECUTED, job.id, 2)
        self.is_free()
        self.submit(job)
        self.wait(EVENT_JOB_EXECUTED, job.id, 3)
        self.submit(other)
        self.wait(EVENT_JOB_EXECUTED, other.id)
        assert len(self.of(EVENT_JOB_SUBMITTED, job.id)) == 3

    def test_jobs_run_beside_each_other(self) -> None:
        jobs = [self.holding(), self.holding()]
        for job in jobs:
            self.submit(job)
        self.begun(2)
        assert not self.of(_ENDED)
        self.let_go()
        for job in jobs:
            (event,) = self.wait(EVENT_JOB_EXECUTED, job.id)
            assert event.retval == "whole"

    def test_a_full_pool_queues_and_loses_nothing(self) -> None:
        jobs = [self.holding() for _ in range(40)]
        for job in jobs:
            self.submit(job)
        self.begun(2)
        assert self.executor.running == 40
        self.let_go()
        self.wait(_ENDED, count=40)
        assert self.ends(jobs) == {job.id: [EVENT_JOB_EXECUTED] for job in jobs}
        self.is_free()

    def test_lateness_is_judged_when_the_run_starts(self) -> None:
        """What is too late by the time that others have made room for it is missed."""
        late = self.job(give, misfire_grace_time=0.001)
        held = [self.holding() for _ in range(40)]
        for job in held:
            self.submit(job)
        self.begun(2)
        (run_time,) = self.submit(late)
        self.until(lambda: datetime.now(timezone.utc) - run_time > timedelta(seconds=0.05))
        self.let_go()
        (event,) = self.wait(_ENDED, late.id)
        if event.code == EVENT_JOB_EXECUTED:  # there was room at once: for 41 jobs
            assert event.start - run_time <= timedelta(seconds=0.001)
        else:
            assert event.code == EVENT_JOB_MISSED
            assert "grace time of 0.001 s" in event.reason
        self.wait(EVENT_JOB_EXECUTED, count=len(held))

    def test_shutdown_waits_for_the_running_jobs(self) -> None:
        jobs = [self.holding(), self.holding()]
        for job in jobs:
            self.submit(job)
        self.begun(2)
        stopping = threading.Thread(target=self.stop, args=(self.scheduler,))
        stopping.start()
        self.until(lambda: self.scheduler.state == STATE_STOPPED)
        assert not self.of(EVENT_SCHEDULER_SHUTDOWN)
        self.let_go()
        stopping.join(self.patience)
        assert not stopping.is_alive()
        assert self.ends(jobs) == {job.id: [EVENT_JOB_EXECUTED] for job in jobs}
        self.wait(EVENT_SCHEDULER_SHUTDOWN)
        assert self.of(_ENDED | EVENT_SCHEDULER_SHUTDOWN)[-1].code == EVENT_SCHEDULER_SHUTDOWN

    def test_shutdown_waits_for_the_waiting_jobs(self) -> None:
        jobs = [self.holding() for _ in range(20)]
        for job in jobs:
            self.submit(job)
        self.begun(2)
        stopping = threading.Thread(target=self.stop, args=(self.scheduler,))
        stopping.start()
        self.until(lambda: self.scheduler.state == STATE_STOPPED)
        self.let_go()
        stopping.join(self.patience)
        assert not stopping.is_alive()
        assert self.ends(jobs) == {job.id: [EVENT_JOB_EXECUTED] for job in jobs}

    def test_shutdown_without_waiting_returns_at_once_and_says_how_jobs_ended(self) -> None:
        jobs = [self.holding() for _ in range(20)]
        for job in jobs:
            self.submit(job)
        self.begun(2)
        self.stop(self.scheduler, wait=False)  # nobody has let them go
        self.wait(EVENT_SCHEDULER_SHUTDOWN)
        self.let_go()
        self.wait(_ENDED, count=20)
        self.is_free()
        for codes in self.ends(jobs).values():
            assert codes in ([EVENT_JOB_EXECUTED], [EVENT_JOB_ERROR])

    def test_a_job_may_shut_the_scheduler_down(self) -> None:
        if self.processes:
            return  # a job there has no scheduler
        job = self.scheduler.add_job(lambda: self.scheduler.shutdown() and None)
        self.wait(EVENT_SCHEDULER_SHUTDOWN)
        (event,) = self.wait(_ENDED, job.id)
        assert event.code == EVENT_JOB_EXECUTED
        assert self.scheduler.state == STATE_STOPPED

    def test_a_listener_may_shut_the_scheduler_down(self) -> None:
        held = self.holding()
        self.submit(held)
        self.begun(1)

        def stop(event: SchedulerEvent) -> None:
            self.let_go()
            self.scheduler.shutdown()

        self.scheduler.add_listener(stop, EVENT_JOB_ERROR)
        bad = self.job(fail)
        self.submit(bad)
        self.wait(EVENT_SCHEDULER_SHUTDOWN)
        assert self.wait(_ENDED, held.id)[0].code == EVENT_JOB_EXECUTED
        assert self.wait(_ENDED, bad.id)[0].code == EVENT_JOB_ERROR
