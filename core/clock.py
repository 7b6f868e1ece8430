"""The clock of a scheduler."""

from __future__ import annotations

from time import time_ns
from typing import Protocol


class Clock(Protocol):
    """What tells a scheduler the time; `tocsin.testing.FakeClock` is another one."""

    def now(self) -> int:
        """Give the instant: microseconds since 1970-01-01T00:00Z."""


class SystemClock:
    """The clock of the computer."""

    def now(self) -> int:
        """Give the instant: microseconds since 1970-01-01T00:00Z."""
        return time_ns() // 1000
