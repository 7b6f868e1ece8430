"""What the schedulers of event loops share: steps that are calls of the loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Any

from tocsin.adapters.alarms import Alarm, KernelAlarm, LoopAlarm
from tocsin.claims import Claim
from tocsin.clock import SystemClock
from tocsin.scheduler import STATE_STOPPED, BaseScheduler

__all__ = ["CallbackScheduler"]


class CallbackScheduler(BaseScheduler):
    """The base of schedulers that live in an event loop.

    A subclass says how to call a function later, how to call one soon from any thread, and how
    to take a timer back; it names its loop at the start. If its loop can watch files, it is
    woken by a timer of the kernel's where there is one, for that is more punctual.

    With a store that blocks, jobs are claimed and handed over in a thread, so that the loop
    goes on meanwhile: executors of such schedulers take jobs from any thread.
    """

    #: Made by the first tick that has to set it.
    _alarm: Alarm | None = None
    #: Whether a tick was asked for that has not begun.
    _woken = False
    #: Whether a step is under way, and whether another one was asked for meanwhile.
    _busy = False
    _again = False
    _worker: ThreadPoolExecutor | None = None
    #: The step that was last given to the thread, and the thread.
    _step: Future[float | None] | None = None
    _step_thread = 0
    #: Done when the stores have been shut down aside of the loop.
    _stores_closing: Future[None] | None = None

    @abstractmethod
    def _call_later(self, delay: float, function: Callable[[], None]) -> Any:
        """Call a function in the loop after some seconds; give what `_cancel` takes."""

    @abstractmethod
    def _cancel(self, timer: Any) -> None:
        """Have a timer not call; it may have called already."""

    @abstractmethod
    def _call_soon(self, function: Callable[[], None]) -> None:
        """Call a function in the loop as soon as it can; from any thread."""

    def _watch(self, file: int, function: Callable[[], None]) -> Callable[[], object]:
        """Have the loop call a function whenever a file can be read; give what ends that.

        Raises NotImplementedError where the loop can't.
        """
        raise NotImplementedError

    def _in_loop(self, function: Callable[[], None]) -> None:
        """Call a function in the loop's thread: now, if this is it or there is none yet."""
        self._call_soon(function)

    def _aside(self, function: Callable[[], None]) -> bool:
        """Call a function in a thread, if this is the loop's thread and the loop goes on; or not.

        What follows a shutdown waits for it.
        """
        return False

    def start(self, paused: bool = False) -> Any:
        """Start in the loop; see `BaseScheduler.start`."""
        if self.state == STATE_STOPPED:
            closing, self._stores_closing = self._stores_closing, None
            if closing is not None:
                closing.result()
            # A loop that ended may have taken a tick with it.
            self._woken = self._again = False
            self._busy = self._stepping()
        return super().start(paused)

    def wakeup(self) -> None:
        """Have the scheduler look at its jobs as soon as it can; from any thread."""
        if not self._woken:
            self._woken = True
            try:
                self._call_soon(self._tick)
            except BaseException:
                self._woken = False
                raise

    def _tick(self) -> None:
        """Run what is due, and set the timer for what comes next; in the loop."""
        self._woken = False
        self._drop_timer()
        if self._busy:
            self._again = True
            return
        self._busy = True
        if self._stores_block():
            self._step_in_thread()
            return
        wait: float | None = 0.0  # after an interruption, if the loop goes on at all
        try:
            wait = self._process_jobs()
        finally:
            self._rearm(wait)

    def _step_in_thread(self) -> None:
        with self._list_lock:
            # A shutdown, which may be another thread's, takes the thread that it finds.
            if self.state == STATE_STOPPED:
                self._busy = False
                return
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "tocsin-stores")
            self._step = step = self._worker.submit(self._process_in_thread)
        step.add_done_callback(lambda step: self._call_soon(partial(self._done, step)))

    def _stores_block(self) -> bool:
        """Tell whether a step may keep the loop waiting."""
        return any(store.blocking for store in self._jobstores.values())

    def _stepping(self) -> bool:
        """Tell whether a step runs in the thread."""
        return self._step is not None and not self._step.done()

    def _process_in_thread(self) -> float | None:
        self._step_thread = get_ident()
        return self._process_jobs()

    def _done(self, step: Future[float | None]) -> None:
        """Go on after a step in the thread; in the loop."""
        self._rearm(step.result() if step.exception() is None else 0.0)

    def _rearm(self, wait: float | None) -> None:
        self._busy = False
        self._drop_timer()
        again, self._again = self._again, False
        if self.state == STATE_STOPPED:
            return
        if again:
            self.wakeup()
        elif wait is not None:
            alarm = self._alarm or self._make_alarm()
            if alarm is not None:
                alarm.set(wait)

    def _make_alarm(self) -> Alarm | None:
        """Make what wakes the scheduler, in the loop; None if it was shut down meanwhile."""
        with self._list_lock:  # a shutdown, which may be another thread's, takes what it finds
            if self.state != STATE_STOPPED:
                self._alarm = self._best_alarm()
            return self._alarm

    def _best_alarm(self) -> Alarm:
        # Another clock may go by the time of the loop, which a test may set.
        if isinstance(self.clock, SystemClock):
            with suppress(OSError, NotImplementedError):
                return KernelAlarm(self._watch, self._tick)
        return LoopAlarm(self)

    def _stop_timer(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            self._in_loop(alarm.close)

    def _close(self, wait: bool) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait and self._step_thread != get_ident())
        super()._close(wait)

    def _close_stores(self, running: Mapping[str | None, list[Claim]]) -> None:
        close = partial(super()._close_stores, running)
        closing: Future[None] = Future()

        def close_aside() -> None:
            try:
                close()
            finally:
                closing.set_result(None)

        if self._stores_block() and self._aside(close_aside):
            self._stores_closing = closing
        else:
            close()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._alarm = None
        self._worker = self._step = self._stores_closing = None

    def _drop_timer(self) -> None:
        """Have the alarm not go off; in the loop."""
        if self._alarm is not None:
            self._alarm.clear()
