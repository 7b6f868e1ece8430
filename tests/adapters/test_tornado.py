"""What is Tornado's own: the IOLoop's life, coroutines of both kinds, its executor, its tests."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tornado.testing
import tornado.web
from support import programs
from support.programs import ROOT, Server, run_script, snippets
from support.schedulers import PATIENCE, Recorder
from tornado import gen
from tornado.ioloop import IOLoop

from tocsin.adapters import TornadoExecutor, TornadoScheduler
from tocsin.errors import SchedulerAlreadyRunningError
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_STARTED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
)
from tocsin.scheduler import STATE_STOPPED
from tocsin.stores import MemoryJobStore
from tocsin.testing import FakeClock


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread} was left behind"


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    loop = IOLoop(make_current=False)
    yield loop
    loop.close()


class Told(Recorder):
    """A recorder that the loop may wait for."""

    async def came(self, code: int, count: int = 1) -> list[Any]:
        return await in_thread(self.wait, code, count)  # type: ignore[no-any-return]


def in_thread(function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
    """Call a function in a thread of its own, not of the loop's executor, which is on trial."""
    called: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def call() -> None:
        try:
            called.set_result(function(*args))
        except BaseException as error:
            called.set_exception(error)

    threading.Thread(target=call).start()
    return asyncio.wrap_future(called)


def ident() -> int:
    return threading.get_ident()


# The loop


def test_started_before_its_loop(io_loop: IOLoop) -> None:
    scheduler = TornadoScheduler(io_loop=io_loop)
    scheduler.start()
    scheduler.add_job(io_loop.add_callback, args=[io_loop.stop])
    io_loop.start()
    assert scheduler.running
    io_loop.run_sync(scheduler.shutdown)


def test_a_loop_that_is_stopped_and_started_takes_the_scheduler_with_it(io_loop: IOLoop) -> None:
    told = Told()
    scheduler = TornadoScheduler(io_loop=io_loop)
    scheduler.add_listener(told)
    scheduler.start()
    job = scheduler.add_job(
        io_loop.add_callback, "interval", seconds=0.01, args=[io_loop.stop], id="stops"
    )
    for times in range(1, 4):
        io_loop.start()
        assert len(told.of(EVENT_JOB_SUBMITTED)) >= times
    job.remove()
    # Asked for while the loop stands still, from this thread and another.
    ran: list[str] = []
    scheduler.add_job(ran.append, args=["here"])
    thread = threading.Thread(target=scheduler.add_job, args=[ran.append], kwargs={"args": ["by"]})
    thread.start()
    thread.join()

    async def both() -> None:
        while len(ran) < 2:
            await asyncio.sleep(0.001)

    io_loop.run_sync(both, timeout=PATIENCE)
    io_loop.run_sync(scheduler.shutdown)


def test_under_asyncio_run_and_again_in_another_loop() -> None:
    scheduler = TornadoScheduler()
    ran: list[int] = []

    async def main() -> None:
        done = asyncio.Event()

        async def job() -> None:
            ran.append(ident())
            done.set()

        async with scheduler:
            scheduler.add_job(job)
            await asyncio.wait_for(done.wait(), PATIENCE)

    asyncio.run(main())
    asyncio.run(main())
    assert ran == [ident()] * 2


def test_a_tick_lost_with_its_loop_does_not_silence_the_next_one() -> None:
    lost = IOLoop(make_current=False)
    scheduler = TornadoScheduler(io_loop=lost)
    scheduler.start()
    scheduler.shutdown()  # before the tick that the start asked for
    lost.close()
    scheduler.configure()

    async def main() -> None:
        done = asyncio.Event()

        async def job() -> None:
            done.set()

        async with scheduler:
            scheduler.add_job(job)
            await asyncio.wait_for(done.wait(), PATIENCE)

    asyncio.run(main())


def test_without_a_running_loop_the_error_says_what_to_do() -> None:
    scheduler = TornadoScheduler()
    scheduler.add_job(print, "interval", hours=1)
    with pytest.raises(RuntimeError, match=r"no IOLoop is running.*io_loop=\.\.\."):
        scheduler.start()
    assert scheduler.state == STATE_STOPPED
    assert len(scheduler.get_jobs()) == 1


def test_a_closed_loop_is_refused_and_named() -> None:
    closed = IOLoop(make_current=False)
    closed.close()
    scheduler = TornadoScheduler(io_loop=closed)
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.start()
    assert scheduler.state == STATE_STOPPED


def test_a_loop_that_was_closed_under_the_scheduler_is_named() -> None:
    scheduler = TornadoScheduler()

    async def main() -> None:
        scheduler.start()
        await asyncio.sleep(0)

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="was closed while it ran; shut the scheduler down"):
        scheduler.add_job(print)
    scheduler.shutdown()
    assert scheduler.state == STATE_STOPPED


def test_what_is_no_io_loop_is_refused() -> None:
    with pytest.raises(TypeError, match=r"io_loop: a tornado\.ioloop\.IOLoop is needed"):
        TornadoScheduler(io_loop=asyncio)


async def _second_start() -> None:
    async with TornadoScheduler() as scheduler:
        with pytest.raises(SchedulerAlreadyRunningError):
            scheduler.start()


def test_a_second_start_is_refused() -> None:
    asyncio.run(_second_start())


# Jobs


def run(main: Callable[[TornadoScheduler, Told], Any], **options: Any) -> Told:
    """Run a coroutine function with a scheduler that is started and shut down around it."""
    told = Told()

    async def whole() -> None:
        scheduler = TornadoScheduler(**options)
        scheduler.add_listener(told)
        async with scheduler:
            await main(scheduler, told)

    asyncio.run(whole())
    return told


def test_coroutines_of_both_kinds_run_on_the_loop_and_functions_in_threads() -> None:
    async def native() -> int:
        await asyncio.sleep(0)
        return ident()

    @gen.coroutine
    def decorated(twice: int) -> Any:
        yield gen.sleep(0)
        assert IOLoop.current(instance=False) is not None
        return ident()

    async def main(scheduler: TornadoScheduler, told: Told) -> None:
        scheduler.add_job(native, id="native")
        scheduler.add_job(decorated, args=[2], id="decorated")
        scheduler.add_job(partial(decorated, 2), id="partial")
        scheduler.add_job(ident, id="function")
        await told.came(EVENT_JOB_EXECUTED, 4)

    told = run(main)
    threads = {event.job_id: event.retval for event in told.of(EVENT_JOB_EXECUTED)}
    assert threads.pop("function") != ident()
    assert set(threads) == {"native", "decorated", "partial"}
    assert set(threads.values()) == {ident()}


def test_functions_run_in_the_executor_that_the_loop_has() -> None:
    async def main(scheduler: TornadoScheduler, told: Told) -> None:
        IOLoop.current().set_default_executor(
            concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="of-the-loop")
        )
        scheduler.add_job(lambda: threading.current_thread().name)
        await told.came(EVENT_JOB_EXECUTED)

    (event,) = run(main).of(EVENT_JOB_EXECUTED)
    assert event.retval.startswith("of-the-loop")


def test_functions_run_in_a_pool_of_the_executor_that_was_given_a_size() -> None:
    async def main(scheduler: TornadoScheduler, told: Told) -> None:
        scheduler.add_job(lambda: threading.current_thread().name)
        await told.came(EVENT_JOB_EXECUTED)

    told = run(main, executors={"default": TornadoExecutor(max_workers=2)})
    (event,) = told.of(EVENT_JOB_EXECUTED)
    assert event.retval.startswith("tocsin-worker")


def test_an_executor_of_the_loop_that_was_shut_down_is_an_error_of_the_run() -> None:
    async def main(scheduler: TornadoScheduler, told: Told) -> None:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.shutdown()
        asyncio.get_running_loop().set_default_executor(pool)
        scheduler.add_job(ident)
        while not told.of(EVENT_JOB_ERROR):
            await asyncio.sleep(0.001)
        assert scheduler.health()["executors"]["default"]["running"] == 0
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))

    (event,) = run(main).of(EVENT_JOB_ERROR)
    assert "shutdown" in str(event.exception)


def test_a_run_that_the_executor_of_the_loop_drops_is_reported() -> None:
    begun, finish = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        assert finish.wait(PATIENCE)

    async def main(scheduler: TornadoScheduler, told: Told) -> None:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
        scheduler.add_job(job, id="runs")
        await in_thread(begun.wait, PATIENCE)
        scheduler.add_job(job, id="waits")
        while len(told.of(EVENT_JOB_SUBMITTED)) < 2:
            await asyncio.sleep(0.001)
        pool.shutdown(wait=False, cancel_futures=True)
        finish.set()
        while not told.of(EVENT_JOB_ERROR):
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))

    told = run(main)
    (event,) = told.of(EVENT_JOB_ERROR)
    assert event.job_id == "waits"
    assert "dropped" in str(event.exception)


def test_shutdown_waits_for_functions_and_coroutines_and_the_loop_goes_on() -> None:
    async def main() -> None:
        told = Told()
        scheduler = TornadoScheduler()
        scheduler.add_listener(told)
        scheduler.start()
        finish, release = threading.Event(), asyncio.Event()
        scheduler.add_job(finish.wait, args=[PATIENCE])
        scheduler.add_job(release.wait)
        await told.came(EVENT_JOB_STARTED, 2)
        closing = scheduler.shutdown()
        release.set()
        await told.came(EVENT_JOB_EXECUTED)
        await asyncio.sleep(0.05)
        assert not closing.done()
        finish.set()
        await asyncio.wait_for(closing, PATIENCE)
        assert len(told.of(EVENT_JOB_EXECUTED)) == 2
        assert told.events[-1].code == EVENT_SCHEDULER_SHUTDOWN

    asyncio.run(main())


def test_a_job_may_await_the_shutdown_that_it_asks_for() -> None:
    async def main() -> None:
        told = Told()
        scheduler = TornadoScheduler()
        scheduler.add_listener(told)
        scheduler.start()

        async def job() -> str:
            await scheduler.shutdown()
            await asyncio.sleep(0)
            return "went on"

        scheduler.add_job(job)
        (event,) = await told.came(EVENT_JOB_EXECUTED)
        assert event.retval == "went on"
        assert scheduler.state == STATE_STOPPED

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_shutdown_without_waiting_reports_what_it_cancels() -> None:
    async def main() -> None:
        told = Told()
        scheduler = TornadoScheduler()
        scheduler.add_listener(told)
        scheduler.start()
        scheduler.add_job(
            asyncio.sleep, "interval", hours=1, args=[3600], id="job", max_instances=2
        )
        scheduler.run_job_now("job")
        await told.came(EVENT_JOB_STARTED)
        scheduler.run_job_now("job")
        scheduler.shutdown(wait=False)
        while len(told.of(EVENT_JOB_ERROR)) < 2:
            await asyncio.sleep(0.001)
        errors = told.of(EVENT_JOB_ERROR)
        assert {type(event.exception) for event in errors} == {asyncio.CancelledError}
        # Before Python 3.12 a task begins a moment after it was made, and that moment never came.
        assert len(told.of(EVENT_JOB_STARTED)) == (2 if sys.version_info >= (3, 12) else 1)
        assert scheduler.health()["executors"]["default"]["running"] == 0

    asyncio.run(main())


def test_a_loop_that_ends_without_a_shutdown_reports_the_jobs_it_cancels() -> None:
    told = Told()
    scheduler = TornadoScheduler()
    scheduler.add_listener(told)

    async def main() -> None:
        scheduler.start()
        scheduler.add_job(asyncio.sleep, args=[3600])
        await told.came(EVENT_JOB_STARTED)

    asyncio.run(main())
    (event,) = told.of(EVENT_JOB_ERROR)
    assert isinstance(event.exception, asyncio.CancelledError)
    assert scheduler.health()["executors"]["default"]["running"] == 0
    scheduler.shutdown()


# Stores that block


class BlockingStore(MemoryJobStore):
    """A real store that blocks its thread at the end of a step until a gate opens."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.threads: set[int] = set()

    def next_due(self) -> int | None:
        due = super().next_due()
        self.threads.add(ident())
        self.entered.set()
        assert self.gate.wait(PATIENCE), "the loop stood still: nobody opened the gate"
        return due


def test_a_blocking_store_does_not_stop_the_loop() -> None:
    store = BlockingStore()

    async def native() -> int:
        return ident()

    async def main(scheduler: TornadoScheduler, told: Told) -> None:
        scheduler.add_job(native)
        await in_thread(store.entered.wait, PATIENCE)
        scheduler.add_job(native)  # while a step is under way that has seen its due job
        store.gate.set()
        events = await told.came(EVENT_JOB_EXECUTED, 2)
        assert {event.retval for event in events} == {ident()}
        scheduler.add_job(ident, "interval", seconds=0.01)
        await told.came(EVENT_JOB_EXECUTED, 4)

    run(main, jobstores={"default": store})
    assert ident() not in store.threads


def test_a_shutdown_waits_for_the_step_in_a_store_and_the_loop_goes_on() -> None:
    store = BlockingStore()

    async def main() -> None:
        told = Told()
        scheduler = TornadoScheduler(jobstores={"default": store})
        scheduler.add_listener(told)
        scheduler.add_job(ident)
        scheduler.start()
        await in_thread(store.entered.wait, PATIENCE)
        closing = scheduler.shutdown()
        await asyncio.sleep(0.01)
        assert not closing.done()
        store.gate.set()
        await asyncio.wait_for(closing, PATIENCE)
        assert [event.code for event in told.of(EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)] == [
            EVENT_JOB_EXECUTED
        ]

    asyncio.run(main())


def test_a_listener_may_shut_down_in_the_thread_of_the_stores() -> None:
    store = BlockingStore()
    store.gate.set()

    async def main() -> None:
        told = Told()
        scheduler = TornadoScheduler(jobstores={"default": store})
        scheduler.add_listener(told)
        scheduler.add_listener(lambda event: scheduler.shutdown() and None, EVENT_JOB_SUBMITTED)
        scheduler.start()
        scheduler.add_job(ident)
        await told.came(EVENT_SCHEDULER_SHUTDOWN)
        assert len(told.of(EVENT_JOB_EXECUTED)) == 1

    asyncio.run(main())


# Inside Tornado's own tests


class InTests(tornado.testing.AsyncTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.scheduler = TornadoScheduler(io_loop=self.io_loop)
        self.scheduler.start()

    def tearDown(self) -> None:
        self.io_loop.run_sync(self.scheduler.shutdown)
        super().tearDown()

    @tornado.testing.gen_test
    async def test_a_job(self) -> None:
        done = asyncio.Event()

        async def job() -> None:
            assert IOLoop.current() is self.io_loop
            done.set()

        self.scheduler.add_job(job, "interval", seconds=0.01)
        await asyncio.wait_for(done.wait(), PATIENCE)

    def test_with_stop_and_wait(self) -> None:
        self.scheduler.add_job(self.stop, args=["came"])
        assert self.wait(timeout=PATIENCE) == "came"


class InHTTPTests(tornado.testing.AsyncHTTPTestCase):
    def get_app(self) -> tornado.web.Application:
        scheduler = self.scheduler = TornadoScheduler(io_loop=self.io_loop)
        scheduler.start()
        ran = self.ran = asyncio.Event()

        class Handler(tornado.web.RequestHandler):
            async def post(self) -> None:
                async def job() -> None:
                    ran.set()

                self.write(scheduler.add_job(job).id)

        return tornado.web.Application([("/", Handler)])

    def tearDown(self) -> None:
        self.io_loop.run_sync(self.scheduler.shutdown)
        super().tearDown()

    def test_a_handler_adds_a_job(self) -> None:
        response = self.fetch("/", method="POST", body="")
        assert response.code == 200
        assert len(response.body) == 32
        self.io_loop.run_sync(self.ran.wait, timeout=PATIENCE)


# Processes of their own


LOOPS = {
    "asyncio.run": """
        async def main():
            scheduler.start()
            try:
                await asyncio.Event().wait()
            finally:
                await scheduler.shutdown()
        def run():
            asyncio.run(main())
        """,
    "IOLoop.start": """
        def run():
            io_loop = IOLoop(make_current=False)
            scheduler.configure(io_loop=io_loop)
            scheduler.start()
            try:
                io_loop.start()
            finally:
                io_loop.run_sync(scheduler.shutdown)
                io_loop.run_sync(io_loop.asyncio_loop.shutdown_default_executor)
                io_loop.close()
        """,
}


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_leaves_nothing_behind(loop: str) -> None:
    output = run_script(
        textwrap.dedent("""
        import asyncio, threading
        from tornado.ioloop import IOLoop
        from tocsin.adapters import TornadoScheduler
        # Told on the loop, by what is no task: a signal is lost in what Python calls when a task is
        # freed, and of a thread whose start it interrupts nobody knows.
        def tell():
            print("ready", flush=True)
        def work():
            scheduler._io_loop.add_callback(tell)
        scheduler = TornadoScheduler()
        scheduler.add_job(work)
        scheduler.add_job(asyncio.sleep, "interval", minutes=1, args=[0])
        """)
        + textwrap.dedent(LOOPS[loop])
        + textwrap.dedent("""
        try:
            run()
        except KeyboardInterrupt:
            print("interrupted", scheduler.running, threading.active_count())
        """),
        stop=signal.SIGINT,
    )
    assert output.endswith("interrupted False 1\n")


def test_without_tornado_the_error_names_the_extra() -> None:
    output = run_script("""
        import sys
        sys.modules["tornado"] = None
        import tocsin.adapters
        for name in ("TornadoScheduler", "TornadoExecutor"):
            try:
                getattr(tocsin.adapters, name)
            except ImportError as error:
                print(error)
    """)
    assert output.count("pip install tocsin[tornado]") == 2


def test_a_simulated_clock_drives_the_loop(io_loop: IOLoop) -> None:
    clock = FakeClock("2026-03-01")
    ran = []

    async def job() -> None:
        ran.append(clock.time.day)

    async def main() -> None:
        async with TornadoScheduler(clock=clock, timezone="UTC") as scheduler:
            scheduler.add_job(job, "cron", hour=3)
            for day in range(1, 4):
                clock.advance(timedelta(days=1))
                scheduler.wakeup()
                while len(ran) < day:
                    await asyncio.sleep(0)

    io_loop.run_sync(main, timeout=PATIENCE)
    assert ran == [2, 3, 4]


# The page and the example


@pytest.mark.parametrize("snippet", snippets("tornado.md"))
def test_snippets_of_the_page(snippet: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(snippet)
    programs.run(program)


def test_the_example_serves_and_stops() -> None:
    with Server(ROOT / "examples" / "tornado_app.py") as server:
        status, job = server.ask("POST", "/jobs", {"seconds": 0.02, "text": "tea"})
        assert status == 201
        assert server.ask("GET", "/jobs")[1]["jobs"][0]["id"] == job["id"]
        url = f"/jobs/{job['id']}"
        deadline = time.monotonic() + PATIENCE
        while len(server.ask("GET", "/said")[1]["said"]) < 3:
            assert time.monotonic() < deadline
        assert server.ask("GET", "/said")[1]["said"][0].endswith(" tea")
        assert server.ask("PATCH", url, {"paused": True})[1]["next_run_time"] is None
        assert server.ask("PATCH", url, {"paused": False})[1]["next_run_time"] is not None
        assert server.ask("DELETE", url)[0] == 204
        assert server.ask("GET", url)[0] == server.ask("DELETE", url)[0] == 404
        assert server.ask("GET", "/jobs")[1] == {"jobs": []}
        status, answer = server.ask("POST", "/jobs", {"cron": "61 * * * *", "text": "never"})
        assert (status, "61" in answer["error"]) == (400, True)
        for wrong in ({"text": "no time"}, ["a list"], {"seconds": "x", "text": "wrong"}):
            assert server.ask("POST", "/jobs", wrong)[0] == 400
        assert server.ask("POST", "/jobs", {"cron": "0 3 * * *", "text": "night"})[0] == 201
