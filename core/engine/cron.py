# cython: annotation_typing=False
"""Cron fields as bit masks, and the search for the next match from year down to second.

A month's matching days become one mask; the next one is found by counting trailing zeros, so
the cost of a step does not depend on how far away the next fire time is, save for one step per
month that the mask of months selects.
"""

from __future__ import annotations

from datetime import tzinfo

from tocsin.engine import capi, civil
from tocsin.engine.schedule import Schedule
from tocsin.engine.zone import Segment


class CronSchedule(Schedule):
    """The fire times of a set of cron fields.

    Masks have the bit of each allowed value: ``seconds``, ``minutes``, ``hours``, ``months``,
    ``weeks`` (ISO), ``days``, ``weekdays`` (Monday is 0). ``years`` is such a mask, or None for
    all. ``from_end`` has bit k for the k-th day before the last of the month; ``nearest`` bit d
    for the working day nearest to day d, and bit 0 for the last working day; ``day_nth`` and
    ``weekday_nth`` bit ``7 * (n - 1) + weekday`` for the n-th such weekday of the month, with
    n = 6 for the last. ``either`` makes day and weekday alternatives, as cron does.

    With ``once`` each matching local time fires once, when the wall clock first reaches it;
    otherwise each instant fires whose wall clock matches.
    """

    def __init__(
        self,
        tz: tzinfo,
        first: int | None,
        last: int | None,
        once: bool,
        seconds: int,
        minutes: int,
        hours: int,
        days: int,
        from_end: int,
        nearest: int,
        day_nth: int,
        weekdays: int,
        weekday_nth: int,
        either: bool,
        weeks: int,
        months: int,
        years: int | None,
    ) -> None:
        super().__init__(tz, first, last)
        self.once = once
        self.seconds = seconds
        self.minutes = minutes
        self.hours = hours
        self.days = days
        self.from_end = from_end
        self.nearest = nearest
        self.day_nth = day_nth
        self.weekdays = weekdays
        self.weekday_nth = weekday_nth
        self.either = either
        self.weeks = weeks
        self.months = months
        self.years = years
        self.first_second = capi.lowest_bit(seconds)
        self.last_second = capi.highest_bit(seconds)
        self.first_time = capi.lowest_bit(hours) * 3600 + capi.lowest_bit(minutes) * 60
        self.last_time = capi.highest_bit(hours) * 3600 + capi.highest_bit(minutes) * 60
        self.cached = 0

    def can_match(self) -> bool:
        """Tell whether any date of the years 1 to 9999 matches; O(1)."""
        kinds = set()
        years = self.years
        cycle = -1
        if years is not None:  # the calendar comes round after 400 years
            cycle = 0
            while years:
                cycle |= years
                years >>= 400
        for year in range(2000, 2400):
            if not cycle >> (year - 2000) & 1:
                continue
            # Weekday of 1 January, this and last year's leap day.
            kind = (civil.weekday(civil.days_from_civil(year, 1, 1)), civil.month_length(year, 2))
            before = civil.month_length(year - 1, 2)
            if (kind, before) in kinds:
                continue
            kinds.add((kind, before))
            for month in range(1, 13):
                if self.months >> month & 1:
                    first = civil.days_from_civil(year, month, 1)
                    if self.month_mask(first, civil.month_length(year, month)):
                        return True
        return False

    def following(self, instant: int) -> int:
        """Find the first fire time after an instant; O(months skipped)."""
        segment = self.zone.at(instant)
        local = instant + segment.offset
        second = civil.seconds_from_micros(local) + 1
        if not self.once:
            return self.following_literally(segment, second)
        if segment.floor > local:  # a repeated hour: go on where the wall clock had been
            second = civil.seconds_from_micros(segment.floor - 1) + 1
        found = self.next_local(second)
        if found == 0:
            return civil.forever()
        local = civil.micros_from_seconds(found)
        if local >= segment.end + segment.offset:
            segment = self.zone.reaching(local)
        local -= segment.offset
        return local if local > segment.start else segment.start

    def preceding(self, instant: int) -> int:
        """Find the last fire time before an instant; O(months skipped)."""
        segment = self.zone.at(instant - 1)
        local = instant - 1 + segment.offset
        if not self.once:
            return self.preceding_literally(segment, local)
        if segment.floor > local:
            local = segment.floor - 1
        found = self.previous_local(civil.seconds_from_micros(local))
        if found == 0:
            return -civil.forever()
        local = civil.micros_from_seconds(found)
        segment = self.zone.reaching(local)
        local -= segment.offset
        return local if local > segment.start else segment.start

    def following_literally(self, segment: Segment, second: int) -> int:
        """Find the first match at or after a local second of a segment, or in a later one."""
        found = self.next_local(second)
        local = civil.micros_from_seconds(found)
        if found != 0 and local < segment.end + segment.offset:
            return local - segment.offset
        if segment.end >= civil.forever():
            return civil.forever()
        # Where the table of the zone ended, this is the same segment, longer now.
        instant = segment.end
        passed = instant + segment.offset
        segment = self.zone.at(instant)
        start = instant + segment.offset
        if start < passed:  # a fold, which may go back to before the second
            found = self.next_local(civil.seconds_from_micros(start - 1) + 1)
        while found != 0:
            local = civil.micros_from_seconds(found)
            if local >= segment.end + segment.offset:
                segment = self.zone.reaching(local)
            start = segment.start + segment.offset
            if local >= start:
                return local - segment.offset
            found = self.next_local(civil.seconds_from_micros(start - 1) + 1)  # after a gap
        return civil.forever()

    def preceding_literally(self, segment: Segment, local: int) -> int:
        """Find the last match at or before a local time of a segment, or in an earlier one."""
        found = self.previous_local(civil.seconds_from_micros(local))
        local = civil.micros_from_seconds(found)
        if found != 0 and local >= segment.start + segment.offset:
            return local - segment.offset
        if segment.start <= -civil.forever():
            return -civil.forever()
        instant = segment.start
        passed = instant + segment.offset
        segment = self.zone.at(instant - 1)
        end = instant - 1 + segment.offset
        if end >= passed:  # a fold, which may go on to after the local time
            found = self.previous_local(civil.seconds_from_micros(end))
        while found != 0:
            local = civil.micros_from_seconds(found)
            if local < segment.start + segment.offset:
                segment = self.zone.reaching(local)
                if local < segment.start + segment.offset:
                    segment = self.zone.at(segment.start - 1)  # before the gap
                elif segment.end < civil.forever():
                    later = self.zone.at(segment.end)
                    if local >= later.start + later.offset:
                        segment = later  # the second occurrence
            end = segment.end - 1 + segment.offset
            if local <= end:
                return local - segment.offset
            found = self.previous_local(civil.seconds_from_micros(end))
        return -civil.forever()

    def next_local(self, second: int) -> int:
        """Find the first matching local second at or after one since 0000-03-01, else 0."""
        if second < 306 * 86400:
            second = 306 * 86400
        day = second // 86400
        if day > 3652364:
            return 0
        days = self.days_from(day)
        if days & 1:
            time = self.next_time(second - day * 86400)
            if time < 86400:
                return day * 86400 + time
        days >>= 1
        if days != 0:
            day += 1 + capi.lowest_bit(days)
            return day * 86400 + self.first_time + self.first_second
        date = civil.civil_from_days(day)
        year = date >> 9
        month = (date >> 5) & 15 if self.has_year(year) else 12
        while True:
            months = self.months >> (month + 1)
            if months != 0:
                month += 1 + capi.lowest_bit(months)
            else:
                year = self.year_from(year + 1)
                if year == 0:
                    return 0
                month = capi.lowest_bit(self.months)
            days = self.days_of(year, month)
            if days != 0:
                day = civil.days_from_civil(year, month, capi.lowest_bit(days))
                return day * 86400 + self.first_time + self.first_second

    def previous_local(self, second: int) -> int:
        """Find the last matching local second at or before one since 0000-03-01, else 0."""
        day = second // 86400
        if day > 3652364:
            day = 3652364
            second = day * 86400 + 86399
        if day < 306:
            return 0
        date = civil.civil_from_days(day)
        year = date >> 9
        month = (date >> 5) & 15
        bit = date & 31
        one = 1
        if self.has_year(year) and self.months >> month & 1:
            days = self.days_of(year, month) & ((one << (bit + 1)) - 1)
            if days >> bit != 0:
                time = self.previous_time(second - day * 86400)
                if time >= 0:
                    return day * 86400 + time
                days -= one << bit
            if days != 0:
                day = day - bit + capi.highest_bit(days)
                return day * 86400 + self.last_time + self.last_second
        elif not self.has_year(year):
            month = 1
        while True:
            months = self.months & ((one << month) - 1)
            if months != 0:
                month = capi.highest_bit(months)
            else:
                year = self.year_until(year - 1)
                if year == 0:
                    return 0
                month = capi.highest_bit(self.months)
            days = self.days_of(year, month)
            if days != 0:
                day = civil.days_from_civil(year, month, capi.highest_bit(days))
                return day * 86400 + self.last_time + self.last_second

    def next_time(self, time: int) -> int:
        """Find the first matching second of the day at or after one; 86400 if none is left."""
        hour = time // 3600
        time -= hour * 3600
        minute = time // 60
        if self.hours >> hour & 1:
            if self.minutes >> minute & 1:
                rest = self.seconds >> (time - minute * 60)
                if rest != 0:
                    return hour * 3600 + time + capi.lowest_bit(rest)
            rest = self.minutes >> (minute + 1)
            if rest != 0:
                minute += 1 + capi.lowest_bit(rest)
                return hour * 3600 + minute * 60 + self.first_second
        rest = self.hours >> (hour + 1)
        if rest == 0:
            return 86400
        hour += 1 + capi.lowest_bit(rest)
        return hour * 3600 + capi.lowest_bit(self.minutes) * 60 + self.first_second

    def previous_time(self, time: int) -> int:
        """Find the last matching second of the day at or before one; -1 if none is left."""
        one = 1
        hour = time // 3600
        time -= hour * 3600
        minute = time // 60
        if self.hours >> hour & 1:
            if self.minutes >> minute & 1:
                rest = self.seconds & ((one << (time - minute * 60 + 1)) - 1)
                if rest != 0:
                    return hour * 3600 + minute * 60 + capi.highest_bit(rest)
            rest = self.minutes & ((one << minute) - 1)
            if rest != 0:
                return hour * 3600 + capi.highest_bit(rest) * 60 + self.last_second
        rest = self.hours & ((one << hour) - 1)
        if rest == 0:
            return -1
        hour = capi.highest_bit(rest)
        return hour * 3600 + capi.highest_bit(self.minutes) * 60 + self.last_second

    def has_year(self, year: int) -> bool:
        """Tell whether a year matches."""
        years = self.years
        return years is None or years >> year & 1 != 0

    def year_from(self, year: int) -> int:
        """Find the first matching year at or after one, else 0."""
        years = self.years
        if years is None:
            return year if year < 10000 else 0
        years >>= year
        return year + (years & -years).bit_length() - 1 if years else 0

    def year_until(self, year: int) -> int:
        """Find the last matching year at or before one, else 0."""
        years = self.years
        if years is None:
            return year
        mask = (2 << year) - 1
        years &= mask
        return years.bit_length() - 1 if years else 0

    def days_from(self, day: int) -> int:
        """Mark the matching days of a month from one of its days on, which has bit 0."""
        # What is left of the month of the last search: its year and its month match.
        cached = self.cached
        first = cached >> 32
        if first <= day < first + 31:
            days = (cached - (first << 32)) >> (day - first + 1)
            if days != 0:
                return days
        date = civil.civil_from_days(day)
        year = date >> 9
        month = (date >> 5) & 15
        if self.has_year(year) and self.months >> month & 1:
            return self.days_of(year, month) >> (date & 31)
        return 0

    def days_of(self, year: int, month: int) -> int:
        """Make the mask of the matching days of a month that matches."""
        first = civil.days_from_civil(year, month, 1)
        cached = self.cached  # first day and mask in one integer, so that threads never mix them
        if cached >> 32 == first:
            return cached - (first << 32)
        mask = self.month_mask(first, civil.month_length(year, month))
        self.cached = (first << 32) + mask
        return mask

    def month_mask(self, first: int, length: int) -> int:
        """Combine the rules of day, weekday and week for one month."""
        start = civil.weekday(first)
        one = 1
        by_day = self.days
        if self.from_end | self.nearest | self.day_nth:
            by_day |= from_end_mask(self.from_end, length)
            by_day |= nearest_mask(self.nearest, length, start)
            by_day |= nth_mask(self.day_nth, length, start)
        week = ((self.weekdays | self.weekdays << 7) >> start) & 127
        by_weekday = (week | week << 7 | week << 14 | week << 21 | week << 28) << 1
        if self.weekday_nth != 0:
            by_weekday |= nth_mask(self.weekday_nth, length, start)
        mask = by_day | by_weekday if self.either else by_day & by_weekday
        # All weeks selected: bits 1 to 53.
        if self.weeks != (one << 54) - 2:
            mask &= week_mask(self.weeks, first, length)
        return mask & ((one << (length + 1)) - 2)


def from_end_mask(from_end: int, length: int) -> int:
    """Mark the days that are so many before the last of a month."""
    one = 1
    mask = one - 1
    for distance in range(length):
        if from_end >> distance & 1:
            mask |= one << (length - distance)
    return mask


def nearest_mask(nearest: int, length: int, start: int) -> int:
    """Mark the working days nearest to given days, without leaving the month."""
    one = 1
    mask = one - 1
    for target in range(length + 1):
        if nearest >> target & 1:
            day = target if target > 0 else length
            weekday = (start + day - 1) % 7
            if weekday == 5:
                day = day - 1 if day > 1 else day + 2
            elif weekday == 6:
                day = day + 1 if day < length else day - 2
            mask |= one << day
    return mask


def nth_mask(nth: int, length: int, start: int) -> int:
    """Mark the n-th weekdays of a month."""
    one = 1
    mask = one - 1
    if nth == 0:
        return mask
    for weekday in range(7):
        day = 1 + (weekday + 7 - start) % 7
        for n in range(5):
            if nth >> (7 * n + weekday) & 1:  # perhaps after the month, which has its mask cut
                mask |= one << (day + 7 * n)
        if nth >> (35 + weekday) & 1:
            mask |= one << (day + (length - day) // 7 * 7)
    return mask


def week_mask(weeks: int, first: int, length: int) -> int:
    """Mark the days of a month that are in given ISO weeks."""
    one = 1
    mask = one - 1
    for day in range(1, length + 1):
        if weeks >> civil.iso_week(first + day - 1) & 1:
            mask |= one << day
    return mask
