"""The cron trigger against the definition of its fire times, computed by brute force."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from dateutil import tz as dateutil_tz
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pytz import timezone as pytz_zone
from support.expressions import DAY_KINDS, KINDS, WEEKDAY_KINDS, Expression, expressions
from support.oracle import EPOCH, Definition, instant_of, offset_at
from support.zones import ZONES, changes, moments

from tocsin import CronError, CronTrigger

MODES = ("exactly-once", "wall-clock")


def define(expression: Expression, mode: str) -> Definition:
    return Definition(
        expression.matches,
        expression.hours,
        expression.minutes,
        expression.seconds,
        once=mode == "exactly-once" and not expression.elapsed,
        years=expression.years,
    )


def build(
    expression: Expression, tz: tzinfo, mode: str, crontab: bool = False
) -> CronTrigger | None:
    """Make the trigger; None if it says that it can never fire, and that is true."""
    try:
        if crontab:
            return CronTrigger.from_crontab(expression.crontab(), tz, dst=mode)
        return CronTrigger(**expression.fields, timezone=tz, dst=mode)  # type: ignore[arg-type]
    except CronError as error:
        assert "can never fire" in str(error)  # noqa: PT017
        years = range(2000, 2028) if expression.years is None else sorted(expression.years)[:28]
        for year in years:
            start = date(year, 1, 1).toordinal()
            length = 366 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 365
            for day in range(start, start + length):
                assert not expression.matches(date.fromordinal(day))
        event("can never fire")
        return None


def check(trigger: CronTrigger, definition: Definition, moment: datetime) -> None:
    """Compare the neighbours of a moment, and the ones next to them, with the definition."""
    tz = trigger.timezone
    for step in (1, -1):
        point = moment
        for _ in range(3):
            if step > 0:
                found = trigger.next_fire_time(point)
                right = definition.next(tz, instant_of(point))
            else:
                found = trigger.previous_fire_time(point)
                right = definition.previous(tz, instant_of(point))
            assert (None if found is None else instant_of(found)) == right
            if found is None or right is None:
                break
            assert found.tzinfo is tz
            local = timedelta(microseconds=right, seconds=offset_at(tz, right // 10**6))
            assert found.replace(tzinfo=None, fold=0) == EPOCH + local
            point = found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zone", ZONES)
@given(data=st.data(), crontab=st.booleans())
@settings(max_examples=settings.default.max_examples // 3)  # type: ignore[union-attr]
def test_any_expression(zone: str, mode: str, data: st.DataObject, crontab: bool) -> None:
    expression = data.draw(expressions(crontab=crontab))
    trigger = build(expression, ZONES[zone], mode, crontab)
    if trigger is not None:
        check(trigger, define(expression, mode), data.draw(moments(ZONES[zone])))


FIELD_KINDS = [
    *((name, kind) for name in ("second", "minute", "hour") for kind in (*KINDS, "list")),
    *((name, kind) for name in ("month", "week", "year") for kind in (*KINDS[1:], "list")),
    *(("day", kind) for kind in (*KINDS, "list", "mixed", *DAY_KINDS)),
    *(("day_of_week", kind) for kind in (*KINDS, "list", *WEEKDAY_KINDS)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("field", "kind"), FIELD_KINDS)
@given(data=st.data())
@settings(max_examples=max(settings.default.max_examples // 6, 20))  # type: ignore[union-attr]
def test_each_kind_of_field(field: str, kind: str, mode: str, data: st.DataObject) -> None:
    tz = data.draw(st.sampled_from(list(ZONES.values())))
    expression = data.draw(expressions(field, kind))
    trigger = build(expression, tz, mode)
    if trigger is not None:
        check(trigger, define(expression, mode), data.draw(moments(tz)))


@pytest.mark.parametrize("zone", [name for name in ZONES if "/" in name])
@given(data=st.data())
@settings(max_examples=max(settings.default.max_examples // 12, 12))  # type: ignore[union-attr]
def test_pytz_and_dateutil_zones_are_those_of_zoneinfo(zone: str, data: st.DataObject) -> None:
    expression = data.draw(expressions())
    mode = data.draw(st.sampled_from(MODES))
    trigger = build(expression, ZoneInfo(zone), mode)
    if trigger is None:
        return
    moment = data.draw(moments(ZoneInfo(zone)))
    for tz in (pytz_zone(zone), dateutil_tz.gettz(zone)):
        other = build(expression, tz, mode)
        assert other is not None
        for name in ("next_fire_time", "previous_fire_time"):
            found, right = getattr(other, name)(moment), getattr(trigger, name)(moment)
            assert (found is None) == (right is None)
            if found is not None:
                assert instant_of(found) == instant_of(right)
                assert found.replace(tzinfo=None) == right.replace(tzinfo=None)


@pytest.mark.parametrize("zone", [name for name in ZONES if changes(ZONES[name])])
@given(data=st.data())
@settings(max_examples=max(settings.default.max_examples // 15, 10))  # type: ignore[union-attr]
def test_the_oracle_by_a_walk_through_every_minute(zone: str, data: st.DataObject) -> None:
    """The definitions again, as literally as can be: look at the clock once a minute."""
    tz = ZONES[zone]
    expression = replace(data.draw(expressions()), seconds=frozenset([0]))
    jump = data.draw(st.sampled_from([each for each in changes(tz) if each % 60 == 0]))
    low, high = jump - 86400, jump + 86400
    walk = range(low - 2 * 86400, high, 60)
    if any(offset_at(tz, second) % 60 for second in (walk[0], walk[-1])):
        return  # local mean time: no full minutes
    literal, once = [], []
    reached = offset_at(tz, walk[0]) + walk[0] - 60
    for second in walk:
        local = second + offset_at(tz, second)
        for passed in range(reached + 60, local + 1, 60):
            if shows(expression, passed) and second >= low and once[-1:] != [second]:
                once.append(second)
        reached = max(reached, local)
        if shows(expression, local) and second >= low:
            literal.append(second)
    for mode, right in (("wall-clock", literal), ("exactly-once", once)):
        definition = replace(define(expression, mode), once=mode == "exactly-once")
        found = definition.fire_times(tz, low * 10**6, high * 10**6)
        assert found == [second * 10**6 for second in right]


def shows(expression: Expression, local: int) -> bool:
    clock = EPOCH + timedelta(seconds=local)
    return (
        expression.matches(clock.date())
        and clock.hour in expression.hours
        and clock.minute in expression.minutes
    )


@pytest.mark.parametrize(
    ("fields", "mode", "times"),
    [
        # In the fold: once, at its first occurrence; an hour that is a wildcard goes on.
        ({"hour": 2, "minute": 30}, "exactly-once", ["02:30+2"]),
        ({"hour": 2, "minute": 30}, "wall-clock", ["02:30+2", "02:30+1"]),
        ({"hour": "1-3", "minute": 30}, "exactly-once", ["01:30+2", "02:30+2", "03:30+1"]),
        ({"hour": "*", "minute": 30}, "exactly-once", ["01:30+2", "02:30+2", "02:30+1", "03:30+1"]),
        (
            {"hour": "2", "minute": "*/30"},
            "exactly-once",
            ["02:00+2", "02:30+2", "02:00+1", "02:30+1"],
        ),
        # A second that is a wildcard does not make a job follow elapsed time.
        (
            {"hour": 2, "minute": 30, "second": "*/30"},
            "exactly-once",
            ["02:30+2", "02:30:30+2"],
        ),
        ({"hour": 3, "minute": 0}, "exactly-once", ["03:00+1"]),
    ],
)
def test_in_the_fold(fields: dict[str, object], mode: str, times: list[str]) -> None:
    assert on_the_day(fields, mode, date(2024, 10, 27)) == times


@pytest.mark.parametrize(
    ("fields", "mode", "times"),
    [
        ({"hour": 2, "minute": 30}, "exactly-once", ["03:00+2"]),
        ({"hour": 2, "minute": 30}, "wall-clock", []),
        ({"hour": 2, "minute": "10,20,30"}, "exactly-once", ["03:00+2"]),
        ({"hour": "2,3", "minute": 0}, "exactly-once", ["03:00+2"]),
        ({"hour": "1-3", "minute": 30}, "exactly-once", ["01:30+1", "03:00+2", "03:30+2"]),
        ({"hour": "*", "minute": 30}, "exactly-once", ["01:30+1", "03:30+2"]),
        ({"hour": 2, "minute": "*/15"}, "exactly-once", []),
        ({"hour": 2, "minute": 30, "second": "*"}, "exactly-once", ["03:00+2"]),
    ],
)
def test_in_the_gap(fields: dict[str, object], mode: str, times: list[str]) -> None:
    assert on_the_day(fields, mode, date(2024, 3, 31)) == times


def on_the_day(fields: dict[str, object], mode: str, day: date) -> list[str]:
    """List the fire times from one to four o'clock, with their offsets."""
    tz = ZoneInfo("Europe/Berlin")
    trigger = CronTrigger(**fields, timezone=tz, dst=mode)  # type: ignore[arg-type]
    start = datetime(day.year, day.month, day.day, 1, tzinfo=tz)
    found = list(trigger.fire_times(start, start.replace(hour=4)))
    backwards = [start.replace(hour=4)]
    while (before := trigger.previous_fire_time(backwards[-1])) is not None and before >= start:
        backwards.append(before)
    assert [instant_of(each) for each in backwards[:0:-1]] == [instant_of(each) for each in found]
    texts = []
    for each in found:
        clock = each.strftime("%H:%M:%S").removesuffix(":00")
        texts.append(f"{clock}+{instant_offset(each)}")
    return texts


def instant_offset(moment: datetime) -> int:
    offset = moment.utcoffset()
    assert offset is not None
    return offset // timedelta(hours=1)


def test_a_quarter_of_an_hour_keeps_its_rhythm() -> None:
    for month, day in ((3, 31), (10, 27)):
        trigger = CronTrigger(minute="*/15", timezone="Europe/Berlin")
        start = datetime(2024, month, day, tzinfo=trigger.timezone)
        found = [instant_of(each) for each in trigger.fire_times(start, limit=30)]
        assert {after - before for before, after in pairwise(found)} == {900_000_000}


def test_a_skipped_day_fires_once_at_the_start_of_the_next() -> None:
    """Samoa had no 30 December 2011; two jobs that meet at one instant are one fire time."""
    trigger = CronTrigger(hour="0,10", timezone="Pacific/Apia")
    start = datetime(2011, 12, 29, 1, tzinfo=trigger.timezone)
    found = [each.strftime("%d %H:%M") for each in trigger.fire_times(start, limit=4)]
    assert found == ["29 10:00", "31 00:00", "31 10:00", "01 00:00"]


@pytest.mark.parametrize("mode", MODES)
def test_the_ends_of_time(mode: str) -> None:
    trigger = CronTrigger(second="*", timezone="UTC", dst=mode)
    first = datetime(1, 1, 1, tzinfo=timezone.utc)
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert trigger.get_next_fire_time(None, first) == first
    assert trigger.previous_fire_time(first) is None
    assert trigger.next_fire_time(last) is None
    assert trigger.previous_fire_time(last.replace(microsecond=1)) == last
    assert list(trigger.fire_times(last)) == [last]
    assert CronTrigger(year=9999, timezone="UTC").next_fire_time(last) is None
    assert CronTrigger(year=1, timezone="UTC").get_next_fire_time(None, first) == first
    assert CronTrigger(year=1, timezone="UTC").previous_fire_time(last) == first


@pytest.mark.parametrize("name", ["next_fire_time", "previous_fire_time"])
@pytest.mark.parametrize("years", [1, 3, 40, 400])
def test_a_zone_nobody_has_asked_before_gives_the_same(name: str, years: int) -> None:
    """The table of a zone ends somewhere, and its end is no change of the clocks."""
    for key in ("Australia/Lord_Howe", "Europe/Berlin", "America/Santiago"):
        for year in (4, 1000, 1970, 2026, 5000):
            moment = datetime(year, 1, 1, tzinfo=timezone.utc)
            there = {"next_fire_time": year + years, "previous_fire_time": year - years}[name]
            if there < 1:
                continue
            expected = None
            for zone in (ZoneInfo.no_cache(key), ZoneInfo(key), ZoneInfo(key)):
                trigger = CronTrigger(
                    year=f"{there},{year}", month=1, hour="*", minute="*", timezone=zone
                )
                found = getattr(trigger, name)(moment)
                assert found is not None
                assert (found > moment) == (name == "next_fire_time")
                if expected is not None:
                    assert instant_of(found) == instant_of(expected)
                expected = found
