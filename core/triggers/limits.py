"""How much work a trigger can make, worked out beforehand: a store takes no trigger at its word.

The times of one trigger are found by searches of the engine, a microsecond each or less. A
trigger without jitter takes one; jitter takes one for each fire time that it can reach across,
an `AndTrigger` up to `MOST_STEPS`, and the parts of combined triggers multiply.
"""

from __future__ import annotations

from datetime import date, timedelta

from tocsin.convert import MICROSECOND
from tocsin.triggers.base import BaseTrigger, Trigger
from tocsin.triggers.calendarinterval import CalendarIntervalTrigger
from tocsin.triggers.combining import MOST_STEPS, AndTrigger, BaseCombiningTrigger
from tocsin.triggers.cron import CronTrigger
from tocsin.triggers.date import DateTrigger
from tocsin.triggers.interval import IntervalTrigger
from tocsin.triggers.skipping import SkippingCalendarTrigger

__all__ = ["check_limits", "most_searches"]

#: The shortest interval. What is shorter keeps a scheduler busy without pause, and no store can
#: follow.
SHORTEST = timedelta(milliseconds=1)
#: So many fire times may lie within the jitter of a trigger.
MOST_ACROSS = 1000
#: So many searches one fire time may take: a tenth of a second.
MOST_SEARCHES = 250_000

_SECOND = 1_000_000
_HOUR = 3600 * _SECOND


def check_limits(trigger: BaseTrigger) -> None:
    """Refuse a trigger that could keep the scheduler busy, by ValueError that says what to change.

    The interval is at least a millisecond, at most 1,000 fire times lie within a trigger's
    jitter, and a fire time takes at most 250,000 searches.
    """
    searches = most_searches(trigger)
    if searches > MOST_SEARCHES:
        raise ValueError(
            f"finding a fire time can take {searches:,} searches, at most {MOST_SEARCHES:,} may:"
            " put the parts of an inner 'and' into the outer one, have fewer parts or less jitter"
        )


def most_searches(trigger: BaseTrigger) -> int:
    """Give the most searches that finding one fire time takes.

    Raises ValueError for an interval that is too short and a jitter that reaches too far.
    """
    searches = 1
    if isinstance(trigger, IntervalTrigger):
        if trigger.interval < SHORTEST:
            raise ValueError(
                f"interval: {trigger.interval} is shorter than a millisecond, which no store can"
                " follow; have one job do several things in turn"
            )
    elif isinstance(trigger, BaseCombiningTrigger):
        each = [most_searches(part) for part in trigger.triggers]
        searches = MOST_STEPS * max(each) if isinstance(trigger, AndTrigger) else sum(each)
    elif isinstance(trigger, SkippingCalendarTrigger) and trigger.mixed:
        searches = 12 * date.max.year // (12 * trigger.years + trigger.months) + 1
    spread = _spread(trigger)
    if spread:
        # What is delayed to a time started within one jitter before it, and the search goes on
        # for another one after it.
        across = _most_fires(trigger, 2 * spread)
        if across > 2 * MOST_ACROSS:
            raise ValueError(
                f"jitter: {across // 2:,} fire times lie within {spread / _SECOND:g} seconds, at"
                f" most {MOST_ACROSS:,} may; give less jitter"
            )
        searches *= across + 2
    return searches


def _spread(trigger: BaseTrigger) -> int:
    return trigger._spread if isinstance(trigger, Trigger) else 0


def _most_fires(trigger: BaseTrigger, width: int) -> int:
    """Give how many fire times, before jitter, so many microseconds may hold at most."""
    if isinstance(trigger, DateTrigger):
        return 1
    if isinstance(trigger, BaseCombiningTrigger):
        fires = [_most_fires(part, width + _spread(part)) for part in trigger.triggers]
        return min(fires) if isinstance(trigger, AndTrigger) else sum(fires)
    gap = _SECOND
    if isinstance(trigger, IntervalTrigger):
        gap = trigger.interval // MICROSECOND
    elif isinstance(trigger, CalendarIntervalTrigger):
        gap = 12 * _HOUR  # a day, however the clocks are changed
    elif isinstance(trigger, CronTrigger):
        *_, hour, minute, second = (len(field.values()) == 1 for field in trigger.fields)
        if second:
            gap = (12 * _HOUR if hour else _HOUR // 2) if minute else _SECOND * 60
    return width // gap + 1
