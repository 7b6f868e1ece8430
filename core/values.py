"""Values as JSON: exactly, or not at all. The form is described in ``docs/records.md``.

What JSON lacks is an object with a tag, ``{"$": "date", "value": "2026-03-29"}``. The tags are
a closed registry: stored data names no class.
"""

from __future__ import annotations

import json
import reprlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from math import isfinite
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.convert import in_database

__all__ = ["decode", "encode", "register"]

#: How deep the JSON of a value may be nested. MongoDB stops at 100 for a whole record.
MOST_DEPTH = 64
#: The tag of a signed pickle, which `tocsin.codecs` reads and nobody else does.
PICKLE = "pickle"
#: So many elements of a set, or keys of a dictionary, may have the same hash. Numbers are easily
#: made to, and the time to put n such ones into a set grows with the square of n.
MOST_COLLISIONS = 64

_T = TypeVar("_T")
_S = TypeVar("_S", set[Any], frozenset[Any])
_TEXTS = {str}
_LEAST, _MOST = -(2**63), 2**63 - 1
_PLAIN = (type(None), bool, str, list, dict)
_NEEDED = {
    bool: "true or false",
    int: "a whole number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


class Values:
    """The types that records can hold, each under its tag; those of ``base`` too."""

    def __init__(self, base: Values | None = None, advice: str = "") -> None:
        self._base = base
        self._writers: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {}
        self._readers: dict[str, Callable[..., Any]] = {}
        #: What else the user can do, in the complaint about a type that records can't hold.
        self._advice = advice

    def register(
        self, tag: str, kind: type[_T], write: Callable[[_T], Any], read: Callable[[Any], _T]
    ) -> None:
        """Let records hold values of one more type, but not of its subclasses.

        ``write`` turns a value into one that records can hold, ``read`` turns that back. ``tag``
        is what the record carries. Every process that reads such records has to register the
        type first. ``read`` gets what stands in the store: it must do no harm, whatever that is.

        Raises ValueError for a tag or a type that is taken.
        """
        checked_text(tag, "tag")
        if tag == PICKLE or self._reader(tag) or self._writer(kind) or kind in _PLAIN:
            raise ValueError(f"the tag {tag!r} or the type {kind.__qualname__} is taken")
        self._add(tag, kind, lambda value: {"value": write(value)}, lambda value: read(value))

    def _add(
        self,
        tag: str,
        kind: type,
        write: Callable[[Any], dict[str, Any]],
        read: Callable[..., Any],
    ) -> None:
        self._writers[kind] = tag, write
        self._readers[tag] = read

    def _writer(self, kind: type) -> tuple[str, Callable[[Any], dict[str, Any]]] | None:
        found = self._writers.get(kind)
        return found if found or self._base is None else self._base._writer(kind)

    def _reader(self, tag: str) -> Callable[..., Any] | None:
        found = self._readers.get(tag)
        return found if found or self._base is None else self._base._reader(tag)

    def _tags(self) -> str:
        tags = set(self._readers).union(() if self._base is None else self._base._readers)
        return ", ".join(sorted(tags))

    def encode(self, value: Any, path: str, depth: int = 0) -> Any:
        """Turn a value into dict, list, str, int, float, bool and None, as JSON has them.

        Raises ValueError for what can't be written, by its path: ``args[1]["when"]``.
        """
        _check_depth(depth, path)
        if is_plain(value):
            return value
        encode = self.encode
        kind = type(value)
        if kind is str:
            return _checked_unicode(value, path)
        # Most of what is in lists and dictionaries is plain, and needs no path.
        inside = depth + 1
        if kind is list:
            if value:
                _check_depth(inside, path)
            return [
                each if is_plain(each) else encode(each, f"{path}[{n}]", inside)
                for n, each in enumerate(value)
            ]
        if kind is dict:
            if value:
                _check_depth(inside, path)
            key_path = f"a key of {path}"
            if "$" not in value and not set(map(type, value)) - _TEXTS:
                return {
                    key if key.isascii() else _checked_unicode(key, key_path): each
                    if is_plain(each)
                    else encode(each, member(path, key), inside)
                    for key, each in value.items()
                }
            _check_hashes(list(value), path)
            pairs = [
                [encode(key, key_path, depth + 3), encode(each, member(path, key), depth + 3)]
                for key, each in value.items()
            ]
            return {"$": "dict", "value": pairs}
        writer = self._writer(kind)
        if writer is None:
            raise ValueError(
                f"{path}: {shown(value)} is a {kind.__module__}.{kind.__qualname__}, which a"
                f" record can't hold; convert it (a record holds {self._tags()}, str, bool, list"
                f" and None), or {self._advice}"
            )
        tag, write = writer
        try:
            fields = write(value)
        except Exception as error:
            raise ValueError(f"{path}: {shown(value)}: {error}") from error
        record = {name: encode(each, path, inside) for name, each in fields.items()}
        if kind in (set, frozenset):
            _check_hashes(fields["value"], path)
            record["value"].sort(key=json.dumps)  # the same set, the same record
        return {"$": tag, **record}

    def decode(self, value: Any, path: str, depth: int = 0) -> Any:
        """Turn back what `encode` made; ValueError, with the path, for anything else."""
        _check_depth(depth, path)
        decode = self.decode
        kind = type(value)
        if value is None or kind is bool or kind is int or (kind is float and isfinite(value)):
            return value
        if kind is str:
            return _checked_unicode(value, path)
        if kind is list:
            return [decode(each, f"{path}[{n}]", depth + 1) for n, each in enumerate(value)]
        if kind is not dict:
            raise ValueError(f"{path}: {shown(value)} is no JSON value")
        fields = {}
        for key, each in value.items():
            _checked_unicode(checked(key, str, f"a key of {path}"), f"a key of {path}")
            fields[key] = decode(each, member(path, key), depth + 1)
        if "$" not in fields:
            return fields
        tag = fields.pop("$")
        read = self._reader(tag) if type(tag) is str else None
        if read is None:
            reason = (
                "a pickle is read as a whole argument only, and with the key that signed it"
                if tag == PICKLE
                else f"the tag {shown(tag)} is unknown; known: {self._tags()};"
                " a type of the application has to be registered before its records are read"
            )
            raise ValueError(f"{path}: {reason}")
        try:
            return read(**fields)
        except Exception as error:  # whatever a constructor says to hostile data
            raise ValueError(f"{path}: {shown(fields)} is no {tag}: {str(error)[:200]}") from error


def is_plain(value: object) -> bool:
    """Tell at once of most values that JSON has them as they are; False where one has to look."""
    kind = type(value)
    if kind is str:
        return value.isascii()  # type: ignore[attr-defined, no-any-return]
    if kind is int:
        return _LEAST <= value <= _MOST  # type: ignore[operator]
    return value is None or kind is bool or (kind is float and isfinite(value))  # type: ignore[arg-type]


def member(path: str, key: object) -> str:
    """Give the path of a dictionary's member."""
    return f'{path}["{key[:40]}"]' if type(key) is str else f"{path}[{shown(key)}]"


def shown(value: object) -> str:
    """Represent a value, of whatever size and kind, for an error message."""
    try:
        return reprlib.repr(value)
    except Exception:  # a number of too many digits, or somebody's broken __repr__
        return f"<{type(value).__qualname__}>"


def fault(name: str, needed: str, value: object) -> ValueError:
    """Make the error for a wrong value."""
    return ValueError(f"{name}: {needed} is needed, not {shown(value)}")


def checked(value: Any, kind: type[_T], name: str) -> _T:
    """Refuse with ValueError what is not exactly of a type that JSON has."""
    if type(value) is not kind:
        raise fault(name, _NEEDED[kind], value)
    return value


def checked_text(value: Any, name: str) -> str:
    """Refuse with ValueError what is no text, empty, or not fit for UTF-8."""
    if not checked(value, str, name):
        raise ValueError(f"{name}: the text is empty")
    return _checked_unicode(value, name)


def _checked_unicode(text: str, path: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{path}: {shown(text)} holds half of a surrogate pair at position {error.start},"
                " which no JSON text can hold; give bytes instead (os.fsencode, for file names)"
            ) from None
    return text


def _check_depth(depth: int, path: str) -> None:
    if depth > MOST_DEPTH:
        raise ValueError(
            f"{path[:100]}...: nested more than {MOST_DEPTH} levels deep (or within itself);"
            " give the job a flat value, such as a key with which it finds the data"
        )


def _write_moment(value: Any) -> dict[str, Any]:
    """Write a datetime or a time: wall clock, fold, and its time zone, if it has one."""
    zone: tzinfo | None = value.tzinfo
    fields: dict[str, Any] = {"fold": 1} if value.fold else {}
    if type(zone) is ZoneInfo and zone.key is not None and in_database(zone.key):
        fields["zone"] = zone.key
        value = value.replace(tzinfo=None)
    elif type(zone) is timezone and not zone.utcoffset(None).microseconds:
        name = zone.tzname(None)
        if name != timezone(zone.utcoffset(None)).tzname(None):
            fields["name"] = name
    elif zone is not None:
        raise ValueError(
            f"its time zone {shown(zone)} is neither a zoneinfo.ZoneInfo of the time zone database"
            " nor a datetime.timezone of whole seconds; use"
            " value.astimezone(zoneinfo.ZoneInfo(...))"
        )
    return {"value": value.isoformat(), **fields}


def _read_moment(
    kind: type[datetime] | type[time], value: Any, zone: Any = None, name: Any = None, fold: Any = 0
) -> datetime | time:
    moment = kind.fromisoformat(value)
    if name is not None:
        offset = moment.utcoffset()
        if offset is None:
            raise ValueError("a name goes with an offset")
        moment = moment.replace(tzinfo=timezone(offset, name))
    if zone is not None:
        if moment.tzinfo is not None:
            raise ValueError("a zone and an offset exclude each other")
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.replace(fold=checked(fold, int, "fold"))


def _text(read: Callable[[str], _T]) -> Callable[[Any], _T]:
    return lambda value: read(checked(value, str, "value"))


def _list(read: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    return lambda value: read(checked(value, list, "value"))


def _read_set(kind: Callable[[list[Any]], _S], value: list[Any]) -> _S:
    _check_hashes(value, "value")
    found = kind(value)
    if len(found) != len(value):  # 1 and True are the same element
        raise ValueError("an element occurs twice")
    return found


def _read_pairs(value: list[Any]) -> dict[Any, Any]:
    pairs = [(key, each) for key, each in (checked(pair, list, "a pair") for pair in value)]
    _check_hashes([key for key, _ in pairs], "value")
    found = dict(pairs)
    if len(found) != len(value):
        raise ValueError("a key occurs twice")
    return found


def _check_hashes(values: list[Any], path: str) -> None:
    if len(values) > MOST_COLLISIONS:
        found, count = Counter(map(hash, values)).most_common(1)[0]
        if count > MOST_COLLISIONS:
            raise ValueError(
                f"{path}: {count} elements have the same hash, {found}; {MOST_COLLISIONS} may;"
                " give a list"
            )


def _read_duration(value: Any) -> timedelta:
    days, seconds, microseconds = (checked(each, int, "a part") for each in value)
    return timedelta(days, seconds, microseconds)


#: What all records can hold.
STANDARD = Values(advice="register its type with tocsin.values.register")
encode, decode, register = STANDARD.encode, STANDARD.decode, STANDARD.register

register("int", int, hex, _text(lambda text: int(text, 16)))
register("float", float, repr, _text(float))
register("date", date, date.isoformat, _text(date.fromisoformat))
register("timedelta", timedelta, lambda td: [td.days, td.seconds, td.microseconds], _read_duration)
register("uuid", UUID, str, _text(UUID))
register("decimal", Decimal, str, _text(Decimal))
register(
    "bytes",
    bytes,
    lambda value: b64encode(value).decode(),
    _text(partial(b64decode, validate=True)),
)
register("tuple", tuple, list, _list(tuple))
register("set", set, list, _list(partial(_read_set, set)))
register("frozenset", frozenset, list, _list(partial(_read_set, frozenset)))
for _moment in (datetime, time):
    STANDARD._add(_moment.__name__, _moment, _write_moment, partial(_read_moment, _moment))
STANDARD._readers["dict"] = _list(_read_pairs)
