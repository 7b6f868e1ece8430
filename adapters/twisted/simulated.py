"""The time of a clock of Twisted's, for schedules that tests advance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

_SECOND = 1_000_000


class SimulatedTime:
    """The time of a Twisted clock, which is set forward before it makes the calls of meanwhile.

    During such a call this is the time that the call was meant for.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._instant: int | None = None
        self._soon: set[Any] = set()

    def now(self) -> int:
        """Give the instant: microseconds since 1970-01-01T00:00Z."""
        if self._instant is not None:
            return self._instant
        return round(self._clock.seconds() * _SECOND)

    def call_at(self, instant: int, function: Callable[[], None]) -> Any:
        """Call a function at an instant, which may be past."""
        delay = instant / _SECOND - self._clock.seconds()
        return self._clock.callLater(delay, self._call, instant, function)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function when the clock is next advanced, be it by nothing."""

        def call() -> None:
            self._soon.discard(timer)
            function()

        timer = self.call_at(self.now(), call)
        self._soon.add(timer)

    def clear(self) -> None:
        """Take back what was to be called soon."""
        while self._soon:
            self._soon.pop().cancel()

    def _call(self, instant: int, function: Callable[[], None]) -> None:
        before, self._instant = self._instant, instant
        try:
            function()
        finally:
            self._instant = before
