"""Triggers with the defaults, the documented meaning and the pickled state of APScheduler's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, ClassVar

from tocsin import triggers
from tocsin.callables import ref_to_obj
from tocsin.triggers.base import Trigger
from tocsin.triggers.cron import EXACTLY_ONCE, WALL_CLOCK
from tocsin.triggers.skipping import SkippingCalendarTrigger

__all__ = [
    "AndTrigger",
    "CalendarIntervalTrigger",
    "CronTrigger",
    "DateTrigger",
    "IntervalTrigger",
    "OrTrigger",
]


class _Restorable(Trigger):
    """The base of them all: a trigger of tocsin's that reads what APScheduler has pickled.

    A class that differs from one of tocsin's by its defaults only, its ``native``, is written
    down as that one, and counts that one's instances as its own.
    """

    __slots__ = ()

    native: ClassVar[type[Trigger]]
    #: The newest version of a pickled state that is read.
    newest: ClassVar[int] = 1

    @classmethod
    def __subclasshook__(cls, other: type[Any]) -> bool:
        native = cls.__dict__.get("native")
        # Not by issubclass, which would ask the subclasses of the native one in turn.
        return True if native in other.__mro__ else NotImplemented

    def to_dict(self) -> dict[str, Any]:
        """Give the record of the native trigger; ValueError for a subclass of a third party."""
        if "native" not in type(self).__dict__:
            return super().to_dict()
        native = self.native._restore(self._arguments())
        native._seed = self._seed
        return native.to_dict()

    def __setstate__(self, state: Any) -> None:
        fields: dict[str, Any] = dict(state[1] if isinstance(state, tuple) else state)
        version = fields.pop("version", 1)
        if version > self.newest:
            raise ValueError(
                f"version: {version!r} of a pickled {type(self).__name__} is unknown; the newest"
                f" that is read is {self.newest}"
            )
        self._set_state(fields)

    def _set_state(self, fields: dict[str, Any]) -> None:
        """Become the trigger of a pickled state."""
        raise NotImplementedError


class DateTrigger(_Restorable, triggers.DateTrigger):
    """Fire once, at ``run_date``, by default now; an aware date keeps its time zone."""

    __slots__ = ()

    native = triggers.DateTrigger

    def __init__(
        self,
        run_date: date | str | None = None,
        timezone: tzinfo | str | None = None,
        *,
        now: datetime | None = None,
    ) -> None:
        if isinstance(run_date, datetime) and run_date.tzinfo is not None:
            timezone = run_date.tzinfo
        super().__init__(run_date, timezone, now=now)

    def _set_state(self, fields: dict[str, Any]) -> None:
        self.__init__(fields["run_date"])  # type: ignore[misc]


class IntervalTrigger(_Restorable, triggers.IntervalTrigger):
    """Fire each time that the interval has elapsed; of no length, a second."""

    __slots__ = ()

    native = triggers.IntervalTrigger
    newest = 2

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
        if not (weeks or days or hours or minutes or seconds or microseconds):
            seconds = 1
        super().__init__(
            weeks,
            days,
            hours,
            minutes,
            seconds,
            start_date,
            end_date,
            timezone,
            jitter,
            microseconds=microseconds,
            now=now,
        )

    def _set_state(self, fields: dict[str, Any]) -> None:
        interval: timedelta = fields.pop("interval")
        self.__init__(  # type: ignore[misc]
            days=interval.days,
            seconds=interval.seconds,
            microseconds=interval.microseconds,
            **fields,
        )


class CronTrigger(_Restorable, triggers.CronTrigger):
    """Fire when the wall clock matches every field, literally: ``dst="wall-clock"``.

    Without any field it fires every second. Monday is 0.
    """

    __slots__ = ()

    native = triggers.CronTrigger
    newest = 2

    def __init__(
        self,
        year: int | str | None = None,
        month: int | str | None = None,
        day: int | str | None = None,
        week: int | str | None = None,
        day_of_week: int | str | None = None,
        hour: int | str | None = None,
        minute: int | str | None = None,
        second: int | str | None = None,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        timezone: tzinfo | str | None = None,
        jitter: float | None = None,
        *,
        dst: str = WALL_CLOCK,
    ) -> None:
        given = (year, month, day, week, day_of_week, hour, minute)
        if second is None and all(each is None for each in given):
            second = "*"
        bounds = (start_date, end_date, timezone, jitter)
        super().__init__(*given, second, *bounds, dst=dst)

    @classmethod
    def from_crontab(  # type: ignore[override]
        cls: type[CronTrigger], expr: str, timezone: tzinfo | str | None = None
    ) -> CronTrigger:
        """Make a trigger of the five fields of a crontab expression.

        Unlike crontab(5), and tocsin's own, weekdays count from Monday, 0, and where day and
        weekday are both restricted, both must match.
        """
        words = expr.split()
        if len(words) != 5:
            raise ValueError(
                f"Wrong number of fields; got {len(words)}, expected 5: {expr!r}; for shortcuts,"
                " seconds and years there is tocsin.CronTrigger.from_crontab"
            )
        minute, hour, day, month, day_of_week = words
        return cls(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=day_of_week,
            timezone=timezone,
        )

    @classmethod
    def _restore(cls: type[CronTrigger], arguments: Mapping[str, Any]) -> CronTrigger:
        return cls(**{"dst": EXACTLY_ONCE, **arguments})

    def _set_state(self, fields: dict[str, Any]) -> None:
        given = {each.name: str(each) for each in fields.pop("fields") if not each.is_default}
        self.__init__(**given, **fields)  # type: ignore[misc]


class CalendarIntervalTrigger(_Restorable, SkippingCalendarTrigger):
    """Fire at a time of day, so many years, months, weeks and days after the last date.

    As APScheduler documents it, a date that a month lacks is skipped, as is one on which the
    clock leaves the time of day out.
    """

    __slots__ = ()

    native = SkippingCalendarTrigger

    def _set_state(self, fields: dict[str, Any]) -> None:
        units = zip(("years", "months", "weeks", "days"), fields.pop("interval"), strict=True)
        clock = zip(("hour", "minute", "second"), fields.pop("time"), strict=True)
        self.__init__(**dict(units), **dict(clock), **fields)  # type: ignore[misc]


class _Combining(_Restorable):
    __slots__ = ()

    def _set_state(self, fields: dict[str, Any]) -> None:
        made = []
        for reference, state in fields["triggers"]:
            kind = ref_to_obj(reference)
            trigger = kind.__new__(kind)
            trigger.__setstate__(state)
            made.append(trigger)
        self.__init__(made, fields["jitter"])  # type: ignore[misc]


class AndTrigger(_Combining, triggers.AndTrigger):
    """Fire at the instants at which all the triggers fire."""

    __slots__ = ()

    native = triggers.AndTrigger


class OrTrigger(_Combining, triggers.OrTrigger):
    """Fire whenever one of the triggers fires; once where several do."""

    __slots__ = ()

    native = triggers.OrTrigger
