"""The engine by its own interface against definitions: quick enough to be asked of every mutant.

The suites of the triggers look at the same search through the public surface, in many real zones
and up to the ends of the calendar. Here are whole windows of fire times, and zones that no
country has.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import partial
from itertools import count, islice, pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.expressions import last_weekday, last_working, nearest_working, nth_weekday
from support.oracle import (
    DAY,
    EPOCH,
    SECOND,
    Definition,
    instant_of,
    nth_date,
    occurrences_in,
    reached,
    reached_in,
)

from tocsin.engine import capi, civil
from tocsin.engine.cron import CronSchedule
from tocsin.engine.periodic import CalendarSchedule, IntervalSchedule
from tocsin.engine.schedule import FireTimes, Schedule
from tocsin.engine.zone import Zone, zone_of

UTC = timezone.utc
FOREVER = 2**62
YEAR = 366 * DAY


def bits(mask: int) -> list[int]:
    return [n for n in range(mask.bit_length()) if mask >> n & 1]


def mask_of(values: Any) -> int:
    return sum(1 << n for n in set(values))


def every(low: int, high: int) -> int:
    return mask_of(range(low, high + 1))


def masks(low: int, high: int, most: int) -> st.SearchStrategy[int]:
    """Draw a mask with one bit or more, often the first or the last one."""
    values = st.integers(low, high) | st.sampled_from((low, high))
    return st.sets(values, min_size=1, max_size=most).map(mask_of)


ANY_DAY = {
    "days": every(1, 31),
    "from_end": 0,
    "nearest": 0,
    "day_nth": 0,
    "weekdays": every(0, 6),
    "weekday_nth": 0,
    "either": False,
    "weeks": every(1, 53),
    "months": every(1, 12),
    "years": None,
}


def cron(tz: tzinfo = UTC, first: int | None = None, last: int | None = None, **fields: Any) -> Any:
    """Make a schedule that fires at every midnight, but for the fields that are given."""
    default = {"once": True, "seconds": 1, "minutes": 1, "hours": 1, **ANY_DAY}
    assert fields.keys() <= default.keys()
    return CronSchedule(tz, first, last, *{**default, **fields}.values())


def check(schedule: Schedule, right: list[int], low: int, high: int) -> None:
    """Hold a schedule to the list of its fire times in ``low <= t < high``, both ways."""
    cells = array("q", bytes(8 * (len(right) + 1)))
    filled = schedule.fill(cells, low - 1, high)
    assert list(cells[:filled]) == right
    assert not cells[filled]
    back = []
    found = schedule.previous(high)
    while found is not None and found >= low and len(back) <= len(right):
        back.append(found)
        found = schedule.previous(found)
    assert back[::-1] == right


def check_at(schedule: Schedule, right: list[int], points: list[int], whole: bool = False) -> None:
    """Hold a schedule to its neighbours of some points, where the list has them.

    Where it has none there is none if the list is the ``whole``.
    """
    for point in points:
        after, before = bisect_right(right, point), bisect_left(right, point) - 1
        if whole or after < len(right):
            assert schedule.next(point) == (right[after] if after < len(right) else None)
        if whole or before >= 0:
            assert schedule.previous(point) == (right[before] if before >= 0 else None)


# --- The calendar ---


def test_the_calendar_is_that_of_datetime() -> None:
    origin = date(1, 1, 1).toordinal() - 306
    years = (1, 4, 100, 399, 400, 401, 1899, 1900, 1901, *range(1999, 2006), 2100, 2400, 9999)
    for year in years:
        for month in range(1, 13):
            length = monthrange(year, month)[1]
            assert civil.month_length(year, month) == length
            for day in range(1, length + 1):
                each = date(year, month, day)
                days = each.toordinal() - origin
                assert civil.days_from_civil(year, month, day) == days
                assert civil.civil_from_days(days) == year << 9 | month << 5 | day
                assert civil.weekday(days) == each.weekday()
                if year > 1:  # the week of 1 January 1 may be one of the year before
                    assert civil.iso_week(days) == each.isocalendar()[1]


@given(local=st.integers(-70_000_000_000_000_000, 300_000_000_000_000_000))
def test_seconds_are_micros_rounded_down(local: int) -> None:
    origin = -719468 * DAY
    assert civil.seconds_from_micros(local) == max(local // SECOND - origin, 0)
    assert civil.micros_from_seconds(local // SECOND) == (local // SECOND + origin) * SECOND


def test_seconds_begin_with_the_first_day() -> None:
    origin = -719468 * DAY * SECOND
    found = [civil.seconds_from_micros(origin + n) for n in (-SECOND, -1, 0, 999_999, SECOND)]
    assert found == [0, 0, 0, 0, 1]


# --- The days of cron ---

NTH = masks(0, 41, 8)
FIELDS = {
    "days": masks(1, 31, 6),
    "from_end": masks(0, 30, 3),
    "nearest": masks(0, 31, 4) | st.sampled_from((1 << 1, 1 << 28, 1 << 30)),
    "day_nth": NTH,
    "weekdays": masks(0, 6, 3),
    "weekday_nth": NTH,
    "either": st.just(True),
    "weeks": masks(1, 53, 20),
    "months": masks(1, 12, 4),
    "years": masks(1990, 2015, 12),
}


@st.composite
def rules_of(draw: st.DrawFn, field: str) -> dict[str, Any]:
    """Draw masks for a field and perhaps for others; what is not drawn leaves the days to them."""
    others = draw(st.sets(st.sampled_from(list(FIELDS)), max_size=2))
    found = {name: draw(FIELDS[name]) for name in FIELDS if name == field or name in others}
    by_day = found.keys() & {"days", "from_end", "nearest", "day_nth"}
    by_weekday = found.keys() & {"weekdays", "weekday_nth"}
    either = found.get("either", False)
    return {
        **ANY_DAY,
        "days": 0 if by_day or (either and by_weekday) else every(1, 31),
        "weekdays": 0 if by_weekday or either else every(0, 6),
        **found,
    }


def matches(rules: dict[str, Any], day: date) -> bool:
    """Tell whether a date matches the masks, as `CronSchedule` describes them."""

    def nth(mask: int) -> bool:
        return any(
            (nth_weekday(n // 7, n % 7) if n < 35 else last_weekday(n % 7))(day) for n in bits(mask)
        )

    by_day = (
        rules["days"] >> day.day & 1
        or rules["from_end"] >> (monthrange(day.year, day.month)[1] - day.day) & 1
        or any((nearest_working(n) if n else last_working)(day) for n in bits(rules["nearest"]))
        or nth(rules["day_nth"])
    )
    by_weekday = rules["weekdays"] >> day.weekday() & 1 or nth(rules["weekday_nth"])
    return bool(
        (by_day or by_weekday if rules["either"] else by_day and by_weekday)
        and rules["weeks"] >> day.isocalendar()[1] & 1
        and rules["months"] >> day.month & 1
        and (rules["years"] is None or rules["years"] >> day.year & 1)
    )


def midnight(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY * SECOND


@pytest.mark.parametrize("field", FIELDS)
@given(data=st.data(), start=st.dates(date(1990, 1, 1), date(2013, 12, 1)))
@settings(max_examples=max(settings.default.max_examples // 4, 10))  # type: ignore[union-attr]
def test_the_days_of_a_mask(field: str, data: st.DataObject, start: date) -> None:
    rules = data.draw(rules_of(field))
    days = [start + timedelta(days=n) for n in range(500)]
    right = [midnight(day) for day in days if matches(rules, day)]
    schedule = cron(**rules)
    if right:
        assert schedule.can_match()
    if schedule.can_match():
        check(schedule, right, midnight(days[0]), midnight(days[-1]) + 1)


#: The first days of months of every length that begin on every weekday.
MONTHS = {
    (monthrange(year, month)[1], date(year, month, 1).weekday()): date(year, month, 1)
    for year in range(2000, 2028)
    for month in range(1, 13)
}.values()


@pytest.mark.parametrize(
    ("field", "numbers", "left"),
    [
        ("days", range(1, 32), {}),
        ("from_end", range(31), {"days": 0}),
        ("nearest", (0, 1, 2, 3, 15, 27, 28, 29, 30, 31), {"days": 0}),
        ("day_nth", range(42), {"days": 0}),
        ("weekdays", range(7), {}),
        ("weekday_nth", range(42), {"weekdays": 0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_bit_in_each_month(field: str, numbers: Iterable[int], left: dict[str, int]) -> None:
    assert len(MONTHS) == 28
    for number in numbers:
        rules = {**ANY_DAY, **left, field: 1 << number}
        schedule = cron(**rules)
        for first in MONTHS:
            length = monthrange(first.year, first.month)[1]
            days = [first + timedelta(days=n) for n in range(length)]
            right = [midnight(day) for day in days if matches(rules, day)]
            check(schedule, right, midnight(first), midnight(days[-1]) + 1)


@given(
    years=masks(1, 9999, 4),
    days=masks(29, 31, 1),
    months=masks(1, 12, 2),
    point=st.dates(date(1, 1, 1), date(9999, 12, 31)),
)
def test_the_days_of_years_far_apart(years: int, days: int, months: int, point: date) -> None:
    dates = []
    for year in bits(years):
        for month in bits(months):
            length = monthrange(year, month)[1]
            dates += [date(year, month, day) for day in bits(days) if day <= length]
    schedule = cron(years=years, days=days, months=months)
    assert schedule.can_match() == bool(dates)
    if dates:
        right = sorted(map(midnight, dates))
        here = midnight(point)
        check_at(schedule, right, [here, *right, right[0] - 1, right[-1] + 1])
        assert schedule.next(right[-1]) is None
        assert schedule.previous(right[0]) is None


NEW_YEAR_IN_WEEK_53 = {"days": 1 << 1, "months": 1 << 1, "weekdays": 1 << 5, "weeks": 1 << 53}


@pytest.mark.parametrize(
    ("rules", "possible"),
    [
        ({"days": 1 << 29, "months": 1 << 2}, True),
        ({"days": 1 << 30, "months": 1 << 2}, False),
        ({"days": 1 << 29, "months": 1 << 2, "years": 1 << 2100}, False),
        ({"days": 1 << 29, "months": 1 << 2, "years": mask_of([1, 9996])}, True),
        ({"days": 1 << 29, "months": 1 << 2, "years": mask_of([4, 9997])}, True),
        ({"days": 1 << 29, "months": 1 << 2, "years": 1 << 2000}, True),
        ({"days": 1 << 29, "months": 1 << 2, "years": 1 << 2404}, True),
        ({"days": 1 << 1, "months": 1 << 1, "weekdays": 1 << 3, "years": 1 << 2026}, True),
        ({"days": 1 << 1, "months": 1 << 1, "weekdays": 1 << 4, "years": 1 << 2026}, False),
        ({"days": 1 << 31, "months": mask_of([4, 6, 9, 11])}, False),
        ({"days": 1 << 1, "weeks": 1 << 53}, True),
        ({"days": 1 << 4, "weeks": 1 << 53}, False),
        ({"days": 1 << 31, "weeks": 1 << 1}, True),
        ({"days": 1 << 31, "months": 1 << 12, "weeks": 1 << 53, "years": 1 << 2020}, True),
        ({"days": 1 << 31, "months": 1 << 12, "weeks": 1 << 53, "years": 1 << 2021}, False),
        # Of two years alike only the second one follows a leap year, and starts in week 53.
        ({**NEW_YEAR_IN_WEEK_53, "years": mask_of([2011, 2033])}, True),
        ({**NEW_YEAR_IN_WEEK_53, "years": mask_of([2022, 2033])}, True),
        ({"days": 1 << 29, "months": 1 << 2, "weekdays": 1}, True),
        ({"days": 1 << 2, "weekday_nth": 1 << 7, "weekdays": 0}, False),
    ],
)
def test_what_can_never_match_says_so(rules: dict[str, Any], possible: bool) -> None:
    assert cron(**rules).can_match() is possible


@pytest.mark.parametrize("asked", [date(901, 3, 1), date(1802, 3, 1)])
@pytest.mark.parametrize("kept", [date(901, 3, 1), date(1802, 3, 1)])
def test_the_month_that_was_looked_at_last_answers_for_no_other(kept: date, asked: date) -> None:
    """A schedule keeps it in one number; the first day of one of these is twice the other's."""
    assert 2 * civil.days_from_civil(901, 3, 1) == civil.days_from_civil(1802, 3, 1)
    rules = {**ANY_DAY, "weekdays": 1 << 2}
    schedule = cron(**rules)
    days = [asked + timedelta(days=n) for n in range(-10, 50)]
    right = [midnight(day) for day in days if matches(rules, day)]
    for point in map(midnight, days[10:45]):
        schedule.next(midnight(kept))
        assert schedule.next(point) == right[bisect_right(right, point)]
        schedule.next(midnight(kept))
        assert schedule.previous(point) == right[bisect_left(right, point) - 1]


# --- The time of day ---


@given(
    seconds=masks(0, 59, 3),
    minutes=masks(0, 59, 3),
    hours=masks(0, 23, 3),
    points=st.lists(st.integers(0, 2 * DAY * SECOND), max_size=10),
)
def test_the_times_of_a_day(seconds: int, minutes: int, hours: int, points: list[int]) -> None:
    times = [
        h * 3600 + m * 60 + s for h in bits(hours) for m in bits(minutes) for s in bits(seconds)
    ]
    right = [SECOND * (day * DAY + time) for day in range(3) for time in times]
    schedule = cron(seconds=seconds, minutes=minutes, hours=hours)
    check(schedule, right, 0, 3 * DAY * SECOND)
    edges = [each + n for each in right[: len(times)] for n in (-SECOND, -1, 1, SECOND)]
    check_at(schedule, right, points + edges)


# --- Zones ---


class Jumps(tzinfo):
    """A zone of jumps, each the UTC second from which on an offset in seconds holds."""

    def __init__(self, before: int, jumps: list[tuple[int, int]]) -> None:
        self.jumps = [(-(10**12), before), *jumps]

    def __repr__(self) -> str:
        return f"Jumps({self.jumps[0][1]}, {self.jumps[1:]})"

    def fromutc(self, when: datetime) -> datetime:
        second = (when.replace(tzinfo=None) - EPOCH) // timedelta(seconds=1)
        return when + timedelta(seconds=self.offset(second))

    def offset(self, second: int) -> int:
        return self.jumps[bisect_right(self.jumps, (second, DAY)) - 1][1]


@st.composite
def jumps(draw: st.DrawFn) -> Jumps:
    """Draw a zone with jumps of any size, as near to each other as are told apart."""
    unit = draw(st.sampled_from((1, 900, 3600)))  # often, what fires does so as the clock jumps
    offsets = st.integers(-(DAY - 1) // unit + 1, (DAY - 1) // unit).map(lambda n: n * unit)
    second = draw(st.integers(0, 40 * 365 * DAY // unit)) * unit
    found = []
    for _ in range(draw(st.integers(1, 4))):
        found.append((second, draw(offsets)))
        second += draw(st.integers(4 * DAY // unit, 8 * DAY // unit)) * unit
    return Jumps(draw(offsets), found)


def points_near(zone: Jumps) -> list[int]:
    """List seconds at the jumps of a zone, and where an hour repeats or a gap ends."""
    found = []
    offsets = [offset for _, offset in zone.jumps]
    for (second, after), before in zip(zone.jumps[1:], offsets, strict=False):
        size = abs(after - before)
        found += [second + n for n in (-DAY, -size, -1, 0, 1, size - 1, size, size + 1, DAY)]
    return found


@given(tz=jumps())
def test_any_zone_tells_both_ways(tz: Jumps) -> None:
    zone = Zone(tz)
    schedule = cron(tz)
    for second in points_near(tz):
        offset = tz.offset(second)
        assert zone.at(second * SECOND).offset == offset * SECOND
        for local in (second + offset, second + tz.offset(second - 3 * DAY)):
            segment = zone.reaching(local * SECOND)
            first = max(segment.start, local * SECOND - segment.offset)
            assert first == reached(tz, local) * SECOND
            assert segment.start <= first < segment.end
        local = second + offset
        for micros in (0, 7):
            moment = schedule.moment(second * SECOND + micros)
            assert moment is not None
            assert moment.tzinfo is tz
            assert moment.replace(tzinfo=None, fold=0) == EPOCH + timedelta(
                seconds=local, microseconds=micros
            )
            assert moment.fold == (reached(tz, local) < second)


@given(tz=jumps(), data=st.data())
def test_the_order_of_questions_does_not_matter(tz: Jumps, data: st.DataObject) -> None:
    """A zone's table grows with what is asked; at its edges the offset is known, not the past."""
    near = st.sampled_from(points_near(tz))
    far = st.sampled_from((0, 0, -2 * YEAR, 2 * YEAR, -5 * YEAR, 5 * YEAR))
    some = st.integers(-5 * DAY, 5 * DAY)
    zone = Zone(tz)
    for second in data.draw(st.lists(st.tuples(near, far, some).map(sum), min_size=2, max_size=8)):
        segment = zone.reaching(second * SECOND)
        first = max(segment.start, second * SECOND - segment.offset)
        assert first == reached(tz, second) * SECOND
        segment = zone.at(second * SECOND)
        assert segment.offset == tz.offset(second) * SECOND
        local = second + tz.offset(second)
        repeated = reached(tz, local) < second
        assert (local * SECOND < segment.floor) == repeated


def test_a_fixed_offset_is_one_segment() -> None:
    for segment in (Zone(UTC).at(0), Zone(UTC).reaching(0)):
        found = (segment.start, segment.end, segment.offset, segment.floor)
        assert found == (-FOREVER, FOREVER, 0, -FOREVER)


def test_a_zone_remembers_no_answer_at_first() -> None:
    assert Zone(Jumps(3600, [])).at(0).offset == 3600 * SECOND
    assert Zone(Jumps(3600, [])).reaching(0).offset == 3600 * SECOND


@pytest.mark.parametrize("second", [0, 1, 1800, 3599])
def test_a_table_that_starts_in_a_repeated_hour_knows_it(second: int) -> None:
    """A first question has the table start two years before it."""
    zone = Zone(Jumps(7200, [(0, 3600)]))
    zone.at((second + 2 * YEAR) * SECOND)
    segment = zone.at(second * SECOND)
    assert (segment.offset, segment.floor) == (3600 * SECOND, 7200 * SECOND)
    assert zone.reaching((second + 3600) * SECOND).offset == 7200 * SECOND


class Counted(Jumps):
    """A zone that counts how often it is asked."""

    asked = 0

    def fromutc(self, when: datetime) -> datetime:
        self.asked += 1
        return super().fromutc(when)


class Jump(tzinfo):
    """A zone whose clock goes from UTC to an hour ahead of it, at an instant."""

    def __init__(self, instant: int) -> None:
        self.instant = instant

    def fromutc(self, when: datetime) -> datetime:
        instant = (when.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)
        return when + timedelta(hours=instant >= self.instant)


@pytest.mark.parametrize("year", [2, 1900, 2026, 2500, 9998])
@pytest.mark.parametrize("past", [-2, -1, 0, 1, 2, 1_234_567_891])
def test_a_jump_is_found_to_the_microsecond(year: int, past: int) -> None:
    jump = midnight(date(year, 6, 1)) + past
    zone = Zone(Jump(jump))
    before, after = zone.at(jump - 1), zone.at(jump)
    assert (before.end, before.offset) == (jump, 0)
    assert (after.start, after.offset, after.floor) == (jump, 3600 * SECOND, jump)
    bounds = (before.start, before.end, before.floor, after.start, after.end, after.floor)
    assert {type(each) for each in bounds} == {int}


@pytest.mark.parametrize(("year", "apart"), [(2026, 3), (3000, 28)])
def test_changes_are_told_apart_by_few_questions(year: int, apart: int) -> None:
    """A first question has four years looked at, and each change looked for by the hour."""
    start = midnight(date(year, 1, 1)) // SECOND
    for day in range(apart + 1):
        first = start + day * DAY
        last = first + apart * DAY
        tz = Counted(0, [(first, 3600), (last, 0)])
        zone = Zone(tz)
        zone.at(start * SECOND)
        for second in (first - 1, first, last - 1, last):
            assert zone.at(second * SECOND).offset == tz.offset(second) * SECOND
        assert tz.asked < 4 * 366 // apart + 40


@pytest.mark.parametrize("hours", [-23, 0, 23])
def test_a_table_does_not_answer_for_what_is_beyond_it(hours: int) -> None:
    tz = Jumps(hours * 3600, [])
    here = Zone(tz).at(0)
    past = here.end + here.offset
    assert here.floor == here.start + here.offset
    for local in (here.floor - 1, here.floor, past - 1, past):
        zone = Zone(tz)
        zone.at(0)
        segment = zone.reaching(local)
        assert segment.floor <= local
        assert segment.start <= local - segment.offset < segment.end


def test_a_table_grows_only_to_the_side_that_is_asked_about() -> None:
    zone = Zone(Jumps(0, [(0, 3600)]))
    before, after = zone.at(-1), zone.at(0)
    for left, right in ((before.start, after.start), (before.end - 1, after.end - 1)):
        assert zone.at(left) is before
        assert zone.at(right) is after
    assert zone.at(after.end).end > after.end
    assert zone.at(-1).start == before.start
    end = zone.at(0).end
    assert zone.at(before.start - 1).start < before.start
    assert zone.at(0).end == end


def test_a_zone_is_shared_if_it_has_a_hash() -> None:
    class Unhashable(Jumps):
        __hash__ = None  # type: ignore[assignment]

    for kind, shared in ((Jumps, True), (Unhashable, False)):
        tz = kind(3600, [])
        assert zone_of(tz).at(0).offset == 3600 * SECOND
        assert (zone_of(tz) is zone_of(tz)) is shared


def test_a_zone_that_cannot_convert_says_so() -> None:
    class Nowhere(tzinfo):
        def __repr__(self) -> str:
            return "Nowhere()"

        def fromutc(self, when: datetime) -> datetime:
            raise ValueError("no clock")

    words = r"^time zone Nowhere\(\) can't convert from UTC: no clock$"
    with pytest.raises(ValueError, match=words):
        Zone(Nowhere()).at(0)


@pytest.mark.parametrize(
    ("tz", "offsets"),
    [(Jumps(0, [(0, 3600), (30 * DAY, 0), (60 * DAY, 7200)]), [0, 3600, 0, 7200]), (UTC, [0])],
)
def test_segments_fill_all_of_time(tz: tzinfo, offsets: list[int]) -> None:
    zone = Zone(tz)
    here = zone.at(0)
    for instant in (here.start, here.end - 1):
        assert zone.at(instant).start == here.start
    found = [here]  # one that ends, or starts, where the table did is longer when asked again
    while found[-1].end < FOREVER:
        found.append(zone.at(found[-1].end))
        assert found[-1].start <= found[-2].end < found[-1].end
    while found[0].start > -FOREVER:
        found.insert(0, zone.at(found[0].start - 1))
        assert found[0].start < found[1].start <= found[0].end
    assert [zone.at(each.start).offset for each in found] == [each.offset for each in found]
    whole = [zone.at(-FOREVER)]
    while whole[-1].end < FOREVER:
        whole.append(zone.at(whole[-1].end))
    assert [each.offset for each in whole] == [each * SECOND for each in offsets]


@given(
    tz=jumps(),
    seconds=masks(0, 59, 1),
    minutes=masks(0, 59, 2),
    hours=masks(0, 23, 2) | st.just(every(0, 23)),
    weekdays=st.just(every(0, 6)) | masks(0, 6, 2),
    once=st.booleans(),
    sharp=st.booleans(),
)
def test_cron_in_any_zone(
    tz: Jumps, seconds: int, minutes: int, hours: int, weekdays: int, once: bool, sharp: bool
) -> None:
    if sharp:
        seconds = minutes = 1
        hours = every(0, 23)
    schedule = cron(tz, seconds=seconds, minutes=minutes, hours=hours, weekdays=weekdays, once=once)
    definition = Definition(
        lambda day: bool(weekdays >> day.weekday() & 1),
        frozenset(bits(hours)),
        frozenset(bits(minutes)),
        frozenset(bits(seconds)),
        once,
    )
    low, high = ((tz.jumps[n][0] + m * 5 * DAY) * SECOND for n, m in ((1, -1), (-1, 1)))
    right = definition.fire_times(tz, low, high)
    check(schedule, right, low, high)
    check_at(schedule, right, [each * SECOND for each in points_near(tz)])


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(
    "offsets",
    [
        (0, 1, 0, 1),
        (1, 0, 1, 0),
        (0, 1, 2, 3),
        (3, 2, 1, 0),
        (-10, 14, -10),
        (14, -10, 14),
        (0, 23, 0, -23, 0),
    ],
)
def test_cron_at_the_very_jump(offsets: tuple[int, ...], once: bool) -> None:
    """What fires as the clock jumps, a second before or after, every day or seldom."""
    times = [n * 4 * DAY + DAY // 2 for n in range(1, len(offsets))]
    hours = [each * 3600 for each in offsets]
    tz = Jumps(hours[0], list(zip(times, hours[1:], strict=True)))
    low, high = -20 * DAY * SECOND, 40 * DAY * SECOND
    points = [each * SECOND for each in points_near(tz)]
    ends = {time + each for time, pair in zip(times, pairwise(hours), strict=True) for each in pair}
    for local in {end + n for end in ends for n in (-1, 0, 1)}:
        day = EPOCH.date() + timedelta(days=local // DAY)
        hour, minute, second = local // 3600 % 24, local // 60 % 60, local % 60
        for seldom in ({}, {"weekdays": 1 << day.weekday()}, {"days": 1 << day.day}):
            rules = {**ANY_DAY, **seldom}
            schedule = cron(
                tz,
                once=once,
                hours=1 << hour,
                minutes=1 << minute,
                seconds=1 << second,
                **rules,
            )
            definition = Definition(
                partial(matches, rules),
                frozenset([hour]),
                frozenset([minute]),
                frozenset([second]),
                once,
            )
            right = definition.fire_times(tz, low, high)
            check(schedule, right, low, high)
            beside = [each + n for each in right for n in (-1, 0, 1)]
            check_at(schedule, right, points + beside)


@pytest.mark.parametrize("once", [False, True])
def test_cron_before_the_first_and_after_the_last_beyond_a_jump(once: bool) -> None:
    tz = Jumps(0, [(n * 10 * DAY, n % 2 * 3600) for n in range(-3, 4)])
    schedule = cron(tz, once=once, days=1 << 5, months=1 << 1, years=1 << 1970)
    right = [(4 * DAY) * SECOND]
    for day in range(-40, 41, 5):
        check_at(schedule, right, [day * DAY * SECOND], whole=True)


class Ahead(Jumps):
    """A zone whose clock jumps from and to a microsecond after a full second."""

    def fromutc(self, when: datetime) -> datetime:
        return super().fromutc(when) + timedelta(microseconds=1)


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("apart", [1, 7])
@pytest.mark.parametrize("end", [0, 3600])
@pytest.mark.parametrize(("before", "after"), [(0, 3600), (3600, 0)])
def test_cron_where_no_full_second_has_the_jump(
    before: int, after: int, end: int, apart: int, once: bool
) -> None:
    second = 7 * DAY
    jump, weekday = second * SECOND, EPOCH.weekday()
    pieces = (-FOREVER, jump, before * SECOND + 1), (jump, FOREVER, after * SECOND + 1)
    right = set()
    for day in range(-21, 22, apart):
        local = jump + (end + day * DAY) * SECOND
        right |= {reached_in(pieces, local)} if once else {*occurrences_in(pieces, local)}
    low, high = min(right), max(right) + 1
    weekdays = every(0, 6) if apart == 1 else 1 << weekday
    tz = Ahead(before, [(second, after)])
    schedule = cron(tz, once=once, hours=1 << end // 3600, weekdays=weekdays)
    check(schedule, sorted(right), low, high)
    near = [jump + n + size for n in (-1, 0, 1) for size in (0, abs(after - before) * SECOND)]
    beside = [each + n for each in right for n in (-1, 0, 1)]
    check_at(schedule, sorted(right), near + beside)


@given(
    tz=jumps(),
    start=st.integers(-400, 20),
    months=st.sampled_from((0, 0, 1, 2, 13)),
    days=st.integers(0, 10) | st.just(40),
    time=st.integers(0, DAY - 1) | st.sampled_from(("from", "to")),
    micros=st.sampled_from((0, 0, 5)),
    last=st.none() | st.integers(0, 20),
)
def test_calendar_intervals_in_any_zone(
    tz: Jumps, start: int, months: int, days: int, time: int | str, micros: int, last: int | None
) -> None:
    days = days if months else max(days, 1)
    if isinstance(time, str):  # where the clock jumps from, or to
        second, after = tz.jumps[1]
        time = (second + (after if time == "to" else tz.jumps[0][1])) % DAY
    low, high = ((tz.jumps[n][0] + m * 40 * DAY) * SECOND for n, m in ((1, -1), (-1, 1)))
    anchor = date.fromordinal(EPOCH.toordinal() + tz.jumps[1][0] // DAY + start)
    end = None if last is None else tz.jumps[1][0] * SECOND + last * DAY * SECOND
    schedule = CalendarSchedule(
        tz,
        end,
        civil.days_from_civil(anchor.year, anchor.month, anchor.day),
        months,
        days,
        time * SECOND + micros,
    )
    dates = takewhile(
        lambda day: day < anchor + timedelta(days=600),
        (nth_date(anchor, months, days, n) for n in count()),
    )
    times = ((day - EPOCH.date()).days * DAY + time for day in dates)
    right = [
        instant
        for instant in (reached_with(tz, local * SECOND + micros) for local in times)
        if low <= instant < high and (end is None or instant <= end)
    ]
    check(schedule, right, low, high)
    check_at(schedule, right, [each * SECOND for each in points_near(tz)])
    check_at(schedule, right, [each + shift for each in right for shift in (-1, 0, 1)])


def test_a_calendar_interval_at_the_end_of_a_repeated_hour() -> None:
    """What has come in the first pass has come, and what the second ends with is to come."""
    jump = 30 * DAY + 3600  # the clock goes from three back to two
    tz = Jumps(7200, [(jump, 3600)])
    three = 3 * 3600 * SECOND
    for time, before, after in (
        (three - 1, jump * SECOND - 1, (jump + DAY + 3600) * SECOND - 1),
        (three, (jump - DAY) * SECOND, (jump + 3600) * SECOND),
    ):
        start = civil.days_from_civil(1970, 1, 1)
        schedule = CalendarSchedule(tz, None, start, 0, 1, time)
        for second in (0, 1, 1800, 3599):
            instant = (jump + second) * SECOND
            assert (schedule.previous(instant + 1), schedule.next(instant)) == (before, after)
        assert schedule.previous(after + 1) == after


@pytest.mark.parametrize("hours", [-14, 0, 14])
@pytest.mark.parametrize(("months", "days"), [(1, 0), (0, 1), (12, 40), (0, 4_000_000)])
def test_a_calendar_interval_ends_with_the_calendar(hours: int, months: int, days: int) -> None:
    anchor = date(9998, 1, 31)
    schedule = CalendarSchedule(
        timezone(timedelta(hours=hours)),
        None,
        civil.days_from_civil(anchor.year, anchor.month, anchor.day),
        months,
        days,
        0,
    )
    dates = list(takewhile(bool, (nth_date(anchor, months, days, n) for n in count())))
    right = [midnight(each) - hours * 3600 * SECOND for each in dates]
    assert schedule.next(right[0] - 1) == right[0]
    assert [schedule.next(each) for each in right] == [*right[1:], None]
    assert [schedule.previous(each) for each in right] == [None, *right[:-1]]
    assert schedule.next(2**60) is None
    assert schedule.previous(2**60) == right[-1]


def reached_with(tz: tzinfo, local: int) -> int:
    """Find the first instant at which the wall clock reads so many microseconds, or later."""
    second = reached(tz, local // SECOND)
    if reached(tz, local // SECOND + 1) == second:  # a gap ends
        return second * SECOND
    return second * SECOND + local % SECOND


@given(tz=jumps(), hours=masks(0, 23, 3))
def test_datetimes_are_answered_with_datetimes(tz: Jumps, hours: int) -> None:
    schedule = cron(tz, hours=hours)
    for second in points_near(tz):
        instant = second * SECOND
        asked = datetime.fromtimestamp(second, UTC)
        assert schedule.instant(asked) == instant
        for found, right in (
            (schedule.next_datetime(asked), schedule.next(instant)),
            (schedule.previous_datetime(asked), schedule.previous(instant)),
        ):
            expected = schedule.moment(right)
            assert found == expected
            assert (found.tzinfo, found.fold) == (tz, expected.fold)
    bounded = cron(UTC, 0, 0)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert bounded.next_datetime(epoch) is None
    assert bounded.previous_datetime(epoch) is None
    assert bounded.next_datetime(epoch - timedelta(microseconds=1)) == epoch
    assert bounded.previous_datetime(epoch + timedelta(microseconds=1)) == epoch


ZONED = timezone(timedelta(hours=5, minutes=30, seconds=1, microseconds=1))


def test_an_offset_counts_to_the_microsecond() -> None:
    offset = 19_801_000_001
    found = zone_of(ZONED).at(0).offset
    assert (type(found), found) == (int, offset)
    assert cron(UTC).instant(datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=ZONED)) == 5 - offset
    west = timezone(-timedelta(days=0, hours=3, microseconds=2))
    assert cron(UTC).instant(datetime(1970, 1, 1, tzinfo=west)) == 3 * 3600 * SECOND + 2


# --- Bounds, and steps in bulk ---


@given(
    first=st.integers(-20, 20),
    step=st.integers(1, 7),
    last=st.none() | st.integers(-20, 40),
)
def test_an_interval_is_a_list(first: int, step: int, last: int | None) -> None:
    right = list(range(first, (100 if last is None else last) + 1, step))
    schedule = IntervalSchedule(UTC, first, last, step)
    low, high = -30, right[-1] + 1 if right else 50
    check(schedule, right, low, high)
    check_at(schedule, right, list(range(low, high)))
    assert (schedule.first, schedule.last) == (first, FOREVER if last is None else last)
    assert schedule.previous(first) is None
    if last is not None:
        assert schedule.next(right[-1] if right else last) is None
        assert schedule.previous(last + 100) == (right[-1] if right else None)


#: Seconds from 1970 on, at a midnight or beside it.
AT_MIDNIGHT = st.builds(lambda day, past: day * DAY + past, st.integers(0, 9), st.integers(-1, 1))


@given(
    first=st.none() | AT_MIDNIGHT,
    last=st.none() | AT_MIDNIGHT,
    limit=st.none() | st.integers(-1, 9),
    window=st.tuples(AT_MIDNIGHT, st.none() | AT_MIDNIGHT),
)
@example(first=None, last=None, limit=2, window=(0, None))
@example(first=None, last=None, limit=1, window=(-1, 3 * DAY))
@example(first=None, last=None, limit=0, window=(0, 3 * DAY))
@example(first=None, last=None, limit=None, window=(-1, 3 * DAY))
def test_fire_times_are_within_bounds_and_limit(
    first: int | None, last: int | None, limit: int | None, window: tuple[int, int | None]
) -> None:
    bounds = [None if each is None else each * SECOND for each in (first, last)]
    schedule = cron(UTC, *bounds)
    low, high = (None if each is None else each * SECOND for each in window)
    assert low is not None
    right = [
        midnight(date(1970, 1, 1)) + n * DAY * SECOND
        for n in range(-2, 24)
        if (first is None or n * DAY >= first)
        and (last is None or n * DAY <= last)
        and n * DAY * SECOND > low
        and (high is None or n * DAY * SECOND < high)
    ]
    found = FireTimes(schedule, low, high, limit)
    expected = right if limit is None else right[: max(limit, 0)]
    assert list(map(instant_of, islice(found, 12))) == expected[:12]
    if len(expected) < 12:
        assert next(found, None) is None
    room = max(limit or 0, 0)
    cells = array("q", bytes(8 * room))
    filled = schedule.fill(cells, low, 30 * DAY * SECOND if high is None else high)
    assert list(cells[:filled]) == right[:room]


def test_what_is_over_does_not_have_a_zone_looked_at_as_far_as_it_goes() -> None:
    tz = Counted(0, [])
    schedule = cron(tz, 0, 0)
    found = FireTimes(schedule, -1, None, None)
    assert next(found) == schedule.moment(0)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    asked = tz.asked
    assert [next(found, None) for _ in range(3)] == [None] * 3
    assert schedule.next_datetime(epoch) is schedule.previous_datetime(epoch) is None
    assert tz.asked == asked


@pytest.mark.parametrize("number", [2**60 + 1, -(2**60) - 1, 2**63, -(2**63) - 1, 2**80])
def test_what_is_no_instant_is_refused(number: int) -> None:
    schedule = cron()
    for ask in (schedule.next, schedule.previous):
        with pytest.raises(OverflowError, match=f"^{number} microseconds since 1970"):
            ask(number)


class Index:
    """A number that is no int, as NumPy's are."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


LEAST = -(2**63)


@pytest.mark.parametrize(
    ("number", "exact"),
    [
        *((n, n) for n in (0, -1, 2**60, LEAST, 2**63 - 1)),
        *((n, LEAST) for n in (2**63, LEAST - 1, 2**80, True, 1.0, "1", None, Index(1))),
    ],
)
def test_what_stands_in_for_c_knows_an_int_of_64_bits(number: object, exact: int) -> None:
    assert capi.exact_int(number) == exact


@pytest.mark.parametrize("number", [2**60, -(2**60)])
def test_the_last_instants_can_be_asked_about(number: int) -> None:
    schedule = IntervalSchedule(UTC, -(2**61), None, 3)
    for each in (number, Index(number)):
        assert number < schedule.next(each) <= number + 3
        assert number > schedule.previous(each) >= number - 3


@pytest.mark.parametrize("once", [False, True])
def test_the_search_ends_with_the_calendar(once: bool) -> None:
    first, last = date.min, date.max
    schedule = cron(hours=mask_of([0, 23]), once=once)
    assert schedule.next(-(2**60)) == schedule.next(midnight(first) - 1) == midnight(first)
    assert schedule.next(midnight(first)) == midnight(first) + 23 * 3600 * SECOND
    assert schedule.previous(midnight(first) + 1) == midnight(first)
    assert schedule.previous(midnight(first)) is None
    assert schedule.previous(midnight(first) - 40 * DAY * SECOND) is None
    late = midnight(last) + 23 * 3600 * SECOND
    assert schedule.previous(2**60) == schedule.previous(late + 1) == late
    assert schedule.previous(late) == midnight(last)
    assert schedule.next(late - 1) == late
    for hours in (1, 12, 30):  # on the day after the last, and on the next
        after = late + hours * 3600 * SECOND
        assert schedule.previous(after) == late
        assert schedule.next(after) is None
    assert schedule.next(late) is None
    assert schedule.next(late + 40 * DAY * SECOND) is None
    yearly = cron(days=1 << 2, months=1 << 3, years=mask_of([1, 9999]), once=once)
    march = [midnight(date(year, 3, 2)) for year in (1, 9999)]
    assert [yearly.next(-(2**60)), yearly.next(march[0]), yearly.next(march[1])] == [*march, None]
    assert [yearly.previous(2**60), yearly.previous(march[1])] == march[::-1]
    assert yearly.previous(march[0]) is None


def test_the_first_and_the_last_day_have_moments() -> None:
    schedule = cron()
    for moment in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        instant = instant_of(moment)
        assert schedule.moment(instant) == moment
        assert schedule.instant(moment) == instant
        assert schedule.moment(instant + (-1 if moment.year == 1 else 1)) is None


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(
    "clock",
    [
        f"{day}T{time}"
        for day in ("03-29", "10-25")
        for time in ("01:59:59.999999", "02:00", "02:59:59.999999", "03:00")
    ],
)
def test_the_clock_on_the_wall_is_read_as_datetime_reads_it(clock: str, fold: int) -> None:
    tz = ZoneInfo("Europe/Berlin")
    when = datetime.fromisoformat(f"2026-{clock}").replace(tzinfo=tz, fold=fold)
    assert cron(tz).instant(when) == cron(UTC).instant(when) == instant_of(when)


def test_fire_times_end_with_the_calendar() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    east = timezone(timedelta(hours=14))
    for tz, left in ((UTC, 2), (east, 1)):  # it is the next year there
        schedule = IntervalSchedule(
            tz, instant_of(last) - 15 * 3600 * SECOND, None, 12 * 3600 * SECOND
        )
        found = FireTimes(schedule, 0, None, None)
        assert len(list(found)) == left
        assert next(found, None) is None
        assert schedule.next(schedule.first + 12 * 3600 * SECOND) is not None


def test_what_has_no_kind_has_no_fire_times() -> None:
    for ask in (Schedule(UTC).next, Schedule(UTC).previous):
        with pytest.raises(NotImplementedError):
            ask(0)


def test_what_is_no_moment_is_refused() -> None:
    schedule = cron(UTC)
    with pytest.raises(TypeError, match=r"^a datetime with a time zone is needed, not 5$"):
        schedule.instant(5)
    words = (
        "datetime.datetime(2026, 1, 1, 0, 0) has no time zone: attach one, e.g."
        " tzinfo=datetime.timezone.utc"
    )
    with pytest.raises(ValueError) as caught:
        schedule.instant(datetime(2026, 1, 1))
    assert str(caught.value) == words


def test_only_an_array_of_instants_is_filled() -> None:
    with pytest.raises(TypeError, match=r"^an array\('q'\) is needed, not array\('i'\)$"):
        cron().fill(array("i", [0]), 0, DAY)
