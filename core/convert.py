"""Turn what users write, such as time zones and datetimes, into the objects that are needed."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tocsin.engine.schedule import Schedule

MICROSECOND = timedelta(microseconds=1)

_TRUE = ("true", "yes", "on", "y", "t", "1")
_FALSE = ("false", "no", "off", "n", "f", "0")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)(?::(\d\d))?", re.ASCII)
_DATETIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[ T](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?"
    r" ?(Z|[+-]\d\d:?\d\d(?::\d\d)?)?",
    re.ASCII,
)


def as_timezone(value: str | tzinfo | None) -> tzinfo:
    """Turn a zone's name, an offset such as ``+05:30``, or a ``tzinfo`` into a ``tzinfo``.

    None stands for the local zone. A pytz zone becomes the ``ZoneInfo`` of the same name, for
    pytz ones can't be attached to datetimes. Raises ValueError for an unknown name, or a local
    zone that can't be found, TypeError for anything else.
    """
    if value is None:
        return _local()
    if isinstance(value, str):
        if value.upper() in ("UTC", "Z"):
            return timezone.utc
        offset = _OFFSET.fullmatch(value)
        if offset:
            return _fixed(offset)
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"timezone: {value!r} is not in the time zone database;"
                " use a name such as 'Europe/Berlin', 'UTC', or an offset such as '+05:30'"
            ) from error
    if not isinstance(value, tzinfo):
        raise TypeError(f"timezone: a name or a tzinfo is needed, not {value!r}")
    if hasattr(value, "localize") and hasattr(value, "zone"):  # pytz
        if value.zone is not None:
            return ZoneInfo(str(value.zone))
        fixed = value.utcoffset(None)
        if fixed is not None:
            return timezone(fixed)
    return value


def _local() -> tzinfo:
    from tzlocal import get_localzone

    try:
        return get_localzone()
    except (LookupError, OSError, ValueError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise ValueError(f"timezone: the local one was not found, name one: {reason}") from error


def _fixed(match: re.Match[str]) -> timezone:
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
    size = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if minutes > 59 or seconds > 59 or size >= timedelta(hours=24):
        raise ValueError(f"timezone: the offset {match[0]!r} is not within 24 hours")
    return timezone(-size if match[1] == "-" else size)


def timezone_name(tz: tzinfo) -> str:
    """Give the text that `as_timezone` turns into an equal zone; ValueError if there is none."""
    if tz is timezone.utc:
        return "UTC"
    key = getattr(tz, "key", None)
    if isinstance(key, str) and in_database(key):
        return key
    if isinstance(tz, timezone):
        if tz == timezone.utc:
            return "UTC"
        offset = tz.utcoffset(None)
        if offset.microseconds == 0:
            sign, size = ("-", -offset) if offset.days < 0 else ("+", offset)
            hours, seconds = divmod(size // timedelta(seconds=1), 3600)
            text = f"{sign}{hours:02}:{seconds // 60:02}"
            return f"{text}:{seconds % 60:02}" if seconds % 60 else text
    raise ValueError(f"the time zone {tz!r} has no name to store; use one such as 'Europe/Berlin'")


def in_database(key: str) -> bool:
    """Tell whether the time zone database has a zone of this key, as others will look it up.

    The local zone may be a file that has none: where the system has a copy for a link to the
    database, as in containers, the key that tzlocal gives it is "local".
    """
    try:
        ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@lru_cache(maxsize=256)
def _edge(tz: tzinfo) -> Schedule:
    return Schedule(tz)


def edge_of(tz: tzinfo) -> Schedule:
    """Give the converter between instants and datetimes of a zone."""
    try:
        edge = _edge(tz)
    except TypeError:  # not hashable
        return Schedule(tz)
    # Equal zones may differ in their names: timezone.utc equals timezone(timedelta(0), "X").
    return edge if edge.tz is tz else Schedule(tz)


def localize(naive: datetime, tz: tzinfo) -> datetime:
    """Read a naive datetime as wall-clock time.

    The first of two occurrences, unless ``fold`` is 1; the first instant after the gap for a
    time that never occurs: the rule of all triggers.
    """
    edge = edge_of(tz)
    if naive.fold == 0:
        local = (naive - datetime(1970, 1, 1)) // MICROSECOND
        segment = edge.zone.reaching(local)
        moment = edge.moment(max(segment.start, local - segment.offset))
        if moment is not None:
            return moment
    return naive.replace(tzinfo=tz)


def present(now: datetime | None) -> datetime:
    """Give a time that stands for now, by default the present."""
    return datetime.now(timezone.utc) if now is None else now


def as_datetime(value: object, tz: tzinfo, name: str) -> datetime:
    """Turn a datetime, a date, or their ISO texts into an aware datetime in a zone.

    An aware value is converted to ``tz``, a naive one is read in it. ``name`` is the argument
    to blame. Raises ValueError for a malformed text, TypeError for another type.
    """
    if isinstance(value, str):
        value = _parse(value, name)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            return localize(value.replace(tzinfo=None), tz)
        edge = edge_of(tz)
        moment = edge.moment(edge.instant(value))
        if moment is None:
            raise ValueError(f"{name}: {value!r} is outside the years 1 to 9999 in {tz!r}")
        return moment
    if isinstance(value, date):
        return localize(datetime(value.year, value.month, value.day), tz)
    raise TypeError(f"{name}: a datetime, a date or an ISO text is needed, not {value!r}")


def _parse(text: str, name: str) -> datetime:
    match = _DATETIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{name}: {text!r} is not a date and time such as '2026-03-29',"
            " '2026-03-29 10:15' or '2026-03-29T10:15:30.5+02:00'"
        )
    *numbers, fraction, zone = match.groups()
    if zone is not None and match[4] is None:
        raise ValueError(f"{name}: {text!r} has an offset but no time of day")
    year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
    micros = int((fraction or "0").ljust(6, "0"))
    try:
        tz = None if zone is None else as_timezone(zone)
        return datetime(year, month, day, hour, minute, second, micros, tz)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r}: {error}") from error


def as_date(value: object, name: str) -> date:
    """Turn a date, a datetime or an ISO text into a date; ValueError or TypeError if it isn't."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", value.strip(), re.ASCII)
        if match is None:
            raise ValueError(f"{name}: {value!r} is not a date such as '2026-03-29'")
        try:
            return date(*(int(part) for part in match.groups()))
        except ValueError as error:
            raise ValueError(f"{name}: {value!r}: {error}") from error
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    raise TypeError(f"{name}: a date or a text such as '2026-03-29' is needed, not {value!r}")


def as_number(value: object, name: str) -> int | float:
    """Refuse what is not a finite number: TypeError for other types, ValueError for NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: a number is needed, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value!r} is not a finite number")
    return value


def as_bool(value: object) -> bool:
    """Turn a text such as ``yes`` or ``off``, or 0 or 1, into a bool; ValueError if it is none."""
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(
        f"{value!r} is neither true ({', '.join(_TRUE)}) nor false ({', '.join(_FALSE)})"
    )


def from_text(value: Any) -> Any:
    """Turn a text into the number that it is, ValueError if it is none; keep anything else."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    raise ValueError(f"{value!r} is not a number")
