"""The expressions of cron fields, and the fields that code makes of them itself."""

from datetime import datetime

from apscheduler.triggers.cron.expressions import (
    AllExpression,
    LastDayOfMonthExpression,
    MonthRangeExpression,
    RangeExpression,
    WeekdayPositionExpression,
    WeekdayRangeExpression,
)
from apscheduler.triggers.cron.fields import (
    BaseField,
    DayOfMonthField,
    DayOfWeekField,
    MonthField,
    WeekField,
)

DAY = DayOfMonthField("day", "*")
WEEKDAY = DayOfWeekField("day_of_week", "*")
MONTH = MonthField("month", "*")
HOUR = BaseField("hour", "*")
#: By name: how to make the expression, and a field that it is for.
EXPRESSIONS = {
    "all": (AllExpression, HOUR),
    "step": (lambda: AllExpression(5), HOUR),
    "step as text": (lambda: AllExpression("5"), HOUR),
    "value": (lambda: RangeExpression(7), HOUR),
    "value as text": (lambda: RangeExpression("7"), HOUR),
    "range": (lambda: RangeExpression(7, 9), HOUR),
    "range of one": (lambda: RangeExpression(7, 7), HOUR),
    "range with a step": (lambda: RangeExpression(5, 20, 4), HOUR),
    "step from a value": (lambda: RangeExpression(5, step=4), HOUR),
    "days past the month": (lambda: RangeExpression(29, 31), DAY),
    "month": (lambda: MonthRangeExpression("FEB"), MONTH),
    "months": (lambda: MonthRangeExpression("feb", "Apr"), MONTH),
    "weekday": (lambda: WeekdayRangeExpression("SUN"), WEEKDAY),
    "weekdays": (lambda: WeekdayRangeExpression("tue", "fri"), WEEKDAY),
    "first": (lambda: WeekdayPositionExpression("1st", "mon"), DAY),
    "fifth": (lambda: WeekdayPositionExpression("5th", "FRI"), DAY),
    "last friday": (lambda: WeekdayPositionExpression("LAST", "fri"), DAY),
    "last": (LastDayOfMonthExpression, DAY),
}
REFUSED = {
    "no step": lambda: AllExpression(0),
    "step that is no number": lambda: AllExpression("x"),
    "range with no step": lambda: RangeExpression(1, 5, 0),
    "backwards": lambda: RangeExpression(5, 1),
    "no month": lambda: MonthRangeExpression("foo"),
    "last month unknown": lambda: MonthRangeExpression("jan", "foo"),
    "months backwards": lambda: MonthRangeExpression("apr", "feb"),
    "no weekday": lambda: WeekdayRangeExpression("jan"),
    "weekdays backwards": lambda: WeekdayRangeExpression("fri", "mon"),
    "no position": lambda: WeekdayPositionExpression("6th", "fri"),
    "position of no weekday": lambda: WeekdayPositionExpression("1st", "jan"),
    "field without its names": lambda: BaseField("month", "jan"),
    "field without its positions": lambda: BaseField("day", "last"),
    "value past the field": lambda: BaseField("hour", "24"),
    "step past the field": lambda: BaseField("hour", "*/30"),
    "empty item": lambda: BaseField("hour", "1,,2"),
    "nonsense": lambda: MonthField("month", "?"),
}
FIELDS = {
    "default": lambda: BaseField("second", 0, is_default=True),
    "number": lambda: BaseField("hour", 7),
    "list": lambda: BaseField("minute", "5, 1-3"),
    "week": lambda: WeekField("week", "10-20/2"),
}


def _shown(make, field):
    """Give the text of an expression, and the next value at moments of a leap year's months."""

    def scenario():
        expression = make()
        moments = [datetime(2028, month, day, day - 7) for month in (2, 4, 12) for day in (7, 29)]
        return [str(expression), [expression.get_next_value(each, field) for each in moments]]

    return scenario


def _equal():
    """Compare all with all; each is made twice."""
    left, right = ([make() for make, _ in EXPRESSIONS.values()] for _ in range(2))
    return [[one == other for other in right] for one in left]


def _refused():
    found = {}
    for name, make in REFUSED.items():
        try:
            make()
        except ValueError:
            found[name] = True
        else:
            found[name] = False
    return found


def _fields():
    found = {}
    for name, make in FIELDS.items():
        field = make()
        found[name] = [
            field.name,
            str(field),
            repr(field),
            field.is_default,
            field.REAL,
            field == make(),
            field == BaseField("hour", "23"),
        ]
    return found


def scenarios():
    return {
        **{name: _shown(*case) for name, case in EXPRESSIONS.items()},
        "equal": _equal,
        "refused": _refused,
        "fields": _fields,
    }
