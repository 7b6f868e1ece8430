"""Fire times by brute force, from the definitions and ``tzinfo`` alone: nothing of the engine.

Instants are microseconds since 1970 in UTC; local times are naive datetimes, or the seconds
from 1970 to them. A wall clock is a list of pieces with one offset each, found by asking the
zone once an hour.

*wall-clock*: an instant is a fire time if its wall clock reads a matching local time.
*exactly-once*: the fire time of a matching local time is the first instant at which the wall
clock reads that time or a later one.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache

EPOCH = datetime(1970, 1, 1)
EPOCH_UTC = EPOCH.replace(tzinfo=timezone.utc)
FIRST_DAY = (date.min - EPOCH.date()).days
LAST_DAY = (date.max - EPOCH.date()).days
DAY = 86400
SECOND = 1_000_000


def instant_of(when: datetime) -> int:
    """Turn an aware datetime into an instant, by its own offset."""
    offset = when.utcoffset()
    assert offset is not None
    return (when.replace(tzinfo=None) - EPOCH - offset) // timedelta(microseconds=1)


@cache
def offset_at(tz: tzinfo, second: int) -> int:
    """Ask a zone for its offset at a UTC second, clamped to where datetimes can be converted."""
    second = min(max(second, (FIRST_DAY + 1) * DAY), LAST_DAY * DAY - 1)
    utc = EPOCH_UTC + timedelta(seconds=second)
    offset = utc.astimezone(tz).replace(tzinfo=None) - utc.replace(tzinfo=None)
    return offset // timedelta(seconds=1)


@lru_cache(maxsize=100_000)
def pieces_near(tz: tzinfo, day: int) -> tuple[tuple[int, int, int], ...]:
    """List (start, end, offset) in seconds, from two days before a day to three after it."""
    low, high = (day - 2) * DAY, (day + 3) * DAY
    found = []
    start, offset = low, offset_at(tz, low)
    for sample in range(low + 3600, high + 1, 3600):
        if offset_at(tz, sample) != offset:
            before, after = sample - 3600, sample
            while after - before > 1:
                middle = (before + after) // 2
                if offset_at(tz, middle) == offset:
                    before = middle
                else:
                    after = middle
            found.append((start, after, offset))
            start, offset = after, offset_at(tz, after)
    found.append((start, high, offset))
    return tuple(found)


Pieces = Iterable[tuple[int, int, int]]


def reached_in(pieces: Pieces, local: int) -> int:
    """Find where the wall clock first reads a local time or a later one."""
    return min(
        max(start, local - offset)
        for start, end, offset in pieces
        if max(start, local - offset) < end
    )


def occurrences_in(pieces: Pieces, local: int) -> list[int]:
    """List where the wall clock reads a local time: nowhere, once or twice."""
    return [local - offset for start, end, offset in pieces if start <= local - offset < end]


def reached(tz: tzinfo, local: int) -> int:
    """Find the first UTC second at which the wall clock reads a local second or a later one."""
    return reached_in(pieces_near(tz, local // DAY), local)


def occurrences(tz: tzinfo, local: int) -> list[int]:
    """List the UTC seconds at which the wall clock reads a local second: none, one or two."""
    return occurrences_in(pieces_near(tz, local // DAY), local)


def nth_date(start: date, months: int, days: int, n: int) -> date | None:
    """Count months, cut to the end of the month, then days; None after the year 9999."""
    year, month = divmod(start.year * 12 + start.month - 1 + n * months, 12)
    if year > 9999:
        return None
    length = calendar.monthrange(year, month + 1)[1]
    try:
        return date(year, month + 1, min(start.day, length)) + timedelta(days=n * days)
    except OverflowError:
        return None


@dataclass(frozen=True)
class Definition:
    """What a cron expression means: a predicate of dates, and sets of hours, minutes, seconds."""

    matches: Callable[[date], bool]
    hours: frozenset[int]
    minutes: frozenset[int]
    seconds: frozenset[int]
    once: bool
    years: frozenset[int] | None = None

    def locals_of(self, day: int) -> Iterator[int]:
        """List the matching local seconds of a day, in order."""
        if not FIRST_DAY <= day <= LAST_DAY or not self.matches(date.fromordinal(719163 + day)):
            return
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                for second in sorted(self.seconds):
                    yield day * DAY + hour * 3600 + minute * 60 + second

    def fires_of(self, tz: tzinfo, day: int) -> set[int]:
        """Give the UTC seconds of a local day's fire times."""
        found: set[int] = set()
        for local in self.locals_of(day):
            if self.once:
                found.add(reached(tz, local))
            else:
                found.update(occurrences(tz, local))
        return found

    def fire_times(self, tz: tzinfo, low: int, high: int) -> list[int]:
        """List the instants in ``low <= t < high`` that are fire times."""
        first, last = low // SECOND // DAY - 2, high // SECOND // DAY + 2
        found: set[int] = set()
        for day in range(first, last + 1):
            found |= self.fires_of(tz, day)
        return sorted(t * SECOND for t in found if low <= t * SECOND < high)

    def next(self, tz: tzinfo, after: int) -> int | None:
        """Find the first fire time after an instant."""
        return self._nearest(tz, after, 1)

    def previous(self, tz: tzinfo, before: int) -> int | None:
        """Find the last fire time before an instant."""
        return self._nearest(tz, before, -1)

    def _nearest(self, tz: tzinfo, instant: int, step: int) -> int | None:
        day = instant // SECOND // DAY - 2 * step
        day = max(day, FIRST_DAY) if step > 0 else min(day, LAST_DAY)
        found: set[int] = set()
        left = 5  # days to look at beyond the one where something was found
        while FIRST_DAY <= day <= LAST_DAY and left:
            if self.years is not None:
                year = date.fromordinal(719163 + day).year
                if year not in self.years:
                    day = self._skip(year, step)
                    continue
            fires = self.fires_of(tz, day)
            found |= {t * SECOND for t in fires if (t * SECOND - instant) * step > 0}
            left -= bool(found)
            day += step
        return (min(found) if step > 0 else max(found)) if found else None

    def _skip(self, year: int, step: int) -> int:
        """Jump over the years that don't match."""
        assert self.years is not None
        rest = [each for each in self.years if (each - year) * step > 0]
        if not rest:
            return LAST_DAY + 1
        if step > 0:
            return (date(min(rest), 1, 1) - EPOCH.date()).days
        return (date(max(rest), 12, 31) - EPOCH.date()).days
