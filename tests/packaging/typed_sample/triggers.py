"""Every trigger, and one of the user's own."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from tocsin import (
    COMPILED,
    AndTrigger,
    BaseTrigger,
    CalendarIntervalTrigger,
    CompiledEngineMissing,
    CronError,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    NoCommonFireTime,
    OrTrigger,
    TocsinError,
    Trigger,
)
from tocsin.triggers import SkippingCalendarTrigger

NOW = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
compiled: bool = COMPILED

weekdays = CronTrigger(day_of_week="mon-fri", hour=9, timezone=ZoneInfo("Europe/Berlin"))
crontab = CronTrigger.from_crontab("30 2 * * *", "Europe/Berlin", seed="backup", dst="wall-clock")
often = IntervalTrigger(minutes=5, start_date="2026-01-01", jitter=2.5, now=NOW)
monthly = CalendarIntervalTrigger(months=1, hour=9, start_date=date(2026, 1, 31))
skipping = SkippingCalendarTrigger(months=1, start_date=date(2026, 1, 31))
once = DateTrigger(NOW, timezone="UTC")
every: list[Trigger] = [weekdays, crontab, often, monthly, skipping, once]
either = OrTrigger(every)
both = AndTrigger([weekdays, IntervalTrigger(hours=1, now=NOW)], jitter=60)

following: datetime | None = weekdays.next_fire_time(NOW)
before: datetime | None = crontab.previous_fire_time(NOW)
first: datetime | None = often.get_next_fire_time(None, NOW)
several: list[datetime] = list(either.fire_times(NOW, NOW + timedelta(days=3), limit=10))
text: str = monthly.describe()
zone: tzinfo = weekdays.timezone
length: timedelta = often.interval
record: dict[str, Any] = weekdays.to_dict()
restored: Trigger = Trigger.from_dict(record)
same: bool = restored == weekdays


def place_of(field: str) -> int | None:
    """Say where a wrong field is wrong."""
    try:
        CronTrigger(hour=field)
    except CronError as error:
        blamed: tuple[str, str | None, str | None] = (error.reason, error.field, error.allowed)
        print(*blamed)
        return error.position
    except (CompiledEngineMissing, NoCommonFireTime) as error:
        general: TocsinError = error
        raise general from None
    return None


class NextFullHour(BaseTrigger):
    """A trigger of the user's own."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Give the full hour that follows."""
        start = now if previous_fire_time is None else previous_fire_time
        return start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)


hourly: datetime | None = NextFullHour().next_fire_time(NOW)
