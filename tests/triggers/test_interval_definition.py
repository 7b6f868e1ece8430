"""Intervals, calendar intervals, and, or: against their definitions, computed by brute force."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import DAY, EPOCH, SECOND, instant_of, nth_date, occurrences, reached
from support.zones import ZONES, moments

from tocsin import (
    AndTrigger,
    BaseTrigger,
    CalendarIntervalTrigger,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    NoCommonFireTime,
    OrTrigger,
)
from tocsin.convert import edge_of
from tocsin.triggers import SkippingCalendarTrigger

UTC = timezone.utc
SECONDS_OF_TIME = (date.max - date.min).days * DAY
LAST = instant_of(datetime.max.replace(tzinfo=UTC))


def neighbours(trigger: BaseTrigger, moment: datetime) -> tuple[int | None, int | None]:
    found = trigger.previous_fire_time(moment), trigger.next_fire_time(moment)
    before, after = (None if each is None else instant_of(each) for each in found)
    return before, after


@given(
    data=st.data(),
    micros=st.integers(1, 10**7) | st.integers(1, 400 * DAY * SECOND) | st.integers(1, 2**59),
)
@settings(max_examples=2 * settings.default.max_examples)  # type: ignore[union-attr]
def test_an_interval_is_a_grid_of_elapsed_time(data: st.DataObject, micros: int) -> None:
    tz = data.draw(st.sampled_from(list(ZONES.values())))
    start, moment = data.draw(moments(tz)), data.draw(moments(tz))
    end = data.draw(st.none() | moments(tz))
    if end is not None and instant_of(end) < instant_of(start):
        start, end = end, start
    trigger = IntervalTrigger(microseconds=micros, start_date=start, end_date=end, timezone=tz)
    first, point = instant_of(start), instant_of(moment)
    last = min(LAST + DAY * SECOND, LAST + DAY * SECOND if end is None else instant_of(end))
    guess = max((point - first) // micros, 0)
    near = [
        first + n * micros
        for n in range(max(guess - 2, 0), guess + 3)
        if first + n * micros <= last
    ]
    if end is not None and point > last:
        near += [first + (last - first) // micros * micros]
    before = max((each for each in near if each < point), default=None)
    after = min((each for each in near if each > point), default=None)
    found = neighbours(trigger, moment)
    for got, right in zip(found, (before, after), strict=True):
        if right is not None and representable(right, tz):
            assert got == right
        elif right is None:
            assert got is None


def representable(instant: int, tz: tzinfo) -> bool:
    """Tell whether a datetime for an instant exists for sure, in any zone."""
    return abs(instant - EPOCH_MIDDLE) < (SECONDS_OF_TIME // 2 - DAY) * SECOND


EPOCH_MIDDLE = (instant_of(datetime.min.replace(tzinfo=UTC)) + LAST) // 2


@pytest.mark.parametrize("zone", ZONES)
@given(
    data=st.data(),
    years=st.sampled_from([0, 0, 0, 1, 4, 9000]),
    months=st.sampled_from([0, 0, 1, 2, 3, 13]),
    weeks=st.sampled_from([0, 0, 1, 2]),
    days=st.sampled_from([0, 1, 2, 31, 400]),
    clock=st.times().map(lambda each: each.replace(microsecond=0)),
)
@settings(max_examples=settings.default.max_examples // 3)  # type: ignore[union-attr]
def test_a_calendar_interval_counts_from_its_start(
    zone: str,
    data: st.DataObject,
    years: int,
    months: int,
    weeks: int,
    days: int,
    clock: datetime,
) -> None:
    tz = ZONES[zone]
    if not (years or months or weeks or days):
        days = 1
    moment = data.draw(moments(tz))
    here = moment.astimezone(tz) if 1 < moment.year < 9999 else moment
    low = max(here.toordinal() - 3000, 1)
    start = date.fromordinal(data.draw(st.integers(low, min(here.toordinal() + 40, 3652059))))
    end = data.draw(st.none() | st.dates(min_value=start))
    trigger = CalendarIntervalTrigger(
        years=years,
        months=months,
        weeks=weeks,
        days=days,
        hour=clock.hour,
        minute=clock.minute,
        second=clock.second,
        start_date=start,
        end_date=end,
        timezone=tz,
    )
    point = instant_of(moment)
    before = after = None
    for n in count():
        day = nth_date(start, years * 12 + months, weeks * 7 + days, n)
        if day is None or (end is not None and day > end):
            break
        local = (datetime(day.year, day.month, day.day) - EPOCH) // timedelta(seconds=1)
        local += clock.hour * 3600 + clock.minute * 60 + clock.second
        fire = reached(tz, local) * SECOND
        if fire > point:
            after = fire
            break
        if fire < point:
            before = fire
    assert neighbours(trigger, moment) == (before, after)


def dates_that_there_are(start: date, months: int, days: int) -> Iterator[date]:
    """Go from each date to the next, so many months and then days on, past what no month has."""
    found = start
    while True:
        yield found
        year, month = found.year, found.month
        while True:
            year, month = year + (month - 1 + months) // 12, (month - 1 + months) % 12 + 1
            if year > date.max.year:
                return
            try:
                stepped = found.replace(year=year, month=month)
            except ValueError:
                continue
            break
        try:
            found = stepped + timedelta(days=days)
        except OverflowError:
            return


@pytest.mark.parametrize("zone", ZONES)
@given(
    data=st.data(),
    months=st.sampled_from([0, 0, 1, 2, 12, 13]),
    days=st.sampled_from([0, 0, 1, 2, 7, 31]),
    clock=st.sampled_from([time(), time(0, 30), time(2), time(2, 30)])
    | st.times().map(lambda each: each.replace(microsecond=0)),
)
@settings(max_examples=settings.default.max_examples // 3)  # type: ignore[union-attr]
def test_a_skipping_calendar_interval_has_only_what_there_is(
    zone: str, data: st.DataObject, months: int, days: int, clock: time
) -> None:
    tz = ZONES[zone]
    days = days if months else max(days, 1)
    moment = data.draw(moments(tz).filter(lambda each: 1 < each.year < 9999))
    here = moment.astimezone(tz).date()
    start = data.draw(
        st.dates(here - timedelta(days=300), here + timedelta(days=40))
        | st.integers(0, 11).map(lambda back: date(here.year - 1, 12 - back, 28))
        | st.just(date(here.year - 1, 1, 31))
        | st.integers(1, 9).map(lambda times: here - timedelta(days=times * max(days, 1)))
    )
    end = data.draw(st.none() | st.dates(start, start + timedelta(days=800)))
    trigger = SkippingCalendarTrigger(
        years=months // 12,
        months=months % 12,
        weeks=days // 7,
        days=days % 7,
        hour=clock.hour,
        minute=clock.minute,
        second=clock.second,
        start_date=start,
        end_date=end,
        timezone=tz,
    )
    point = instant_of(moment)
    before = after = None
    for day in dates_that_there_are(start, months, days):
        if end is not None and day > end:
            break
        local = (datetime.combine(day, clock) - EPOCH) // timedelta(seconds=1)
        fires = occurrences(tz, local)[:1]  # the first of two
        if fires and fires[0] * SECOND > point:
            after = fires[0] * SECOND
            break
        if fires and fires[0] * SECOND < point:
            before = fires[0] * SECOND
    assert neighbours(trigger, moment) == (before, after)
    edge = edge_of(UTC)
    assert trigger.next_run(point, point, edge) == trigger.next_run(None, point + 1, edge) == after
    if before is not None:
        assert trigger.latest_run(before, point - 1, edge) == before


@pytest.mark.parametrize("units", [{"days": 2}, {"months": 1, "days": 2}], ids=str)
def test_a_day_that_a_country_left_out_is_skipped(units: dict[str, int]) -> None:
    """At midnight the first instant after the gap reads the right time of day, on a wrong date."""
    tz = ZONES["Pacific/Apia"]
    first = date(2011, 12, 30) - timedelta(days=2)
    if "months" in units:
        first = first.replace(month=11)
    trigger = SkippingCalendarTrigger(**units, start_date=first, timezone=tz)
    times = trigger.fire_times(datetime(2011, 11, 1, tzinfo=tz), limit=2)
    second = date(2012, 1, 1) if "months" not in units else date(2012, 2, 1)
    assert [each.date() for each in times] == [first, second]
    last = trigger.previous_fire_time(datetime.combine(second, time(), tz))
    assert last is not None
    assert last.date() == first


@st.composite
def parts(draw: st.DrawFn, tz: tzinfo, start: datetime) -> BaseTrigger:
    """Draw a trigger that fires often near a moment."""
    kind = draw(st.sampled_from(("interval", "cron", "date", "calendar")))
    if kind == "interval":
        minutes = draw(st.sampled_from((5, 10, 15, 20, 60, 90)))
        return IntervalTrigger(minutes=minutes, start_date=start, timezone=tz)
    if kind == "date":
        return DateTrigger(start + timedelta(minutes=5 * draw(st.integers(-50, 50))))
    if kind == "calendar":
        hour, minute = draw(st.integers(0, 23)), draw(st.sampled_from((0, 30)))
        day = date.fromordinal(start.toordinal() - 3)
        return CalendarIntervalTrigger(
            days=1, hour=hour, minute=minute, start_date=day, timezone=tz
        )
    minute = draw(st.sampled_from(("0", "*/5", "*/15", "30", "10,20", "0-30/10")))
    hour = draw(st.sampled_from(("*", "*/2", "*/3", "8-18", "0,2,12")))
    return CronTrigger(hour=hour, minute=minute, timezone=tz)


@pytest.mark.parametrize("kind", [AndTrigger, OrTrigger])
@given(data=st.data())
@settings(max_examples=2 * settings.default.max_examples)  # type: ignore[union-attr]
def test_combinations_are_the_sets(
    kind: type[AndTrigger] | type[OrTrigger], data: st.DataObject
) -> None:
    tz = data.draw(st.sampled_from([each for name, each in ZONES.items() if "/" in name]))
    moment = data.draw(moments(tz).filter(lambda each: 1900 < each.year < 2100))
    start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0).astimezone(tz)
    triggers = data.draw(st.lists(parts(tz, start), min_size=1, max_size=3))
    end = (moment.astimezone(UTC) + timedelta(days=2)).astimezone(tz)
    sets = [{instant_of(each) for each in one.fire_times(moment, end)} for one in triggers]
    combine = set.intersection if kind is AndTrigger else set.union
    right = sorted(combine(*sets))
    trigger = kind(triggers)
    found: list[int] = []
    try:
        for each in trigger.fire_times(moment, end):
            found.append(instant_of(each))  # noqa: PERF401  # what came before the error counts
    except NoCommonFireTime:
        assert kind is AndTrigger
    assert found == right
    backwards: list[int] = []
    point = end
    while True:
        try:
            before = trigger.previous_fire_time(point)
        except NoCommonFireTime:
            break
        if before is None or instant_of(before) < instant_of(moment):
            break
        backwards.insert(0, instant_of(before))
        point = before
    assert backwards == right
