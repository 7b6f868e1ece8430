"""The scheduler that runs in the thread that starts it."""

from __future__ import annotations

from math import inf
from threading import Event, Thread, current_thread, main_thread
from time import monotonic
from typing import Any

from tocsin.scheduler import STATE_STOPPED, BaseScheduler

__all__ = ["BlockingScheduler"]

#: In seconds. Of a signal that comes as the main thread falls asleep, between Python's last look
#: and the system's, Python hears when it wakes up.
LONGEST_NAP = 5.0


class BlockingScheduler(BaseScheduler):
    """Run in the thread that calls `start`, which returns when the scheduler is shut down.

    For programs that do nothing else. What interrupts the thread, Ctrl-C for one, comes out of
    `start`; the scheduler is still to be shut down then.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._event = Event()
        self._ended = Event()
        self._looping: Thread | None = None
        super().__init__(*args, **options)

    def start(self, paused: bool = False) -> None:
        """Start, and run until `shutdown`; see `BaseScheduler.start`."""
        super().start(paused)
        self._main_loop()

    def _main_loop(self) -> None:
        """Sleep until something is due, run it, and again, until the scheduler is shut down."""
        self._ended.clear()
        self._looping = current_thread()
        try:
            while self.state != STATE_STOPPED:
                self._event.clear()
                wait = self._process_jobs()
                if self.state != STATE_STOPPED:
                    self._sleep(wait)
        finally:
            self._looping = None
            self._ended.set()

    def _sleep(self, seconds: float | None) -> None:
        """Wait for so long, None for ever, or to be woken."""
        if current_thread() is not main_thread():  # signals are none of its business
            self._event.wait(seconds)
            return
        end = inf if seconds is None else monotonic() + seconds
        while (left := end - monotonic()) > 0 and not self._event.wait(min(left, LONGEST_NAP)):
            pass

    def wakeup(self) -> None:
        """Have the scheduler look at its jobs as soon as it can; from any thread."""
        self._event.set()

    def _stop_timer(self) -> None:
        self._event.set()
        if self._looping not in (None, current_thread()):
            self._ended.wait()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._event = Event()
        self._ended = Event()
        self._looping = None
