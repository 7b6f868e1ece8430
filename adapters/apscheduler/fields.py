"""The fields of cron triggers, as APScheduler has them; see `expressions`."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from tocsin.adapters.apscheduler.expressions import (
    AllExpression,
    LastDayOfMonthExpression,
    MonthRangeExpression,
    RangeExpression,
    WeekdayPositionExpression,
    WeekdayRangeExpression,
)
from tocsin.triggers.cron.grammar import RANGES, parse_field

__all__ = [
    "DEFAULT_VALUES",
    "MAX_VALUES",
    "MIN_VALUES",
    "BaseField",
    "DayOfMonthField",
    "DayOfWeekField",
    "MonthField",
    "WeekField",
]

MIN_VALUES = {name: low for name, (low, _) in RANGES.items()} | {"year": 1970}
MAX_VALUES = {name: high for name, (_, high) in RANGES.items()}
DEFAULT_VALUES: dict[str, int | str] = {
    **MIN_VALUES,
    "year": "*",
    "week": "*",
    "day_of_week": "*",
}


class BaseField:
    """One field: expressions, any of which may match.

    Raises CronError, a ValueError, for a text that `tocsin.CronTrigger` would refuse, ValueError
    for one that APScheduler would.
    """

    REAL = True
    COMPILERS: ClassVar[Sequence[Any]] = [AllExpression, RangeExpression]

    def __init__(self, name: str, exprs: int | str, is_default: bool = False) -> None:
        self.name = name
        self.is_default = is_default
        text = str(exprs)
        parse_field(name, text)
        self.expressions = [self._compile(item.strip()) for item in text.split(",")]

    def _compile(self, item: str) -> Any:
        for expression in self.COMPILERS:
            match = expression.value_re.fullmatch(item)
            if match is not None:
                return expression(**match.groupdict())
        raise ValueError(f"{self.name}: {item!r} is not an expression of APScheduler's")

    def get_min(self, dateval: datetime) -> int:
        """Give the smallest value."""
        return MIN_VALUES[self.name]

    def get_max(self, dateval: datetime) -> int:
        """Give the largest value; of days, in the month of the date."""
        return MAX_VALUES[self.name]

    def get_value(self, dateval: datetime) -> int:
        """Give the value that a date has."""
        return getattr(dateval, self.name)  # type: ignore[no-any-return]

    def get_next_value(self, dateval: datetime) -> int | None:
        """Give the first value that matches and is not before the date's, or None."""
        found = [each.get_next_value(dateval, self) for each in self.expressions]
        return min((value for value in found if value is not None), default=None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseField) and self.expressions == other.expressions

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return ",".join(map(str, self.expressions))

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.name}', '{self}')"


class WeekField(BaseField):
    """The week of the ISO year."""

    REAL = False

    def get_value(self, dateval: datetime) -> int:
        """Give the week that a date is in."""
        return dateval.isocalendar()[1]


class DayOfMonthField(BaseField):
    """The day of the month, which may also be ``last`` and ``2nd fri``."""

    COMPILERS = (*BaseField.COMPILERS, WeekdayPositionExpression, LastDayOfMonthExpression)

    def get_max(self, dateval: datetime) -> int:
        """Give the last day of a date's month."""
        return monthrange(dateval.year, dateval.month)[1]


class DayOfWeekField(BaseField):
    """The day of the week, 0 for Monday, or by name."""

    REAL = False
    COMPILERS = (*BaseField.COMPILERS, WeekdayRangeExpression)

    def get_value(self, dateval: datetime) -> int:
        """Give the weekday of a date."""
        return dateval.weekday()


class MonthField(BaseField):
    """The month, by number or name."""

    COMPILERS = (*BaseField.COMPILERS, MonthRangeExpression)
