"""Random cron fields, each with its meaning: a text for tocsin, a predicate for the oracle."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from hypothesis import strategies as st

RANGES = {
    "year": (1, 9999),
    "month": (1, 12),
    "day": (1, 31),
    "week": (1, 53),
    "day_of_week": (0, 6),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = tuple(name.lower() for name in calendar.month_abbr[1:])
ORDINALS = ("1st", "2nd", "3rd", "4th", "5th")

Values = frozenset[int]
Rule = Callable[[date], bool]


def month_length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _name(draw: st.DrawFn, field: str, value: int) -> str:
    names = {"month": ("", *MONTHS), "day_of_week": DAYS}.get(field)
    return names[value] if names and draw(st.booleans()) else str(value)


@st.composite
def item(draw: st.DrawFn, field: str, kind: str) -> tuple[str, Values]:
    """Draw an item of a field that is a set of values."""
    low, high = RANGES[field]
    size = high - low + 1
    a, b = draw(st.integers(low, high)), draw(st.integers(low, high))
    if field == "year":
        a, b = min(a, b), max(a, b)
    last = b if b >= a else b + size  # round the end
    begin, end = _name(draw, field, a), _name(draw, field, b)
    if kind == "star":
        return "*", frozenset(range(low, high + 1))
    if kind == "star/n":
        n = draw(st.integers(1, size))
        return f"*/{n}", frozenset(range(low, high + 1, n))
    if kind == "value":
        return begin, frozenset([a])
    if kind == "range":
        n, step = 1, ""
    else:
        n = draw(st.integers(1, (high if kind == "a/n" else last) - a + 1))
        step = f"/{n}"
    if kind == "a/n":
        return f"{begin}{step}", frozenset(range(a, high + 1, n))
    values = frozenset((value - low) % size + low for value in range(a, last + 1, n))
    return f"{begin}-{end}{step}", values


KINDS = ("star", "star/n", "value", "range", "range/n", "a/n")


@st.composite
def values(draw: st.DrawFn, field: str, kind: str | None = None) -> tuple[str, Values]:
    """Draw a field: one item, or a list of them."""
    if kind != "list":
        return draw(item(field, kind or draw(st.sampled_from(KINDS))))
    items = draw(st.lists(st.sampled_from(KINDS[2:]).flatmap(lambda k: item(field, k)), max_size=4))
    items.append(draw(item(field, "value")))
    return ",".join(text for text, _ in items), frozenset().union(*(found for _, found in items))


@st.composite
def few(draw: st.DrawFn, field: str) -> tuple[str, Values]:
    """Draw a list of at most two values, so that a brute force stays quick."""
    low, high = RANGES[field]
    found = draw(st.lists(st.integers(low, high), min_size=1, max_size=2))
    return ",".join(map(str, found)), frozenset(found)


def is_working(day: date) -> bool:
    return day.weekday() < 5


def nearest_working(target: int) -> Rule:
    """Write down cron's W: that day, or a neighbour, or over the weekend within the month."""

    def rule(day: date) -> bool:
        if target > month_length(day) or not is_working(day):
            return False
        wanted = day.replace(day=target)
        open_days = [n for n in range(1, month_length(day) + 1) if is_working(day.replace(day=n))]
        best = min(open_days, key=lambda n: (abs(n - target), n > target))
        if wanted.weekday() == 6 and target + 1 in open_days:
            best = target + 1
        return day.day == best

    return rule


def last_working(day: date) -> bool:
    end = month_length(day)
    return day.day == max(n for n in range(end - 2, end + 1) if is_working(day.replace(day=n)))


def nth_weekday(n: int, weekday: int) -> Rule:
    return lambda day: day.weekday() == weekday and (day.day - 1) // 7 == n


def last_weekday(weekday: int) -> Rule:
    return lambda day: day.weekday() == weekday and day.day + 7 > month_length(day)


DAY_KINDS = ("last", "last-n", "nth", "last-weekday", "nearest", "last-working")
WEEKDAY_KINDS = ("nth", "last-weekday")


@st.composite
def day_rule(draw: st.DrawFn, kind: str | None = None) -> tuple[str, Rule]:
    """Draw the day field."""
    kind = kind or draw(st.sampled_from((*KINDS, "list", "list", *DAY_KINDS, "mixed")))
    n, weekday = draw(st.integers(0, 30)), draw(st.integers(0, 6))
    if kind == "last":
        return draw(st.sampled_from(("last", "L"))), lambda day: day.day == month_length(day)
    if kind == "last-n":
        text = f"{draw(st.sampled_from(('last', 'L')))}-{n}"
        return text, lambda day: day.day == month_length(day) - n
    if kind == "nth":
        return f"{ORDINALS[n % 5]} {DAYS[weekday]}", nth_weekday(n % 5, weekday)
    if kind == "last-weekday":
        return f"last {DAYS[weekday]}", last_weekday(weekday)
    if kind == "nearest":
        return f"{n + 1}W", nearest_working(n + 1)
    if kind == "last-working":
        return "LW", last_working
    if kind == "mixed":
        (text, rule), (other, more) = draw(day_rule("list")), draw(day_rule("nearest"))
        return f"{text},{other}", lambda day: rule(day) or more(day)
    text, found = draw(values("day", kind))
    return text, lambda day: day.day in found


@st.composite
def weekday_rule(draw: st.DrawFn, kind: str | None = None, first: int = 0) -> tuple[str, Rule]:
    """Draw the day_of_week field; ``first`` is the weekday, from Monday, that has number 0."""
    kind = kind or draw(st.sampled_from((*KINDS, "list", *WEEKDAY_KINDS)))
    n, weekday = draw(st.integers(0, 4)), draw(st.integers(0, 6))
    number = draw(st.sampled_from((DAYS[weekday], str((weekday - first) % 7))))
    if kind == "nth":
        return f"{number}#{n + 1}", nth_weekday(n, weekday)
    if kind == "last-weekday":
        return f"{number}L", last_weekday(weekday)
    if first:  # the plain items with numbers of the other count
        a, length = draw(st.integers(0, 6)), draw(st.integers(0, 6))
        if kind in ("star", "star/n"):
            step = draw(st.integers(1, 7))
            text = f"*/{step}" if kind == "star/n" else "*"
            found = frozenset(range(0, 7, step if kind == "star/n" else 1))
        else:
            text = f"{a}-{7 if a + length == 7 else (a + length) % 7}"
            found = frozenset((a + each) % 7 for each in range(length + 1))
        return text, lambda day: (day.weekday() - first) % 7 in found
    text, found = draw(values("day_of_week", kind))
    return text, lambda day: day.weekday() in found


@dataclass(frozen=True, repr=False)
class Expression:
    """The texts of all fields, and what they mean."""

    fields: dict[str, str]
    matches: Rule
    years: Values | None
    hours: Values
    minutes: Values
    seconds: Values

    def __repr__(self) -> str:
        return repr(self.fields)

    @property
    def elapsed(self) -> bool:
        """Tell whether the hour or minute is a wildcard."""
        return "*" in (self.fields["hour"][0], self.fields["minute"][0])

    def crontab(self) -> str:
        names = ("second", "minute", "hour", "day", "month", "day_of_week", "year")
        return " ".join(self.fields[name] for name in names)


#: Which of hour, minute and second may have many values: not all, or a brute force is slow.
_SHAPES = (("hour", "minute"), ("hour", "second"), ("minute", "second"), ("hour",), ())


@st.composite
def expressions(
    draw: st.DrawFn, field: str | None = None, kind: str | None = None, crontab: bool = False
) -> Expression:
    """Draw an expression; ``field`` gets an item of ``kind``, the others stay simple with it."""
    simple = field is not None
    texts: dict[str, str] = {}
    clock: dict[str, Values] = {}
    shape = (field,) if simple else draw(st.sampled_from(_SHAPES))
    for name in ("hour", "minute", "second"):
        found = values(name, kind if simple else None) if name in shape else few(name)
        texts[name], clock[name] = draw(found)
    star = ("*", lambda day: True)
    if field in (None, "day"):
        worded = st.sampled_from((*KINDS, "list", "last", "last-n", "nearest", "last-working"))
        texts["day"], by_day = draw(day_rule(draw(worded) if crontab else kind))
    else:
        texts["day"], by_day = star
    if simple and field != "day_of_week":
        texts["day_of_week"], by_weekday = star
    else:
        loose = st.sampled_from((None, "star", "star"))
        texts["day_of_week"], by_weekday = draw(
            weekday_rule(kind if simple else draw(loose), 6 if crontab else 0)
        )
    sets: dict[str, Values | None] = {"month": None, "week": None, "year": None}
    for name in sets:
        texts[name] = "*"
        often = {"month": 0.5, "week": 0.15, "year": 0.1}[name]
        chosen = field == name if simple else draw(st.floats(0, 1)) < often
        if chosen and not (crontab and name == "week"):
            texts[name], sets[name] = draw(values(name, kind if simple else "list"))
    if crontab:
        del texts["week"]
    months, weeks, years = sets["month"], sets["week"], sets["year"]
    either = crontab and not {texts["day"][0], texts["day_of_week"][0]} & {"*", "?"}

    def matches(day: date) -> bool:
        return (
            (years is None or day.year in years)
            and (months is None or day.month in months)
            and (weeks is None or day.isocalendar()[1] in weeks)
            and (by_day(day) or by_weekday(day) if either else by_day(day) and by_weekday(day))
        )

    return Expression(texts, matches, years, clock["hour"], clock["minute"], clock["second"])
