"""What tocsin says of the fields of cron triggers; ``programs/expressions.py`` has what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tocsin.adapters.apscheduler import expressions, fields

MONTHS = "jan, feb, mar, apr, may, jun, jul, aug, sep, oct, nov, dec"
WEEKDAYS = "mon, tue, wed, thu, fri, sat, sun"
SHOWN: dict[str, Callable[[], Any]] = {
    "AllExpression('*/5')": lambda: expressions.AllExpression(5),
    "RangeExpression('1-9/2')": lambda: expressions.RangeExpression(1, 9, 2),
    "MonthRangeExpression('jan-mar')": lambda: expressions.MonthRangeExpression("JAN", "Mar"),
    "WeekdayRangeExpression('sun')": lambda: expressions.WeekdayRangeExpression("sun"),
    "WeekdayPositionExpression('2nd fri')": lambda: expressions.WeekdayPositionExpression(
        "2nd", "FRI"
    ),
    "LastDayOfMonthExpression('last')": expressions.LastDayOfMonthExpression,
    "DayOfMonthField('day', 'last,5')": lambda: fields.DayOfMonthField("day", "last, 5"),
}


@pytest.mark.parametrize("text", SHOWN)
def test_expressions_and_fields_show_their_text_and_equal_ones_are_one_in_a_set(text: str) -> None:
    make = SHOWN[text]
    assert repr(make()) == text
    others = {other() for shown, other in SHOWN.items() if shown != text}
    assert len({make(), make()} | others) == len(SHOWN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: expressions.AllExpression("0"), "step: 0 is not positive"),
        (
            lambda: expressions.RangeExpression(9, 1),
            "last: 1 is before the first value, 9",
        ),
        (lambda: expressions.MonthRangeExpression("Foo"), f"'Foo' is none of {MONTHS}"),
        (
            lambda: expressions.WeekdayRangeExpression("mon", "jan"),
            f"'jan' is none of {WEEKDAYS}",
        ),
        (
            lambda: expressions.WeekdayPositionExpression("6th", "fri"),
            "'6th' is none of 1st, 2nd, 3rd, 4th, 5th, last",
        ),
        (
            lambda: expressions.WeekdayPositionExpression("1st", "jan"),
            f"'jan' is none of {WEEKDAYS}",
        ),
        (
            lambda: fields.BaseField("day", "last"),
            "day: 'last' is not an expression of APScheduler's",
        ),
    ],
)
def test_refusals_name_what_is_wrong(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
