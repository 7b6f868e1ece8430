"""The date trigger."""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from typing import Any

from tocsin.convert import as_datetime, as_timezone, edge_of, present
from tocsin.engine.periodic import IntervalSchedule
from tocsin.engine.schedule import Schedule
from tocsin.triggers.base import ScheduledTrigger
from tocsin.triggers.cron.describe import name_zone


class DateTrigger(ScheduledTrigger):
    """Fire once, at ``run_date``; ``now``, if it is not given, by default the present.

    A naive date is read in ``timezone``, by default the local zone. Every call takes O(1).
    """

    __slots__ = ("_jitter", "_schedule", "run_date")

    kind = "date"
    start_date = end_date = None
    _schedule: IntervalSchedule

    def __init__(
        self,
        run_date: date | str | None = None,
        timezone: tzinfo | str | None = None,
        *,
        now: datetime | None = None,
    ) -> None:
        if timezone is None and isinstance(run_date, datetime):
            timezone = run_date.tzinfo
        tz = as_timezone(timezone)
        self.run_date = as_datetime(present(now) if run_date is None else run_date, tz, "run_date")
        self._set_jitter(None)
        instant = edge_of(tz).instant(self.run_date)
        self._schedule = IntervalSchedule(tz, instant, instant, 1)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Give the date as long as it has not fired, even if it has passed."""
        return self.run_date if previous_fire_time is None else None

    def next_run(self, previous: int | None, now: int, edge: Schedule) -> int | None:
        """Do what `get_next_fire_time` does, on instants."""
        return self._schedule.first if previous is None else None

    def latest_run(self, first: int, now: int, edge: Schedule) -> int:
        """Give ``first``: there is but one."""
        return first

    def _arguments(self) -> dict[str, Any]:
        return {"run_date": self.run_date, "timezone": self.timezone}

    def describe(self) -> str:
        """Say in one line when the trigger fires."""
        moment = self.run_date.replace(tzinfo=None).isoformat(" ")
        return f"once, at {moment}, {name_zone(self.timezone)}"

    def __str__(self) -> str:
        return f"date[{self.run_date:%Y-%m-%d %H:%M:%S %Z}]"
