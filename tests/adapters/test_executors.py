"""The executors of tocsin under the suite that it ships, and what a killed process does."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ClassVar

import pytest
from support.processes import kill_once, kill_when, lock, puzzle
from support.schedulers import (
    AsyncIOHarness,
    GeventHarness,
    Harness,
    LoopHarness,
    QtHarness,
    TornadoHarness,
    TwistedHarness,
)

from tocsin.adapters import (
    AsyncIOExecutor,
    FuturesExecutor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from tocsin.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED
from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.scheduler import BaseScheduler
from tocsin.testing import ExecutorCompliance, FakeScheduler, PoolCompliance
from tocsin.testing.executors import Halt, fail, give

ENDED = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR


class TestDebugExecutor(ExecutorCompliance):
    def make_executor(self) -> BaseExecutor:
        return DebugExecutor()

    @pytest.mark.parametrize("kind", [Halt, SystemExit, KeyboardInterrupt])
    def test_what_is_meant_for_the_program_gets_there(self, kind: type[BaseException]) -> None:
        scheduler = FakeScheduler()
        events: list[Any] = []
        scheduler.add_listener(events.append, ENDED)
        scheduler.start()
        scheduler.add_job(fail, args=[f"{kind.__module__}:{kind.__name__}"], id="bad")
        scheduler.add_job(give, args=[1], id="good")
        with pytest.raises(kind, match="on purpose"):
            scheduler.clock.advance(0)
        scheduler.wakeup()
        scheduler.clock.advance(1)
        # The other one was claimed with it: what is interrupted is not started, but reported.
        assert [event.job_id for event in events if event.code == EVENT_JOB_ERROR] == [
            "bad",
            "good",
        ]
        scheduler.shutdown()


class TestThreadPoolExecutor(PoolCompliance):
    def make_executor(self) -> BaseExecutor:
        return ThreadPoolExecutor(max_workers=4)


class TestFuturesExecutor(PoolCompliance):
    def make_executor(self) -> BaseExecutor:
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        return FuturesExecutor(self.pool)

    def close(self) -> None:
        self.pool.shutdown()

    def test_what_the_owner_of_the_pool_cancels_is_reported(self) -> None:
        jobs = [self.holding() for _ in range(8)]
        for job in jobs:
            self.submit(job)
        self.begun(4)
        self.pool.shutdown(wait=False, cancel_futures=True)
        lost = self.wait(EVENT_JOB_ERROR, count=4)
        assert all("cancelled" in str(event.exception) for event in lost)
        self.let_go()
        self.wait(ENDED, count=8)
        assert all(len(codes) == 1 for codes in self.ends(jobs).values())
        with pytest.raises(RuntimeError, match="shutdown"):
            self.submit(jobs[0])
        self.is_free()


class TestProcessPoolExecutor(PoolCompliance):
    processes = True

    def make_executor(self) -> BaseExecutor:
        return ProcessPoolExecutor(max_workers=2)

    def test_a_killed_process_takes_its_job_alone(self) -> None:
        victim = self.job(kill_when, str(self.folder / "kill"))
        neighbour, waiting = self.holding(), [self.holding() for _ in range(3)]
        for job in (victim, neighbour, *waiting):
            self.submit(job)
        self.begun(1)
        (self.folder / "kill").touch()
        (event,) = self.wait(ENDED, victim.id)
        assert event.code == EVENT_JOB_ERROR
        assert isinstance(event.exception, BrokenProcessPool)
        self.let_go()
        self.wait(EVENT_JOB_EXECUTED, count=4)
        others = [neighbour, *waiting]
        assert self.ends(others) == {job.id: [EVENT_JOB_EXECUTED] for job in others}
        self.until(lambda: not self.executor.is_full(victim))  # it is told of before it is free
        self.submit(victim)  # once more, and again the pool goes on
        self.wait(EVENT_JOB_ERROR, victim.id, 2)
        after = self.job(give, 1)
        self.submit(after)
        self.wait(EVENT_JOB_EXECUTED, after.id)
        self.is_free()

    def test_the_other_run_times_of_a_killed_job_count(self) -> None:
        victim = self.job(kill_once, str(self.folder / "killed"))
        times = self.submit(victim, 3, 2, 1)
        found = self.wait(ENDED, victim.id, 3)
        assert [event.scheduled_run_time for event in found] == times
        assert [event.code for event in found] == [
            EVENT_JOB_ERROR,
            EVENT_JOB_EXECUTED,
            EVENT_JOB_EXECUTED,
        ]
        self.is_free()

    def test_an_idle_process_that_was_killed_is_replaced(self) -> None:
        job = self.job(os.getpid)
        self.submit(job)
        (first,) = self.wait(EVENT_JOB_EXECUTED, job.id)
        os.kill(first.retval, signal.SIGKILL)
        self.until(lambda: not [each for each in threading.enumerate() if minds_processes(each)])
        self.submit(job)
        last = self.wait(ENDED, job.id, 2)[-1]
        assert last.code == EVENT_JOB_EXECUTED
        assert last.retval != first.retval

    @pytest.mark.parametrize("func", [lock, puzzle])
    def test_a_result_that_does_not_arrive_is_an_error(self, func: Any) -> None:
        job, after = self.job(func), self.job(give, 1)
        self.submit(job)
        assert self.wait(ENDED, job.id)[0].code == EVENT_JOB_ERROR
        self.submit(after)
        assert self.wait(ENDED, after.id)[0].code == EVENT_JOB_EXECUTED
        self.is_free()

    def test_arguments_that_can_not_be_sent_are_an_error(self) -> None:
        job = self.job(give, threading.Lock())
        self.submit(job)
        (event,) = self.wait(ENDED, job.id)
        assert event.code == EVENT_JOB_ERROR
        assert "pickle" in str(event.exception)
        self.is_free()

    def test_killed_while_the_pool_shuts_down(self) -> None:
        victim, neighbour = self.job(kill_when, str(self.folder / "kill")), self.holding()
        self.submit(victim)
        self.submit(neighbour)
        self.begun(1)
        stopping = threading.Thread(target=self.stop, args=(self.scheduler,))
        stopping.start()
        (self.folder / "kill").touch()
        self.wait(EVENT_JOB_ERROR, victim.id)
        self.let_go()
        stopping.join(self.patience)
        assert not stopping.is_alive()
        assert self.ends([victim, neighbour]) == {
            victim.id: [EVENT_JOB_ERROR],
            neighbour.id: [EVENT_JOB_EXECUTED],
        }


def minds_processes(thread: threading.Thread) -> bool:
    """Tell the thread of a pool that ends when it has found its process dead."""
    return type(thread).__name__ == "_ExecutorManagerThread"


class InHarness:
    """An executor under the scheduler of its framework."""

    kind: ClassVar[type[Harness]]

    def make_scheduler(self, executor: BaseExecutor) -> BaseScheduler:
        self.harness = self.kind()
        return self.harness.make(executors={"default": executor})

    def start(self, scheduler: BaseScheduler) -> None:
        self.harness.start(scheduler)

    def stop(self, scheduler: BaseScheduler, wait: bool = True) -> None:
        self.harness.stop(scheduler, wait)

    def call(self, function: Callable[[], Any]) -> Any:
        assert isinstance(self.harness, LoopHarness)
        return self.harness.call(function)

    def close(self) -> None:
        self.harness.close()


class TestAsyncIOExecutor(InHarness, PoolCompliance):
    kind = AsyncIOHarness

    def make_executor(self) -> BaseExecutor:
        return AsyncIOExecutor(max_workers=4)


class TestTornadoExecutor(InHarness, PoolCompliance):
    kind = TornadoHarness

    def make_executor(self) -> BaseExecutor:
        from tocsin.adapters import TornadoExecutor

        return TornadoExecutor()


class TestTwistedExecutor(InHarness, PoolCompliance):
    kind = TwistedHarness

    def make_executor(self) -> BaseExecutor:
        from tocsin.adapters import TwistedExecutor

        return TwistedExecutor()


class TestGeventExecutor(InHarness, PoolCompliance):
    kind = GeventHarness
    contains_all_errors = False  # SystemExit and Ctrl-C go to the main greenlet

    def make_executor(self) -> BaseExecutor:
        import gevent

        from tocsin.adapters.gevent import GeventExecutor

        self.nap = gevent.sleep
        return GeventExecutor(4)


class TestReactorExecutor(InHarness, ExecutorCompliance):
    """Twisted's, with all jobs in the reactor's thread."""

    kind = TwistedHarness

    def make_executor(self) -> BaseExecutor:
        from tocsin.adapters import TwistedExecutor

        return TwistedExecutor(threads=False)


class TestQtExecutor(InHarness, ExecutorCompliance):
    kind = QtHarness

    def make_executor(self) -> BaseExecutor:
        from tocsin.adapters import QtExecutor

        return QtExecutor()
