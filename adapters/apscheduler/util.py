"""The functions of ``apscheduler.util``, which APScheduler keeps for itself and others use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from tocsin import callables
from tocsin.callables import (
    check_arguments,
    get_callable_name,
    maybe_ref,
    ref_to_obj,
    runs_coroutine,
)
from tocsin.convert import MICROSECOND, as_date, as_datetime, as_timezone, edge_of
from tocsin.job import undefined

__all__ = [
    "asbool",
    "asdate",
    "asint",
    "astimezone",
    "check_callable_args",
    "convert_to_datetime",
    "datetime_ceil",
    "datetime_repr",
    "datetime_to_utc_timestamp",
    "datetime_utc_add",
    "get_callable_name",
    "iscoroutinefunction_partial",
    "localize",
    "maybe_ref",
    "normalize",
    "obj_to_ref",
    "ref_to_obj",
    "timedelta_seconds",
    "timezone_repr",
    "undefined",
    "utc_timestamp_to_datetime",
]

_TRUE = ("true", "yes", "on", "y", "t", "1")
_FALSE = ("false", "no", "off", "n", "f", "0")


def asint(text: str | int | None) -> int | None:
    """Turn a text into a number; None stays None."""
    return None if text is None else int(text)


def asbool(obj: Any) -> bool:
    """Read a text such as ``yes`` or ``off``, or take the truth of anything else."""
    if not isinstance(obj, str):
        return bool(obj)
    text = obj.strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(f"{obj!r} is none of {', '.join((*_TRUE, *_FALSE))}")
    return text in _TRUE


def astimezone(obj: str | tzinfo | None) -> tzinfo | None:
    """Turn a name or a ``tzinfo``, also one of pytz, into a ``tzinfo``; None stays None."""
    return None if obj is None else as_timezone(obj)


def asdate(obj: Any) -> date | None:
    """Turn a text such as ``2026-03-29`` into a date; None stays None."""
    return None if obj is None else as_date(obj, "date")


def convert_to_datetime(
    input: date | str | None,  # noqa: A002
    tz: tzinfo | str | None,
    arg_name: str,
) -> datetime | None:
    """Turn a datetime, a date or a text into an aware datetime; an aware one stays as it is.

    Raises ValueError for a malformed text, and for one without an offset when ``tz`` is None.
    """
    if input is None or (isinstance(input, datetime) and input.tzinfo is not None):
        return input
    if tz is None:
        raise ValueError(f"{arg_name}: {input!r} has no time zone, and none is given as tz")
    zone = as_timezone(tz)
    if isinstance(input, datetime):
        return localize(input, zone)
    return as_datetime(input, zone, arg_name)


def datetime_to_utc_timestamp(timeval: datetime | None) -> float | None:
    """Give the seconds since 1970 in UTC; None for None."""
    return None if timeval is None else timeval.timestamp()


def utc_timestamp_to_datetime(timestamp: float | None) -> datetime | None:
    """Turn seconds since 1970 into a datetime in UTC; None for None."""
    return None if timestamp is None else datetime.fromtimestamp(timestamp, timezone.utc)


def timedelta_seconds(delta: timedelta) -> float:
    """Give the length in seconds."""
    return delta.total_seconds()


def datetime_ceil(dateval: datetime) -> datetime:
    """Round up to a whole second."""
    rest = timedelta(microseconds=-dateval.microsecond % 1_000_000)
    return datetime_utc_add(dateval, rest) if rest else dateval


def datetime_utc_add(dateval: datetime, tdelta: timedelta) -> datetime:
    """Add elapsed time."""
    if dateval.tzinfo is None:
        return dateval + tdelta
    edge = edge_of(dateval.tzinfo)
    moment = edge.moment(edge.instant(dateval) + tdelta // MICROSECOND)
    if moment is None:
        raise OverflowError(f"{dateval} and {tdelta} make a date outside the years 1 to 9999")
    return moment


def datetime_repr(dateval: datetime | None) -> str:
    """Write a datetime for people; ``None`` for None."""
    return f"{dateval:%Y-%m-%d %H:%M:%S %Z}" if dateval else "None"


def timezone_repr(timezone: tzinfo) -> str:
    """Name a zone."""
    return timezone.key if isinstance(timezone, ZoneInfo) else repr(timezone)


def obj_to_ref(obj: Any) -> str:
    """Give the text ``module:name`` from which `ref_to_obj` finds a callable again.

    Raises TypeError for what can't be called, ValueError for what has no such name.
    """
    get_callable_name(obj)
    return callables.obj_to_ref(obj)


def check_callable_args(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Refuse by ValueError arguments that the callable would refuse."""
    check_arguments(func, args, kwargs)


def iscoroutinefunction_partial(f: Any) -> bool:
    """Tell whether a callable, or what a partial is of, is a coroutine function."""
    return runs_coroutine(f)


def normalize(dt: datetime) -> datetime:
    """Give the time that the clock shows at an instant: another one for a time that is skipped."""
    return datetime.fromtimestamp(dt.timestamp(), dt.tzinfo)


def localize(dt: datetime, tzinfo: tzinfo) -> datetime:
    """Read a naive datetime as wall-clock time, normalized."""
    return normalize(dt.replace(tzinfo=as_timezone(tzinfo)))
