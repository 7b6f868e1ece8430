"""What all triggers share."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from zope.interface import implementer

from tocsin.convert import as_number, edge_of, timezone_name
from tocsin.engine.schedule import FireTimes, Schedule
from tocsin.interfaces import ITrigger

_UTC = edge_of(timezone.utc)
_Self = TypeVar("_Self", bound="Trigger")

#: What stands in a record as it is.
_JSON = frozenset((int, str, float, bool, type(None)))
#: Serialized triggers by the name that their record carries.
KINDS: dict[str, type[Trigger]] = {}


@implementer(ITrigger)
class BaseTrigger(ABC):
    """The base of all triggers, those of third parties included.

    A subclass has to implement `get_next_fire_time`; everything else follows from it.
    """

    __slots__ = ()

    @abstractmethod
    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Give the fire time that follows the previous one; None if there is no more.

        Without a previous one, give the first at or after ``now``. With one, the answer may
        lie before ``now``: the run was missed, and the scheduler decides what becomes of it.
        """

    def next_fire_time(self, after: datetime) -> datetime | None:
        """Give the first fire time after an aware datetime, or None."""
        return self.get_next_fire_time(after, after)

    def previous_fire_time(self, before: datetime) -> datetime | None:
        """Give the last fire time before an aware datetime, or None."""
        raise NotImplementedError(f"{type(self).__name__} can't tell fire times backwards")

    def next_instant(self, after: int) -> int | None:
        """Do what `next_fire_time` does, on instants: microseconds since 1970 in UTC."""
        moment = _UTC.moment(after)
        found = None if moment is None else self.next_fire_time(moment)
        return None if found is None else _UTC.instant(found)

    def previous_instant(self, before: int) -> int | None:
        """Do what `previous_fire_time` does, on instants."""
        moment = _UTC.moment(before)
        found = None if moment is None else self.previous_fire_time(moment)
        return None if found is None else _UTC.instant(found)

    def next_run(self, previous: int | None, now: int, edge: Schedule) -> int | None:
        """Do what `get_next_fire_time` does, on instants; ``edge`` converts them for it."""
        before = None if previous is None else edge.moment(previous)
        present = edge.moment(now)
        if present is None or (previous is not None and before is None):
            return None
        found = self.get_next_fire_time(before, present)
        return None if found is None else edge.instant(found)

    def latest_run(self, first: int, now: int, edge: Schedule) -> int:
        """Give the last of the run times that begin with ``first`` and are not after ``now``.

        Goes through them all, unless a subclass knows better.
        """
        latest = first
        while True:
            found = self.next_run(latest, now, edge)
            if found is None or found > now:
                return latest
            if found <= latest:
                raise ValueError(f"{self!r} does not go forwards: after {latest} comes {found}")
            latest = found

    def fire_times(
        self, start: datetime, end: datetime | None = None, limit: int | None = None
    ) -> Iterator[datetime]:
        """Iterate over the fire times in ``start <= t < end``, at most ``limit`` of them.

        Without ``end`` and ``limit`` the iterator may never end. Raises ValueError for a naive
        datetime or a negative limit.
        """
        first = _UTC.instant(start) - 1
        stop = None if end is None else _UTC.instant(end)
        if limit is not None and index(limit) < 0:
            raise ValueError(f"limit: {limit} is negative")
        return self._iterate(first, stop, limit)

    def _iterate(self, after: int, stop: int | None, limit: int | None) -> Iterator[datetime]:
        left = limit
        while left is None or left > 0:
            found = self.next_instant(after)
            if found is None or (stop is not None and found >= stop):
                return
            moment = self.moment(found)
            if moment is None:
                return
            yield moment
            after = found
            if left is not None:
                left -= 1

    def moment(self, instant: int, edge: Schedule = _UTC) -> datetime | None:
        """Turn an instant into a datetime: in the trigger's time zone, else in that of ``edge``.

        None outside the years 1 to 9999.
        """
        zone = getattr(self, "timezone", None)
        return (edge if zone is None else edge_of(zone)).moment(instant)

    def describe(self) -> str:
        """Say in one line when the trigger fires."""
        return str(self)

    def _likeness(self) -> Any:
        """Give what is the same for triggers that have the same record, as far as that is cheap.

        It may refer to this trigger by its identity, and so holds only while the trigger lives.
        """
        return id(self)

    def _apply_jitter(
        self, next_fire_time: datetime | None, jitter: float | None, now: datetime
    ) -> datetime | None:
        """Delay a fire time by up to ``jitter`` seconds: for triggers of third parties."""
        if next_fire_time is None or not jitter:
            return next_fire_time
        delay = timedelta(seconds=random.uniform(0, jitter))
        return (next_fire_time.astimezone(timezone.utc) + delay).astimezone(next_fire_time.tzinfo)


class Jitter:
    """Delays of at most so many seconds; the ``seed`` decides which run has which."""

    __slots__ = ("seconds", "seed", "spread")

    def __init__(self, seconds: float) -> None:
        if as_number(seconds, "jitter") < 0:
            raise ValueError(f"jitter: {seconds} is negative; it is a number of seconds, 0 or more")
        self.seconds = seconds
        self.spread = timedelta(seconds=seconds) // timedelta(microseconds=1)
        self.seed = random.getrandbits(64)

    def delayed(self, instant: int) -> int:
        """Delay a fire time by 0 to ``seconds``.

        The delay depends on the fire time and the seed alone (a SplitMix64 step), so delays
        never add up, and a restart or another scheduler finds the same ones.
        """
        mixed = (instant ^ self.seed) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        return instant + (mixed ^ mixed >> 31) % (self.spread + 1)


class Trigger(BaseTrigger):
    """The base of tocsin's own triggers: values that compare, hash, pickle and serialize.

    A subclass gives its constructor's arguments in `_arguments`, the name of its record in
    ``kind``, and that record's version in ``version``. One that has ``__slots__`` has ``_jitter``
    among them.
    """

    # For `_jitter`, each kind's own: an interval's is where the engine finds it.
    __slots__ = ()

    kind: ClassVar[str]
    version: ClassVar[int] = 1

    _jitter: Jitter | None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            KINDS[cls.kind] = cls
        if "get_next_fire_time" in cls.__dict__ and "next_run" not in cls.__dict__:
            # The method that people override decides, not the shortcuts around it.
            cls.next_run = BaseTrigger.next_run  # type: ignore[method-assign]
            cls.latest_run = BaseTrigger.latest_run  # type: ignore[method-assign]

    @abstractmethod
    def _arguments(self) -> dict[str, Any]:
        """Give the constructor's arguments, without those that are None or the default."""

    def _set_jitter(self, jitter: float | None) -> None:
        made = None if jitter is None else Jitter(jitter)
        # In a slot of the kind's.
        self._jitter = made if made is not None and made.spread else None  # type: ignore[misc]

    @property
    def jitter(self) -> float | None:
        """By how many seconds each run is delayed at most; None for not at all."""
        return None if self._jitter is None else self._jitter.seconds

    @property
    def _spread(self) -> int:
        return 0 if self._jitter is None else self._jitter.spread

    @property
    def _seed(self) -> int:
        return 0 if self._jitter is None else self._jitter.seed

    @_seed.setter
    def _seed(self, seed: int) -> None:
        if self._jitter is not None:
            self._jitter.seed = seed

    def _next_plain(self, after: int) -> int | None:
        """Find the first fire time after an instant, before jitter."""
        raise NotImplementedError

    def _previous_plain(self, before: int) -> int | None:
        """Find the last fire time before an instant, before jitter."""
        raise NotImplementedError

    def next_instant(self, after: int) -> int | None:
        """Do what `next_fire_time` does, on instants: microseconds since 1970 in UTC.

        With jitter it looks at each fire time within ``jitter`` seconds.
        """
        if self._jitter is None:
            return self._next_plain(after)
        best = None
        plain = self._next_plain(after - self._jitter.spread - 1)
        while plain is not None and (best is None or plain < best):
            delayed = self._jitter.delayed(plain)
            if delayed > after and (best is None or delayed < best):
                best = delayed
            plain = self._next_plain(plain)
        return best

    def previous_instant(self, before: int) -> int | None:
        """Do what `previous_fire_time` does, on instants."""
        if self._jitter is None:
            return self._previous_plain(before)
        best = None
        plain = self._previous_plain(before)
        while plain is not None and (best is None or plain + self._jitter.spread > best):
            delayed = self._jitter.delayed(plain)
            if delayed < before and (best is None or delayed > best):
                best = delayed
            plain = self._previous_plain(plain)
        return best

    def next_run(self, previous: int | None, now: int, edge: Schedule) -> int | None:
        """Do what `get_next_fire_time` does, on instants."""
        found = self.next_instant(now - 1 if previous is None else previous)
        return None if found is None or self.moment(found, edge) is None else found

    def latest_run(self, first: int, now: int, edge: Schedule) -> int:
        """Give the last of the run times that begin with ``first`` and are not after ``now``.

        As fast as `previous_instant`.
        """
        try:
            found = self.previous_instant(now + 1)
        except NotImplementedError:  # a trigger of a third party within
            return super().latest_run(first, now, edge)
        return first if found is None or found < first else found

    def next_fire_time(self, after: datetime) -> datetime | None:
        """Give the first fire time after an aware datetime, or None."""
        found = self.next_instant(_UTC.instant(after))
        return None if found is None else self.moment(found)

    def previous_fire_time(self, before: datetime) -> datetime | None:
        """Give the last fire time before an aware datetime, or None."""
        found = self.previous_instant(_UTC.instant(before))
        return None if found is None else self.moment(found)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Give the fire time that follows the previous one; None if there is no more.

        Without a previous one, give the first at or after ``now``. With one, the answer comes
        after it whatever ``now`` says: a clock that was set back repeats no run.
        """
        if previous_fire_time is not None:
            return self.next_fire_time(previous_fire_time)
        found = self.next_instant(_UTC.instant(now) - 1)
        return None if found is None else self.moment(found)

    def to_dict(self) -> dict[str, Any]:
        """Give the trigger as a record of JSON values, which `from_dict` turns back.

        Raises ValueError if its time zone has no name, or its class no kind of its own.
        """
        if KINDS.get(self.kind) is not type(self):
            raise ValueError(
                f"{type(self).__name__} has no record of its own: give the class a ``kind`` that"
                f" is not {self.kind!r}"
            )
        record: dict[str, Any] = {"trigger": self.kind, "version": self.version}
        for name, value in self._arguments().items():
            record[name] = value if type(value) in _JSON else _encode(value)
        if self._jitter is not None:
            record["jitter_seed"] = self._jitter.seed
        return record

    @classmethod
    def from_dict(cls: type[_Self], record: Mapping[str, Any]) -> _Self:
        """Make the trigger of a record; on a base class, of the kind that the record names.

        Raises ValueError for another kind, an unknown one, or a newer version.
        """
        fields = dict(record)
        name, version = fields.pop("trigger", None), fields.pop("version", None)
        kind = KINDS.get(name) if isinstance(name, str) else None
        if kind is None or not issubclass(kind, cls):
            known = ", ".join(sorted(key for key, each in KINDS.items() if issubclass(each, cls)))
            raise ValueError(f"trigger: {name!r} is not a kind of {cls.__name__}; known: {known}")
        if not isinstance(version, int) or not 1 <= version <= kind.version:
            raise ValueError(
                f"version: {version!r} of a {name!r} record is unknown here;"
                f" this tocsin reads 1 to {kind.version}"
            )
        seed = fields.pop("jitter_seed", None)
        try:
            trigger = kind._restore(fields)
        except TypeError as error:
            raise ValueError(f"a {name!r} record that can't be restored: {error}") from error
        if seed is not None:
            trigger._seed = index(seed) & 0xFFFFFFFFFFFFFFFF
        return trigger

    @classmethod
    def _restore(cls: type[_Self], arguments: dict[str, Any]) -> _Self:
        return cls(**arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), self._arguments(), self._seed)

    def __eq__(self, other: object) -> bool:
        """Compare what decides the fire times; two jitters of equal size are equal."""
        if type(other) is not type(self):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return tuple((name, comparable(value)) for name, value in self._arguments().items())

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={_show(value)}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({given})"


class ScheduledTrigger(Trigger):
    """The base of the triggers that have a schedule of the engine, in ``_schedule``."""

    __slots__ = ()

    start_date: Any
    end_date: Any

    if TYPE_CHECKING:  # an attribute of most

        @property
        def _schedule(self) -> Schedule: ...

    @property
    def timezone(self) -> tzinfo:
        """The time zone in which it counts, and in which its fire times are given."""
        return self._schedule.tz

    def next_fire_time(self, after: datetime) -> datetime | None:
        """Give the first fire time after an aware datetime, or None."""
        if self._jitter is not None:
            return Trigger.next_fire_time(self, after)  # super() costs all other calls 5 %
        return self._schedule.next_datetime(after)

    def previous_fire_time(self, before: datetime) -> datetime | None:
        """Give the last fire time before an aware datetime, or None."""
        if self._jitter is not None:
            return super().previous_fire_time(before)
        return self._schedule.previous_datetime(before)

    def next_instant(self, after: int) -> int | None:
        """Do what `next_fire_time` does, on instants: microseconds since 1970 in UTC."""
        if self._jitter is not None:
            return super().next_instant(after)
        return self._schedule.next(after)

    def _iterate(self, after: int, stop: int | None, limit: int | None) -> Iterator[datetime]:
        if self._jitter is not None:
            return super()._iterate(after, stop, limit)
        return FireTimes(self._schedule, after, stop, limit)

    def _next_plain(self, after: int) -> int | None:
        return self._schedule.next(after)

    def _previous_plain(self, before: int) -> int | None:
        return self._schedule.previous(before)

    def moment(self, instant: int, edge: Schedule = _UTC) -> datetime | None:
        """Turn an instant into a datetime in the trigger's time zone."""
        return self._schedule.moment(instant)

    def next_run(self, previous: int | None, now: int, edge: Schedule) -> int | None:
        """Do what `get_next_fire_time` does, on instants."""
        if self._jitter is not None:
            return super().next_run(previous, now, edge)
        return self._schedule.next(now - 1 if previous is None else previous)

    def _bounds(self) -> dict[str, Any]:
        bounds = {
            "start_date": self.start_date,
            "end_date": self.end_date,
            "timezone": self.timezone,
            "jitter": self.jitter,
        }
        return {name: value for name, value in bounds.items() if value is not None}


def check_bounds(first: date | None, last: date | None) -> None:
    """Refuse bounds that leave nothing between them; the clock may show more at the earlier one."""
    if first is not None and last is not None and comparable(last) < comparable(first):
        raise ValueError(f"end_date: {last.isoformat()} is before start_date {first.isoformat()}")


def _unpickle(cls: type[Trigger], arguments: dict[str, Any], seed: int) -> Trigger:
    trigger = cls._restore(arguments)
    trigger._seed = seed
    return trigger


def _encode(value: Any) -> Any:
    if type(value) is datetime or isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tzinfo):
        return timezone_name(value)
    if isinstance(value, Trigger):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_encode(each) for each in value]
    return value


def comparable(value: Any) -> Any:
    """Turn an argument of a trigger into something that compares and hashes by its meaning."""
    if isinstance(value, datetime):
        return _UTC.instant(value)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, tzinfo):
        try:
            return timezone_name(value)
        except ValueError:
            return repr(value)
    return value


def _show(value: Any) -> str:
    if isinstance(value, date):
        return repr(value.isoformat())
    if isinstance(value, tzinfo):
        try:
            return repr(timezone_name(value))
        except ValueError:
            return repr(value)
    return repr(value)
