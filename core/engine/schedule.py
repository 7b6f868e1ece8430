# cython: annotation_typing=False, binding=False
"""What every schedule shares: bounds, the edge where datetimes become instants, steps in bulk."""

from __future__ import annotations

from array import array
from datetime import datetime, tzinfo

from tocsin.engine import capi, civil
from tocsin.engine.zone import Zone, zone_of

capi.load_datetime()


class Schedule:
    """A set of fire times, as instants; the base of the kinds of schedule.

    A kind implements `following` and `preceding`, which know no bounds and answer
    ``civil.forever()``, or its negative, when there is nothing. ``first`` and ``last`` are
    bounds, both included; None stands for no bound.
    """

    def __init__(self, tz: tzinfo, first: int | None = None, last: int | None = None) -> None:
        forever = civil.forever()
        self.tz = tz
        self.zone: Zone = zone_of(tz)
        self.first = -forever if first is None else first
        self.last = forever if last is None else last

    def following(self, instant: int) -> int:
        """Find the first fire time after an instant."""
        raise NotImplementedError

    def preceding(self, instant: int) -> int:
        """Find the last fire time before an instant."""
        raise NotImplementedError

    def after(self, instant: int) -> int:
        """Find the first fire time after an instant, within the bounds."""
        if instant < self.first:
            instant = self.first - 1
        found = self.following(instant)
        return found if found <= self.last else civil.forever()

    def before(self, instant: int) -> int:
        """Find the last fire time before an instant, within the bounds."""
        if instant > self.last:
            instant = self.last + 1
        found = self.preceding(instant)
        return found if found >= self.first else -civil.forever()

    def next(self, after: int) -> int | None:
        """Give the first fire time after an instant, or None."""
        found = self.after(civil.checked(after))
        return None if found >= civil.forever() else found

    def previous(self, before: int) -> int | None:
        """Give the last fire time before an instant, or None."""
        found = self.before(civil.checked(before))
        return None if found <= -civil.forever() else found

    def fill(self, instants: array[int], after: int, until: int) -> int:
        """Fill an ``array('q')`` with the fire times in ``after < t < until``; count them.

        Stops when the array is full. One call from Python for all of them.
        """
        if instants.typecode != "q":
            raise TypeError(f"an array('q') is needed, not array({instants.typecode!r})")
        instant = civil.checked(after)
        end = civil.checked(until)
        cells = capi.int64s(instants)
        size = len(instants)
        count = 0
        while count < size:
            instant = self.after(instant)
            if instant >= end:
                break
            cells[count] = instant
            count += 1
        return count

    def instant(self, when: datetime) -> int:
        """Turn an aware datetime into an instant.

        Raises TypeError for anything but a datetime, ValueError for a naive one.
        """
        if not isinstance(when, datetime):
            raise TypeError(f"a datetime with a time zone is needed, not {when!r}")
        moment = when
        days = civil.days_from_civil(moment.year, moment.month, moment.day)
        seconds = days * 86400 + moment.hour * 3600 + moment.minute * 60 + moment.second
        local = civil.micros_from_seconds(seconds) + moment.microsecond
        if moment.tzinfo is self.tz and moment.fold == 0:
            segment = self.zone.reaching(local)
            if segment.start <= local - segment.offset:
                return local - segment.offset
        offset = when.utcoffset()  # another zone, the second half of a fold, or a gap
        if offset is None:
            raise ValueError(f"{when!r} has no time zone: attach one, e.g. tzinfo={self.tz!r}")
        return local - offset_micros(offset)

    def moment(self, instant: int) -> datetime | None:
        """Turn an instant into an aware datetime; None outside the years 1 to 9999."""
        segment = self.zone.at(instant)
        local = instant + segment.offset
        seconds = civil.seconds_from_micros(local)
        micros = local - civil.micros_from_seconds(seconds)
        days = seconds // 86400
        if days < 306 or days > 3652364:
            return None
        date = civil.civil_from_days(days)
        time = seconds - days * 86400
        hour = time // 3600
        time -= hour * 3600
        minute = time // 60
        return capi.make_datetime(
            date >> 9,
            (date >> 5) & 15,
            date & 31,
            hour,
            minute,
            time - minute * 60,
            micros,
            self.tz,
            local < segment.floor,
        )

    def next_datetime(self, after: datetime) -> datetime | None:
        """Give the first fire time after an aware datetime, or None."""
        found = self.after(self.instant(after))
        return None if found >= civil.forever() else self.moment(found)

    def previous_datetime(self, before: datetime) -> datetime | None:
        """Give the last fire time before an aware datetime, or None."""
        found = self.before(self.instant(before))
        return None if found <= -civil.forever() else self.moment(found)


class FireTimes:
    """Iterate over the fire times in ``after < t < until`` as datetimes, ``limit`` at most."""

    def __init__(self, schedule: Schedule, after: int, until: int | None, limit: int | None):
        forever = civil.forever()
        self.schedule = schedule
        self.instant = civil.checked(after)
        self.until = forever if until is None else civil.checked(until)
        self.left = forever if limit is None or limit > forever else limit

    def __iter__(self) -> FireTimes:
        return self

    def __next__(self) -> datetime:
        if self.left > 0:
            self.instant = self.schedule.after(self.instant)
            if self.instant < self.until:
                moment = self.schedule.moment(self.instant)
                if moment is not None:
                    self.left -= 1
                    return moment
            self.left = 0
        raise StopIteration


def offset_micros(offset: object) -> int:
    """Count the microseconds of an offset from UTC."""
    return (offset.days * 86400 + offset.seconds) * 1000000 + offset.microseconds  # type: ignore[attr-defined, no-any-return]
