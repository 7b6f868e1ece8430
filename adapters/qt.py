"""The scheduler of Qt, and the executor of its thread."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import lru_cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tocsin.adapters.callback import CallbackScheduler
from tocsin.events import SchedulerEvent
from tocsin.executors import BaseExecutor, moment_of
from tocsin.scheduler import STATE_STOPPED

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler

__all__ = ["QtExecutor", "QtScheduler"]

_BINDINGS = ("PySide6", "PyQt6", "PySide2", "PyQt5")
_LONGEST = 2**31 - 1  # milliseconds: a QTimer takes an int, 24.8 days at most
_TURN = 0.005  # seconds: so long do jobs follow each other before Qt's loop has its turn
_LOST = 1.0  # seconds: a turn that has not begun for so long may have gone with a Ctrl-C


class QtScheduler(CallbackScheduler):
    """Run on Qt's event loop, with PySide6, PyQt6, PySide2 or PyQt5.

    Start it in the thread of the QApplication, before or after ``app.exec()``; all else may be
    called from any thread. The binding is the one that the program has imported.

    There are two executors from the beginning: "default", a pool of threads, and "gui", which
    runs jobs in Qt's thread, where they may touch widgets. When the application quits, so does
    the scheduler, and waits for the jobs that run.
    """

    _bridge: Any = None
    _qtimer: Any = None
    _app: Any = None
    _thread: int | None = None
    _relaying = False
    #: Whether Qt's thread is in the middle of a step, and the application has quit meanwhile.
    _stepping_here = False
    _quits = False

    def start(self, paused: bool = False) -> None:
        """Start in Qt's thread; see `BaseScheduler.start`.

        Raises RuntimeError without a QApplication, or in another thread than its own.
        """
        if self.state == STATE_STOPPED:
            core = _qtcore()
            self._app = _application(core)
            bridge = self._made_bridge()
            self._thread = threading.get_ident()
            self._qtimer = core.QTimer()
            self._qtimer.setTimerType(core.Qt.TimerType.PreciseTimer)
            self._qtimer.timeout.connect(bridge.tick)
            if "gui" not in self._executors:
                self._executors = {**self._executors, "gui": QtExecutor()}
            super().start(paused)
            self._app.aboutToQuit.connect(bridge.quit)
        else:
            super().start(paused)

    def _close(self, wait: bool) -> None:
        super()._close(wait)
        with suppress(RuntimeError):  # the application is gone already
            self._app.aboutToQuit.disconnect(self._bridge.quit)

    def _process_jobs(self) -> float | None:
        if not self.is_in_qt():
            return super()._process_jobs()
        self._stepping_here = True
        try:
            return super()._process_jobs()
        finally:
            self._stepping_here = False
            if self._quits:
                self._quit()

    def _quit(self) -> None:
        """End with the application: nothing that is queued would be called any more.

        The handler of a signal may quit it in the middle of a step, which ends first.
        """
        self._quits = self._stepping_here
        if self._quits:
            return
        if self.state != STATE_STOPPED:
            self.shutdown()
        for executor in self._executors.values():
            if isinstance(executor, QtExecutor):
                executor.run_rest()

    @property
    def happened(self) -> Any:
        """A Qt signal with one argument, the event, for every event of the scheduler.

        It is emitted in Qt's thread, soon after the event: what is connected may touch widgets.
        """
        if not self._relaying:
            self._relaying = True
            self.add_listener(self._relay)
        return self._made_bridge().happened

    def _relay(self, event: SchedulerEvent) -> None:
        self._call_soon(partial(self._made_bridge().happened.emit, event))

    def _made_bridge(self) -> Any:
        if self._bridge is None:
            self._bridge = _bridge_class(_qtcore())(self)
        return self._bridge

    def is_in_qt(self) -> bool:
        """Tell whether this is Qt's thread."""
        return threading.get_ident() == self._thread

    def _call_later(self, delay: float, function: Callable[[], None]) -> Any:
        # The timer repeats until it is stopped, which is the first thing that a tick does: a
        # Ctrl-C that strikes before that must not be the end.
        self._qtimer.start(min(math.ceil(delay * 1000), _LONGEST))
        return self._qtimer

    def _cancel(self, timer: Any) -> None:
        timer.stop()

    def _call_soon(self, function: Callable[[], None]) -> None:
        self._made_bridge().called.emit(function)

    def _watch(self, file: int, function: Callable[[], None]) -> Callable[[], object]:
        core = _qtcore()
        notifier = core.QSocketNotifier(file, core.QSocketNotifier.Type.Read)
        notifier.activated.connect(lambda *_: function())

        def unwatch() -> None:
            with suppress(RuntimeError):  # it is gone with the application
                notifier.setEnabled(False)

        return unwatch

    def _in_loop(self, function: Callable[[], None]) -> None:
        if self.is_in_qt():
            function()
        else:
            self._call_soon(function)

    def _start_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a listener's coroutine without stopping Qt's loop."""
        if self.is_in_qt() and self.state != STATE_STOPPED and not _has_asyncio():
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "tocsin-listeners")
            self._worker.submit(asyncio.run, coroutine)
        else:
            super()._start_coroutine(coroutine)


def _has_asyncio() -> bool:
    """Tell whether asyncio runs in this thread, on QtAsyncio or the like."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _qtcore() -> Any:
    """Import QtCore from the binding that the program uses, or else from one that is there.

    Raises ModuleNotFoundError that names the extra.
    """
    loaded = [
        sys.modules[name]
        for name in (f"{binding}.QtCore" for binding in _BINDINGS)
        if name in sys.modules
    ]
    for core in loaded:
        if core.QCoreApplication.instance() is not None:
            return core
    if loaded:
        return loaded[0]
    for binding in _BINDINGS:
        try:
            return import_module(f"{binding}.QtCore")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != binding:
                raise
    raise ModuleNotFoundError(
        f"tocsin.adapters.qt needs one of {', '.join(_BINDINGS)}: pip install tocsin[qt]",
        name="PySide6",
    )


def _application(core: Any) -> Any:
    """Give the application of this thread."""
    app = core.QCoreApplication.instance()
    if app is None:
        raise RuntimeError(
            "there is no QApplication: make one before start(), with the same binding,"
            f" {core.__name__.partition('.')[0]}"
        )
    if core.QThread.currentThread() != app.thread():
        raise RuntimeError(
            f"start() was called in the thread {threading.current_thread().name}; call it in the"
            " thread of the QApplication, where the scheduler's timer has to live"
        )
    return app


@lru_cache(maxsize=len(_BINDINGS))
def _bridge_class(core: Any) -> Any:
    """Make the class of the object that brings calls into Qt's thread."""
    new_signal = getattr(core, "Signal", None) or core.pyqtSignal
    slot = getattr(core, "Slot", None) or core.pyqtSlot

    class Bridge(core.QObject):  # type: ignore[misc]
        called = new_signal(object)
        happened = new_signal(object)

        def __init__(self, scheduler: QtScheduler) -> None:
            super().__init__()
            self._scheduler = scheduler
            self.called.connect(self.call, core.Qt.ConnectionType.QueuedConnection)

        @slot(object)  # type: ignore[untyped-decorator]
        def call(self, function: Callable[[], None]) -> None:
            function()

        @slot()  # type: ignore[untyped-decorator]
        def tick(self) -> None:
            self._scheduler._tick()

        @slot()  # type: ignore[untyped-decorator]
        def quit(self) -> None:
            self._scheduler._quit()

    return Bridge


class QtExecutor(BaseExecutor):
    """Run jobs in Qt's thread, one after the other, where they may touch widgets.

    Jobs that are due together follow each other for 5 milliseconds, then Qt's loop has its turn.
    A job that takes longer freezes the windows; one that opens a dialog stops no other. Coroutine
    functions are refused: they run in the pool of threads.
    """

    runs_coroutines = False

    _scheduler: QtScheduler

    def __init__(self) -> None:
        super().__init__()
        # Any thread appends; Qt's takes out, and so does a shutdown that does not wait: one step
        # each, which needs no lock. Of a run of a batch it is known whether it is watched.
        self._queue: deque[tuple[Job, Sequence[datetime | int], bool | None]] = deque()
        # Since when Qt's loop is asked for a turn that has not begun, by the monotonic clock.
        self._asked = -math.inf
        # How many calls of `_work` are under way: a job's own loop begins them within each other.
        self._active = 0
        self._settled = threading.Condition(self._mutex)

    def start(self, scheduler: BaseScheduler, alias: str) -> None:
        """Begin, in the thread of a `QtScheduler`; RuntimeError for another scheduler."""
        if not isinstance(scheduler, QtScheduler):
            raise RuntimeError(
                f"a QtExecutor needs Qt's event loop, which a {type(scheduler).__name__} does not"
                " have; use a QtScheduler, or a ThreadPoolExecutor"
            )
        super().start(scheduler, alias)

    def submit_jobs(
        self,
        runs: Iterable[tuple[Job, Sequence[int]]],
        refused: Callable[[Job, Sequence[int], Exception], object],
    ) -> None:
        """Submit many jobs; see `BaseExecutor.submit_jobs`."""
        # Queued in any case: a job that runs a loop of its own, a dialog, must not hold the
        # scheduler up.
        try:
            self._submit_here(runs, refused, self._enqueue)
        finally:
            self._ask()

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self._enqueue(job, run_times, None)
        self._ask()

    def _enqueue(self, job: Job, run_times: Sequence[datetime | int], watched: bool | None) -> bool:
        self._queue.append((job, run_times, watched))
        return False

    def _ask(self) -> None:
        """Ask Qt's loop for a turn if there is need of one and none is asked for; any thread."""
        now = time.monotonic()
        if not self._queue or now - self._asked <= _LOST:
            return
        self._asked = now
        try:
            self._scheduler._call_soon(self._take_turn)
        except BaseException:
            self._asked = -math.inf
            raise

    def _take_turn(self) -> None:
        self._asked = -math.inf
        self._work(time.monotonic() + _TURN)

    def run_rest(self) -> None:
        """Run what is queued, at once; in Qt's thread."""
        self._work(math.inf)

    def _work(self, enough: float) -> None:
        """Run what is queued, and begin no job when it is time enough, by the monotonic clock.

        As long as jobs wait, a turn is asked for: for what is left at the end, and for the loop
        that a job may run itself, which must not hold the others up.
        """
        queue, monotonic = self._queue, time.monotonic
        self._active += 1
        now = monotonic()
        try:
            while queue and now < enough:
                if len(queue) > 1 and now - self._asked > _LOST:
                    self._ask()
                try:
                    job, run_times, watched = queue.popleft()
                except IndexError:  # another thread has dropped them
                    break
                if watched is None:
                    self.run(job, run_times)
                else:
                    try:
                        self._run(job, run_times, watched)
                    finally:  # it is alone, and has no claim
                        self._alone.pop((job._jobstore_alias, job.id), None)
                now = monotonic()
        finally:
            with self._mutex:
                self._active -= 1
                self._settled.notify_all()
            self._ask()  # if it was interrupted

    def interrupted(self, error: BaseException) -> None:
        """Quit the application: in this thread SystemExit and Ctrl-C are meant for it."""
        code = getattr(error, "code", 130)
        self._scheduler._app.exit(code if isinstance(code, int) else int(code is not None))

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Refuse the coroutine that a function gave: it would freeze the windows."""
        coroutine.close()
        raise TypeError(
            f"{coroutine!r} can't run in Qt's thread; leave the job to the executor \"default\""
        )

    def shutdown(self, wait: bool = True) -> None:
        """End; with ``wait`` when the jobs have that run or are queued, else without the latter.

        In Qt's thread those that are queued run at once, and one that runs is not waited for.
        """
        if not wait:
            dropped = []
            with suppress(IndexError):  # it is empty
                while True:
                    dropped.append(self._queue.popleft())
            for job, run_times, _ in dropped:
                moments = [moment_of(job, each) for each in run_times]
                self.drop(job, moments, RuntimeError("the scheduler was shut down"))
        elif self._scheduler.is_in_qt():
            self.run_rest()
        else:
            with self._mutex:
                self._settled.wait_for(lambda: not self._queue and not self._active)

    def after_fork(self) -> None:
        """Forget, in a forked child, the runs that only its parent has."""
        super().after_fork()
        self._settled = threading.Condition(self._mutex)
        self._queue.clear()
        self._asked = -math.inf
        self._active = 0
