"""The peers on clocks that the benchmark sets, with jobs that run inline."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from types import SimpleNamespace
from typing import Any

import apscheduler.schedulers.base
import schedule
from apscheduler.executors.debug import DebugExecutor

from benchmarks.sides import START


class _Clock(datetime):
    time = START

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return cls.time


class PeerScheduler(apscheduler.schedulers.base.BaseScheduler):  # type: ignore[misc]
    """What `tocsin.testing.FakeScheduler` is, made of APScheduler; one at a time.

    It has tocsin's defaults: no run is dropped for being late, and runs are coalesced.
    """

    def __init__(self) -> None:
        defaults = {"misfire_grace_time": None, "coalesce": True}
        super().__init__(timezone=timezone.utc, job_defaults=defaults)
        _Clock.time = START
        apscheduler.schedulers.base.datetime = _Clock
        self.start()

    def advance(self, by: timedelta) -> None:
        """Go on by a time, then do all that is due at its end."""
        _Clock.time += by
        self._process_jobs()

    def wakeup(self) -> None:
        """Do nothing: `advance` looks at the jobs."""

    def _create_default_executor(self) -> Any:
        return DebugExecutor()

    def shutdown(self, wait: bool = True) -> None:
        """Stop, and give APScheduler its own clock back."""
        super().shutdown(wait)
        apscheduler.schedulers.base.datetime = datetime


class ScheduleClock:
    """What ``schedule`` takes for the time: naive, as it is there; one at a time."""

    def __init__(self) -> None:
        self._time = START.replace(tzinfo=None)
        clock = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:
                return clock._time

        schedule.datetime = SimpleNamespace(datetime=Clock, timedelta=timedelta)  # type: ignore[attr-defined]

    def scheduler(self) -> schedule.Scheduler:
        """Make a scheduler on this clock."""
        return schedule.Scheduler()

    def advance(self, by: timedelta) -> None:
        """Go on by a time."""
        self._time += by

    def set_time(self, time: datetime) -> None:
        """Go to a time, also an earlier one."""
        self._time = time.replace(tzinfo=None)
