# cython: annotation_typing=False, auto_pickle=False
"""Schedules with a period: of elapsed time, or of calendar units at a local time."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any

from tocsin.engine import civil
from tocsin.engine.schedule import Schedule


class IntervalSchedule(Schedule):
    """Fire every ``step`` microseconds of elapsed time, from ``first`` on."""

    def __init__(self, tz: tzinfo, first: int, last: int | None, step: int) -> None:
        super().__init__(tz, first, last)
        self.step = step

    def following(self, instant: int) -> int:
        """Find the first fire time after an instant; O(1)."""
        count = (instant - self.first) // self.step + 1
        return self.first + count * self.step

    def preceding(self, instant: int) -> int:
        """Find the last fire time before an instant; O(1)."""
        count = (instant - 1 - self.first) // self.step
        return self.first + count * self.step


class Interval:
    """A length of time, which triggers that were given the same one share.

    ``units`` are as given, and ``text`` is their text; ``step`` is in microseconds.
    """

    __slots__ = ("length", "step", "text", "units")

    def __init__(self, units: dict[str, float], text: str, length: timedelta, step: int) -> None:
        self.units = units
        self.text = text
        self.length = length
        self.step = step


class Steps:
    """A base for what has run times one step apart, and keeps them in itself.

    An object that holds an `IntervalSchedule` costs 150 bytes more, and a call more for each run.
    The first and the last run time are bounds, both included; None stands for no last one. With
    ``_jitter`` the next base knows the run times.
    """

    __slots__ = ("_edge", "_first", "_interval", "_jitter", "_last")

    _edge: Schedule
    # An object that the jobs of the trigger share at first, and not a number.
    _first: int
    _interval: Interval
    _jitter: Any
    _last: int | None

    def moment(self, instant: int, edge: Schedule | None = None) -> datetime | None:
        """Turn an instant into a datetime in the zone of its own edge."""
        return self._edge.moment(instant)

    def next_run(self, previous: int | None, now: int, edge: Schedule) -> int | None:
        """Give the run time one step after the previous one; else the first from ``now`` on."""
        if self._jitter is not None:
            found: int | None = super().next_run(previous, now, edge)  # type: ignore[misc]
            return found
        return step_after(self._first, self._last, self._interval.step, previous, now, self._edge)

    def latest_run(self, first: int, now: int, edge: Schedule) -> int:
        """Give the last of the run times that begin with ``first`` and are not after ``now``."""
        if self._jitter is not None:
            found: int = super().latest_run(first, now, edge)  # type: ignore[misc]
            return found
        return latest_step(first, self._last, self._interval.step, now)


def step_after(
    first: int, last: int | None, step: int, previous: int | None, now: int, edge: Schedule
) -> int | None:
    """Give the instant one step after another, else the first from ``now`` on, or None."""
    found = None
    if previous is not None:
        instant = civil.checked(previous) + step
    else:
        instant = civil.checked(first)
        present = civil.checked(now)
        if instant >= present:
            found = first  # already an integer: none is made
        else:
            instant += (present - instant + step - 1) // step * step
    if last is not None and instant > civil.checked(last):
        return None
    # From 2 ** 57 on, which is in the year 6536, it may be beyond the calendar.
    if instant > civil.forever() >> 5 and edge.moment(instant) is None:
        return None
    return instant if found is None else found


def latest_step(first: int, last: int | None, step: int, now: int) -> int:
    """Give the last of the instants a step apart that is not after ``now``, or ``first``."""
    instant = civil.checked(first)
    until = civil.checked(now)
    if last is not None and until > civil.checked(last):
        until = civil.checked(last)
    if until > instant:
        instant += (until - instant) // step * step
    return instant


class CalendarSchedule(Schedule):
    """Fire at a time of day on every n-th multiple of so many months and days from a date.

    ``anchor`` counts days from 0000-03-01, ``time`` microseconds from midnight. The n-th date
    is the anchor plus n times the months, cut to the end of its month, plus n times the days:
    a short month does not move those after it.
    """

    def __init__(
        self,
        tz: tzinfo,
        last: int | None,
        anchor: int,
        months: int,
        days: int,
        time: int,
    ) -> None:
        super().__init__(tz, None, last)
        self.anchor = anchor
        date = civil.civil_from_days(anchor)
        self.month = (date >> 9) * 12 + (date >> 5 & 15) - 1
        self.day = date & 31
        self.months = months
        self.days = days
        self.time = time

    def following(self, instant: int) -> int:
        """Find the first fire time after an instant; O(1)."""
        segment = self.zone.at(instant)
        local = instant + segment.offset + 1
        if segment.floor > local:
            local = segment.floor
        found = self.nth(self.count_until(local - 1) + 1)
        if found >= civil.forever():
            return found
        segment = self.zone.reaching(found)
        found -= segment.offset
        return found if found > segment.start else segment.start

    def preceding(self, instant: int) -> int:
        """Find the last fire time before an instant; O(1)."""
        segment = self.zone.at(instant - 1)
        local = instant - 1 + segment.offset
        if segment.floor > local:
            local = segment.floor - 1
        count = self.count_until(local)
        if count < 0:
            return -civil.forever()
        found = self.nth(count)
        segment = self.zone.reaching(found)
        found -= segment.offset
        return found if found > segment.start else segment.start

    def count_until(self, local: int) -> int:
        """Tell which multiple is the last one at or before a local time; -1 if none is."""
        days = civil.seconds_from_micros(local) // 86400
        if days < self.anchor:
            return -1
        if days > 3652364:  # or the estimate is as far beyond the calendar, one step at a time
            days = 3652364
        # 4800 months are 146097 days; the estimate is off by the unevenness of months only.
        count = (days - self.anchor) * 4800 // (self.months * 146097 + self.days * 4800)
        while self.nth(count) > local:
            count -= 1
            if count < 0:
                return -1
        while self.nth(count + 1) <= local:
            count += 1
        return count

    def nth(self, count: int) -> int:
        """Give the local time of a multiple of the period; forever after the year 9999."""
        month = self.month + count * self.months
        year = month // 12
        if year > 9999:
            return civil.forever()
        month = month % 12 + 1
        length = civil.month_length(year, month)
        day = self.day if self.day < length else length
        days = civil.days_from_civil(year, month, day) + count * self.days
        if days > 3652364:
            return civil.forever()
        return civil.micros_from_seconds(days * 86400) + self.time
