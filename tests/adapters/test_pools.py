"""What is particular to pools: what their threads begin with, and what is refused."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from support.schedulers import Recorder

from tocsin.adapters import (
    BackgroundScheduler,
    FuturesExecutor,
    GeventExecutor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from tocsin.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED
from tocsin.executors import BaseExecutor
from tocsin.testing import FakeScheduler

PATIENCE = 20.0
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
Run = Callable[[BaseExecutor, Callable[[], Any]], Any]


@pytest.fixture
def run() -> Iterator[Run]:
    """Run a function as a job of an executor, and give what it returns."""
    with BackgroundScheduler(timezone="UTC") as scheduler:
        recorder = Recorder()
        scheduler.add_listener(recorder)

        def run_one(executor: BaseExecutor, function: Callable[[], Any]) -> Any:
            scheduler.add_executor(executor, "mine")
            scheduler.add_job(function, executor="mine")
            (event,) = recorder.wait(EVENT_JOB_EXECUTED)
            return event.retval

        yield run_one


def test_each_thread_begins_with_the_initializer(run: Run) -> None:
    local = threading.local()
    executor = ThreadPoolExecutor(
        1,
        {
            "thread_name_prefix": "shop",
            "initializer": lambda text: setattr(local, "text", text),
            "initargs": ["ready"],
        },
    )
    found = run(executor, lambda: (local.text, threading.current_thread().name))
    assert found[0] == "ready"
    assert found[1].startswith("shop")


@pytest.mark.parametrize("before", [True, False])
def test_a_signal_that_shuts_down_as_a_thread_is_started(before: bool) -> None:
    """Its handler runs in the middle of a call, with what the call has locked."""

    class Interrupted(ThreadPoolExecutor):
        def _start_thread(self, *arguments: Any) -> None:
            if before:
                handle()
            super()._start_thread(*arguments)
            if not before:
                handle()

    def handle() -> None:
        started.extend(set(threading.enumerate()) - threads)
        scheduler.shutdown()

    threads = set(threading.enumerate())
    started: list[threading.Thread] = []
    scheduler = FakeScheduler(executors={"default": Interrupted()}, timezone="UTC")
    recorder = Recorder()
    scheduler.add_listener(recorder)
    scheduler.start()
    scheduler.add_job(threading.get_ident)
    done = threading.Thread(target=scheduler.clock.advance, args=(0,), daemon=True)
    done.start()
    done.join(PATIENCE)
    assert not done.is_alive()
    assert not scheduler.running
    for thread in {*started, *threading.enumerate()} - threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    (event,) = recorder.of(EVENT_JOB_ERROR)
    assert "shut down" in str(event.exception)


def test_a_thread_works_though_its_initializer_fails(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    executor = ThreadPoolExecutor(1, {"initializer": lambda: 1 / 0})
    assert run(executor, lambda: 42) == 42
    assert "The initializer of the thread pool failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: FuturesExecutor("threads"), "a concurrent.futures.Executor is needed"),  # type: ignore[arg-type]
        (
            lambda: FuturesExecutor(concurrent.futures.ProcessPoolExecutor(1)),
            "use tocsin's ProcessPoolExecutor",
        ),
    ],
    ids=["no pool", "processes"],
)
def test_what_can_not_report_is_no_pool(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(TypeError, match=f"^pool: .*{reason}"):
        make()


@pytest.mark.parametrize("make", [ThreadPoolExecutor, ProcessPoolExecutor, GeventExecutor])
def test_a_pool_that_was_shut_down_takes_no_jobs_and_holds_none_back(
    make: Callable[[], BaseExecutor],
) -> None:
    with BackgroundScheduler(timezone="UTC") as scheduler:
        job = scheduler.add_job(print, next_run_time=None)
        executor = make()
        executor.start(scheduler, "mine")
        executor.shutdown()
        for _ in range(2):  # what was refused does not count as running
            with pytest.raises(RuntimeError, match="shut down"):
                executor.submit_job(job, [NOW])
        assert executor.running == 0
