"""What every trigger keeps to, whatever its kind."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from support.oracle import instant_of
from zope.interface.verify import verifyObject

import tocsin
from tocsin import (
    AndTrigger,
    CalendarIntervalTrigger,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    OrTrigger,
    Trigger,
)
from tocsin.convert import edge_of
from tocsin.errors import CronError
from tocsin.interfaces import ITrigger
from tocsin.triggers import SkippingCalendarTrigger
from tocsin.triggers.cron.grammar import parse_field

BERLIN = ZoneInfo("Europe/Berlin")
UTC = timezone.utc
START = datetime(2024, 3, 30, 12, tzinfo=BERLIN)
EVERY_HOUR = IntervalTrigger(hours=1, start_date=START)
TWO = CronTrigger(hour=2, minute=30, timezone=BERLIN)

TRIGGERS: dict[str, Trigger] = {
    "date": DateTrigger(START),
    "interval": EVERY_HOUR,
    "interval, bounded": IntervalTrigger(
        minutes=90, start_date=START, end_date=START + timedelta(days=2)
    ),
    "interval, microseconds": IntervalTrigger(seconds=1.5, microseconds=1, start_date=START),
    "interval, jitter": IntervalTrigger(hours=1, start_date=START, jitter=600),
    "calendar": CalendarIntervalTrigger(
        days=1, hour=2, minute=30, start_date="2024-03-01", timezone=BERLIN
    ),
    "calendar, all units": CalendarIntervalTrigger(
        years=1, months=2, weeks=3, days=4, start_date="2020-01-31", timezone="UTC"
    ),
    "calendar, jitter": CalendarIntervalTrigger(
        weeks=1, start_date="2024-01-01", end_date="2030-01-01", timezone=BERLIN, jitter=30
    ),
    "calendar, skipping": SkippingCalendarTrigger(
        months=1, hour=2, minute=30, start_date="2024-01-31", timezone=BERLIN
    ),
    "calendar, skipping, two units": SkippingCalendarTrigger(
        months=1, days=1, start_date="2023-10-30", timezone=BERLIN
    ),
    "calendar, skipping, jitter": SkippingCalendarTrigger(
        days=1, hour=2, minute=30, start_date="2024-01-01", timezone=BERLIN, jitter=30
    ),
    "cron": TWO,
    "cron, wall-clock": CronTrigger(hour=2, minute=30, timezone=BERLIN, dst="wall-clock"),
    "cron, all fields": CronTrigger(
        year="2020-2099",
        month="jan-dec/2",
        day="1-20,last",
        week="*/2",
        day_of_week="mon-fri,satL",
        hour="22-2",
        minute="*/7",
        second="5,10",
        timezone="Australia/Lord_Howe",
    ),
    "cron, bounded": CronTrigger(
        minute="*/10", start_date=START, end_date="2024-04-02", timezone=BERLIN
    ),
    "cron, jitter": CronTrigger(minute="*/10", timezone=BERLIN, jitter=900),
    "cron, fixed offset": CronTrigger(hour=3, timezone="+05:30:15"),
    "crontab": CronTrigger.from_crontab("0 9 13 * fri", BERLIN),
    "crontab, hashed": CronTrigger.from_crontab("H H(8-17) * * *", "UTC", seed="job-1"),
    "crontab, years": CronTrigger.from_crontab(
        "0 0 12 LW * ? 2024-2030", "UTC", weekdays="apscheduler", dst="wall-clock"
    ),
    "and": AndTrigger([CronTrigger(hour="*/2", timezone=BERLIN), EVERY_HOUR]),
    "or": OrTrigger([TWO, DateTrigger(START)]),
    "or, jitter": OrTrigger([TWO, EVERY_HOUR], jitter=60),
    "nested": OrTrigger(
        [AndTrigger([TWO, CronTrigger(day="*/2", hour=2, minute=30, timezone=BERLIN)]), TWO]
    ),
}
each_trigger = pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=TRIGGERS)
FROM = datetime(2024, 3, 30, tzinfo=BERLIN)


@each_trigger
def test_provides_the_interface(trigger: Trigger) -> None:
    assert verifyObject(ITrigger, trigger)


@each_trigger
def test_fire_times_are_those_of_next_fire_time(trigger: Trigger) -> None:
    listed = list(trigger.fire_times(FROM, limit=60))
    assert listed
    walked = []
    moment: datetime | None = FROM.astimezone(UTC) - timedelta(microseconds=1)
    while moment is not None and len(walked) < 60:
        moment = trigger.next_fire_time(moment)
        walked += [] if moment is None else [moment]
    assert walked == listed
    assert all(instant_of(a) < instant_of(b) for a, b in pairwise(listed))
    assert [(each.tzinfo, each.fold) for each in walked] == [
        (each.tzinfo, each.fold) for each in listed
    ]


@each_trigger
def test_fire_times_start_at_the_start_and_stop_before_the_end(trigger: Trigger) -> None:
    listed = list(trigger.fire_times(FROM, limit=10))
    assert list(trigger.fire_times(listed[0], listed[-1])) == listed[:-1]
    assert list(trigger.fire_times(FROM, limit=0)) == []
    assert list(trigger.fire_times(FROM, FROM)) == []
    assert list(trigger.fire_times(listed[-1], FROM)) == []


@each_trigger
def test_backwards_is_forwards_reversed(trigger: Trigger) -> None:
    listed = list(trigger.fire_times(FROM, limit=40))
    back = [listed[-1]]
    while len(back) < len(listed):
        before = trigger.previous_fire_time(back[-1])
        assert before is not None
        back.append(before)
    assert list(map(instant_of, back[::-1])) == list(map(instant_of, listed))


@each_trigger
def test_get_next_fire_time_follows_the_previous_or_now(trigger: Trigger) -> None:
    listed = list(trigger.fire_times(FROM, limit=40))
    assert trigger.get_next_fire_time(None, listed[0]) == listed[0]  # at or after now
    for before, after in pairwise(listed):
        early, late = before - timedelta(days=400), after + timedelta(days=400)
        for now in (before, after, early, late):  # missed, or the clock was set back
            assert trigger.get_next_fire_time(before, now) == after


NEW_YEARS_EVE = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
LATE = IntervalTrigger(days=1, start_date=NEW_YEARS_EVE)


@pytest.mark.parametrize(
    "trigger",
    [
        DateTrigger(NEW_YEARS_EVE),
        LATE,
        IntervalTrigger(weeks=10_000, start_date=NEW_YEARS_EVE, jitter=30),
        CalendarIntervalTrigger(hour=23, minute=59, days=1, start_date=START.date(), timezone=UTC),
        CronTrigger(minute=59, timezone=UTC),
        CronTrigger(minute=59, timezone=UTC, jitter=30),
        OrTrigger([LATE, IntervalTrigger(days=2, start_date=NEW_YEARS_EVE)]),
        AndTrigger([LATE, LATE]),
    ],
    ids=str,
)
def test_no_run_comes_after_the_calendar(trigger: Trigger) -> None:
    """A job whose next run time no datetime can tell would be there for ever, and unreadable."""
    edge = edge_of(UTC)
    now = edge.instant(NEW_YEARS_EVE)
    last = trigger.next_run(None, now, edge)
    assert last is not None
    assert edge.moment(last) == trigger.get_next_fire_time(None, NEW_YEARS_EVE)
    assert trigger.next_run(last, now, edge) is None
    assert trigger.get_next_fire_time(trigger.moment(last), NEW_YEARS_EVE) is None


@each_trigger
def test_an_answer_is_an_existing_time_of_its_zone(trigger: Trigger) -> None:
    for each in trigger.fire_times(FROM, limit=60):
        back = each.astimezone(UTC).astimezone(each.tzinfo)
        assert (back.replace(tzinfo=None), back.fold) == (each.replace(tzinfo=None), each.fold)


@each_trigger
def test_the_zone_of_the_question_does_not_matter(trigger: Trigger) -> None:
    for zone in (UTC, ZoneInfo("America/New_York"), timezone(timedelta(hours=-3, seconds=7))):
        moment = FROM.astimezone(zone)
        assert trigger.next_fire_time(moment) == trigger.next_fire_time(FROM)
        assert trigger.previous_fire_time(moment) == trigger.previous_fire_time(FROM)


@each_trigger
@pytest.mark.parametrize(
    "turn",
    [
        lambda each: pickle.loads(pickle.dumps(each)),
        copy.copy,
        copy.deepcopy,
        lambda each: Trigger.from_dict(json.loads(json.dumps(each.to_dict()))),
        lambda each: type(each).from_dict(json.loads(json.dumps(each.to_dict()))),
    ],
    ids=["pickle", "copy", "deepcopy", "json", "json of its kind"],
)
def test_a_turned_trigger_is_the_same(trigger: Trigger, turn: object) -> None:
    twin = turn(trigger)  # type: ignore[operator]
    assert type(twin) is type(trigger)
    assert twin == trigger
    assert hash(twin) == hash(trigger)
    assert (repr(twin), str(twin), twin.describe()) == (
        repr(trigger),
        str(trigger),
        trigger.describe(),
    )
    # The jitter too: its seed goes along.
    assert list(twin.fire_times(FROM, limit=30)) == list(trigger.fire_times(FROM, limit=30))


@each_trigger
def test_repr_makes_an_equal_trigger(trigger: Trigger) -> None:
    assert eval(repr(trigger), vars(tocsin.triggers)) == trigger  # noqa: S307


@each_trigger
def test_describes_itself_in_one_line(trigger: Trigger) -> None:
    for text in (trigger.describe(), str(trigger)):
        assert text.strip() == text != ""
        assert "\n" not in text
    assert trigger.describe() != str(trigger)


def test_all_differ() -> None:
    each = list(TRIGGERS.values())
    assert len(set(each)) == len(each)
    for index, trigger in enumerate(each):
        assert [other == trigger for other in each] == [n == index for n in range(len(each))]
        assert trigger != object()


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (CronTrigger(hour=2, timezone=UTC), CronTrigger(hour="2", timezone="UTC"), True),
        (CronTrigger(hour="1,2", timezone=UTC), CronTrigger(hour="1-2", timezone=UTC), True),
        (CronTrigger(hour=2, timezone=UTC), CronTrigger(hour=2, timezone=BERLIN), False),
        (TWO, TRIGGERS["cron, wall-clock"], False),
        (
            CronTrigger.from_crontab("0 0 13 * fri", UTC),
            CronTrigger(day=13, day_of_week="fri", timezone=UTC),
            False,
        ),
        (
            IntervalTrigger(minutes=60, start_date=START),
            IntervalTrigger(hours=1, start_date=START),
            True,
        ),
        (
            IntervalTrigger(hours=1, start_date=START, jitter=5),
            IntervalTrigger(hours=1, start_date=START, jitter=5),
            True,
        ),
    ],
)
def test_equality_is_about_fire_times(left: Trigger, right: Trigger, equal: bool) -> None:
    assert (left == right) is equal
    if equal:
        assert hash(left) == hash(right)


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        (
            CronTrigger(day_of_week="mon-fri", hour=10, minute=15, timezone=BERLIN),
            "at 10:15 on Monday to Friday, Europe/Berlin",
        ),
        (CronTrigger(hour=0, timezone="UTC"), "at 0:00 every day, UTC"),
        (CronTrigger(minute="*/15", timezone="UTC"), "every 15 minutes, UTC"),
        (
            CronTrigger.from_crontab("0 9 13 * fri", "UTC"),
            "at 9:00 on day 13 of the month or Friday, UTC",
        ),
        (EVERY_HOUR, "every hour from 2024-03-30 12:00:00, Europe/Berlin"),
        (DateTrigger(START), "once, at 2024-03-30 12:00:00, Europe/Berlin"),
        (
            TRIGGERS["calendar"],
            "at 02:30 every day from 2024-03-01, Europe/Berlin",
        ),
    ],
)
def test_the_words_of_describe(trigger: Trigger, text: str) -> None:
    assert trigger.describe() == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trigger": "sundial"}, "trigger: 'sundial' is not a kind of Trigger; known: and, "),
        ({"trigger": None}, "trigger: None is not a kind of Trigger"),
        ({"version": 99}, "version: 99 of a 'cron' record is unknown here; this tocsin reads 1"),
        ({"version": None}, "version: None of a 'cron' record is unknown here"),
        ({"sundial": 5}, "a 'cron' record that can't be restored: "),
        ({"hour": "25"}, "hour: '25' is out of range"),
    ],
)
def test_a_wrong_record_says_why(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Trigger.from_dict({**TWO.to_dict(), **change})
    assert str(caught.value).startswith(words)
    with pytest.raises(ValueError, match="'cron' is not a kind of IntervalTrigger"):
        IntervalTrigger.from_dict(TWO.to_dict())


def test_a_field_is_remembered_with_all_that_it_depends_on() -> None:
    asked = [
        {"name": name, "text": text, "numbering": numbering, "seed": seed}
        for name in ("day_of_week", "month")
        for text in ("1-3", "1-3/2", "H")
        for numbering in ("cron", "apscheduler")
        for seed in ("job-1", "job-2", "job-3")
    ]
    # Long ones are not remembered.
    afresh = [parse_field(**{**each, "text": each["text"] + 80 * " "}) for each in asked]
    for _ in range(2):
        assert [parse_field(**each) for each in asked] == afresh
    assert len(set(afresh)) > 6
    assert parse_field("minute", "*/5", seed="job-1") is parse_field("minute", "*/5", seed="job-2")


def test_a_field_that_is_wrong_again_is_blamed_where_it_is_now() -> None:
    for text, position in (("99 * * * *", 1), ("   99 * * * *", 4), ("99 * * * *", 1)):
        with pytest.raises(CronError) as caught:
            CronTrigger.from_crontab(text, UTC)
        assert (caught.value.position, caught.value.text) == (position, text)
