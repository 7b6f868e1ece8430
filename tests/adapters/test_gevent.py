"""What is gevent's own: greenlets, the pool, kills, stores, monkey patching, signals."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event
from support.programs import ROOT, Server, run, run_script, snippets
from support.schedulers import PATIENCE

from tocsin.adapters import GeventExecutor, GeventScheduler, ThreadPoolExecutor
from tocsin.errors import ConflictingIdError, SchedulerNotRunningError
from tocsin.events import (
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_STARTED,
    EVENT_JOBSTORE_ERROR,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
)
from tocsin.scheduler import STATE_RUNNING, STATE_STOPPED
from tocsin.scheduler.parts import FOREVER
from tocsin.stores import MemoryJobStore
from tocsin.testing import FakeScheduler


def living() -> set[gevent.Greenlet]:
    return {
        each for each in gc.get_objects() if isinstance(each, gevent.Greenlet) and not each.dead
    }


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = living()
    yield
    gevent.idle()
    assert not living() - before, "greenlets were left behind"


class Told:
    """A listener that greenlets may wait for."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._came = Event()

    def __call__(self, event: Any) -> None:
        self.events.append(event)
        self._came.set()

    def of(self, code: int) -> list[Any]:
        return [event for event in self.events if event.code & code]

    def wait(self, code: int, count: int = 1) -> list[Any]:
        with gevent.Timeout(PATIENCE):
            while len(self.of(code)) < count:
                self._came.clear()
                self._came.wait()
        return self.of(code)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def make(told: Told) -> Iterator[Callable[..., GeventScheduler]]:
    made = []

    def make(**options: Any) -> GeventScheduler:
        scheduler = GeventScheduler(**options)
        scheduler.add_listener(told)
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        if scheduler.state != STATE_STOPPED:
            scheduler.shutdown(timeout=1)


@pytest.fixture
def scheduler(make: Callable[..., GeventScheduler]) -> GeventScheduler:
    scheduler = make()
    scheduler.start()
    return scheduler


def in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of the operating system; other greenlets go on meanwhile."""
    return gevent.get_hub().threadpool.apply(function)


# The scheduler and its greenlet


def test_start_gives_a_greenlet_that_lasts_until_shutdown(
    make: Callable[..., GeventScheduler],
) -> None:
    scheduler = make()
    greenlet = scheduler.start()
    assert isinstance(greenlet, gevent.Greenlet)
    gevent.idle()
    assert not greenlet.dead
    gevent.spawn(scheduler.shutdown)
    greenlet.join(PATIENCE)
    assert greenlet.successful()
    assert scheduler.state == STATE_STOPPED


def test_an_idle_scheduler_is_no_deadlock_and_hears_other_threads(
    scheduler: GeventScheduler,
) -> None:
    ran: AsyncResult = AsyncResult()
    idle = threading.Event()
    thread = threading.Thread(
        target=lambda: idle.wait(PATIENCE) and scheduler.add_job(ran.set, args=["ran"])
    )
    thread.start()
    gevent.idle()
    idle.set()
    assert ran.get() == "ran"  # without a timer: LoopExit if nothing kept the loop
    thread.join()


def test_to_kill_the_greenlet_is_to_shut_down(scheduler: GeventScheduler, told: Told) -> None:
    job = scheduler.add_job(gevent.sleep, args=[3600])
    told.wait(EVENT_JOB_STARTED)
    greenlet = scheduler._greenlet
    assert greenlet is not None
    greenlet.kill()
    (event,) = told.wait(EVENT_JOB_ERROR)
    assert (event.job_id, type(event.exception)) == (job.id, gevent.GreenletExit)
    told.wait(EVENT_SCHEDULER_SHUTDOWN)
    assert scheduler.state == STATE_STOPPED


def test_a_greenlet_that_is_killed_before_it_began_shuts_down_too(
    scheduler: GeventScheduler, told: Told
) -> None:
    assert scheduler._greenlet is not None
    scheduler._greenlet.kill()
    told.wait(EVENT_SCHEDULER_SHUTDOWN)
    assert scheduler.state == STATE_STOPPED


def test_with(told: Told) -> None:
    with GeventScheduler() as scheduler:
        scheduler.add_listener(told)
        scheduler.add_job(gevent.sleep)
        told.wait(EVENT_JOB_EXECUTED)
    assert scheduler.state == STATE_STOPPED


def test_a_listener_may_shut_down_at_the_start(make: Callable[..., GeventScheduler]) -> None:
    scheduler = make()
    scheduler.add_listener(lambda event: scheduler.shutdown(), EVENT_SCHEDULER_STARTED)
    scheduler.start().join(PATIENCE)
    assert scheduler.state == STATE_STOPPED


def test_a_listener_may_shut_down_while_jobs_are_handed_over(
    scheduler: GeventScheduler, told: Told
) -> None:
    scheduler.add_listener(lambda event: scheduler.shutdown(), EVENT_JOB_STARTED)
    scheduler.add_job(gevent.sleep)
    told.wait(EVENT_SCHEDULER_SHUTDOWN)
    assert scheduler.state == STATE_STOPPED


def test_steps_do_not_overlap_when_a_listener_waits(scheduler: GeventScheduler, told: Told) -> None:
    inside: list[str] = []
    overlaps = []
    step = scheduler._loop.advance

    def advance(now: int) -> int | None:
        overlaps.append(len(inside))
        inside.append("step")
        try:
            return step(now)
        finally:
            inside.pop()

    scheduler._loop.advance = advance  # type: ignore[method-assign]
    scheduler.add_listener(lambda event: gevent.sleep(0.01), EVENT_JOB_STARTED - 1)
    for _ in range(5):
        scheduler.add_job(gevent.sleep)
    told.wait(EVENT_JOB_EXECUTED, 5)
    assert set(overlaps) == {0}


def test_callbacks_of_the_hub_are_refused_clearly(make: Callable[..., GeventScheduler]) -> None:
    scheduler = make()

    def in_hub(function: Callable[[], Any]) -> BaseException | None:
        problem: AsyncResult = AsyncResult()

        def call() -> None:
            try:
                function()
            except BaseException as error:
                problem.set(error)
            else:
                problem.set(None)

        gevent.get_hub().loop.run_callback(call)
        return problem.get(timeout=PATIENCE)  # type: ignore[no-any-return]

    refused = in_hub(scheduler.start)
    assert isinstance(refused, RuntimeError)
    assert "gevent.spawn(scheduler.start)" in str(refused)
    assert scheduler.state == STATE_STOPPED
    scheduler.start()
    refused = in_hub(scheduler.shutdown)
    assert isinstance(refused, RuntimeError)
    assert "gevent.spawn(scheduler.shutdown)" in str(refused)
    assert scheduler.state == STATE_RUNNING


def test_shutdown_from_another_thread_waits_there_and_raises_there(
    scheduler: GeventScheduler, told: Told
) -> None:
    finish = Event()
    scheduler.add_job(finish.wait)
    told.wait(EVENT_JOB_STARTED)
    stopper = gevent.get_hub().threadpool.spawn(scheduler.shutdown)
    with gevent.Timeout(PATIENCE):
        while scheduler.state != STATE_STOPPED:
            gevent.sleep(0)
    assert not stopper.ready()
    finish.set()
    stopper.get(timeout=PATIENCE)
    assert len(told.of(EVENT_JOB_EXECUTED)) == 1
    with pytest.raises(SchedulerNotRunningError):
        in_thread(scheduler.shutdown)


# Jobs in the pool


def test_a_full_pool_queues_and_the_hub_goes_on(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    scheduler = make(executors={"default": GeventExecutor(size=2)})
    scheduler.start()
    finish = Event()
    running: list[int] = []
    most = []

    def job(number: int) -> None:
        running.append(number)
        most.append(len(running))
        finish.wait()
        running.remove(number)

    for number in range(7):
        scheduler.add_job(job, args=[number])
    told.wait(EVENT_JOB_STARTED, 2)
    gevent.idle()
    assert len(told.of(EVENT_JOB_STARTED)) == 2
    assert scheduler.health()["executors"]["default"]["running"] == 7
    finish.set()
    told.wait(EVENT_JOB_EXECUTED, 7)
    assert max(most) == 2


def test_a_full_pool_may_reject(make: Callable[..., GeventScheduler], told: Told) -> None:
    scheduler = make(executors={"default": GeventExecutor(size=2, when_full="reject")})
    scheduler.start()
    finish = Event()
    for _ in range(3):
        scheduler.add_job(finish.wait)
    (event,) = told.wait(EVENT_JOB_ERROR)
    assert "all 2 greenlets of the pool are busy" in str(event.exception)
    finish.set()
    told.wait(EVENT_JOB_EXECUTED, 2)
    assert scheduler.health()["executors"]["default"]["running"] == 0
    scheduler.add_job(gevent.sleep)
    told.wait(EVENT_JOB_EXECUTED, 3)


def test_a_pool_without_a_limit(make: Callable[..., GeventScheduler], told: Told) -> None:
    scheduler = make(executors={"default": GeventExecutor(size=None, when_full="reject")})
    scheduler.start()
    finish = Event()
    scheduler.add_jobs([{"func": finish.wait} for _ in range(1500)])
    told.wait(EVENT_JOB_STARTED, 1500)
    finish.set()
    told.wait(EVENT_JOB_EXECUTED, 1500)


def test_the_pool_is_configured_as_text(make: Callable[..., GeventScheduler], told: Told) -> None:
    scheduler = make(
        gconfig={"tocsin.executors.default": {"type": "gevent", "size": "5"}},
    )
    scheduler.start()
    executor = scheduler._executors["default"]
    assert isinstance(executor, GeventExecutor)
    assert executor.size == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 0}, "size: 0 is less than 1"), ({"when_full": "drop"}, "neither 'queue' nor")],
)
def test_wrong_options_of_the_pool(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeventExecutor(**options)


def test_a_run_that_waits_shares_its_greenlet_with_no_other(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    scheduler = make(executors={"default": GeventExecutor(size=3)})
    scheduler.start()
    greenlets = []

    def waits() -> None:
        greenlets.append(gevent.getcurrent())
        gevent.sleep(0.001)

    scheduler.add_jobs([{"func": waits} for _ in range(30)])
    told.wait(EVENT_JOB_EXECUTED, 30)
    assert len(set(greenlets)) == 30


def test_many_short_jobs_let_others_have_a_turn(scheduler: GeventScheduler, told: Told) -> None:
    turns = []

    def others() -> None:
        while True:
            turns.append(len(told.of(EVENT_JOB_EXECUTED)))
            gevent.sleep(0)

    greenlet = gevent.spawn(others)
    # Each takes a fifth of the time after which others have a turn, without waiting.
    scheduler.add_jobs([{"func": time.sleep, "args": [0.001]} for _ in range(40)])
    told.wait(EVENT_JOB_EXECUTED, 40)
    greenlet.kill()
    assert len({turn for turn in turns if 0 < turn < 40}) >= 3


def test_runs_are_taken_from_other_threads(scheduler: GeventScheduler, told: Told) -> None:
    threads = []
    job = scheduler.add_job(
        lambda: threads.append(threading.get_ident()), "interval", hours=1, max_instances=50
    )

    def call() -> None:
        for _ in range(50):
            scheduler.run_job_now(job.id)

    in_thread(call)
    told.wait(EVENT_JOB_EXECUTED, 50)
    assert set(threads) == {threading.get_ident()}


# The end of jobs


def test_a_limited_shutdown_kills_what_runs_and_drops_what_waits(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    scheduler = make(executors={"default": GeventExecutor(size=1)})
    scheduler.start()
    cleaned = []

    def job() -> None:
        try:
            gevent.sleep(3600)
        finally:
            gevent.sleep(0)
            cleaned.append("up")

    scheduler.add_job(job, id="runs")
    told.wait(EVENT_JOB_STARTED)
    scheduler.add_job(job, id="waits")
    gevent.idle()
    scheduler.shutdown(timeout=0.05)
    errors = {event.job_id: event for event in told.of(EVENT_JOB_ERROR)}
    assert isinstance(errors["runs"].exception, gevent.GreenletExit)
    assert "GreenletExit" in errors["runs"].traceback
    assert errors["runs"].start is not None
    assert "shut down" in str(errors["waits"].exception)
    assert errors["waits"].start is None
    assert cleaned == ["up"]
    assert told.events[-1].code == EVENT_SCHEDULER_SHUTDOWN
    assert scheduler.health()["executors"]["default"]["running"] == 0


def test_a_shutdown_without_waiting_kills_at_once(scheduler: GeventScheduler, told: Told) -> None:
    scheduler.add_job(gevent.sleep, args=[3600])
    told.wait(EVENT_JOB_STARTED)
    scheduler.shutdown(wait=False)
    assert scheduler.state == STATE_STOPPED
    (event,) = told.wait(EVENT_JOB_ERROR)
    assert isinstance(event.exception, gevent.GreenletExit)


def test_a_job_handed_over_and_killed_before_it_began_is_reported(
    scheduler: GeventScheduler, told: Told
) -> None:
    job = scheduler.add_job(gevent.sleep, "interval", hours=1)
    scheduler.run_job_now(job.id)
    scheduler.shutdown(wait=False)
    (event,) = told.wait(EVENT_JOB_ERROR)
    assert "shut down" in str(event.exception)
    assert not told.of(EVENT_JOB_STARTED)
    assert scheduler.health()["executors"]["default"]["running"] == 0
    scheduler.start()
    scheduler.run_job_now(job.id)
    told.wait(EVENT_JOB_EXECUTED)


def test_a_job_that_will_not_die_does_not_hold_a_limited_shutdown(
    scheduler: GeventScheduler, told: Told
) -> None:
    finish = Event()

    def stubborn() -> None:
        while not finish.is_set():
            try:
                finish.wait()
            except gevent.GreenletExit:
                continue

    scheduler.add_job(stubborn)
    told.wait(EVENT_JOB_STARTED)
    scheduler.shutdown(timeout=0.02)
    assert not told.of(EVENT_JOB_EXECUTED)
    finish.set()
    told.wait(EVENT_JOB_EXECUTED)


def test_a_killed_job_does_not_go_on_with_its_other_run_times(
    scheduler: GeventScheduler, told: Told
) -> None:
    start = datetime.now(timezone.utc) - timedelta(seconds=2.5)
    scheduler.add_job(
        gevent.sleep,
        "interval",
        seconds=1,
        start_date=start,
        next_run_time=start,
        coalesce=False,
        args=[3600],
    )
    told.wait(EVENT_JOB_STARTED)
    scheduler.shutdown(timeout=0)
    errors = told.of(EVENT_JOB_ERROR)
    assert [event.scheduled_run_time for event in errors] == [
        start + timedelta(seconds=n) for n in range(3)
    ]
    assert {type(event.exception) for event in errors} == {gevent.GreenletExit}
    assert len(told.of(EVENT_JOB_STARTED)) == 1


def test_a_timeout_in_a_job_is_the_error_of_one_run(scheduler: GeventScheduler, told: Told) -> None:
    start = datetime.now(timezone.utc) - timedelta(seconds=1.5)

    def job() -> None:
        with gevent.Timeout(0.01):
            gevent.sleep(3600)

    scheduler.add_job(
        job, "interval", seconds=1, start_date=start, next_run_time=start, coalesce=False
    )
    errors = told.wait(EVENT_JOB_ERROR, 2)
    assert isinstance(errors[0].exception, gevent.Timeout)
    assert errors[0].exception.seconds == 0.01
    assert "gevent.sleep(3600)" in errors[0].traceback


def test_a_job_that_shuts_down_is_spared_and_others_are_waited_for(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    scheduler = make(executors={"default": GeventExecutor(size=1)})
    scheduler.start()
    order = []

    def stopper() -> None:
        gevent.sleep(0.01)
        scheduler.shutdown()
        order.append("shut down")

    scheduler.add_job(stopper, id="stopper")
    told.wait(EVENT_JOB_STARTED)
    scheduler.add_job(order.append, args=["waited"])  # in the only place of the pool
    told.wait(EVENT_SCHEDULER_SHUTDOWN)
    told.wait(EVENT_JOB_EXECUTED, 2)
    assert order == ["waited", "shut down"]
    assert not told.of(EVENT_JOB_ERROR)


def test_ctrl_c_in_a_job_goes_to_the_main_greenlet(
    scheduler: GeventScheduler, told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    scheduler.add_job(interrupted)
    with pytest.raises(KeyboardInterrupt):
        Event().wait(PATIENCE)
    (event,) = told.of(EVENT_JOB_ERROR)
    assert isinstance(event.exception, KeyboardInterrupt)
    scheduler.add_job(gevent.sleep)
    told.wait(EVENT_JOB_EXECUTED)


def test_a_coroutine_that_a_function_gives_is_refused(
    scheduler: GeventScheduler, told: Told
) -> None:
    async def coroutine() -> None: ...

    scheduler.add_job(lambda: coroutine())
    (event,) = told.wait(EVENT_JOB_ERROR)
    assert "can't run in a greenlet" in str(event.exception)


def test_threads_run_coroutines_beside_greenlets(scheduler: GeventScheduler, told: Told) -> None:
    scheduler.add_executor(ThreadPoolExecutor(1), "threads")
    here = threading.get_ident()

    async def coroutine() -> bool:
        return threading.get_ident() != here

    scheduler.add_job(coroutine, executor="threads", id="c")
    (event,) = told.wait(EVENT_JOB_EXECUTED)
    assert event.retval is True
    # Its threads are joined in a thread of the hub's pool.
    finish = threading.Event()
    scheduler.add_job(finish.wait, args=[PATIENCE], executor="threads")
    told.wait(EVENT_JOB_STARTED, 2)
    stopper = gevent.spawn(scheduler.shutdown)
    gevent.sleep(0.01)
    finish.set()
    stopper.get(timeout=PATIENCE)
    assert len(told.of(EVENT_JOB_EXECUTED)) == 2


# Stores that block


class BlockingStore(MemoryJobStore):
    """A real store whose calls block their thread until a gate opens."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.threads: set[int] = set()

    def _wait(self) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(PATIENCE), "the hub stood still: nobody opened the gate"

    def claim(self, now: int, limit: int) -> list[Any]:
        self._wait()
        return super().claim(now, limit)

    def add_jobs(self, jobs: Any, replace: bool) -> list[bool]:
        self._wait()
        return super().add_jobs(jobs, replace)

    def lookup_job(self, job_id: str) -> Any:
        self._wait()
        return super().lookup_job(job_id)


def settle(scheduler: GeventScheduler) -> None:
    """Add a job for later, and wait until the scheduler sleeps until then."""
    scheduler.add_job(gevent.sleep, "interval", hours=1)
    with gevent.Timeout(PATIENCE):
        while scheduler._stepping() or scheduler._wake_at == FOREVER:
            gevent.sleep(0.001)


def test_a_blocking_store_does_not_stop_the_hub(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    store = BlockingStore()
    scheduler = make(jobstores={"default": store})
    scheduler.start()
    scheduler.add_job(gevent.sleep, "interval", hours=1, id="later")
    told.wait(EVENT_JOB_ADDED)
    store.gate.clear()
    store.entered.clear()
    call = gevent.spawn(scheduler.get_job, "later")
    assert in_thread(lambda: store.entered.wait(PATIENCE))
    assert not call.ready()
    store.gate.set()
    assert call.get(timeout=PATIENCE).id == "later"
    scheduler.add_job(gevent.sleep)
    told.wait(EVENT_JOB_EXECUTED)
    assert threading.get_ident() not in store.threads


def test_an_error_of_a_blocking_store_is_raised_and_not_printed(
    make: Callable[..., GeventScheduler], capfd: pytest.CaptureFixture[str]
) -> None:
    scheduler = make(jobstores={"default": BlockingStore()})
    scheduler.start()
    scheduler.add_job(gevent.sleep, "interval", hours=1, id="one")
    with pytest.raises(ConflictingIdError, match="one"):
        scheduler.add_job(gevent.sleep, "interval", hours=1, id="one")
    assert "Traceback" not in capfd.readouterr().err


def test_a_job_whose_adding_was_interrupted_is_either_there_and_runs_or_not_there(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    store = BlockingStore()
    scheduler = make(jobstores={"default": store})
    scheduler.start()
    settle(scheduler)
    store.gate.clear()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        scheduler.add_job(gevent.sleep, id="interrupted")
    store.gate.set()
    (event,) = told.wait(EVENT_JOB_EXECUTED)
    assert event.job_id == "interrupted"


def test_troubles_of_a_blocking_store_are_told_on_the_hub(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    scheduler = make(jobstores={"default": BlockingStore()})
    threads = []
    scheduler.add_listener(
        lambda event: threads.append(threading.get_ident()), EVENT_JOBSTORE_ERROR
    )
    scheduler.start()
    in_thread(lambda: scheduler.report_store_error("default", OSError("gone"), 1.0))
    told.wait(EVENT_JOBSTORE_ERROR)
    assert threads == [threading.get_ident()]


def test_a_shutdown_waits_for_the_step_in_a_store(
    make: Callable[..., GeventScheduler], told: Told
) -> None:
    store = BlockingStore()
    scheduler = make(jobstores={"default": store})
    scheduler.start()
    settle(scheduler)
    store.gate.clear()
    store.entered.clear()
    scheduler.wakeup()
    assert in_thread(lambda: store.entered.wait(PATIENCE))
    stopper = gevent.spawn(scheduler.shutdown)
    gevent.idle()
    assert not stopper.ready()
    store.gate.set()
    stopper.get(timeout=PATIENCE)


# Testing


def test_a_simulated_clock_with_jobs_in_greenlets() -> None:
    scheduler = FakeScheduler(executors={"default": GeventExecutor()})
    ran = []
    scheduler.add_job(lambda: ran.append(gevent.getcurrent()), "cron", hour=3, timezone="UTC")
    scheduler.start()
    for _ in range(3):
        scheduler.clock.advance(timedelta(days=1))
        gevent.idle()
    scheduler.shutdown()
    assert len(ran) == len(set(ran)) == 3


# Processes of their own


PATCHED = """
    from gevent import monkey
    monkey.patch_all()
    import random, sys, threading, time
    import gevent
    from gevent import get_hub
    from tocsin.adapters import BackgroundScheduler, GeventScheduler
    from tocsin.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED

    kind = {"gevent": GeventScheduler, "background": BackgroundScheduler}[sys.argv[1]]
    scheduler = kind()
    ended = []
    mask = EVENT_JOB_ERROR | EVENT_JOB_EXECUTED
    scheduler.add_listener(lambda event: ended.append(event.code), mask)
    scheduler.start()

    # Jobs that sleep are greenlets: they sleep at the same time.
    begun = time.monotonic()
    for _ in range(8):
        scheduler.add_job(time.sleep, args=[0.2])
    while len(ended) < 8:
        time.sleep(0.01)
    assert time.monotonic() - begun < 1.0, "the jobs ran one after the other"

    # Greenlets that look like threads, and threads that are some, use it at the same time.
    ran = []
    def hammer(number):
        for turn in range(40):
            name = f"{number}-{turn}"
            job = scheduler.add_job(ran.append, "interval", hours=1, args=[name], id=name)
            job.modify(name="x")
            job.pause()
            job.resume()
            if turn % 2:
                job.remove()
            else:
                scheduler.run_job_now(job.id)
            time.sleep(random.random() / 1000)
    threads = [threading.Thread(target=hammer, args=[f"g{n}"]) for n in range(6)]
    for thread in threads:
        thread.start()
    native = [get_hub().threadpool.spawn(hammer, f"n{n}") for n in range(int(sys.argv[2]))]
    gevent.joinall(native, timeout=40, raise_error=True)
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    whole = 20 * (len(threads) + len(native))
    while len(ran) < whole:
        time.sleep(0.01)
    assert len(ran) == len(set(ran)) == whole, len(ran)
    assert len(scheduler.get_jobs()) == whole
    scheduler.shutdown()
    assert not scheduler.running
    print("fine")
"""


# The queue that gevent puts in the place of queue.SimpleQueue, on which the thread pool of a
# BackgroundScheduler waits, takes nothing from real threads.
@pytest.mark.parametrize(("kind", "native"), [("gevent", 4), ("background", 0)])
def test_under_monkey_patching(kind: str, native: int) -> None:
    assert run_script(PATCHED, kind, str(native)).endswith("fine\n")


def test_stores_on_patched_sockets_stay_on_the_hub() -> None:
    output = run_script("""
        from gevent import monkey
        monkey.patch_all()
        import threading
        import gevent
        from tocsin.adapters import GeventScheduler
        from tocsin.stores import MemoryJobStore

        class Store(MemoryJobStore):
            blocking = True
            def claim(self, now, limit):
                hubs.add(gevent.get_hub())
                return super().claim(now, limit)

        class Sockets(Store):
            python_sockets = True

        for kind in (Store, Sockets):
            hubs = set()
            done = gevent.event.Event()
            with GeventScheduler(jobstores={"default": kind()}) as scheduler:
                scheduler.add_job(done.set)
                assert done.wait(20)
            print(kind.__name__, gevent.get_hub() in hubs)
    """)
    assert output == "Store False\nSockets True\n"


def test_ctrl_c_comes_out_of_join() -> None:
    output = run_script(
        """
        import gevent, threading
        from tocsin.adapters import GeventScheduler
        scheduler = GeventScheduler()
        scheduler.add_job(print, args=["ready"], kwargs={"flush": True})
        scheduler.add_job(gevent.sleep, "interval", seconds=0.01)
        greenlet = scheduler.start()
        try:
            greenlet.join()
        except KeyboardInterrupt:
            scheduler.shutdown()
        print(greenlet.dead, scheduler.running, threading.active_count())
        """,
        stop=signal.SIGINT,
    )
    assert output.endswith("True False 1\n")


def test_sigterm_finishes_the_running_job() -> None:
    output = run_script(
        """
        import signal, gevent
        from tocsin.adapters import GeventScheduler
        def job():
            print("ready", flush=True)
            stopping.wait()
            print("finished", flush=True)
        stopping = gevent.event.Event()
        scheduler = GeventScheduler()
        scheduler.add_job(job)
        greenlet = scheduler.start()
        def stop():
            gevent.spawn_later(0.05, stopping.set)
            scheduler.shutdown()
        gevent.signal_handler(signal.SIGTERM, stop)
        greenlet.join()
        print("stopped")
        """,
        stop=signal.SIGTERM,
    )
    assert output == "finished\nstopped\n"


def test_a_forked_child_has_no_running_scheduler() -> None:
    output = run_script("""
        import os, sys, gevent
        from tocsin.adapters import GeventScheduler
        done = gevent.event.Event()
        ran = []
        scheduler = GeventScheduler()
        scheduler.start()
        gevent.sleep(0.02)
        scheduler.add_job(ran.append, "interval", seconds=0.01, args=[1])
        gevent.sleep(0.05)
        pid = gevent.fork()
        if pid == 0:
            assert not scheduler.running
            seen = len(ran)
            assert gevent.wait(timeout=5), "something keeps the loop of the child"
            assert len(ran) == seen
            fresh = gevent.event.Event()
            again = GeventScheduler()
            again.start()
            again.add_job(fresh.set)
            assert fresh.wait(20)
            again.shutdown()
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        seen = len(ran)
        gevent.sleep(0.1)
        print(status, scheduler.running, len(ran) > seen)
        scheduler.shutdown()
    """)
    assert output.endswith("0 True True\n")


def test_without_gevent_the_error_names_the_extra() -> None:
    output = run_script("""
        import sys
        sys.modules["gevent"] = None
        import tocsin.adapters
        for name in ("GeventScheduler", "GeventExecutor"):
            try:
                getattr(tocsin.adapters, name)
            except ImportError as error:
                print(error)
    """)
    assert output.count("pip install tocsin[gevent]") == 2


# The page and the example


@pytest.mark.parametrize("snippet", snippets("gevent.md"))
def test_snippets_of_the_page(snippet: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(snippet)
    run(program)


def test_the_example_serves_and_stops() -> None:
    with Server(ROOT / "examples" / "gevent_wsgi.py") as server:
        assert server.ask("GET", "/")[0] == 200
        before = len(server.ask("GET", "/")[1])
        status, readings = server.ask("POST", "/")
        assert status == 200
        assert len(readings) > before
        assert set(readings[-1]) == {"at", "load"}
