"""APScheduler on a clock that the benchmark sets, with jobs that run inline."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import apscheduler.schedulers.base
from apscheduler.executors.debug import DebugExecutor

#: When the clocks of all schedulers begin.
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


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
