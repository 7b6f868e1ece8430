"""What users test their schedules with: a clock that they set, and a scheduler that follows it."""

from __future__ import annotations

from tocsin.testing.clock import FakeClock
from tocsin.testing.scheduler import FakeScheduler

__all__ = ["FakeClock", "FakeScheduler"]
