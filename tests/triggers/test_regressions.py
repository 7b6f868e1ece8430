"""Every bug of APScheduler 3.11.3's triggers that we know, each with its right answer.

The numbers are those of the upstream issues. ``docs/triggers.md`` says where "right" is a choice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from tocsin import (
    AndTrigger,
    BaseTrigger,
    CalendarIntervalTrigger,
    CronError,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    NoCommonFireTime,
    OrTrigger,
)
from tocsin.convert import as_datetime

UTC = timezone.utc
BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def following(trigger: BaseTrigger, text: str, zone: str = BERLIN, fold: int = 0) -> str | None:
    """Give what follows a fire time at ``text``."""
    moment = at(text, zone, fold)
    found = trigger.get_next_fire_time(moment, moment)
    return None if found is None else found.isoformat()


def first(trigger: BaseTrigger, text: str, zone: str = BERLIN, fold: int = 0) -> str | None:
    """Give the first fire time at or after ``text``."""
    found = trigger.get_next_fire_time(None, at(text, zone, fold))
    return None if found is None else found.isoformat()


def row(trigger: BaseTrigger, text: str, count: int, zone: str = BERLIN) -> list[str]:
    """Walk through fire times as a scheduler does."""
    found = [trigger.get_next_fire_time(None, at(text, zone))]
    while len(found) < count and found[-1] is not None:
        found.append(trigger.get_next_fire_time(found[-1], found[-1]))
    return [each.isoformat() for each in found if each is not None]


def cron(**fields: object) -> CronTrigger:
    return CronTrigger(**{"timezone": BERLIN, **fields})  # type: ignore[arg-type]


def tab(text: str, zone: str = BERLIN, **options: str) -> CronTrigger:
    return CronTrigger.from_crontab(text, zone, **options)  # type: ignore[arg-type]


CLOCK_CHANGES: dict[str, tuple[Callable[[], object], object]] = {
    "the worst: the first of April": (
        lambda: following(tab("0 0 1 * *"), "2024-03-01"),
        "2024-04-01T00:00:00+02:00",
    ),
    "A1 #606 #529": (
        lambda: following(cron(hour=0), "2024-03-31"),
        "2024-04-01T00:00:00+02:00",
    ),
    "A2 #606": (
        lambda: following(
            cron(hour=0, minute=0, timezone="US/Pacific"), "2022-03-13", "US/Pacific"
        ),
        "2022-03-14T00:00:00-07:00",
    ),
    # Numbered from Monday, 0-4 is Monday to Friday: what the reporter wrote for APScheduler.
    "A3 #529": (
        lambda: following(
            tab("0 0 * * 0-4", "US/Central", weekdays="apscheduler"),
            "2021-03-12T00:00:00.000001",
            "US/Central",
        ),
        "2021-03-15T00:00:00-05:00",
    ),
    "A4": (
        lambda: following(
            cron(day=1, hour=0, timezone="Africa/Cairo"), "2024-04-26T05:00", "Africa/Cairo"
        ),
        "2024-05-01T00:00:00+03:00",
    ),
    "A5": (
        lambda: following(cron(month="*", hour=0, day="last"), "2024-03-31T01:00"),
        "2024-04-30T00:00:00+02:00",
    ),
    "A6 weekly": (
        lambda: first(cron(day_of_week="mon", hour=0), "2024-03-31T01:00"),
        "2024-04-01T00:00:00+02:00",
    ),
    # Upstream's answer, 02:30+01:00, is a time that no clock shows. Ours is the first instant
    # after the gap; the next day with the literal reading.
    "A7 #1059": (
        lambda: following(cron(hour=2, minute=30), "2024-03-31"),
        "2024-03-31T03:00:00+02:00",
    ),
    "A7 wall-clock": (
        lambda: following(cron(hour=2, minute=30, dst="wall-clock"), "2024-03-31"),
        "2024-04-01T02:30:00+02:00",
    ),
    "A8 one instant twice": (
        lambda: [
            each.astimezone(UTC).isoformat()
            for each in cron(hour=2, minute="*", timezone="Australia/Lord_Howe").fire_times(
                at("2024-10-06T01:00", "Australia/Lord_Howe"), limit=3
            )
        ],
        [f"2024-10-05T15:{minute}:00+00:00" for minute in (30, 31, 32)],
    ),
    "A9 end_date in the fold": (
        lambda: following(
            cron(minute="*/30", end_date=at("2024-10-27T02:45", BERLIN)), "2024-10-27T02:30"
        ),
        None,
    ),
    "A10 start_date in the fold": (
        lambda: first(
            IntervalTrigger(hours=1, start_date=at("2024-10-27T02:45", BERLIN)),
            "2024-10-27T02:15",
            fold=1,
        ),
        "2024-10-27T02:45:00+01:00",
    ),
    "A11 the hour that comes twice": (
        lambda: row(cron(hour=2, minute=30), "2024-10-27", 2),
        ["2024-10-27T02:30:00+02:00", "2024-10-28T02:30:00+01:00"],
    ),
    "A11 wall-clock": (
        lambda: row(cron(hour=2, minute=30, dst="wall-clock"), "2024-10-27", 2),
        ["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00"],
    ),
    "A12 #1021": (
        lambda: following(
            cron(minute=30, timezone="Europe/Helsinki"),
            "2017-10-29T03:30",
            "Europe/Helsinki",
            fold=1,
        ),
        "2017-10-29T04:30:00+02:00",
    ),
    "A13 hourly through the gap": (
        lambda: row(cron(minute=30, timezone=NEW_YORK), "2024-03-10T01:30", 3, NEW_YORK),
        [
            "2024-03-10T01:30:00-05:00",
            "2024-03-10T03:30:00-04:00",
            "2024-03-10T04:30:00-04:00",
        ],
    ),
    "A15 monthly": (
        lambda: following(tab("0 0 1 * *", NEW_YORK), "2024-03-01", NEW_YORK),
        "2024-04-01T00:00:00-04:00",
    ),
    "A16 nth weekday": (
        lambda: following(cron(day="1st mon", hour=0), "2024-03-04"),
        "2024-04-01T00:00:00+02:00",
    ),
}

INTERVALS: dict[str, tuple[Callable[[], object], object]] = {
    "B1 at or after now": (
        lambda: first(
            CalendarIntervalTrigger(days=1, start_date="2020-01-01", timezone="UTC"),
            "2024-06-01",
            "UTC",
        ),
        "2024-06-01T00:00:00+00:00",
    ),
    # 23:30 on the 30th is in the gap: the run comes right after it, not two days later.
    "B2 #1138": (
        lambda: row(
            CalendarIntervalTrigger(
                days=1, hour=23, minute=30, start_date="2024-03-29", timezone="America/Nuuk"
            ),
            "2024-03-29",
            4,
            "America/Nuuk",
        ),
        [
            "2024-03-29T23:30:00-02:00",
            "2024-03-31T00:00:00-01:00",
            "2024-03-31T23:30:00-01:00",
            "2024-04-01T23:30:00-01:00",
        ],
    ),
    "B3 the end of the month": (
        lambda: row(
            CalendarIntervalTrigger(months=1, start_date="2024-01-31", timezone="UTC"),
            "2024-01-31",
            3,
            "UTC",
        ),
        [f"2024-{day}T00:00:00+00:00" for day in ("01-31", "02-29", "03-31")],
    ),
    "E4 no drift": (
        lambda: (
            IntervalTrigger(seconds=0.1, start_date=at("2024-01-01"))
            .next_fire_time(at("2024-01-01") + timedelta(seconds=100_000))
            .isoformat()
        ),  # type: ignore[union-attr]
        "2024-01-02T03:46:40.100000+00:00",
    ),
    # An interval is elapsed time; whoever wants the time of day takes the calendar interval.
    "E9 #372 elapsed time": (
        lambda: row(
            IntervalTrigger(days=1, start_date=at("2024-03-30T08:00", BERLIN)),
            "2024-03-30T08:00",
            2,
        ),
        ["2024-03-30T08:00:00+01:00", "2024-03-31T09:00:00+02:00"],
    ),
    "E9 #372 time of day": (
        lambda: row(
            CalendarIntervalTrigger(days=1, hour=8, start_date="2024-03-30", timezone=BERLIN),
            "2024-03-30",
            2,
        ),
        ["2024-03-30T08:00:00+01:00", "2024-03-31T08:00:00+02:00"],
    ),
}

START = at("2024-01-01")
COMBINED: dict[str, tuple[Callable[[], object], object]] = {
    "C1 a hang": (
        lambda: following(
            AndTrigger([cron(hour="*/2", timezone="UTC"), cron(hour="*/3", timezone="UTC")]),
            "2024-01-01",
            "UTC",
        ),
        "2024-01-01T06:00:00+00:00",
    ),
    "C2 a hang": (
        lambda: following(
            AndTrigger(
                [
                    IntervalTrigger(hours=2, start_date=START),
                    IntervalTrigger(hours=3, start_date=START),
                ]
            ),
            "2024-01-01",
            "UTC",
        ),
        "2024-01-01T06:00:00+00:00",
    ),
    "C3 intervals keep their grid": (
        lambda: [
            text[11:16]
            for text in row(
                OrTrigger(
                    [
                        IntervalTrigger(minutes=10, start_date=START),
                        IntervalTrigger(minutes=15, start_date=START),
                    ]
                ),
                "2024-01-01",
                6,
                "UTC",
            )
        ],
        ["00:00", "00:10", "00:15", "00:20", "00:30", "00:40"],
    ),
    "C4 #427": (
        lambda: following(
            OrTrigger([DateTrigger(at("2024-01-01")), DateTrigger(at("2024-01-02"))]),
            "2024-01-01",
            "UTC",
        ),
        "2024-01-02T00:00:00+00:00",
    ),
}

#: The hour 0 of a field trigger is a fire time of the days to the right.
GRAMMAR: dict[str, tuple[Callable[[], object], object]] = {
    "D8 #286": (lambda: first(tab("0 0 * * 0"), "2024-01-03"), "2024-01-07T00:00:00+01:00"),
    "D9 #286": (lambda: first(tab("0 0 * * 7"), "2024-01-03"), "2024-01-07T00:00:00+01:00"),
    "D10 either": (
        lambda: first(tab("0 0 13 * fri"), "2024-01-01"),
        "2024-01-05T00:00:00+01:00",
    ),
    "D10 both, by fields": (
        lambda: first(cron(day=13, day_of_week="fri"), "2024-01-01"),
        "2024-09-13T00:00:00+02:00",
    ),
    "D11": (lambda: tab("@daily"), tab("0 0 * * *")),
    "D17 repr": (
        lambda: repr(cron(month="dec")),
        "CronTrigger(month='dec', timezone='Europe/Berlin')",
    ),
    "D18 equality": (lambda: cron(minute="0-30/5") == cron(minute="0-30/7"), False),
    "D19 the least of a list": (
        lambda: first(cron(minute="50,10"), "2024-01-01T00:20"),
        "2024-01-01T00:50:00+01:00",
    ),
    # The year is the calendar's: 29 December 2025 is in week 1 of 2026, and in the year 2025.
    "D21 week and year": (
        lambda: first(cron(week=1, day_of_week="mon", year=2026), "2024-01-01"),
        CronError,
    ),
    "D21 week alone": (
        lambda: first(cron(week=1, day_of_week="mon"), "2025-06-01"),
        "2025-12-29T00:00:00+01:00",
    ),
}

TEXTS: dict[str, tuple[Callable[[], object], object]] = {
    "E1": (
        lambda: as_datetime("2024-01-01 10:00:00.5", UTC, "run_date"),
        datetime(2024, 1, 1, 10, 0, 0, 500_000, UTC),
    ),
    "E2": (
        lambda: as_datetime("2024-01-01T10:00", UTC, "run_date"),
        datetime(2024, 1, 1, 10, tzinfo=UTC),
    ),
    "E8 a clock set back": (
        lambda: (
            cron(minute="*", timezone="UTC")
            .get_next_fire_time(at("2024-01-01T10:00"), at("2024-01-01T09:59:59.900000"))
            .isoformat()
        ),  # type: ignore[union-attr]
        "2024-01-01T10:01:00+00:00",
    ),
}

CASES = {**CLOCK_CHANGES, **INTERVALS, **COMBINED, **GRAMMAR, **TEXTS}


@pytest.mark.parametrize(("compute", "right"), CASES.values(), ids=CASES)
def test_has_the_right_answer(compute: Callable[[], object], right: object) -> None:
    if isinstance(right, type) and issubclass(right, Exception):
        with pytest.raises(right):
            compute()
    else:
        assert compute() == right


#: What upstream drops or misreads without a word, or refuses although it has one meaning.
READINGS = {
    "D1 mon-fri/2": ({"day_of_week": "mon-fri/2"}, {"day_of_week": "mon,wed,fri"}),
    "D2 jan-dec/3": ({"month": "jan-dec/3"}, {"month": "1,4,7,10"}),
    "D3 mon#1": ({"day_of_week": "mon#1"}, {"day": "1st mon", "day_of_week": "*"}),
    "D6 fri-mon": ({"day_of_week": "fri-mon"}, {"day_of_week": "fri,sat,sun,mon"}),
    "D7 22-4": ({"hour": "22-4"}, {"hour": "22,23,0,1,2,3,4"}),
    "D12 */60": ({"minute": "*/60"}, {"minute": "0"}),
    "D13 0-0/1": ({"hour": "0-0/1"}, {"hour": "0"}),
    "D14 5-5/1": ({"hour": "5-5/1"}, {"hour": "5"}),
    "D15 monday": ({"day_of_week": "monday"}, {"day_of_week": "mon"}),
    "full month": ({"month": "September"}, {"month": "9"}),
    "sun-sat": ({"day_of_week": "sun-sat"}, {"day_of_week": "0-6"}),
    "dec-feb": ({"month": "dec-feb"}, {"month": "12,1,2"}),
    "wrap and step": ({"hour": "22-4/3"}, {"hour": "22,1,4"}),
    "last mon": ({"day": "last mon"}, {"day_of_week": "monL"}),
}


@pytest.mark.parametrize(("fields", "same_as"), READINGS.values(), ids=READINGS)
def test_reads_in_full(fields: dict[str, str], same_as: dict[str, str]) -> None:
    start = at("2024-01-01")
    left, right = (CronTrigger(**each, timezone="UTC") for each in (fields, same_as))  # type: ignore[arg-type]
    found = list(left.fire_times(start, limit=200))
    assert found == list(right.fire_times(start, limit=200))
    assert len(found) == 200


def test_third_to_last_day() -> None:
    """D4: ``last-2`` is two days before the last."""
    trigger = CronTrigger(day="last-2", timezone="UTC")
    found = trigger.fire_times(at("2024-01-01"), limit=4)
    assert [each.day for each in found] == [29, 27, 29, 28]


REFUSED = {
    "D5 2nd fri-sat": {"day": "2nd fri-sat"},
    "D16 30 February": {"month": 2, "day": 30},
    "D20 no field": {},
    "last-": {"day": "last-"},
    "mon#": {"day_of_week": "mon#"},
    "mon#6": {"day_of_week": "mon#6"},
    "*/61": {"minute": "*/61"},
    "*/5x": {"minute": "*/5x"},
    "1-5-9": {"hour": "1-5-9"},
    "5 6": {"hour": "5 6"},
    "mon tue": {"day_of_week": "mon tue"},
    "mond": {"day_of_week": "mond"},
    "24": {"hour": "24"},
    "-1": {"minute": -1},
    "1,": {"minute": "1,"},
    ",": {"minute": ","},
    "empty": {"minute": ""},
    "2020-2010": {"year": "2020-2010"},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_refuses(fields: dict[str, object]) -> None:
    with pytest.raises(CronError):
        CronTrigger(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [-5, 0])
def test_refuses_an_interval_that_does_not_advance(seconds: int) -> None:
    """E5, E6."""
    with pytest.raises(ValueError, match=r"interval: .* is not positive"):
        IntervalTrigger(seconds=seconds)


def test_triggers_that_never_agree_end() -> None:
    """C5, #281, #309: half a second and a cron trigger."""
    half = datetime(2024, 1, 1, 0, 0, 0, 500_000, UTC)
    trigger = AndTrigger([IntervalTrigger(minutes=2, start_date=half), cron(hour="7-22")])
    with pytest.raises(NoCommonFireTime, match="found no common fire time after"):
        trigger.get_next_fire_time(half, half)


def test_jitter_over_the_gap_names_a_real_time() -> None:
    """A14: 01:59:59 and some seconds is 03:00:0x."""
    labels = set()
    for _ in range(20):
        trigger = cron(hour=1, minute=59, second=59, timezone=NEW_YORK, jitter=5)
        found = trigger.next_fire_time(at("2024-03-10", NEW_YORK))
        assert found is not None
        back = found.astimezone(UTC).astimezone(ZoneInfo(NEW_YORK))
        assert found.replace(tzinfo=None) == back.replace(tzinfo=None)
        labels.add(found.hour)
    assert 3 in labels
    assert labels <= {1, 3}


@pytest.mark.parametrize(
    ("trigger", "period"),
    [
        pytest.param(
            IntervalTrigger(minutes=10, jitter=60, start_date=START), 600, id="E3 no drift"
        ),
        pytest.param(cron(minute="*", jitter=90), 60, id="E7 longer than the period"),
    ],
)
def test_jitter_adds_no_run_and_loses_none(trigger: BaseTrigger, period: int) -> None:
    moment = start = START + timedelta(hours=1)
    end = start + timedelta(seconds=1000 * period)
    runs = 0
    while True:
        found = trigger.get_next_fire_time(moment, moment)
        assert found is not None
        assert found > moment
        if found >= end:
            break
        moment = found
        runs += 1
    assert 998 <= runs <= 1002  # those that the jitter carries over the two ends


def test_walks_a_decade_of_days() -> None:
    """The loud one: a daily midnight job in Berlin runs on every one of 3653 days."""
    trigger = cron(hour=0)
    start = at("2020-01-01", BERLIN)
    days = [each.date() for each in trigger.fire_times(start, at("2030-01-01", BERLIN))]
    assert days == [start.date() + timedelta(days=n) for n in range(3653)]


def test_walks_as_get_next_fire_time_does() -> None:
    """A random walk with `get_next_fire_time` meets every fire time of `fire_times`."""
    trigger = tab("0 0 1 * *")
    start = at("2020-01-01", BERLIN)
    times = list(trigger.fire_times(start, limit=120))
    for before, after in pairwise(times):
        now = before + timedelta(days=random.randrange(60))
        assert trigger.get_next_fire_time(before, now) == after
