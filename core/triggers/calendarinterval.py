"""The calendar interval trigger."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo
from operator import index
from typing import Any

from tocsin.convert import MICROSECOND, as_date, as_timezone, edge_of, localize, present
from tocsin.engine import civil
from tocsin.engine.periodic import CalendarSchedule
from tocsin.triggers.base import ScheduledTrigger, check_bounds
from tocsin.triggers.cron.describe import join, name_zone

#: More than all the months, or days, of the years 1 to 9999: such a trigger fires once.
_MOST = 4_000_000


class CalendarIntervalTrigger(ScheduledTrigger):
    """Fire at a local time of day, every so many years, months, weeks and days.

    The n-th fire date is ``start_date`` plus n times the years and months, plus n times the
    weeks and days. A day that the month lacks becomes its last day, and later dates keep
    theirs: from 31 January it fires on 28 February and on 31 March. Around a change of the
    clocks it fires once a day, as `CronTrigger` does. ``start_date`` is by default the date of
    ``now``, which is by default the present; ``end_date`` is included. ``jitter`` delays each
    run by 0 to so many seconds. Every call takes O(1).

    Raises ValueError for an interval that is not positive or a time that is out of range.
    """

    __slots__ = (
        "_jitter",
        "_schedule",
        "_time",
        "days",
        "end_date",
        "hour",
        "minute",
        "months",
        "second",
        "start_date",
        "weeks",
        "years",
    )

    kind = "calendarinterval"

    _schedule: CalendarSchedule

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hour: int = 0,
        minute: int = 0,
        second: int = 0,
        start_date: date | str | None = None,
        end_date: date | str | None = None,
        timezone: tzinfo | str | None = None,
        jitter: float | None = None,
        now: datetime | None = None,
    ) -> None:
        self.years = _count(years, "years")
        self.months = _count(months, "months")
        self.weeks = _count(weeks, "weeks")
        self.days = _count(days, "days")
        if not (years or months or weeks or days):
            raise ValueError("interval: 0 is not positive; give years, months, weeks or days")
        self.hour = _bounded(hour, "hour", 23)
        self.minute = _bounded(minute, "minute", 59)
        self.second = _bounded(second, "second", 59)
        self._time = time(hour, minute, second)
        for bound in (start_date, end_date):
            if timezone is None and isinstance(bound, datetime):
                timezone = bound.tzinfo
        tz = as_timezone(timezone)
        if start_date is None:
            start_date = present(now).astimezone(tz)
        self.start_date = as_date(start_date, "start_date")
        self.end_date = None if end_date is None else as_date(end_date, "end_date")
        check_bounds(self.start_date, self.end_date)
        self._set_jitter(jitter)
        last = None
        if self.end_date is not None and self.end_date < date.max:
            midnight = datetime.combine(self.end_date + timedelta(days=1), time())
            last = edge_of(tz).instant(localize(midnight, tz)) - 1
        start = self.start_date
        self._schedule = CalendarSchedule(
            tz,
            last,
            civil.days_from_civil(start.year, start.month, start.day),
            min(self.years * 12 + self.months, _MOST),
            min(self.weeks * 7 + self.days, _MOST),
            timedelta(hours=hour, minutes=minute, seconds=second) // MICROSECOND,
        )

    def _arguments(self) -> dict[str, Any]:
        names = ("years", "months", "weeks", "days", "hour", "minute", "second")
        given = {name: value for name in names if (value := getattr(self, name))}
        return {**given, **self._bounds()}

    def describe(self) -> str:
        """Say in one line when the trigger fires."""
        counts = [(name, getattr(self, name)) for name in ("years", "months", "weeks", "days")]
        parts = [f"{count} {name if count > 1 else name[:-1]}" for name, count in counts if count]
        every = join(parts).removeprefix("1 ") if len(parts) == 1 else join(parts)
        clock = self._time.isoformat("seconds" if self.second else "minutes")
        start = f"from {self.start_date.isoformat()}"
        return f"at {clock} every {every} {start}, {name_zone(self.timezone)}"

    def __str__(self) -> str:
        fields = [f"{name}={value}" for name, value in self._arguments().items() if name in _SHOWN]
        return f"calendarinterval[{', '.join(fields)}, time={self._time}]"


_SHOWN = ("years", "months", "weeks", "days")


def _count(value: object, name: str) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name}: a whole number is needed, not {value!r}")
    try:
        count = index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: a whole number is needed, not {value!r}") from None
    if count < 0:
        raise ValueError(f"{name}: {count} is negative")
    return count


def _bounded(value: object, name: str, high: int) -> int:
    count = _count(value, name)
    if count > high:
        raise ValueError(f"{name}: {count} is out of range; allowed: 0 to {high}")
    return count
