"""A scheduler for tests."""

from __future__ import annotations

from typing import Any

from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.scheduler import STATE_STOPPED, BaseScheduler
from tocsin.testing.clock import FakeClock


class FakeScheduler(BaseScheduler):
    """A scheduler whose timer is a `FakeClock`: what is due runs while the clock advances.

    Jobs run in the thread that advances the clock, one after the other, unless the scheduler
    is given other executors. Several schedulers may share one clock. The arguments are those
    of `BaseScheduler`; without ``clock`` it makes one of its own, its attribute ``clock``.
    """

    clock: FakeClock
    longest_sleep = float("inf")

    def __init__(self, *args: Any, **options: Any) -> None:
        self._timer: int | None = None
        super().__init__(*args, **options)

    def wakeup(self) -> None:
        """Look at the jobs as soon as the clock advances, be it by nothing."""
        self._set_timer(self.clock.now())

    def _tick(self) -> None:
        self._timer = None
        wait = self._process_jobs()
        if wait is not None and self.state != STATE_STOPPED:
            self._set_timer(self.clock.now() + round(wait * 1_000_000))

    def _set_timer(self, instant: int) -> None:
        if self._timer is not None:
            self.clock.cancel(self._timer)
        self._timer = self.clock.call_at(instant, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self.clock.cancel(self._timer)
            self._timer = None

    def _create_default_clock(self) -> FakeClock:
        return FakeClock()

    def _create_default_executor(self) -> BaseExecutor:
        return DebugExecutor()
