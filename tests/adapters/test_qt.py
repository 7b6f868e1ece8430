"""What is Qt's own; tests/adapters/test_contract.py has what every scheduler does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QEventLoop, Qt, QTimer
from support.programs import python
from support.schedulers import PATIENCE, OtherClock, QtHarness, Recorder

from tocsin.adapters import BackgroundScheduler, QtExecutor, QtScheduler
from tocsin.adapters import qt as adapter
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    EVENT_JOB_STARTED,
    EVENT_SCHEDULER_SHUTDOWN,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def harness() -> Iterator[QtHarness]:
    before = set(threading.enumerate())
    harness = QtHarness()
    yield harness
    harness.close()
    assert set(threading.enumerate()) <= before


@pytest.fixture
def scheduler(harness: QtHarness, request: pytest.FixtureRequest) -> Iterator[QtScheduler]:
    scheduler = harness.make(**getattr(request, "param", {}))
    assert isinstance(scheduler, QtScheduler)
    scheduler.recorder = Recorder()  # type: ignore[attr-defined]
    scheduler.add_listener(scheduler.recorder)  # type: ignore[attr-defined]
    harness.start(scheduler)
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


@pytest.fixture
def recorder(scheduler: QtScheduler) -> Recorder:
    return scheduler.recorder  # type: ignore[attr-defined, no-any-return]


def where() -> int:
    return threading.get_ident()


async def where_coroutine() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


def test_jobs_run_in_threads_or_in_the_gui_by_choice(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    scheduler.add_job(where, id="pool")
    scheduler.add_job(where_coroutine, id="coroutine")
    scheduler.add_job(where, id="gui", executor="gui")
    scheduler.add_job(where, "interval", hours=1, id="later", executor="gui")
    scheduler.run_job_now("later")  # from this thread
    ran = {
        name: recorder.wait(EVENT_JOB_EXECUTED, job_id=name)[0].retval
        for name in ("pool", "coroutine", "gui", "later")
    }
    assert ran["gui"] == ran["later"] == harness.thread.ident
    assert ran["pool"] not in (harness.thread.ident, threading.get_ident())
    assert ran["coroutine"] not in (harness.thread.ident, threading.get_ident())


def test_coroutines_are_refused_where_they_would_freeze_the_windows(
    scheduler: QtScheduler, recorder: Recorder
) -> None:
    with pytest.raises(TypeError, match=r'the executor "gui" \(QtExecutor\) can\'t run'):
        scheduler.add_job(where_coroutine, executor="gui")
    scheduler.add_job(lambda: where_coroutine(), executor="gui", id="hidden")
    (event,) = recorder.wait(EVENT_JOB_ERROR, job_id="hidden")
    assert isinstance(event.exception, TypeError)
    assert 'leave the job to the executor "default"' in str(event.exception)


#: A timer of Qt's is set where the kernel has none, and for another clock than the computer's.
with_qtimer = pytest.mark.parametrize("scheduler", [{"clock": OtherClock()}], indirect=True)


@with_qtimer
def test_the_timer_is_precise_and_outlives_a_lost_tick(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    timer = harness.call(lambda: scheduler._qtimer)
    assert timer.timerType() is Qt.TimerType.PreciseTimer
    tick = scheduler._tick
    lost = threading.Event()

    def interrupted() -> None:
        scheduler._tick = tick  # type: ignore[method-assign]
        lost.set()

    soon = datetime.now(timezone.utc) + timedelta(seconds=0.2)
    job = scheduler.add_job(where, "date", run_date=soon)
    harness.call(lambda: setattr(scheduler, "_tick", interrupted))
    assert lost.wait(PATIENCE)
    recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)


@with_qtimer
def test_timers_beyond_24_days_work(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    scheduler.longest_sleep = float("inf")
    year = timedelta(days=365)
    job = scheduler.add_job(where, "date", run_date=datetime.now(timezone.utc) + year)
    remaining = harness.call(lambda: scheduler._qtimer.remainingTime())
    assert timedelta(days=24) < timedelta(milliseconds=remaining) < timedelta(days=25)
    # As if these days had passed: the scheduler looks, and sets the timer anew.
    harness.call(scheduler._qtimer.timeout.emit)
    assert harness.call(lambda: scheduler._qtimer.remainingTime()) > 24 * 86_400_000
    assert not recorder.of(EVENT_JOB_STARTED)
    job.modify(next_run_time=datetime.now(timezone.utc))
    recorder.wait(EVENT_JOB_EXECUTED, job_id=job.id)


def test_events_reach_widgets_in_their_thread(harness: QtHarness) -> None:
    scheduler = harness.make()
    heard: list[tuple[int, int]] = []
    enough = threading.Event()

    def hear(event: Any) -> None:
        heard.append((event.code, threading.get_ident()))
        if event.code == EVENT_JOB_EXECUTED:
            enough.set()

    harness.call(lambda: scheduler.happened.connect(hear))
    harness.call(lambda: scheduler.happened.connect(lambda event: None))
    harness.start(scheduler)
    scheduler.add_job(where)
    assert enough.wait(PATIENCE)
    scheduler.shutdown()
    assert {ident for _, ident in heard} == {harness.thread.ident}
    codes = [code for code, _ in heard]
    assert len(codes) == len(set(codes)), "an event came twice"
    assert codes.index(EVENT_JOB_STARTED) < codes.index(EVENT_JOB_EXECUTED)


def test_coroutine_listeners_do_not_stop_the_loop(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    entered, release, heard = threading.Event(), threading.Event(), threading.Event()

    async def listener(event: Any) -> None:
        entered.set()
        assert await asyncio.to_thread(release.wait, PATIENCE)
        heard.set()

    scheduler.add_listener(listener, EVENT_JOB_EXECUTED)
    scheduler.add_job(where, executor="gui")
    assert entered.wait(PATIENCE)
    assert harness.call(lambda: "alive") == "alive"
    release.set()
    assert heard.wait(PATIENCE)


def test_a_dialog_in_a_job_stops_no_other_job(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    loops: list[QEventLoop] = []
    shown = threading.Event()

    def dialog() -> str:
        loops.append(QEventLoop())
        shown.set()
        loops[0].exec()
        return "closed"

    scheduler.add_job(dialog, executor="gui", id="dialog")
    assert shown.wait(PATIENCE)
    scheduler.add_job(where, "interval", seconds=0.02, executor="gui", id="other")
    recorder.wait(EVENT_JOB_EXECUTED, 3, "other")
    assert not recorder.of(EVENT_JOB_EXECUTED, "dialog")
    harness.call(lambda: loops[0].quit())
    assert recorder.wait(EVENT_JOB_EXECUTED, job_id="dialog")[0].retval == "closed"


def test_shutdown_in_qts_thread_runs_what_is_queued_for_it(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    scheduler.add_job(where, "interval", hours=1, executor="gui", id="queued")

    def both() -> None:
        scheduler.run_job_now("queued")
        scheduler.shutdown()

    harness.call(both)
    assert len(recorder.of(EVENT_JOB_EXECUTED, "queued")) == 1
    assert recorder.events[-1].code == EVENT_SCHEDULER_SHUTDOWN


def test_shutdown_from_another_thread_waits_for_the_job_in_qts(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    begun, release = threading.Event(), threading.Event()

    def job() -> str:
        begun.set()
        assert release.wait(PATIENCE)
        return "whole"

    scheduler.add_job(job, executor="gui", id="job")
    assert begun.wait(PATIENCE)
    stopper = threading.Thread(target=scheduler.shutdown)
    stopper.start()
    recorder_empty = not recorder.of(EVENT_SCHEDULER_SHUTDOWN)
    release.set()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    assert recorder_empty
    assert recorder.of(EVENT_JOB_EXECUTED, "job")[0].retval == "whole"
    assert recorder.events[-1].code == EVENT_SCHEDULER_SHUTDOWN


def test_shutdown_without_waiting_drops_what_is_queued(
    harness: QtHarness, scheduler: QtScheduler, recorder: Recorder
) -> None:
    scheduler.add_job(where, "interval", hours=1, executor="gui", id="queued")

    def both() -> None:
        scheduler.run_job_now("queued")
        scheduler.shutdown(wait=False)

    harness.call(both)
    (event,) = recorder.of(EVENT_JOB_ERROR, "queued")
    assert "was shut down" in str(event.exception)
    harness.call(lambda: None)  # what Qt has queued comes before this
    assert not recorder.of(EVENT_JOB_STARTED, "queued")


def test_the_end_of_the_application_is_that_of_the_scheduler(harness: QtHarness) -> None:
    scheduler = harness.make()
    recorder = Recorder()
    scheduler.add_listener(recorder)
    harness.start(scheduler)
    begun, release = threading.Event(), threading.Event()

    def job() -> str:
        begun.set()
        assert release.wait(PATIENCE)
        return "whole"

    scheduler.add_job(job, id="job")
    assert begun.wait(PATIENCE)
    harness.caller.called.emit(harness.app.quit)
    release.set()
    harness.thread.join(PATIENCE)
    assert not harness.thread.is_alive()
    assert not scheduler.running
    assert recorder.of(EVENT_JOB_EXECUTED, "job")[0].retval == "whole"
    harness.close = lambda: None  # type: ignore[method-assign]


# Jobs that are due together, of whose submission nobody is told: they begin without a call of
# Qt's for each.

ENDED = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED


class Batch:
    """Jobs in Qt's thread, named "0", "1" and so on, that are due together."""

    def __init__(self, harness: QtHarness) -> None:
        self.harness = harness
        scheduler = harness.make()
        assert isinstance(scheduler, QtScheduler)
        self.scheduler = scheduler
        self.recorder = Recorder()
        self.scheduler.add_listener(self.recorder, ENDED | EVENT_SCHEDULER_SHUTDOWN)
        #: What began: the numbers of jobs, and what they note themselves.
        self.course: list[Any] = []
        #: How often Qt's loop was asked for a turn.
        self.turns = 0

    def start(
        self,
        *functions: Callable[[], Any],
        executor: QtExecutor | None = None,
        **rules: dict[str, Any],
    ) -> None:
        """Have the functions start; ``rules`` are those of single jobs, as "_1" and so on."""
        self.scheduler.add_executor(executor or QtExecutor(), "gui")
        due = datetime.now(timezone.utc) + timedelta(seconds=0.1)
        self.scheduler.add_jobs(
            (
                {"func": self.noting(number, function), "id": str(number)}
                | rules.get(f"_{number}", {})
                for number, function in enumerate(functions)
            ),
            trigger="date",
            run_date=due,
            executor="gui",
        )
        call_soon = self.scheduler._call_soon

        def counted(function: Callable[[], None]) -> None:
            self.turns += getattr(function, "__func__", None) is QtExecutor._take_turn
            call_soon(function)

        self.scheduler._call_soon = counted  # type: ignore[method-assign]
        self.harness.start(self.scheduler)

    def noting(self, number: int, function: Callable[[], Any]) -> Callable[[], Any]:
        def job() -> Any:
            self.course.append(number)
            return function()

        return job

    def ends(self, count: int) -> list[tuple[str, int]]:
        """Wait until so many runs have ended; give each job's id and how it ended, in order."""
        self.recorder.wait(ENDED, count)
        self.harness.call(lambda: None)  # what Qt has queued comes before this
        return [(event.job_id, event.code) for event in self.recorder.of(ENDED)]


@pytest.fixture
def batch(harness: QtHarness) -> Iterator[Batch]:
    batch = Batch(harness)
    yield batch
    if batch.scheduler.running:
        batch.scheduler.shutdown(wait=False)  # whatever is still queued where a test failed


def executed(*numbers: int) -> list[tuple[str, int]]:
    return [(str(number), EVENT_JOB_EXECUTED) for number in numbers]


def fail(error: BaseException) -> Any:
    raise error


def test_a_batch_is_one_turn_of_the_loop(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_TURN", PATIENCE)
    batch.start(*[where] * 300)
    assert batch.ends(300) == executed(*range(300))
    assert batch.course == list(range(300))
    assert batch.turns == 2, "one for the batch, one for the loop that a job might have run"


def test_a_batch_is_a_matter_of_the_steps_that_a_subclass_has(batch: Batch) -> None:
    ran: list[str] = []

    class Own(QtExecutor):
        def run(self, job: Any, run_times: Any) -> None:
            ran.append(job.id)
            assert [type(each) for each in run_times] == [datetime]
            super().run(job, run_times)

    batch.start(*[where] * 3, executor=Own())
    assert batch.ends(3) == executed(0, 1, 2)
    assert ran == ["0", "1", "2"]


def test_the_loop_has_its_turn_between_the_jobs_of_a_batch(batch: Batch) -> None:
    timers = []

    def tick() -> None:
        batch.course.append("loop")

    def begin() -> None:
        timers.append(QTimer())
        timers[0].timeout.connect(tick)
        timers[0].start(1)

    def long() -> None:
        end = time.monotonic() + 2 * adapter._TURN
        while time.monotonic() < end:
            pass

    batch.harness.call(begin)
    batch.start(*[long] * 5)
    assert batch.ends(5) == executed(*range(5))
    batch.harness.call(timers.clear)
    assert [each for each in batch.course if each != "loop"] == list(range(5))
    # Qt looks for timers that are due before it calls what is queued, so two may come in a row.
    course = "".join("." if each == "loop" else "j" for each in batch.course)
    assert "jjj" not in course


def test_a_dialog_in_a_batch_stops_no_other_job(batch: Batch) -> None:
    loops: list[QEventLoop] = []

    def dialog() -> None:
        loops.append(QEventLoop())
        loops[-1].exec()
        batch.course.append("closed")

    def close() -> None:
        for loop in loops:
            loop.quit()

    batch.start(where, dialog, where, dialog, where, close)
    others = executed(0, 2, 4, 5)
    assert batch.ends(6) == [*others, *executed(3, 1)]
    assert batch.course == [0, 1, 2, 3, 4, 5, "closed", "closed"]


def test_a_job_that_sees_to_the_loop_disturbs_no_batch(batch: Batch) -> None:
    batch.start(*[lambda: QCoreApplication.processEvents(), where] * 10)
    assert sorted(batch.ends(20)) == sorted(executed(*range(20)))
    assert batch.course == list(range(20))


def test_what_a_job_of_a_batch_raises_harms_no_other(batch: Batch) -> None:
    batch.start(where, lambda: fail(LookupError("no such thing")), where)
    ends = batch.ends(3)
    assert ends == [*executed(0), ("1", EVENT_JOB_ERROR), *executed(2)]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("wait", [True, False])
def test_a_shutdown_in_a_batch(batch: Batch, wait: bool, elsewhere: bool) -> None:
    """Run what is queued, or drop it: each once, and in order."""

    def stop() -> None:
        if not elsewhere:
            batch.scheduler.shutdown(wait)
            return
        stopper = threading.Thread(target=batch.scheduler.shutdown, args=[wait])
        stoppers.append(stopper)
        stopper.start()
        if not wait:
            stopper.join(PATIENCE)

    stoppers: list[threading.Thread] = []
    batch.start(where, stop, where, where)
    ends = batch.ends(4)
    rest = executed(2, 3) if wait else [("2", EVENT_JOB_ERROR), ("3", EVENT_JOB_ERROR)]
    after = [*executed(1), *rest] if wait and elsewhere else [*rest, *executed(1)]
    assert ends == executed(0) + after
    assert batch.course == [0, 1, *([2, 3] if wait else [])]
    for stopper in stoppers:
        stopper.join(PATIENCE)
        assert not stopper.is_alive()
    batch.recorder.wait(EVENT_SCHEDULER_SHUTDOWN)
    if wait and elsewhere:
        assert batch.recorder.events[-1].code == EVENT_SCHEDULER_SHUTDOWN


def test_the_lateness_of_a_job_is_that_of_its_start(batch: Batch) -> None:
    grace = 1.0

    def hold() -> None:
        threading.Event().wait(2 * grace)

    batch.start(hold, where, where, _1={"misfire_grace_time": grace})
    ends = batch.ends(3)
    assert ends == [*executed(0), ("1", EVENT_JOB_MISSED), *executed(2)]
    (missed,) = batch.recorder.of(EVENT_JOB_MISSED)
    late = float(missed.reason.split()[0])
    assert late > 2 * grace
    assert batch.course == [0, 2]


def test_a_turn_that_is_lost_is_not_the_end(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Ctrl-C takes it that comes up when the turn begins."""
    lost = threading.Event()
    monkeypatch.setattr(QtExecutor, "_take_turn", lambda executor: lost.set())
    job = batch.scheduler.add_job(
        batch.noting(2, where), "interval", hours=1, executor="gui", id="2"
    )
    batch.start(where, where)
    assert lost.wait(PATIENCE)
    monkeypatch.undo()
    monkeypatch.setattr(adapter, "_LOST", 0)  # as if that time had passed
    batch.scheduler.run_job_now(job.id)
    assert batch.ends(3) == executed(0, 1, 2)


def test_a_turn_that_is_interrupted_has_another(
    batch: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    call_soon, interrupts = batch.scheduler._call_soon, [KeyboardInterrupt]

    def interrupted(function: Callable[[], None]) -> None:
        if batch.turns == 2 and interrupts:  # in the first turn, which asks for another
            raise interrupts.pop()
        call_soon(function)

    batch.scheduler._call_soon = interrupted  # type: ignore[method-assign]
    batch.start(where, where, where)
    assert batch.ends(3) == executed(0, 1, 2)
    assert "KeyboardInterrupt" in capfd.readouterr().err


def test_other_threads_submit_while_a_batch_runs(batch: Batch) -> None:
    begun, more = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert more.wait(PATIENCE)

    later = batch.scheduler.add_job(
        batch.noting(3, where), "interval", hours=1, executor="gui", id="3"
    )
    batch.start(where, hold, where)
    assert begun.wait(PATIENCE)
    batch.scheduler.run_job_now(later.id)
    more.set()
    assert batch.ends(4) == executed(0, 1, 2, 3)


# Misuse.


def test_a_start_in_another_thread_is_refused(harness: QtHarness) -> None:
    scheduler = harness.make()
    with pytest.raises(RuntimeError, match=r"called in the thread MainThread; call it in the"):
        scheduler.start()
    assert not scheduler.running


def test_a_start_without_an_application_is_refused() -> None:
    assert QCoreApplication.instance() is None
    scheduler = QtScheduler()
    with pytest.raises(RuntimeError, match=r"no QApplication: make one before start\(\).*PySide6"):
        scheduler.start()
    assert not scheduler.running


def test_the_executor_needs_its_scheduler() -> None:
    scheduler = BackgroundScheduler(executors={"default": "qt"})
    with pytest.raises(RuntimeError, match="needs Qt's event loop, which a BackgroundScheduler"):
        scheduler.start()
    assert QtExecutor().running == 0


# Each binding has a process of its own: two do not go together.

PROGRAM = """
import sys, threading
from importlib import import_module

binding = sys.argv[1]
widgets = import_module(f"{binding}.QtWidgets")
from tocsin.adapters import QtScheduler
from tocsin.events import EVENT_JOB_EXECUTED

app = widgets.QApplication([])
label = widgets.QLabel()
scheduler = QtScheduler()
ran = []

def gui():
    label.setText("set")
    ran.append(("gui", threading.current_thread() is threading.main_thread()))

def pool():
    ran.append(("pool", threading.current_thread() is threading.main_thread()))
    scheduler.add_job(gui, executor="gui", id="gui")  # wakes Qt's thread up

def heard(event):
    if event.code == EVENT_JOB_EXECUTED and event.job_id == "gui":
        ran.append(("heard", threading.current_thread() is threading.main_thread()))
        app.quit()

scheduler.happened.connect(heard)
scheduler.start()
scheduler.add_job(pool)
app.exec()
print(ran, label.text(), scheduler.running)
assert threading.enumerate() == [threading.main_thread()]
scheduler.start()  # after the loop's end: it would run again
scheduler.shutdown()
"""
OFFSCREEN = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-c", script, *arguments, env=OFFSCREEN)


@pytest.mark.parametrize("binding", ["PySide6", "PyQt6"])
def test_every_binding(binding: str) -> None:
    done = run_python(PROGRAM, binding)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[('pool', False), ('gui', True), ('heard', True)] set False\n"


INTERRUPTED = """
import signal, sys, threading
from importlib import import_module

core = import_module(f"{sys.argv[1]}.QtCore")
from tocsin.adapters import QtScheduler

app = core.QCoreApplication([])
signal.signal(signal.SIGINT, lambda *_: app.exit(130))
scheduler = QtScheduler()
told = []

def touch():
    if not told:
        told.append(print("running", flush=True))
    if sys.argv[2] == "exit":
        sys.exit(7)

def in_pool():
    threading.Event().wait(0.2)

scheduler.add_job(touch, "interval", seconds=0.01, executor="gui")
scheduler.add_job(in_pool, "interval", seconds=0.01)
scheduler.start()
code = app.exec()
print(scheduler.running, threading.enumerate() == [threading.main_thread()])
sys.exit(code)
"""


def interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C, again if need be: the bindings drop one that comes up in their own code."""
    for _ in range(12):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    raise AssertionError("Ctrl-C did not quit the application")


@pytest.mark.parametrize("binding", ["PySide6", "PyQt6"])
@pytest.mark.parametrize(("how", "code"), [("signal", 130), ("exit", 7)])
def test_an_interrupt_quits_the_application(binding: str, how: str, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, binding, how],
        env=OFFSCREEN,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        if how == "signal":
            out, err = interrupted(process)
        else:  # communicate() would miss what readline() has read ahead
            assert process.stderr is not None
            out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == code, err
    assert out == "False True\n"


QUIT = """
import sys, threading
from importlib import import_module

core = import_module(f"{sys.argv[1]}.QtCore")
from tocsin.adapters import QtScheduler, ThreadPoolExecutor

class Interrupted(ThreadPoolExecutor):
    def _start_thread(self, *arguments):
        app.exit(3)  # as the handler of a signal may that strikes here
        super()._start_thread(*arguments)

app = core.QCoreApplication([])
scheduler = QtScheduler(executors={"default": Interrupted()})
scheduler.add_job(print, args=["ran"])
scheduler.start()
code = app.exec()
print(scheduler.running, threading.enumerate() == [threading.main_thread()])
sys.exit(code)
"""


@pytest.mark.parametrize("binding", ["PySide6", "PyQt6"])
def test_an_application_that_quits_in_the_middle_of_a_step(binding: str) -> None:
    """The step ends first, and what it hands over is run."""
    done = run_python(QUIT, binding)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "ran\nFalse True\n"


BATCH = """
import sys
from datetime import datetime, timedelta, timezone
from importlib import import_module

core = import_module(f"{sys.argv[1]}.QtCore")
from tocsin.adapters import QtScheduler

app = core.QCoreApplication([])
scheduler = QtScheduler()
ran = []

def job(number):
    ran.append(number)
    if number == 2:
        raise KeyboardInterrupt

soon = datetime.now(timezone.utc) + timedelta(seconds=0.1)
for number in range(5):
    scheduler.add_job(job, "date", run_date=soon, args=[number], executor="gui")
scheduler.start()
code = app.exec()
print(code, ran, scheduler.running, scheduler.health()["executors"]["gui"]["running"])
"""


@pytest.mark.parametrize("binding", ["PySide6", "PyQt6"])
def test_an_interrupt_in_a_batch_loses_no_job(binding: str) -> None:
    done = run_python(BATCH, binding)
    assert done.stdout == "130 [0, 1, 2, 3, 4] False 0\n", done.stderr


def test_without_qt_the_error_names_the_extra() -> None:
    script = (
        "import sys\n"
        "for name in ('PySide6', 'PyQt6', 'PySide2', 'PyQt5'): sys.modules[name] = None\n"
        "from tocsin.adapters import QtScheduler\n"
        "QtScheduler().start()"
    )
    done = run_python(script)
    assert done.returncode == 1
    assert "needs one of PySide6, PyQt6, PySide2, PyQt5: pip install tocsin[qt]" in done.stderr


def test_the_example_window() -> None:
    """Use the window as a person would: look at it, press the button, close it."""
    script = f"""
import sys, threading
sys.path.insert(0, {str(ROOT / "examples")!r})
import qt_window
from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

class Application(QApplication):
    pressed = 0

    def __init__(self, arguments):
        super().__init__(arguments)
        self.timer = QTimer(interval=20)
        self.timer.timeout.connect(self.look)
        self.timer.start()

    def look(self):
        (window,) = [each for each in self.topLevelWidgets() if each.isVisible()]
        texts = [window.results.item(row).text() for row in range(window.results.count())]
        if not self.pressed and window.clock.text() and texts:
            self.pressed = len(texts)
            QTest.mouseClick(window.button, Qt.MouseButton.LeftButton)
        elif self.pressed and len(texts) > self.pressed:
            self.timer.stop()
            print(len(window.clock.text()), texts[-1].endswith(" s of processor time"))
            window.close()

qt_window.QApplication = Application
code = qt_window.main()
assert threading.enumerate() == [threading.main_thread()]
sys.exit(code)
"""
    done = run_python(script)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "8 True\n"
