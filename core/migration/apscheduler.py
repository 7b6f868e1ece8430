"""Jobs of APScheduler 3, out of the pickles of its stores."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.adapters.apscheduler import expressions, fields, triggers
from tocsin.convert import as_timezone, edge_of
from tocsin.job import (
    Job,
    checked_args,
    checked_grace,
    checked_instances,
    checked_kwargs,
    checked_text,
)
from tocsin.migration.pickles import Made, is_name, read
from tocsin.records import checked_reference, path_of
from tocsin.triggers.base import Trigger
from tocsin.triggers.combining import BaseCombiningTrigger

__all__ = ["read_job"]

#: So many values one pickle may hold. A list may be in it a thousand times and cost nothing there.
_MOST_VALUES = 1_000_000
_UTC = edge_of(timezone.utc)

_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
#: The classes of triggers by the name that pickles carry.
_TRIGGERS: Mapping[str, type[Trigger]] = {
    f"apscheduler.triggers.{module}:{name}": getattr(triggers, name)
    for module, names in {
        "calendarinterval": ("CalendarIntervalTrigger",),
        "combining": ("AndTrigger", "OrTrigger"),
        "cron": ("CronTrigger",),
        "date": ("DateTrigger",),
        "interval": ("IntervalTrigger",),
    }.items()
    for name in names
}
#: What cron triggers are made of.
_PARTS: Mapping[str, type[Any]] = {
    f"apscheduler.triggers.cron.{module.__name__.rpartition('.')[2]}:{name}": kind
    for module in (expressions, fields)
    for name in module.__all__
    if isinstance(kind := getattr(module, name), type)
}


def read_job(data: bytes, job_id: str) -> Job:
    """Make the job of a pickle that a store of APScheduler 3 keeps under an id.

    ``data`` is the pickled state of a job, or a dictionary around it. The triggers are tocsin's,
    with APScheduler's meaning. Raises ValueError that says what can't be read.
    """
    state = read(data)
    if type(state) is dict and "job_state" in state:  # in ZooKeeper and etcd
        state = state["job_state"]
    try:
        return _Reader().job(state, job_id)
    except RecursionError:
        raise ValueError("its pickle is nested too deeply, or within itself") from None
    except ValueError:
        raise
    except Exception as error:  # whatever comes of attributes of wrong types
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"its pickle is not as APScheduler writes it: {reason}") from error


class _PytzZone(tzinfo):
    """A zone of pytz as datetimes have it: with one of its offsets."""

    def __init__(self, zone: tzinfo, offset: timedelta) -> None:
        self.zone = zone
        self._offset = offset

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return self._offset

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> None:
        return None

    def __reduce__(self) -> Any:
        raise ValueError("a time zone of pytz can't be carried; give its name instead")


class _Reader:
    """Turns what was read from one pickle into values."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def job(self, state: Any, job_id: str) -> Job:
        """Make the job of a state."""
        if type(state) is not dict or state.get("version", 1) != 1:
            raise ValueError("its pickle is not the state of a job of APScheduler 3")
        missing = _FIELDS - state.keys()
        if missing:
            raise ValueError(f"its state lacks {', '.join(sorted(missing))}")
        if state["id"] != job_id:
            raise ValueError(f"it is stored under another id than its own, {state['id']!r}")
        args = checked_args(self.plain(state["args"], list, tuple, "args"))
        kwargs = checked_kwargs(self.plain(state["kwargs"], dict, dict, "kwargs"))
        trigger = self.trigger(state["trigger"])
        _seed(trigger, job_id)
        job = Job(
            None,
            checked_reference(checked_text(state["func"], "func")),
            trigger,
            tuple(self.value(each, path_of(n)) for n, each in enumerate(args)),
            {key: self.value(each, path_of(key)) for key, each in kwargs.items()},
            checked_text(job_id, "id"),
            checked_text(state["name"], "name"),
            checked_text(state["executor"], "executor"),
            checked_grace(state["misfire_grace_time"]),
            bool(self.plain(state["coalesce"], bool, int, "coalesce")),
            checked_instances(state["max_instances"]),
        )
        moment = self.value(state["next_run_time"], "next_run_time")
        job._next_run = None if moment is None else _UTC.instant(moment)
        return job

    def plain(self, value: Any, kind: type[Any], other: type[Any], path: str) -> Any:
        """Refuse what is not of one of two types."""
        if type(value) not in (kind, other):
            raise ValueError(f"{path}: {_name(value)} is not a {kind.__name__}")
        return value

    def value(self, found: Any, path: str) -> Any:
        """Give the value of what was read; ValueError for what may not be in a job."""
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"its pickle holds more than {_MOST_VALUES:,} values")
        kind = type(found)
        if kind in _PLAIN:
            return found
        if kind in (list, tuple):
            return kind([self.value(each, f"{path}[{n}]") for n, each in enumerate(found)])
        if kind in (set, frozenset):
            return kind([self.value(each, path) for each in found])
        if kind is dict:
            return {
                self.value(key, f"a key of {path}"): self.value(each, f"{path}[{str(key)[:40]!r}]")
                for key, each in found.items()
            }
        if isinstance(found, Made):
            return self._made(found, path)
        raise _refusal(found, path)

    def _made(self, found: Made, path: str) -> Any:
        if found.name == "copyreg:_reconstructor":  # of protocols 0 and 1
            found = _reconstructed(found)
        if found.name in _PARTS:
            part = _PARTS[found.name]
            made: Any = object.__new__(part)
            vars(made).update(self.value(self.plain(found.state, dict, dict, path), path))
            return made
        maker = _MAKERS.get(found.name)
        if maker is None:
            raise _refusal(found, path)
        try:
            return maker(self, found, path)
        except Exception as error:
            if isinstance(error, ValueError) and str(error).startswith(path):
                raise
            raise ValueError(f"{path}: no {found.name} is made of this: {error}") from error

    def call(self, function: Callable[..., Any], found: Made, path: str) -> Any:
        """Call a function that is known to be harmless with what a pickle has for it."""
        return function(*[self.value(each, path) for each in found.args])

    def trigger(self, found: Any) -> Trigger:
        """Make the trigger of what was read."""
        if isinstance(found, Made) and found.name == "copyreg:_reconstructor":
            found = _reconstructed(found)
        if not isinstance(found, Made) or found.name not in _TRIGGERS:
            raise ValueError(
                f"trigger: {_name(found)} is none of APScheduler's own; add the job to the new"
                " store by your application"
            )
        return self._trigger(found.name, found.state)

    def _trigger(self, name: str, state: Any) -> Trigger:
        kind = _TRIGGERS[name]
        if type(state) is tuple and len(state) == 2:  # of APScheduler 3.0
            state = state[1]
        self.plain(state, dict, dict, "trigger")
        if issubclass(kind, BaseCombiningTrigger):
            parts = self.plain(state["triggers"], list, tuple, "trigger")
            made: Trigger = kind([self._part(*each) for each in parts], state.get("jitter"))
            return made
        given = self.value(state, "trigger")
        zone = given.get("timezone")
        if isinstance(zone, _PytzZone):
            given["timezone"] = zone.zone
        restored = kind.__new__(kind)
        restored.__setstate__(given)  # type: ignore[attr-defined]
        return restored

    def _part(self, name: Any, state: Any) -> Trigger:
        if type(name) is not str or name not in _TRIGGERS:
            raise ValueError(f"trigger: {_name(name)} is none of APScheduler's own")
        return self._trigger(name, state)


_FIELDS = {
    "id", "func", "trigger", "executor", "args", "kwargs", "name", "misfire_grace_time",
    "coalesce", "max_instances", "next_run_time",
}  # fmt: skip


def _reconstructed(found: Made) -> Made:
    kind: Any = found.args[0] if found.args else None
    if not is_name(kind):
        raise ValueError("a class is made of what is none")
    made: Made = kind()
    made.state = found.state
    return made


def _refusal(found: Any, path: str) -> ValueError:
    return ValueError(
        f"{path}: {_name(found)} is not looked up, for reading it could run any code; what"
        " migrates are plain data, dates and time zones. Add the job to the new store by your"
        " application"
    )


def _name(found: Any) -> str:
    """Name what was read, for people."""
    if isinstance(found, Made):
        kind = found.args[0] if found.args else None
        if found.name == "copyreg:_reconstructor" and is_name(kind):
            found = kind
        return f"an object that {found.name[:100]} makes"
    return found.name[:100] if is_name(found) else repr(found)[:100]


def _seed(trigger: Any, job_id: str) -> None:
    """Have delays depend on the job, so that migrating again gives the same."""
    if trigger._spread:
        trigger._seed = int.from_bytes(sha256(job_id.encode()).digest()[:8], "big")
    for part in getattr(trigger, "triggers", ()):
        _seed(part, job_id)


# What makes each of the other values.

_Maker = Callable[[_Reader, Made, str], Any]


def _datetime(reader: _Reader, found: Made, path: str) -> datetime:
    moment: datetime = _unpacked(datetime, reader, found, path)
    zone = moment.tzinfo
    return moment.astimezone(zone.zone) if isinstance(zone, _PytzZone) else moment


def _packed(kind: Any) -> _Maker:
    return lambda reader, found, path: _unpacked(kind, reader, found, path)


def _unpacked(kind: Any, reader: _Reader, found: Made, path: str) -> Any:
    packed, *zone = [reader.value(each, path) for each in found.args]
    made = kind(reader.plain(packed, bytes, bytes, path), *zone)
    return made.replace()  # which checks what the bytes say, and they were not


def _called(function: Callable[..., Any]) -> _Maker:
    return lambda reader, found, path: reader.call(function, found, path)


def _bytes(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"the encoding {encoding!r} is not what bytes are pickled with")
    return text.encode("latin1")


def _bytearray(data: bytes | str = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(_bytes(data, encoding) if isinstance(data, str) else memoryview(data))


def _decimal(text: str) -> Decimal:
    return Decimal(text)


def _dictionary(kind: Any) -> _Maker:
    def make(reader: _Reader, found: Made, path: str) -> Any:
        made = reader.call(kind, found, path)
        for key, value in found.items:
            made[reader.value(key, path)] = reader.value(value, f"{path}[{str(key)[:40]!r}]")
        return made

    return make


def _deque(reader: _Reader, found: Made, path: str) -> deque[Any]:
    made: deque[Any] = reader.call(deque, found, path)
    made.extend(reader.value(each, path) for each in found.items)
    return made


def _uuid(reader: _Reader, found: Made, path: str) -> UUID:
    return UUID(int=reader.value(found.state, path)["int"])


def _pytz(name: str, offset: int | None = None, *_: Any) -> tzinfo:
    zone = as_timezone(name)
    return zone if offset is None else _PytzZone(zone, timedelta(seconds=offset))


def _tzoffset(reader: _Reader, found: Made, path: str) -> timezone:
    given = [reader.value(each, path) for each in found.args]
    if not given:  # as dateutil has it before version 4
        state = reader.value(found.state, path)
        given = [state["_name"], state["_offset"]]
    name, offset = given
    span = offset if isinstance(offset, timedelta) else timedelta(seconds=offset)
    return timezone(span) if name is None else timezone(span, name)


def _tzfile(reader: _Reader, found: Made, path: str) -> tzinfo:
    """Find the zone by its name: dateutil's own know it by a file on the machine they were on."""
    for text in found.args:
        if isinstance(text, str):
            try:
                return as_timezone(text.rpartition("zoneinfo/")[2])
            except ValueError:
                continue
    raise ValueError("its file is none of the time zone database")


def _zone_info(name: str, *_: Any) -> ZoneInfo:
    return ZoneInfo(name)


_MAKERS: Mapping[str, _Maker] = {
    "_codecs:encode": _called(_bytes),
    "builtins:bytearray": _called(_bytearray),
    "builtins:bytes": _called(lambda: b""),
    "builtins:complex": _called(complex),
    "builtins:frozenset": _called(frozenset),
    "builtins:range": _called(range),
    "builtins:set": _called(set),
    "builtins:xrange": _called(range),
    "collections:Counter": _dictionary(Counter),
    "collections:OrderedDict": _dictionary(OrderedDict),
    "collections:deque": _deque,
    "datetime:date": _packed(date),
    "datetime:datetime": _datetime,
    "datetime:time": _packed(time),
    "datetime:timedelta": _called(timedelta),
    "datetime:timezone": _called(timezone),
    "dateutil.tz._tzfile:_unpickle": _tzfile,
    "dateutil.tz.tz:tzfile": _tzfile,
    "dateutil.tz.tz:tzoffset": _tzoffset,
    "dateutil.tz.tz:tzutc": _called(lambda: timezone.utc),
    "decimal:Decimal": _called(_decimal),
    "pytz:FixedOffset": _called(lambda minutes: timezone(timedelta(minutes=minutes))),
    "pytz:_UTC": _called(lambda: timezone.utc),
    "pytz:_p": _called(_pytz),
    "uuid:UUID": _uuid,
    "zoneinfo:ZoneInfo._unpickle": _called(_zone_info),
}
