# cython: annotation_typing=False
"""A time zone as a sorted table of segments, made from any ``tzinfo``.

The wall clock of a zone is a function of the instant that jumps: forwards (a *gap*: some local
times never occur) or backwards (a *fold*: some occur twice). Two questions answer everything:
which offset holds at an instant (`Zone.at`), and at which instant the wall clock first reaches
a local time (`Zone.reaching`). The second is monotonic, which is why a schedule built on it
neither loses nor repeats a fire time.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from threading import Lock
from zoneinfo import ZoneInfo

from tocsin.engine import civil

DAY = 86_400_000_000
YEAR = 366 * DAY
EPOCH = datetime(1970, 1, 1)
#: Probing stays a day inside datetime's range, for local times have to be representable.
FIRST = -62_135_596_800_000_000 + 2 * DAY
LAST = 253_402_300_800_000_000 - 2 * DAY
#: Political history: within it, changes as near as three days are told apart (the nearest in
#: the tz database are four days apart, in Freetown in 1939; 2087 is the last irregular year).
#: Elsewhere zones follow a rule with periods of months.
HISTORY = (-3_786_825_600_000_000, 4_102_444_800_000_000)
HOUR = 3_600_000_000


class Segment:
    """A stretch of time with one offset from UTC: ``start <= instant < end``.

    ``floor`` is the local time up to which the wall clock had already run before ``start``
    (excluded): a local time of this segment below it is a repetition. Immutable.
    """

    def __init__(self, start: int, end: int, offset: int, floor: int) -> None:
        self.start = start
        self.end = end
        self.offset = offset
        self.floor = floor


class Zone:
    """Answer both questions for one ``tzinfo``; O(1) near the last answer, else O(log n).

    The table covers what was asked for and is extended on demand, under a lock, up to the ends
    of datetime's range; answers are immutable segments, so readers take no lock.
    """

    def __init__(self, tz: tzinfo) -> None:
        self.tz = tz
        self._lock = Lock()
        self._marks: list[tuple[int, int]] = []
        self._sampled = 0
        self._hit = Segment(0, 0, 0, 0)
        self._segments: tuple[Segment, ...] = ()
        if isinstance(tz, (timezone, ZoneInfo)):
            fixed = tz.utcoffset(None)
            if fixed is not None:
                forever = civil.forever()
                offset = fixed // timedelta(microseconds=1)
                self._hit = Segment(-forever, forever, offset, -forever)
                self._segments = (self._hit,)

    def at(self, instant: int) -> Segment:
        """Find the segment that holds an instant."""
        hit = self._hit
        if hit.start <= instant < hit.end:
            return hit
        segments = self._table(instant, instant)
        low = 0
        last = len(segments) - 1
        while low < last:
            middle = (low + last + 1) // 2
            segment = segments[middle]
            if segment.start <= instant:
                low = middle
            else:
                last = middle - 1
        segment = segments[low]
        self._hit = segment
        return segment

    def reaching(self, local: int) -> Segment:
        """Find the segment in which the wall clock first reads ``local`` or later.

        That happens at ``max(segment.start, local - segment.offset)``: the first occurrence
        of a folded time, the first instant after the gap for a time that never occurs.
        """
        hit = self._hit
        if hit.floor <= local < hit.end + hit.offset:
            return hit
        day = 86400
        day *= 1000000
        segments = self._table(local - day, local + day)  # no offset reaches 24 hours
        low = 0
        last = len(segments) - 1
        while low < last:
            middle = (low + last) // 2
            segment = segments[middle]
            # The higher of the two, what the wall clock has reached by the end of the
            # segment, never falls from one segment to the next.
            if segment.floor > local or segment.end + segment.offset > local:
                last = middle
            else:
                low = middle + 1
        segment = segments[low]
        self._hit = segment
        return segment

    def _table(self, low: int, high: int) -> tuple[Segment, ...]:
        """Give the segments, extended if need be so that they hold two instants."""
        segments = self._segments
        if len(segments) != 0:
            segment = segments[0]
            if segment.start <= low:
                segment = segments[len(segments) - 1]
                if high < segment.end:
                    return segments
        self._cover(low)
        return self._cover(high)

    def _offset(self, instant: int) -> int:
        utc = EPOCH + timedelta(microseconds=instant)
        try:
            local = self.tz.fromutc(utc.replace(tzinfo=self.tz)).replace(tzinfo=None)
        except ValueError as error:
            raise ValueError(f"time zone {self.tz!r} can't convert from UTC: {error}") from error
        return (local - utc) // timedelta(microseconds=1)

    def _cover(self, instant: int) -> tuple[Segment, ...]:
        """Extend the table to well beyond an instant; O(span / 3 days) calls of the tzinfo."""
        with self._lock:
            if not self._marks:
                start = min(max(instant, FIRST), LAST)
                self._marks = [(start, self._offset(start))]
                self._sampled = start
            low, high = self._marks[0][0], self._sampled
            reach = 2 * YEAR + (high - low) // 2
            if instant < low + YEAR and low > FIRST:
                self._prepend(max(min(instant, low) - reach, FIRST))
            if instant > high - YEAR and high < LAST:
                self._append(min(max(instant, high) + reach, LAST))
            self._segments = self._assemble()
            return self._segments

    def _prepend(self, low: int) -> None:
        # What was the first mark begins no period: the last one that is found goes on there.
        self._marks[:1] = self._scan(low, self._marks[0][0])

    def _append(self, high: int) -> None:
        self._marks += self._scan(self._sampled, high)[1:]
        self._sampled = high

    def _scan(self, low: int, high: int) -> list[tuple[int, int]]:
        """List (start, offset) of the periods in a span; the first one starts at ``low``."""
        marks = [(low, self._offset(low))]
        while low < high:
            step = 3 * DAY if HISTORY[0] <= low < HISTORY[1] else 28 * DAY
            sample = min(low + step, high)
            offset = self._offset(sample)
            if offset != marks[-1][1]:
                marks.append((self._boundary(low, sample, marks[-1][1]), offset))
            low = sample
        return marks

    def _boundary(self, low: int, high: int, before: int) -> int:
        """Find the first instant in (low, high] with another offset than ``before``."""
        unit = HOUR  # nearly all changes fall on a full hour: try those first
        while True:
            while low // unit + 1 < -(-high // unit):
                middle = (low // unit + -(-high // unit)) // 2 * unit
                if self._offset(middle) == before:
                    low = middle
                else:
                    high = middle
            if unit == 1 or self._offset(high - 1) == before:
                return high
            unit = 1

    def _assemble(self) -> tuple[Segment, ...]:
        forever = civil.forever()
        first, offset = self._marks[0]
        starts = [start for start, _ in self._marks]
        ends = [*starts[1:], forever if self._sampled >= LAST else self._sampled]
        if first <= FIRST:
            starts[0] = edge = reached = -forever
        else:
            # What comes just after the start may repeat an hour of before it: leave it out.
            edge = first + 3 * DAY
            reached = first + offset
        segments = []
        for (_, offset), start, end in zip(self._marks, starts, ends, strict=True):
            if end > edge:
                if start < edge:
                    start = edge
                    reached = max(reached, edge + offset)
                segments.append(Segment(start, end, offset, reached))
            reached = max(reached, end + offset)
        return tuple(segments)


@lru_cache(maxsize=1024)
def _shared_zone(tz: tzinfo) -> Zone:
    return Zone(tz)


def zone_of(tz: tzinfo) -> Zone:
    """Give the table of a time zone, shared by all who use an equal one."""
    try:
        return _shared_zone(tz)
    except TypeError:  # some of dateutil's zones are not hashable
        return Zone(tz)
