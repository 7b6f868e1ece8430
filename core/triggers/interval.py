"""The interval trigger."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from tocsin.convert import MICROSECOND, as_datetime, as_number, as_timezone, edge_of, present
from tocsin.engine.periodic import Interval, IntervalSchedule, Steps
from tocsin.triggers.base import ScheduledTrigger, check_bounds
from tocsin.triggers.cron.describe import join, name_zone

_UNITS = ("weeks", "days", "hours", "minutes", "seconds", "microseconds")
#: Longer than all of datetime's range, shorter than an instant's: such a trigger fires once.
_LONGEST = 2**60


@lru_cache(maxsize=1024, typed=True)
def _interval_of(*given: float) -> Interval:
    """Add up numbers of units, in the order of `_UNITS`; ValueError for a sum that won't do."""
    units = {name: value for name, value in zip(_UNITS, given, strict=True) if value != 0}
    text = ", ".join(f"{name}={value}" for name, value in units.items()) or "0"
    try:
        length = timedelta(**units)
    except OverflowError as error:
        raise ValueError(f"interval: {text} is longer than {timedelta.max}") from error
    if length < MICROSECOND:
        raise ValueError(f"interval: {text} is not positive; at least a microsecond is needed")
    return Interval(units, repr(units), length, min(length // MICROSECOND, _LONGEST))


class IntervalTrigger(Steps, ScheduledTrigger):
    """Fire each time that the interval has elapsed since ``start_date``.

    The interval is elapsed time: ``days=1`` is 24 hours, which is another time of day after
    the clocks change. `CalendarIntervalTrigger` keeps the time of day. ``start_date``, the
    first fire time, is by default one interval from ``now``, which is by default the present;
    ``end_date`` is included. ``jitter`` delays each run by 0 to so many seconds, around fire
    times that stay where they are. Every call takes O(1), with jitter O(jitter / interval).

    Raises ValueError for an interval that is not at least a microsecond.
    """

    # A million jobs may each have their own: two instants, and what it shares with others. It
    # takes a schedule only for what goes through many fire times.
    __slots__ = ()

    kind = "interval"

    # Said here, they count as what decides; see `Trigger.__init_subclass__`.
    next_run = Steps.next_run
    latest_run = Steps.latest_run

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
        for name, value in zip(_UNITS, given, strict=True):
            as_number(value, name)
        interval = _interval_of(*given)
        for bound in (start_date, end_date):
            if timezone is None and isinstance(bound, datetime):
                timezone = bound.tzinfo
        tz = as_timezone(timezone)
        edge = edge_of(tz)
        if start_date is None:
            first = edge.instant(present(now)) + interval.step
            if first >= _LONGEST or edge.moment(first) is None:
                raise ValueError(
                    f"interval: {interval.length} from now is after the year 9999; give a"
                    " start_date"
                )
        else:
            first = edge.instant(as_datetime(start_date, tz, "start_date"))
        self._interval = interval
        self._edge = edge
        self._first = first
        self._last = None
        if end_date is not None:
            self._last = edge.instant(as_datetime(end_date, tz, "end_date"))
            check_bounds(self.start_date if start_date is not None else None, self.end_date)
        self._set_jitter(jitter)

    @property
    def _schedule(self) -> IntervalSchedule:
        return IntervalSchedule(self._edge.tz, self._first, self._last, self._interval.step)

    @property
    def timezone(self) -> tzinfo:
        """The time zone in which the fire times are given."""
        return self._edge.tz

    @property
    def start_date(self) -> datetime:
        """The first fire time."""
        return self.moment(self._first)  # type: ignore[return-value]

    @property
    def end_date(self) -> datetime | None:
        """The last time at which it may fire; None for no end."""
        return None if self._last is None else self.moment(self._last)

    @property
    def interval(self) -> timedelta:
        """The interval."""
        return self._interval.length

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
        edge = self._edge
        if previous_fire_time is None or self._jitter is not None:
            return super().get_next_fire_time(previous_fire_time, now)
        found = self.next_run(edge.instant(previous_fire_time), 0, edge)
        return None if found is None else edge.moment(found)

    def _arguments(self) -> dict[str, Any]:
        # As `_bounds` does it, in half the time: many jobs have a trigger of this kind each.
        arguments: dict[str, Any] = {**self._interval.units, "start_date": self.start_date}
        if self._last is not None:
            arguments["end_date"] = self.end_date
        arguments["timezone"] = self._edge.tz
        if self._jitter is not None:
            arguments["jitter"] = self._jitter.seconds
        return arguments

    def _likeness(self) -> Any:
        if type(self) is not IntervalTrigger or self._jitter is not None:
            return id(self)
        return self._interval.text, self._first, self._last, self._edge

    def _key(self) -> tuple[Any, ...]:
        bounds = (self._first, self._last)
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
