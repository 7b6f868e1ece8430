"""The cron trigger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from functools import cache
from typing import Any, TypeVar

from tocsin.convert import as_datetime, as_timezone, edge_of
from tocsin.engine.cron import CronSchedule
from tocsin.errors import CronError
from tocsin.triggers.base import ScheduledTrigger, check_bounds, comparable
from tocsin.triggers.cron.describe import describe
from tocsin.triggers.cron.grammar import NUMBERINGS, RANGES, Field, parse_field

__all__ = ["CronTrigger"]

_Self = TypeVar("_Self", bound="CronTrigger")

EXACTLY_ONCE = "exactly-once"
WALL_CLOCK = "wall-clock"

#: The order of crontab fields, by their number.
_ORDERS = {
    5: ("minute", "hour", "day", "month", "day_of_week"),
    6: ("second", "minute", "hour", "day", "month", "day_of_week"),
    7: ("second", "minute", "hour", "day", "month", "day_of_week", "year"),
}
_SHORTCUTS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class CronTrigger(ScheduledTrigger):
    """Fire when the wall clock matches every field.

    Fields left out before the least given one are ``*``; those after it have their smallest
    value, but week and day_of_week ``*``. A field is a number or a text of the grammar in
    `tocsin.triggers.cron.grammar`; Monday is 0. The year is that of the calendar, not that of
    the ISO week.

    ``dst`` rules the hours that the clock leaves out or repeats. With ``"exactly-once"`` a
    fixed local time fires once a day: in the repeated hour at the first occurrence, in the
    hour left out at the first instant after it. A job whose hour or minute begins with ``*``
    follows elapsed time instead: it fires whenever the clock matches, through both. With
    ``"wall-clock"`` every job does that.

    ``start_date`` and ``end_date`` are included. ``jitter`` delays each run by 0 to so many
    seconds. Finding the next fire time takes O(1), whatever its distance, but for one step per
    month that the fields allow and none of whose days matches.

    Raises CronError, a ValueError, for a field that is wrong and for fields that never match.
    """

    __slots__ = (
        "_crontab",
        "_jitter",
        "_numbering",
        "_schedule",
        "_seeding",
        "dst",
        "end_date",
        "fields",
        "start_date",
    )

    kind = "cron"
    FIELD_NAMES = tuple(RANGES)

    fields: list[Field]
    start_date: datetime | None
    end_date: datetime | None
    _schedule: CronSchedule

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
        dst: str = EXACTLY_ONCE,
    ) -> None:
        given = (year, month, day, week, day_of_week, hour, minute, second)
        texts = {
            name: _field_text(name, value)
            for name, value in zip(RANGES, given, strict=True)
            if value is not None
        }
        if not texts:
            raise CronError("no field is given, which would mean every second; say second='*'")
        fields = []
        left = len(texts)
        for name, (low, _) in RANGES.items():
            if name in texts:
                left -= 1
                fields.append(parse_field(name, texts[name]))
            else:
                text = "*" if left or name in ("week", "day_of_week") else str(low)
                fields.append(_default(name, text))
        self._crontab: str | None = None
        self._numbering = "apscheduler"
        self._seeding: str | None = None
        self._prepare(fields, False, start_date, end_date, timezone, jitter, dst)

    @classmethod
    def from_crontab(
        cls: type[_Self],
        expr: str,
        timezone: tzinfo | str | None = None,
        *,
        weekdays: str = "cron",
        seed: str | None = None,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        jitter: float | None = None,
        dst: str = EXACTLY_ONCE,
    ) -> _Self:
        """Make a trigger of a crontab expression, with the meaning that it has in crontab(5).

        Five fields (minute, hour, day, month, day of week), six (seconds first) or seven (year
        last), or ``@yearly``, ``@monthly``, ``@weekly``, ``@daily``, ``@hourly`` and their
        synonyms. Weekdays count from Sunday, 0 and 7; from Monday, 0, with
        ``weekdays="apscheduler"``. When day and weekday are both restricted (neither begins
        with ``*``) either is enough. ``seed``, as a rule the id of the job, decides the values
        of ``H``.
        """
        if not isinstance(expr, str):
            raise TypeError(f"a crontab expression is a text, not {expr!r}")
        if weekdays not in NUMBERINGS:
            raise ValueError(f"weekdays: {weekdays!r} is neither 'cron' nor 'apscheduler'")
        whole = _SHORTCUTS.get(expr.strip().lower(), expr)
        words = list(re.finditer(r"[^ \t]+", whole))
        order = _ORDERS.get(len(words))
        if order is None:
            if words and words[0][0].startswith("@"):
                raise CronError(
                    "is not a known shortcut", value=expr, allowed=", ".join(_SHORTCUTS)
                )
            raise CronError(
                f"has {len(words)} fields; a crontab expression has 5, 6 (seconds first)"
                " or 7 (year last)",
                value=expr,
            )
        found = dict(zip(order, words, strict=True))
        fields = []
        for name in RANGES:
            if name in found:
                word = found[name]
                fields.append(
                    parse_field(
                        name,
                        word[0],
                        numbering=weekdays,
                        seed=seed,
                        whole=whole,
                        offset=word.start(),
                    )
                )
            else:
                text = "0" if name == "second" else "*"
                fields.append(_default(name, text))
        by_name = {field.name: field for field in fields}
        either = not (by_name["day"].wildcard or by_name["day_of_week"].wildcard)
        trigger = cls.__new__(cls)
        trigger._crontab = " ".join(expr.split())
        trigger._numbering = weekdays
        trigger._seeding = seed
        trigger._prepare(fields, either, start_date, end_date, timezone, jitter, dst)
        return trigger

    def _prepare(
        self,
        fields: list[Field],
        either: bool,
        start_date: datetime | str | None,
        end_date: datetime | str | None,
        timezone: tzinfo | str | None,
        jitter: float | None,
        dst: str,
    ) -> None:
        if dst not in (EXACTLY_ONCE, WALL_CLOCK):
            raise ValueError(f"dst: {dst!r} is neither {EXACTLY_ONCE!r} nor {WALL_CLOCK!r}")
        for bound in (start_date, end_date):
            if timezone is None and isinstance(bound, datetime):
                timezone = bound.tzinfo
        tz = as_timezone(timezone)
        self.dst = dst
        self.fields = fields
        self.start_date = None if start_date is None else as_datetime(start_date, tz, "start_date")
        self.end_date = None if end_date is None else as_datetime(end_date, tz, "end_date")
        check_bounds(self.start_date, self.end_date)
        self._set_jitter(jitter)
        edge = edge_of(tz)
        year, month, day, week, weekday, hour, minute, second = fields
        self._schedule = CronSchedule(
            tz,
            None if self.start_date is None else edge.instant(self.start_date),
            None if self.end_date is None else edge.instant(self.end_date),
            dst == EXACTLY_ONCE and not (hour.wildcard or minute.wildcard),
            second.mask,
            minute.mask,
            hour.mask,
            day.mask,
            day.from_end,
            day.nearest,
            day.nth,
            weekday.mask,
            weekday.nth,
            either,
            week.mask,
            month.mask,
            None if year.mask == _default("year", "*").mask else year.mask,
        )
        if not self._schedule.can_match():
            given = ", ".join(f"{field.name}={field.text}" for field in fields[:5])
            raise CronError(
                f"the expression can never fire: no date of the years 1 to 9999 matches {given}",
                value=self._crontab,
            )

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self._crontab is None:
            arguments = {field.name: field.text for field in self.fields if not field.is_default}
        else:
            arguments["expr"] = self._crontab
            if self._numbering != "cron":
                arguments["weekdays"] = self._numbering
            if self._seeding is not None:
                arguments["seed"] = self._seeding
        arguments.update(self._bounds())
        if self.dst != EXACTLY_ONCE:
            arguments["dst"] = self.dst
        return arguments

    @classmethod
    def _restore(cls: type[_Self], arguments: Mapping[str, Any]) -> _Self:
        return (cls.from_crontab if "expr" in arguments else cls)(**arguments)

    def _key(self) -> tuple[Any, ...]:
        schedule = self._schedule
        bounds = (schedule.first, schedule.last, schedule.either)
        return (*self.fields, *bounds, self.jitter, self.dst, comparable(self.timezone))

    def describe(self) -> str:
        """Say in one line when the trigger fires."""
        return describe(self.fields, self._schedule.either, self.timezone)

    def __repr__(self) -> str:
        text = super().__repr__()
        if self._crontab is not None:
            return text.replace("(expr=", ".from_crontab(", 1)
        return text

    def __str__(self) -> str:
        given = (f"{field.name}={field.text!r}" for field in self.fields if not field.is_default)
        return f"cron[{', '.join(given)}]"


@cache
def _default(name: str, text: str) -> Field:
    return parse_field(name, text, is_default=True)


def _field_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"{name}: a number or a text such as '*/5' is needed, not {value!r}")
