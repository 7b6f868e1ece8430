"""The calendar interval trigger of APScheduler, whose dates are as the calendar has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from tocsin.convert import edge_of, localize
from tocsin.triggers.base import Trigger
from tocsin.triggers.calendarinterval import CalendarIntervalTrigger


class SkippingCalendarTrigger(CalendarIntervalTrigger):
    """Fire as `CalendarIntervalTrigger`, but only on dates and at times of day that there are.

    A date that a month lacks is skipped, as is one on which the clock leaves the time of day
    out. Where years or months go together with weeks or days, they count from the last date,
    and finding a fire time goes through the dates from ``start_date`` on.
    """

    __slots__ = ()

    kind = "apscheduler-calendarinterval"

    # Not the shortcuts to the schedule, which knows no dates to skip.
    next_run = Trigger.next_run
    next_instant = Trigger.next_instant
    previous_instant = Trigger.previous_instant
    next_fire_time = Trigger.next_fire_time
    previous_fire_time = Trigger.previous_fire_time
    _iterate = Trigger._iterate

    def _next_plain(self, after: int) -> int | None:
        if self.mixed:
            return next((each for each in self._walk() if each > after), None)
        found = super()._next_plain(after)
        while found is not None and not self._is_valid(found):
            found = super()._next_plain(found)
        return found

    def _previous_plain(self, before: int) -> int | None:
        if self.mixed:
            latest = None
            for each in self._walk():
                if each >= before:
                    break
                latest = each
            return latest
        found = super()._previous_plain(before)
        while found is not None and not self._is_valid(found):
            found = super()._previous_plain(found)
        return found

    @property
    def mixed(self) -> bool:
        """Whether years or months go together with weeks or days."""
        return bool((self.years or self.months) and (self.weeks or self.days))

    def _is_valid(self, instant: int) -> bool:
        """Tell whether the clock shows the day, and the time, that were asked for."""
        moment = edge_of(self.timezone).moment(instant)
        if moment is None or moment.time() != self._time:
            return False
        if self.years or self.months:
            return bool(moment.day == self.start_date.day)
        # After a day that a country left out, midnight is the time of that day as well.
        passed = moment.toordinal() - self.start_date.toordinal()
        return bool(passed % (self.weeks * 7 + self.days) == 0)

    def _walk(self) -> Iterator[int]:
        """Iterate over all fire times, from ``start_date`` on."""
        edge = edge_of(self.timezone)
        months = self.years * 12 + self.months
        found: date = self.start_date
        while self.end_date is None or found <= self.end_date:
            local = datetime.combine(found, self._time)
            moment = localize(local, self.timezone)
            if moment.replace(tzinfo=None) == local:
                yield edge.instant(moment)
            month = found.year * 12 + found.month - 1
            while True:
                month += months
                if month // 12 > date.max.year:
                    return
                try:
                    found = date(month // 12, month % 12 + 1, found.day)
                except ValueError:  # the month lacks the day
                    continue
                break
            try:
                found += timedelta(weeks=self.weeks, days=self.days)
            except OverflowError:
                return
