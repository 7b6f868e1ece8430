"""What the schedulers of event loops share: a timer made of callbacks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from tocsin.scheduler import STATE_STOPPED, BaseScheduler

__all__ = ["CallbackScheduler"]


class CallbackScheduler(BaseScheduler):
    """The base of schedulers that live in an event loop.

    A subclass says how to call a function later, how to call one soon from any thread, and how
    to take a timer back; it names its loop at the start.
    """

    _timer: Any = None
    _woken = False

    @abstractmethod
    def _call_later(self, delay: float, function: Callable[[], None]) -> Any:
        """Call a function in the loop after some seconds; give what `_cancel` takes."""

    @abstractmethod
    def _cancel(self, timer: Any) -> None:
        """Have a timer not call; it may have called already."""

    @abstractmethod
    def _call_soon(self, function: Callable[[], None]) -> None:
        """Call a function in the loop as soon as it can; from any thread."""

    def wakeup(self) -> None:
        """Have the scheduler look at its jobs as soon as it can; from any thread."""
        if not self._woken:
            self._woken = True
            self._call_soon(self._tick)

    def _tick(self) -> None:
        """Run what is due, and set the timer for what comes next; in the loop."""
        self._woken = False
        self._drop_timer()
        wait = self._process_jobs()
        if wait is not None and self.state != STATE_STOPPED:
            self._timer = self._call_later(wait, self._tick)

    def _drop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._cancel(timer)
