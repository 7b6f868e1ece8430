"""What is Twisted's own; tests/adapters/test_contract.py has what every scheduler does."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial, wraps
from typing import Any

import pytest
from support.programs import python
from support.schedulers import PATIENCE, Recorder, TwistedHarness
from twisted.application.service import Application, IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, succeed
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import LogLevel, globalLogPublisher
from twisted.persisted.sob import IPersistable
from zope.interface.verify import verifyObject

from tocsin.adapters import (
    BackgroundScheduler,
    SchedulerService,
    ThreadPoolExecutor,
    TwistedExecutor,
    TwistedScheduler,
)
from tocsin.errors import ConfigError, SchedulerAlreadyRunningError, SchedulerNotRunningError
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_STARTED,
    EVENT_SCHEDULER_SHUTDOWN,
)

HOUR = 3600


# On a clock: no reactor, no thread, no time.


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.rightNow = datetime(2026, 3, 1, tzinfo=timezone.utc).timestamp()
    return clock


@pytest.fixture
def simulated(clock: Clock) -> Iterator[TwistedScheduler]:
    scheduler = TwistedScheduler(reactor=clock, timezone="UTC")
    scheduler.recorder = Recorder()  # type: ignore[attr-defined]
    scheduler.add_listener(scheduler.recorder)  # type: ignore[attr-defined]
    yield scheduler
    if scheduler.running:
        scheduler.shutdown(wait=False)
    assert clock.calls == []


def events(scheduler: TwistedScheduler, code: int, job_id: str | None = None) -> list[Any]:
    return scheduler.recorder.of(code, job_id)  # type: ignore[attr-defined, no-any-return]


def test_one_advance_runs_the_hour_each_job_at_its_time(
    clock: Clock, simulated: TwistedScheduler
) -> None:
    ran: list[tuple[str, datetime]] = []

    def note(name: str) -> None:
        ran.append((name, datetime.fromtimestamp(simulated.now() / 1e6, timezone.utc)))

    simulated.add_job(note, "cron", minute="*/20", args=["cron"])
    simulated.add_job(note, "interval", minutes=25, args=["interval"])
    simulated.start()
    clock.advance(HOUR)
    start = datetime(2026, 3, 1, tzinfo=timezone.utc)
    assert [(name, (time - start) // timedelta(minutes=1)) for name, time in ran] == [
        ("cron", 0), ("cron", 20), ("interval", 25), ("cron", 40), ("interval", 50), ("cron", 60),
    ]  # fmt: skip
    assert not events(simulated, EVENT_JOB_MISSED)


def test_a_job_that_a_job_adds_runs_at_its_time_within_the_same_advance(
    clock: Clock, simulated: TwistedScheduler
) -> None:
    ran: list[float] = []
    began = clock.seconds()

    def first() -> None:
        due = datetime.fromtimestamp(simulated.now() / 1e6 + 300, timezone.utc)
        simulated.add_job(lambda: ran.append(simulated.now() / 1e6 - began), "date", run_date=due)

    simulated.add_job(first, "interval", minutes=10)
    simulated.start()
    clock.advance(HOUR)
    assert ran == [600.0 * n + 300 for n in range(1, 6)]


def test_a_year_without_jobs_costs_no_wake_ups(clock: Clock, simulated: TwistedScheduler) -> None:
    simulated.add_job(print, "interval", weeks=52)
    simulated.start()
    clock.advance(0)
    made = []
    clock.callLater = lambda *args: made.append(args)  # type: ignore[method-assign, assignment]
    clock.advance(51 * 7 * 24 * HOUR)
    assert made == []


def test_jobs_on_a_clock_run_in_the_thread_that_advances_it(
    clock: Clock, simulated: TwistedScheduler
) -> None:
    async def coroutine() -> int:
        await deferLater(clock, 5)
        return threading.get_ident()

    simulated.add_job(threading.get_ident, id="plain")
    simulated.add_job(coroutine, id="coroutine")
    simulated.start()
    clock.advance(0)
    assert [e.job_id for e in events(simulated, EVENT_JOB_EXECUTED)] == ["plain"]
    clock.advance(5)
    assert [e.retval for e in events(simulated, EVENT_JOB_EXECUTED)] == [threading.get_ident()] * 2
    (end,) = events(simulated, EVENT_JOB_EXECUTED, "coroutine")
    assert end.duration == timedelta(seconds=5)


def test_a_job_runs_until_its_deferred_fires(clock: Clock, simulated: TwistedScheduler) -> None:
    pending: list[Deferred[str]] = []

    def job() -> Deferred[str]:
        pending.append(Deferred())
        return pending[-1]

    simulated.add_job(job, "interval", minutes=10, id="job")
    simulated.start()
    clock.advance(25 * 60)
    assert len(pending) == 1
    assert len(events(simulated, EVENT_JOB_MAX_INSTANCES, "job")) == 1
    pending[0].callback("fired")
    assert [e.retval for e in events(simulated, EVENT_JOB_EXECUTED, "job")] == ["fired"]
    clock.advance(10 * 60)
    assert len(pending) == 2


def test_shutdown_answers_when_the_jobs_have_ended(
    clock: Clock, simulated: TwistedScheduler
) -> None:
    simulated.add_job(lambda: deferLater(clock, 30), id="job")
    simulated.start()
    clock.advance(0)
    done: list[Any] = []
    simulated.shutdown().addCallback(done.append)
    with pytest.raises(SchedulerAlreadyRunningError, match="still shutting down"):
        simulated.start()
    clock.advance(29)
    assert done == []
    assert not events(simulated, EVENT_SCHEDULER_SHUTDOWN)
    clock.advance(1)
    assert done == [None]
    assert events(simulated, EVENT_JOB_EXECUTED, "job")
    assert events(simulated, EVENT_SCHEDULER_SHUTDOWN)
    with pytest.raises(SchedulerNotRunningError):
        simulated.shutdown()
    simulated.start()


def test_a_listener_that_shuts_down_waits_for_the_job_that_was_begun_before(clock: Clock) -> None:
    """Nobody listens to what is submitted, so that the batch is begun as a whole."""
    scheduler = TwistedScheduler(reactor=clock)
    done: list[Any] = []
    scheduler.add_listener(
        lambda event: scheduler.shutdown().addCallback(done.append), EVENT_JOB_REMOVED
    )
    scheduler.add_job(lambda: deferLater(clock, 30), id="job")
    scheduler.start()
    clock.advance(0)
    assert not scheduler.running
    clock.advance(29)
    assert done == []
    clock.advance(1)
    assert done == [None]


def test_shutdown_has_a_limit(
    clock: Clock, simulated: TwistedScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    simulated.add_job(Deferred, executor="reactor", id="job", name="stubborn")
    simulated.start()
    clock.advance(0)
    done: list[Any] = []
    simulated.shutdown(timeout=10).addCallback(done.append)
    clock.advance(9)
    assert done == []
    clock.advance(1)
    assert done == [None]
    (event,) = events(simulated, EVENT_JOB_ERROR, "job")
    assert isinstance(event.exception, CancelledError)
    assert "still run 10 s after the shutdown began: stubborn" in caplog.text


def test_shutdown_without_waiting_cancels(clock: Clock, simulated: TwistedScheduler) -> None:
    simulated.add_job(lambda: deferLater(clock, HOUR), id="job")
    simulated.start()
    clock.advance(0)
    assert simulated.shutdown(wait=False).called
    assert isinstance(events(simulated, EVENT_JOB_ERROR, "job")[0].exception, CancelledError)


def test_a_backlog_of_fired_deferreds_needs_no_stack(
    clock: Clock, simulated: TwistedScheduler
) -> None:
    simulated.add_job(lambda: succeed(1), "interval", seconds=1, coalesce=False, id="job")
    simulated.start(paused=True)
    clock.advance(900)
    simulated.resume()
    clock.advance(0)
    assert len(events(simulated, EVENT_JOB_EXECUTED, "job")) == 900


def test_other_clocks_of_twisted(clock: Clock) -> None:
    reactor = MemoryReactorClock()
    scheduler = TwistedScheduler(reactor=reactor)
    ran: list[int] = []
    scheduler.add_job(ran.append, "interval", minutes=30, args=[1])
    scheduler.start()
    reactor.advance(HOUR)
    assert ran == [1, 1]
    scheduler.shutdown()
    assert reactor.getDelayedCalls() == []


# On a reactor.


@pytest.fixture
def harness() -> Iterator[TwistedHarness]:
    before = set(threading.enumerate())
    harness = TwistedHarness()
    yield harness
    harness.close()
    # The reactor waits for no thread that has nothing left to do but end.
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert set(threading.enumerate()) <= before


@pytest.fixture
def scheduler(harness: TwistedHarness) -> Iterator[TwistedScheduler]:
    scheduler = harness.make()
    assert isinstance(scheduler, TwistedScheduler)
    scheduler.recorder = Recorder()  # type: ignore[attr-defined]
    scheduler.add_listener(scheduler.recorder)  # type: ignore[attr-defined]
    harness.start(scheduler)
    yield scheduler
    if scheduler.running:
        harness.stop(scheduler)


def result(scheduler: TwistedScheduler, job: Any) -> Any:
    return scheduler.recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)[0].retval  # type: ignore[attr-defined]


def where() -> int:
    return threading.get_ident()


@inlineCallbacks
def inline() -> Iterator[Any]:
    yield succeed(None)
    return threading.get_ident()


async def coroutine() -> int:
    await succeed(None)
    return threading.get_ident()


def annotated() -> Deferred[int]:
    return succeed(threading.get_ident())


def annotated_without_text() -> Any:
    return succeed(threading.get_ident())


annotated_without_text.__annotations__["return"] = Deferred[int]


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper() -> Any:
        return function()

    wrapper.__annotations__ = {}
    return wrapper


class Owner:
    method = inline

    async def __call__(self) -> int:
        return await coroutine()


Owner.method = lambda self: inline()  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize(
    "function",
    [
        inline,
        coroutine,
        annotated,
        annotated_without_text,
        decorated(inline),
        partial(coroutine),
        partial(inline),
        Owner(),
    ],
)
def test_what_belongs_to_the_reactor_runs_in_its_thread(
    harness: TwistedHarness, scheduler: TwistedScheduler, function: Any
) -> None:
    assert result(scheduler, scheduler.add_job(function)) == harness.thread.ident


def test_other_functions_run_in_the_thread_pool_unless_they_are_told(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    pool = {thread.ident for thread in harness.reactor.getThreadPool().threads}
    ident = result(scheduler, scheduler.add_job(where))
    pool |= {thread.ident for thread in harness.reactor.getThreadPool().threads}
    assert ident in pool
    in_reactor = scheduler.add_job(where, executor="reactor")
    assert result(scheduler, in_reactor) == harness.thread.ident
    job = scheduler.add_job(where, "interval", hours=1, executor="reactor")
    scheduler.run_job_now(job.id)  # from this thread
    assert result(scheduler, job) == harness.thread.ident


def test_a_deferred_from_a_thread_is_waited_for_with_a_warning(
    harness: TwistedHarness, scheduler: TwistedScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def unsafe() -> Any:
        return blockingCallFromThread(
            harness.reactor, lambda: [deferLater(harness.reactor, 0.01, lambda: "late")]
        )[0]

    for _ in range(2):
        assert result(scheduler, scheduler.add_job(unsafe)) == "late"
    assert caplog.text.count("returned a Deferred in a thread of the pool") == 1


def test_every_run_of_a_backlog_has_its_thread(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    idents: list[int] = []

    def unsafe() -> Any:
        idents.append(threading.get_ident())
        return succeed(len(idents)) if len(idents) != 2 else len(idents)

    job = scheduler.add_job(unsafe, "interval", hours=1)
    scheduler._executors["default"].submit_job(job, [datetime.now(timezone.utc)] * 3)
    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    ended = recorder.wait(EVENT_JOB_EXECUTED, 3, job.id)
    assert [event.retval for event in ended] == [1, 2, 3]
    assert len(set(idents)) == 1
    assert idents[0] != harness.thread.ident


def fail_now() -> None:
    raise ZeroDivisionError("on purpose")


async def fail_in_coroutine() -> None:
    await succeed(None)
    fail_now()


def fail_in_callback() -> Deferred[None]:
    deferred: Deferred[Any] = succeed(None)
    return deferred.addCallback(lambda _: fail_now())


@pytest.mark.parametrize("function", [fail_now, fail_in_coroutine, fail_in_callback])
@pytest.mark.parametrize("executor", ["default", "reactor"])
def test_failures_keep_their_traceback_and_go_to_twisteds_log(
    scheduler: TwistedScheduler, function: Any, executor: str
) -> None:
    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        job = scheduler.add_job(function, executor=executor, name="breaker")
        (event,) = scheduler.recorder.wait(EVENT_JOB_ERROR, job_id=job.id)  # type: ignore[attr-defined]
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert isinstance(event.exception, ZeroDivisionError)
    assert "in fail_now" in event.traceback
    (failed,) = [each for each in logged if "log_failure" in each]
    assert failed["log_level"] is LogLevel.error
    assert failed["log_namespace"] == f"tocsin.executors.{executor}"
    assert failed["message"].startswith('Job "breaker (trigger: date[')
    assert failed["message"].endswith(" raised an exception")
    assert failed["log_failure"].value is event.exception
    assert "in fail_now" in failed["log_failure"].getTraceback()


@pytest.fixture
def twisted_log() -> Iterator[list[Any]]:
    logged: list[Any] = []
    logger = logging.getLogger("tocsin")
    before = logger.level
    logger.setLevel(logging.INFO)
    globalLogPublisher.addObserver(logged.append)
    yield logged
    globalLogPublisher.removeObserver(logged.append)
    logger.setLevel(before)


def test_events_go_to_twisteds_log_while_the_scheduler_runs(
    clock: Clock, twisted_log: list[Any]
) -> None:
    scheduler = TwistedScheduler(reactor=clock)
    other = TwistedScheduler(reactor=clock)
    handlers = list(logging.getLogger("tocsin").handlers)
    scheduler.start()
    other.start()
    scheduler.add_job(print, "interval", hours=1, name="hourly")
    scheduler.shutdown()
    told = [(each["log_namespace"], each["log_level"], each["message"]) for each in twisted_log]
    added = 'Added job "hourly" to job store "default"'
    assert ("tocsin.scheduler", LogLevel.info, "Scheduler started") in told
    assert told.count(("tocsin.scheduler", LogLevel.info, added)) == 1
    assert told[-1] == ("tocsin.scheduler", LogLevel.info, "Scheduler has been shut down")
    other.shutdown()
    count = len(twisted_log)
    logging.getLogger("tocsin.scheduler").info("when none runs")
    assert len(twisted_log) == count
    assert logging.getLogger("tocsin").handlers == handlers


def test_a_listener_that_fails_is_in_twisteds_log_with_its_failure(
    clock: Clock, simulated: TwistedScheduler, twisted_log: list[Any]
) -> None:
    def listener(event: Any) -> None:
        fail_now()

    simulated.add_listener(listener, EVENT_JOB_EXECUTED)
    simulated.add_job(where)
    simulated.start()
    clock.advance(0)
    (failed,) = [each for each in twisted_log if "log_failure" in each]
    assert "Error notifying listener" in failed["message"]
    assert "in fail_now" in failed["log_failure"].getTraceback()


def test_twisteds_log_can_be_left_alone(clock: Clock, twisted_log: list[Any]) -> None:
    scheduler = TwistedScheduler(reactor=clock, log_to_twisted=False)
    scheduler.start()
    scheduler.shutdown()
    assert twisted_log == []


def test_a_job_may_wait_for_the_shutdown_that_it_began(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    @inlineCallbacks
    def job() -> Iterator[Any]:
        yield scheduler.shutdown()
        return scheduler.running

    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    scheduler.add_job(job, id="job")
    recorder.wait(EVENT_SCHEDULER_SHUTDOWN)
    (event,) = recorder.wait(EVENT_JOB_EXECUTED | EVENT_JOB_ERROR, job_id="job")
    assert event.code == EVENT_JOB_EXECUTED
    assert event.retval is False


def test_shutdown_from_another_thread_waits_in_the_reactor(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    release = threading.Event()
    scheduler.add_job(release.wait, args=[PATIENCE], id="job")
    recorder.wait(EVENT_JOB_STARTED, job_id="job")
    harness.reactor.callFromThread(harness.reactor.callLater, 0.05, release.set)
    blockingCallFromThread(harness.reactor, scheduler.shutdown)
    assert [e.retval for e in recorder.of(EVENT_JOB_EXECUTED, "job")] == [True]


def test_jobs_of_other_executors_are_waited_for_without_stopping_the_reactor(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    scheduler.add_executor(ThreadPoolExecutor(1), "own")
    release = threading.Event()
    scheduler.add_job(release.wait, args=[PATIENCE], executor="own", id="job")
    recorder.wait(EVENT_JOB_STARTED, job_id="job")
    closed = scheduler.shutdown()
    assert blockingCallFromThread(harness.reactor, lambda: "alive") == "alive"
    assert not closed.called
    release.set()
    blockingCallFromThread(harness.reactor, scheduler.closed)
    assert recorder.of(EVENT_JOB_EXECUTED, "job")


def test_the_reactor_waits_for_the_jobs_when_it_stops(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    recorder: Recorder = scheduler.recorder  # type: ignore[attr-defined]
    release: Deferred[str] = Deferred()
    scheduler.add_job(lambda: release, executor="reactor", id="job")
    recorder.wait(EVENT_JOB_STARTED, job_id="job")
    harness.reactor.callFromThread(harness.reactor.stop)
    harness.reactor.callFromThread(harness.reactor.callLater, 0.05, release.callback, "whole")
    harness.thread.join(PATIENCE)
    assert not harness.thread.is_alive()
    assert [e.retval for e in recorder.of(EVENT_JOB_EXECUTED, "job")] == ["whole"]
    assert not scheduler.running
    with pytest.raises(RuntimeError, match="has been stopped, and Twisted can't start one again"):
        scheduler.start()
    harness.reactor.stop = lambda: None  # for the fixture, which stops it as well


def test_a_reactor_that_stops_waits_no_longer_than_stop_timeout(harness: TwistedHarness) -> None:
    scheduler = harness.make(stop_timeout="0.05")
    recorder = Recorder()
    scheduler.add_listener(recorder)
    harness.start(scheduler)
    scheduler.add_job(Deferred, executor="reactor", id="job")
    recorder.wait(EVENT_JOB_STARTED, job_id="job")
    harness.reactor.callFromThread(harness.reactor.stop)
    harness.thread.join(PATIENCE)
    assert not harness.thread.is_alive()
    assert isinstance(recorder.of(EVENT_JOB_ERROR, "job")[0].exception, CancelledError)
    harness.reactor.stop = lambda: None


# Misuse.


def test_a_start_in_another_thread_is_refused(harness: TwistedHarness) -> None:
    scheduler = harness.make()
    with pytest.raises(RuntimeError, match=r"reactor\.callFromThread\(scheduler\.start\)"):
        scheduler.start()
    assert not scheduler.running


def test_what_is_no_reactor_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reactor: a reactor or a twisted.* not <object"):
        TwistedScheduler(reactor=object())
    for value in ("soon", -1, "nan"):
        with pytest.raises(ConfigError, match="stop_timeout"):
            TwistedScheduler(stop_timeout=value)


def test_the_executor_needs_its_scheduler() -> None:
    scheduler = BackgroundScheduler(executors={"default": {"type": "twisted", "threads": "false"}})
    with pytest.raises(RuntimeError, match="needs a reactor, which a BackgroundScheduler does not"):
        scheduler.start()
    assert not TwistedExecutor(threads="no").threads


def test_without_twisted_the_error_names_the_extra() -> None:
    script = (
        "import sys; sys.modules['twisted.internet'] = None\n"
        "sys.modules['twisted.application'] = None\n"
        "from tocsin.adapters import TwistedScheduler"
    )
    done = python("-c", script)
    assert done.returncode == 1
    assert "needs Twisted: pip install tocsin[twisted]" in done.stderr


# The service.


def test_the_service_is_one(clock: Clock, simulated: TwistedScheduler) -> None:
    service = SchedulerService(simulated)
    assert verifyObject(IService, service)
    service.setName("jobs")
    application = Application("shop")
    parent = MultiService()
    parent.setServiceParent(IService(application))
    service.setServiceParent(parent)
    assert parent.getServiceNamed("jobs") is service
    simulated.add_job(lambda: deferLater(clock, 5), id="job")
    IService(application).startService()
    assert service.running
    assert simulated.running
    clock.advance(0)
    stopped: list[Any] = []
    IService(application).stopService().addCallback(stopped.append)
    assert not simulated.running
    clock.advance(4)
    assert stopped == []
    clock.advance(1)
    assert len(stopped) == 1
    assert events(simulated, EVENT_JOB_EXECUTED, "job")
    service.startService()
    assert simulated.running
    assert service.stopService().called


def test_the_service_has_a_limit_and_may_be_stopped_twice(
    clock: Clock, simulated: TwistedScheduler
) -> None:
    service = SchedulerService(simulated, timeout=3)
    simulated.add_job(Deferred, executor="reactor")
    service.startService()
    clock.advance(0)
    first, second = service.stopService(), service.stopService()
    clock.advance(2)
    assert not first.called
    assert not second.called
    clock.advance(1)
    assert first.called
    assert second.called


def test_the_service_refuses_what_it_cannot_run(clock: Clock, simulated: TwistedScheduler) -> None:
    with pytest.raises(TypeError, match="scheduler: a TwistedScheduler is needed"):
        SchedulerService(BackgroundScheduler())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-1"):
        SchedulerService(simulated, timeout=-1)
    simulated.add_job(where, jobstore="nowhere")
    service = SchedulerService(simulated)
    with pytest.raises(KeyError, match="nowhere"):
        service.startService()
    assert not service.running


def test_an_application_is_saved_without_its_scheduler(
    clock: Clock, simulated: TwistedScheduler, tmp_path: Any
) -> None:
    application = Application("shop")
    SchedulerService(simulated).setServiceParent(IService(application))
    IPersistable(application).save(filename=str(tmp_path / "saved"))
    restored = pickle.loads((tmp_path / "saved").read_bytes())
    with pytest.raises(RuntimeError, match=r"run the \.tac file"):
        IService(restored).startService()


# Other reactors, and signals: each in a process of its own.

PROGRAM = """
import sys, threading
name = sys.argv[1]
if name != "default":
    from importlib import import_module
    import_module(f"twisted.internet.{name}reactor").install()
from twisted.internet import reactor
from twisted.internet.task import deferLater
from tocsin.adapters import TwistedScheduler
from tocsin.events import EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN

scheduler = TwistedScheduler()

async def coroutine():
    await deferLater(reactor, 0.01)
    return threading.current_thread() is threading.main_thread()

def plain():
    return threading.current_thread() is threading.main_thread()

def long():
    print("long", flush=True)
    return deferLater(reactor, 0.3, lambda: "whole")

ended = {}
def note(event):
    ended[event.job_id] = event.retval
    if len(ended) == 4 and sys.argv[2] == "stop":
        reactor.callFromThread(reactor.stop)

scheduler.add_listener(note, EVENT_JOB_EXECUTED)
scheduler.add_listener(lambda event: print("shut down"), EVENT_SCHEDULER_SHUTDOWN)
scheduler.add_job(coroutine, id="coroutine")
scheduler.add_job(plain, id="plain")
scheduler.add_job(plain, "interval", seconds=0.05, id="reactor", executor="reactor")
scheduler.add_job(long, id="long", executor="reactor")
scheduler.start()
reactor.run()
print(type(reactor).__name__, sorted(ended.items()))
assert threading.enumerate() == [threading.main_thread()]
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("default", "EPollReactor" if sys.platform == "linux" else "Reactor"),
        ("epoll", "EPollReactor"),
        ("select", "SelectReactor"),
        ("asyncio", "AsyncioSelectorReactor"),
    ],
)
def test_every_reactor(name: str, kind: str) -> None:
    done = python("-c", PROGRAM, name, "stop")
    assert (done.returncode, done.stderr) == (0, "")
    ended = [("coroutine", True), ("long", "whole"), ("plain", False), ("reactor", True)]
    assert done.stdout.splitlines() == ["long", "shut down", f"{kind} {ended}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_reactor_after_the_running_jobs(number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, "default", "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "long\n"
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("shut down\n")
    assert "('long', 'whole')" in out
