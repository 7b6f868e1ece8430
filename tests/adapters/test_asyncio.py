"""What is particular to asyncio: which loop, and what becomes of tasks that are cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from datetime import datetime, timezone
from typing import Any

import pytest

from tocsin.adapters import AsyncIOExecutor, AsyncIOScheduler, BackgroundScheduler
from tocsin.events import (
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    SchedulerEvent,
)
from tocsin.stores.memory import MemoryJobStore

PATIENCE = 20.0


def test_without_a_loop_it_says_what_to_do() -> None:
    scheduler = AsyncIOScheduler()
    with pytest.raises(RuntimeError, match=r"call start\(\) from a coroutine, or give .* its loop"):
        scheduler.start()
    assert not scheduler.running


def test_an_executor_without_a_loop_names_what_runs_coroutines() -> None:
    scheduler = BackgroundScheduler(executors={"default": AsyncIOExecutor()})
    with pytest.raises(RuntimeError, match=r"a BackgroundScheduler does not have; use .* Thread"):
        scheduler.start()
    assert not scheduler.running


def test_a_coroutine_listener_hears_on_the_loop_what_happens_in_a_thread() -> None:
    async def main() -> None:
        heard: asyncio.Queue[tuple[int, threading.Thread]] = asyncio.Queue()

        async def listen(event: SchedulerEvent) -> None:
            await heard.put((event.code, threading.current_thread()))

        async with AsyncIOScheduler(timezone="UTC") as scheduler:
            scheduler.add_listener(listen, EVENT_JOB_ADDED)
            await asyncio.to_thread(scheduler.add_job, print, next_run_time=None)
            found = await asyncio.wait_for(heard.get(), PATIENCE)
            assert found == (EVENT_JOB_ADDED, threading.current_thread())

    asyncio.run(main())


def lazily(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> Any:
    """Make tasks that begin with the next turn of the loop: the factory of an application."""
    return asyncio.Task(coroutine, loop=loop, **options)


@pytest.mark.parametrize("begins", [True, False], ids=["while it runs", "before it begins"])
def test_each_run_of_a_cancelled_task_is_reported_and_the_job_is_free(begins: bool) -> None:
    times = [datetime(2026, 3, 1, hour, tzinfo=timezone.utc) for hour in range(3)]
    tasks: list[asyncio.Task[Any]] = []

    async def job() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        task.cancel()
        await asyncio.sleep(0)

    async def main() -> None:
        if not begins:
            asyncio.get_running_loop().set_task_factory(lazily)
        executor = AsyncIOExecutor()
        events: list[Any] = []
        async with AsyncIOScheduler(timezone="UTC", executors={"default": executor}) as scheduler:
            scheduler.add_listener(events.append, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
            added = scheduler.add_job(job, next_run_time=None)
            executor.submit_job(added, times)
            if not begins:
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
            await asyncio.wait_for(executor.join(), PATIENCE)
            await asyncio.sleep(0)  # what a task calls at its end comes with the next turn
            assert executor.running == 0
        assert [event.scheduled_run_time for event in events] == times
        assert {event.code for event in events} == {EVENT_JOB_ERROR}
        assert {type(event.exception) for event in events} == {asyncio.CancelledError}
        assert len(tasks) == begins

    asyncio.run(main())


def test_coroutines_are_cancelled_from_another_thread() -> None:
    async def main() -> None:
        scheduler = AsyncIOScheduler(timezone="UTC")
        begun, ended = asyncio.Event(), asyncio.Event()
        events: list[Any] = []

        async def wait_for_ever() -> None:
            begun.set()
            await asyncio.Event().wait()

        def listen(event: Any) -> None:
            events.append(event)
            ended.set()

        scheduler.add_listener(listen, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
        scheduler.start()
        scheduler.add_job(wait_for_ever)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        await asyncio.to_thread(scheduler.shutdown, wait=False)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        (event,) = events
        assert isinstance(event.exception, asyncio.CancelledError)

    asyncio.run(main())


# Stores that block


class BlockingStore(MemoryJobStore):
    """A store that says in which thread it was closed."""

    blocking = True
    closed_in: threading.Thread | None = None

    def shutdown(self) -> None:
        self.closed_in = threading.current_thread()


@pytest.mark.parametrize("ending", [False, True], ids=["the loop goes on", "the loop ends"])
def test_a_store_that_blocks_is_closed_in_a_thread_while_there_is_one(ending: bool) -> None:
    store = BlockingStore()

    async def main() -> None:
        scheduler = AsyncIOScheduler(jobstores={"default": store})
        scheduler.start()
        if ending:
            await asyncio.get_running_loop().shutdown_default_executor()
        await scheduler.shutdown()

    asyncio.run(main())
    assert store.closed_in is not None
    assert (store.closed_in is threading.current_thread()) is ending


@pytest.mark.parametrize("step", ["submit_job", "_do_submit_job", "run_async"])
def test_a_step_that_a_subclass_overrides_is_asked_in_a_batch(step: str) -> None:
    asked: list[str] = []

    def override(self: AsyncIOExecutor, job: Any, run_times: Any) -> Any:
        asked.append(job.id)
        return getattr(AsyncIOExecutor, step)(self, job, run_times)

    kind: Any = type("Asking", (AsyncIOExecutor,), {step: override})

    async def main() -> None:
        ran: asyncio.Queue[None] = asyncio.Queue()

        async def job() -> None:
            ran.put_nowait(None)

        async with AsyncIOScheduler(timezone="UTC", executors={"default": kind()}) as scheduler:
            scheduler.add_jobs(({"id": name} for name in "abc"), func=job)
            for _ in "abc":
                await asyncio.wait_for(ran.get(), PATIENCE)
        assert sorted(asked) == ["a", "b", "c"]

    asyncio.run(main())


@pytest.mark.parametrize("factory", [None, lazily, getattr(asyncio, "eager_task_factory", lazily)])
def test_a_run_is_counted_until_it_ends_also_one_within_another(factory: Any) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        executor = AsyncIOExecutor()
        ended: asyncio.Queue[str] = asyncio.Queue()
        unblocked = asyncio.Event()

        async def ends() -> None:
            scheduler.run_job_now("inner")

        async def waits() -> None:
            await unblocked.wait()

        async def inner() -> None:
            assert executor.running > 1

        async with AsyncIOScheduler(timezone="UTC", executors={"default": executor}) as scheduler:
            scheduler.add_job(inner, id="inner", next_run_time=None, max_instances=2)
            scheduler.add_listener(lambda event: ended.put_nowait(event.job_id), EVENT_JOB_EXECUTED)
            scheduler.add_jobs({"func": each, "id": each.__name__} for each in (ends, waits))
            names = [await asyncio.wait_for(ended.get(), PATIENCE) for _ in range(2)]
            assert sorted(names) == ["ends", "inner"]
            await asyncio.sleep(0)
            assert executor.running == 1
            unblocked.set()
            assert await asyncio.wait_for(ended.get(), PATIENCE) == "waits"
            await asyncio.sleep(0)
            assert executor.running == 0

    asyncio.run(main())
