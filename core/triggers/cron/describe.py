"""Say in English what a cron trigger does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from itertools import pairwise

from tocsin.convert import timezone_name
from tocsin.triggers.cron.grammar import MONTHS, RANGES, WEEKDAYS, Field

_NTH = ("first", "second", "third", "fourth", "fifth", "last")
#: Up to so many times of day are listed one by one.
_LISTED = 6


def describe(fields: Sequence[Field], either: bool, tz: tzinfo) -> str:
    """Describe the fields of a cron trigger, in the order of `RANGES`."""
    year, month, day, week, weekday, hour, minute, second = fields
    parts = [_time(hour, minute, second)]
    days = _days(day)
    weekdays = _weekdays(weekday)
    if days and weekdays:
        parts.append(f"on {days} {'or' if either else 'if it is'} {weekdays}")
    elif days or weekdays:
        parts.append(f"on {days or weekdays}")
    elif parts[0].startswith("at "):
        parts.append("every day")
    if not _full(week):
        parts.append(f"in ISO week {_values(week, str)}")
    if not _full(month):
        parts.append(f"in {_values(month, lambda value: MONTHS[value - 1].capitalize())}")
    if not _full(year):
        parts.append(f"in {_values(year, str)}")
    return f"{' '.join(parts)}, {name_zone(tz)}"


def name_zone(tz: tzinfo) -> str:
    """Name a time zone, as well as it can be named."""
    try:
        return timezone_name(tz)
    except ValueError:
        return str(tz)


def join(words: Sequence[str], last: str = "and") -> str:
    """Join words as an English list."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _time(hour: Field, minute: Field, second: Field) -> str:
    hours, minutes, seconds = hour.values(), minute.values(), second.values()
    if len(hours) * len(minutes) * len(seconds) <= _LISTED:
        return "at " + join([_clock(h, m, s) for h in hours for m in minutes for s in seconds])
    if len(seconds) > 1:
        return _every(second, "second") + _within(hour, minute)
    if seconds != [0]:
        return f"at second {seconds[0]} of " + _minutes(hour, minute)
    return _minutes(hour, minute)


def _minutes(hour: Field, minute: Field) -> str:
    minutes = minute.values()
    if len(minutes) > 1:
        return _every(minute, "minute") + _hours(hour)
    if minutes == [0]:
        return _every(hour, "hour")
    return f"at {minutes[0]} minutes past {_every(hour, 'hour')}"


def _within(hour: Field, minute: Field) -> str:
    if _full(minute):
        return _hours(hour)
    return f" of {_every(minute, 'minute')}{_hours(hour)}"


def _hours(hour: Field) -> str:
    if _full(hour):
        return ""
    hours = hour.values()
    if len(hours) > 1 and hours[-1] - hours[0] + 1 == len(hours):
        return f" from {hours[0]}:00 to {hours[-1]}:59"
    return f" of hour {_values(hour, str)}"


def _every(field: Field, unit: str) -> str:
    if _full(field):
        return f"every {unit}"
    values = field.values()
    size = RANGES[field.name][1] + 1
    steps = {after - before for before, after in pairwise(values)}
    if len(steps) == 1:
        (step,) = steps
        if values[0] == 0 and values[-1] + step == size:
            return f"every {step} {unit}s"
    return f"{unit} {_values(field, str)}"


def _clock(hour: int, minute: int, second: int) -> str:
    return f"{hour}:{minute:02}:{second:02}" if second else f"{hour}:{minute:02}"


def _days(day: Field) -> str:
    if _full(day):
        return ""
    parts = []
    if day.mask:
        parts.append(f"day {_values(day, str)}")
    for distance in range(31):
        if day.from_end >> distance & 1:
            before = f"{distance} day{'s' * (distance > 1)} before " if distance else ""
            parts.append(f"{before}the last day")
    for target in range(32):
        if day.nearest >> target & 1:
            near = f"the working day nearest to day {target}" if target else "the last working day"
            parts.append(near)
    parts += _nth(day)
    return f"{join(parts)} of the month"


def _weekdays(weekday: Field) -> str:
    if _full(weekday):
        return ""
    parts = []
    if weekday.mask:
        parts.append(_values(weekday, lambda value: WEEKDAYS[value].capitalize()))
    nth = _nth(weekday)
    if nth:
        parts.append(f"{join(nth)} of the month")
    return join(parts)


def _nth(field: Field) -> list[str]:
    return [
        f"the {_NTH[row]} {WEEKDAYS[weekday].capitalize()}"
        for row in range(6)
        for weekday in range(7)
        if field.nth >> (7 * row + weekday) & 1
    ]


def _full(field: Field) -> bool:
    low, high = RANGES[field.name]
    return field.plain and field.mask == (1 << (high + 1)) - (1 << low)


def _values(field: Field, show: Callable[[int], str]) -> str:
    """List values, three or more in a row as a range."""
    words: list[str] = []
    run: list[int] = []
    for value in [*field.values(), None]:
        if value is not None and run and value == run[-1] + 1:
            run.append(value)
            continue
        if len(run) > 2:
            words.append(f"{show(run[0])} to {show(run[-1])}")
        else:
            words += [show(each) for each in run]
        run = [] if value is None else [value]
    return join(words)
