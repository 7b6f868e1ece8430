"""The expressions of cron fields, as APScheduler has them.

tocsin's triggers do not use them. They are here for code that makes them, and for the triggers
that APScheduler has pickled, which hold them.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime
from typing import Any

__all__ = [
    "MONTHS",
    "WEEKDAYS",
    "AllExpression",
    "LastDayOfMonthExpression",
    "MonthRangeExpression",
    "RangeExpression",
    "WeekdayPositionExpression",
    "WeekdayRangeExpression",
]

WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


def _number(value: int | str | None) -> int | None:
    return None if value is None else int(value)


class AllExpression:
    """Every ``step``-th value of a field, or every value: ``*/step`` and ``*``."""

    value_re = re.compile(r"\*(?:/(?P<step>\d+))?")

    def __init__(self, step: int | str | None = None) -> None:
        self.step = _number(step)
        if self.step == 0:
            raise ValueError("step: 0 is not positive")

    def values(self, date: datetime, low: int, high: int) -> Sequence[int]:
        """List the values between those of the field, which for days depend on the month."""
        return range(low, high + 1, self.step or 1)

    def get_next_value(self, date: datetime, field: Any) -> int | None:
        """Give the first value that is not before the date's; None if there is none."""
        start = field.get_value(date)
        values = self.values(date, field.get_min(date), field.get_max(date))
        return next((value for value in values if value >= start), None)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"*/{self.step}" if self.step else "*"

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"


class RangeExpression(AllExpression):
    """A value, or every ``step``-th of a range: ``a``, ``a-b``, ``a-b/n`` and ``a/n``."""

    value_re = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?(?:/(?P<step>\d+))?")

    def __init__(
        self, first: int | str, last: int | str | None = None, step: int | str | None = None
    ) -> None:
        super().__init__(step)
        self.first = int(first)
        self.last = self.first if last is None and step is None else _number(last)
        if self.last is not None and self.first > self.last:
            raise ValueError(f"last: {self.last} is before the first value, {self.first}")

    def values(self, date: datetime, low: int, high: int) -> Sequence[int]:
        """List the values between those of the field."""
        last = high if self.last is None else min(self.last, high)
        return [value for value in range(self.first, last + 1, self.step or 1) if value >= low]

    def _text(self, value: int) -> str:
        return str(value)

    def __str__(self) -> str:
        text = self._text(self.first)
        if self.last is not None and self.last != self.first:
            text += f"-{self._text(self.last)}"
        return f"{text}/{self.step}" if self.step else text


class _NamedRange(RangeExpression):
    value_re = re.compile(r"(?P<first>[a-z]+)(?:-(?P<last>[a-z]+))?", re.IGNORECASE)
    names: Sequence[str]
    offset = 0

    def __init__(self, first: str, last: str | None = None) -> None:
        super().__init__(self._position(first), None if last is None else self._position(last))

    def _position(self, name: str) -> int:
        if name.lower() not in self.names:
            raise ValueError(f"{name!r} is none of {', '.join(self.names)}")
        return self.names.index(name.lower()) + self.offset

    def _text(self, value: int) -> str:
        return self.names[value - self.offset]


class MonthRangeExpression(_NamedRange):
    """A month or a range of them, by name: ``jan-mar``."""

    names = MONTHS
    offset = 1


class WeekdayRangeExpression(_NamedRange):
    """A weekday or a range of them, by name: ``mon-fri``."""

    names = WEEKDAYS


class WeekdayPositionExpression(AllExpression):
    """The n-th or last such weekday of the month: ``2nd fri``."""

    options = ("1st", "2nd", "3rd", "4th", "5th", "last")
    value_re = re.compile(
        rf"(?P<option_name>{'|'.join(options)}) +(?P<weekday_name>\w+)", re.IGNORECASE
    )

    def __init__(self, option_name: str, weekday_name: str) -> None:
        super().__init__()
        for name, known in ((option_name, self.options), (weekday_name, WEEKDAYS)):
            if name.lower() not in known:
                raise ValueError(f"{name!r} is none of {', '.join(known)}")
        self.option_num = self.options.index(option_name.lower())
        self.weekday = WEEKDAYS.index(weekday_name.lower())

    def values(self, date: datetime, low: int, high: int) -> Sequence[int]:
        """List the one day of the date's month, if there is one."""
        first_weekday, length = monthrange(date.year, date.month)
        days = range(1 + (self.weekday - first_weekday) % 7, length + 1, 7)
        return days[self.option_num : self.option_num + 1] if self.option_num < 5 else days[-1:]

    def __str__(self) -> str:
        return f"{self.options[self.option_num]} {WEEKDAYS[self.weekday]}"


class LastDayOfMonthExpression(AllExpression):
    """The last day of the month: ``last``."""

    value_re = re.compile("last", re.IGNORECASE)

    def __init__(self) -> None:
        super().__init__()

    def values(self, date: datetime, low: int, high: int) -> Sequence[int]:
        """List the one day."""
        return [monthrange(date.year, date.month)[1]]

    def __str__(self) -> str:
        return "last"
