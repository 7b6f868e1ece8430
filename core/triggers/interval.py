"""The interval trigger."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any

from tocsin.convert import MICROSECOND, as_datetime, as_number, as_timezone, edge_of, present
from tocsin.engine.periodic import IntervalSchedule
from tocsin.engine.schedule import Schedule
from tocsin.triggers.base import ScheduledTrigger, check_bounds
from tocsin.triggers.cron.describe import join, name_zone

_UNITS = ("weeks", "days", "hours", "minutes", "seconds", "microseconds")
#: Longer than all of datetime's range, shorter than an instant's: such a trigger fires once.
_LONGEST = 2**60


class IntervalTrigger(ScheduledTrigger):
    """Fire each time that the interval has elapsed since ``start_date``.

    The interval is elapsed time: ``days=1`` is 24 hours, which is another time of day after
    the clocks change. `CalendarIntervalTrigger` keeps the time of day. ``start_date``, the
    first fire time, is by default one interval from ``now``, which is by default the present;
    ``end_date`` is included. ``jitter`` delays each run by 0 to so many seconds, around fire
    times that stay where they are. Every call takes O(1), with jitter O(jitter / interval).

    Raises ValueError for an interval that is not at least a microsecond.
    """

    __slots__ = ("_units", "interval")

    kind = "interval"

    _schedule: IntervalSchedule

    def __init__(
        self,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        timezone: tzinfo | str | None = None,
        jitter: float | None = None,
        *,
        microseconds: float = 0,
        now: datetime | None = None,
    ) -> None:
        given = (weeks, days, hours, minutes, seconds, microseconds)
        units = {
            name: value
            for name, value in zip(_UNITS, given, strict=True)
            if as_number(value, name) != 0
        }
        text = ", ".join(f"{name}={value}" for name, value in units.items()) or "0"
        try:
            interval = timedelta(**units)
        except OverflowError as error:
            raise ValueError(f"interval: {text} is longer than {timedelta.max}") from error
        if interval < MICROSECOND:
            raise ValueError(f"interval: {text} is not positive; at least a microsecond is needed")
        for bound in (start_date, end_date):
            if timezone is None and isinstance(bound, datetime):
                timezone = bound.tzinfo
        tz = as_timezone(timezone)
        self.interval = interval
        self._units = units
        self.timezone = tz
        edge = edge_of(tz)
        step = min(interval // MICROSECOND, _LONGEST)
        if start_date is None:
            first = edge.instant(present(now)) + step
            moment = edge.moment(first) if first < _LONGEST else None
            if moment is None:
                raise ValueError(
                    f"interval: {text} from now is after the year 9999; give a start_date"
                )
            self.start_date = moment
        else:
            self.start_date = as_datetime(start_date, tz, "start_date")
            first = edge.instant(self.start_date)
        self.end_date = None if end_date is None else as_datetime(end_date, tz, "end_date")
        check_bounds(self.start_date if start_date is not None else None, self.end_date)
        self._set_jitter(jitter)
        last = None if self.end_date is None else edge.instant(self.end_date)
        self._schedule = IntervalSchedule(tz, first, last, step)

    @property
    def interval_length(self) -> float:
        """The interval in seconds."""
        return self.interval.total_seconds()

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Give the time one interval after the previous one; else the first from ``now`` on.

        A job that was started out of step (``next_run_time=...``) keeps its own step. With
        jitter the answer comes from the fire times that ``start_date`` fixes.
        """
        schedule = self._schedule
        if previous_fire_time is None or self._spread:
            return super().get_next_fire_time(previous_fire_time, now)
        found = self.next_run(schedule.instant(previous_fire_time), 0, schedule)
        return None if found is None else schedule.moment(found)

    def next_run(self, previous: int | None, now: int, edge: Schedule) -> int | None:
        """Do what `get_next_fire_time` does, on instants."""
        if self._spread:
            return super().next_run(previous, now, edge)
        schedule = self._schedule
        if previous is None:
            return schedule.next(now - 1)
        found = previous + schedule.step
        return None if found > schedule.last or found >= _LONGEST else found

    def latest_run(self, first: int, now: int, edge: Schedule) -> int:
        """Give the last of the run times that begin with ``first`` and are not after ``now``."""
        if self._spread:
            return super().latest_run(first, now, edge)
        step = self._schedule.step
        return first + max(min(now, self._schedule.last) - first, 0) // step * step

    def _arguments(self) -> dict[str, Any]:
        return {**self._units, **self._bounds()}

    def _key(self) -> tuple[Any, ...]:
        schedule = self._schedule
        bounds = (schedule.first, schedule.last)
        return (self.interval, *bounds, self.jitter, name_zone(self.timezone))

    def describe(self) -> str:
        """Say in one line when the trigger fires."""
        seconds, micros = divmod(self.interval // MICROSECOND, 10**6)
        parts = []
        for size, unit in ((604800, "week"), (86400, "day"), (3600, "hour"), (60, "minute")):
            count, seconds = divmod(seconds, size)
            if count:
                parts.append(f"{count} {unit}{'s' * (count > 1)}")
        if seconds or micros:
            text = f"{seconds}.{micros:06}".rstrip("0") if micros else str(seconds)
            parts.append(f"{text} second{'s' * (text != '1')}")
        every = join(parts).removeprefix("1 ") if len(parts) == 1 else join(parts)
        start = self.start_date.replace(tzinfo=None).isoformat(" ")
        return f"every {every} from {start}, {name_zone(self.timezone)}"

    def __str__(self) -> str:
        return f"interval[{self.interval}]"
