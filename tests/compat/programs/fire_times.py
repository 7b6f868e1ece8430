"""When triggers fire, as APScheduler 3 documents it and, in these cases, does it too."""

import base64
import pickle
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.fields import (
    BaseField,
    DayOfMonthField,
    DayOfWeekField,
    MonthField,
    WeekField,
)
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

BERLIN = ZoneInfo("Europe/Berlin")
UTC = timezone.utc
_COUNT = 8


def cron(zone=BERLIN, **fields):
    return CronTrigger(timezone=zone, **fields)


def crontab(text):
    return CronTrigger.from_crontab(text, "Europe/Berlin")


def calendar(**options):
    return CalendarIntervalTrigger(timezone=BERLIN, **options)


def interval(**options):
    return IntervalTrigger(**options)


#: By name: how to make the trigger, and from when on it is asked.
TRIGGERS = {
    "cron": {
        "every second": (CronTrigger, datetime(2026, 1, 1, tzinfo=UTC)),
        "hour": (lambda: cron(hour=9), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "hours": (lambda: cron(hour="9-17/4"), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "list": (lambda: cron(minute="5,50,10", hour=3), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "step": (lambda: cron(minute="*/25"), datetime(2026, 1, 1, 0, 3, tzinfo=BERLIN)),
        "step from": (lambda: cron(minute="7/20"), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "second": (lambda: cron(second="*/20"), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "month names": (lambda: cron(month="feb-apr", day=2), datetime(2026, 1, 1, tzinfo=UTC)),
        "weekday 0": (lambda: cron(day_of_week=0, hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "weekdays": (lambda: cron(day_of_week="mon-fri", hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "third friday": (lambda: cron(day="3rd fri", hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "last sunday": (lambda: cron(day="last sun", hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "fifth monday": (lambda: cron(day="5th mon", hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "last": (lambda: cron(day="last", hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "day and weekday": (
            lambda: cron(day="13", day_of_week="fri", hour=5),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        "week": (lambda: cron(week=10, hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "leap day": (lambda: cron(month=2, day=29, hour=5), datetime(2026, 1, 1, tzinfo=UTC)),
        "year": (lambda: cron(year="2027-2028", month=6), datetime(2026, 1, 1, tzinfo=UTC)),
        "bounds": (
            lambda: cron(hour=5, start_date="2026-02-01", end_date="2026-02-03 05:00:00"),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        "repeated hour": (
            lambda: cron(hour=2, minute=30),
            datetime(2026, 10, 24, 12, tzinfo=BERLIN),
        ),
        "repeated minutes": (
            lambda: cron(hour=2, minute="*/30"),
            datetime(2026, 10, 25, tzinfo=BERLIN),
        ),
        "every hour in autumn": (lambda: cron(minute=0), datetime(2026, 10, 25, tzinfo=BERLIN)),
        "every hour in spring": (lambda: cron(minute=30), datetime(2026, 3, 29, tzinfo=BERLIN)),
        "crontab": (lambda: crontab("*/20 3 * * *"), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "crontab weekday": (lambda: crontab("0 3 * * 0"), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "crontab 6": (lambda: crontab("0 3 * * 6"), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "crontab both": (lambda: crontab("0 3 13 * 4"), datetime(2026, 1, 1, tzinfo=BERLIN)),
        "crontab names": (
            lambda: crontab("0 3 * jan,jul mon-wed"),
            datetime(2026, 1, 1, tzinfo=BERLIN),
        ),
    },
    "interval": {
        "hours": (
            lambda: interval(hours=5, start_date="2026-01-01 03:00:00", timezone="UTC"),
            datetime(2026, 2, 1, tzinfo=UTC),
        ),
        "before the start": (
            lambda: interval(days=1, start_date=datetime(2026, 5, 1, tzinfo=BERLIN)),
            datetime(2026, 2, 1, tzinfo=UTC),
        ),
        "end": (
            lambda: interval(
                weeks=1, start_date="2026-01-01", end_date="2026-01-22", timezone="UTC"
            ),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        "over a change": (
            lambda: interval(hours=12, start_date="2026-10-24 12:00:00", timezone=BERLIN),
            datetime(2026, 10, 24, tzinfo=UTC),
        ),
        "no length": (
            lambda: interval(start_date="2026-01-01", timezone="UTC"),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
    },
    "date": {
        "date": (lambda: DateTrigger(date(2026, 5, 1), "UTC"), datetime(2026, 1, 1, tzinfo=UTC)),
        "past": (lambda: DateTrigger("2020-05-01", "UTC"), datetime(2026, 1, 1, tzinfo=UTC)),
        "text": (
            lambda: DateTrigger("2026-05-01T10:00:00+05:30", "UTC"),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        "aware": (
            lambda: DateTrigger(datetime(2026, 5, 1, tzinfo=BERLIN), "UTC"),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
    },
    "calendarinterval": {
        "daily": (
            lambda: calendar(days=1, hour=23, start_date="2026-03-27"),
            datetime(2026, 3, 1, tzinfo=UTC),
        ),
        "in the gap": (
            lambda: calendar(days=1, hour=2, minute=30, start_date="2026-03-27"),
            datetime(2026, 3, 1, tzinfo=UTC),
        ),
        "in the fold": (
            lambda: calendar(weeks=1, hour=2, minute=30, start_date="2026-10-18"),
            datetime(2026, 3, 1, tzinfo=UTC),
        ),
        "the 31st": (
            lambda: calendar(months=1, start_date="2026-01-31", hour=5),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        "leap day": (
            lambda: calendar(years=1, start_date=date(2028, 2, 29), hour=5),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        "months and days": (
            lambda: calendar(months=1, days=1, start_date="2026-01-30", hour=5),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        "end": (
            lambda: calendar(months=2, start_date="2026-01-15", end_date="2026-07-15"),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
    },
    "combining": {
        "or": (
            lambda: OrTrigger([cron(hour=3), cron(hour=5, day_of_week="mon")]),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
    },
}

FIELDS = {
    "all": lambda: BaseField("hour", "*"),
    "step": lambda: BaseField("hour", "*/5"),
    "range": lambda: BaseField("minute", "10-40/7"),
    "list": lambda: BaseField("minute", "50, 10 ,3"),
    "from": lambda: BaseField("minute", "20/15"),
    "months": lambda: MonthField("month", "FEB-apr"),
    "weekdays": lambda: DayOfWeekField("day_of_week", "tue,thu-sat"),
    "third": lambda: DayOfMonthField("day", "3rd tue"),
    "last": lambda: DayOfMonthField("day", "last"),
    "last fri": lambda: DayOfMonthField("day", "last fri,5"),
    "week": lambda: WeekField("week", "20-30"),
}


def fire_times(trigger, now):
    found = []
    previous = None
    while len(found) < _COUNT:
        previous = trigger.get_next_fire_time(previous, now)
        if previous is None:
            break
        found.append(str(previous))
        now = max(now.astimezone(UTC), previous.astimezone(UTC))
    return found


def _fires(make, now):
    return lambda: fire_times(make(), now)


def _values(make):
    def scenario():
        field = make()
        moments = [datetime(2026, 2, 1, 4, 7) + timedelta(days=n, hours=n) for n in range(0, 90, 7)]
        return [str(field), *[field.get_next_value(moment) for moment in moments]]

    return scenario


def _texts():
    """Give the text of each trigger whose text does not show its start."""
    return [str(make()) for make, _ in TRIGGERS["cron"].values() if make is not CronTrigger] + [
        str(make()) for make, _ in TRIGGERS["interval"].values()
    ]


def _both():
    """Ask once only: with a previous fire time APScheduler goes on for ever."""
    trigger = AndTrigger([cron(hour=3), cron(day_of_week="mon", hour="*")])
    return [str(trigger), str(trigger.get_next_fire_time(None, datetime(2026, 1, 1, tzinfo=UTC)))]


def _refusals():
    refused = []
    for make in (
        lambda: CronTrigger(minute=60),
        lambda: CronTrigger(hour="x"),
        lambda: CronTrigger(day="32"),
        lambda: CronTrigger(day_of_week=7),
        lambda: CronTrigger(month="foo"),
        lambda: crontab("* * * *"),
        lambda: crontab("* * * * * *"),
        lambda: crontab("* * * * 7"),
        lambda: CalendarIntervalTrigger(),
        lambda: calendar(days=1, start_date="2026-02-01", end_date="2026-01-01"),
        lambda: DateTrigger("yesterday"),
    ):
        try:
            make()
        except ValueError:
            refused.append(True)
        else:
            refused.append(False)
    return refused


def _pickled():
    """Pickle the triggers, for the other side to read."""
    return {
        f"{kind} {name}": base64.b64encode(pickle.dumps(make())).decode()
        for kind, cases in TRIGGERS.items()
        for name, (make, _) in cases.items()
    }


def _read(path):
    """Tell when the triggers of a file of pickles fire."""
    found = {}
    with open(path) as lines:
        for line in lines:
            name, text = line.rstrip("\n").split("\t")
            kind, _, case = name.partition(" ")
            trigger = pickle.loads(base64.b64decode(text))
            found[name] = fire_times(trigger, TRIGGERS[kind][case][1])
    return found


def _records():
    """Write the triggers down as tocsin's records, and tell when those that are read fire."""
    from tocsin.triggers import Trigger

    found = {}
    for kind, cases in TRIGGERS.items():
        for name, (make, now) in cases.items():
            trigger = make()
            twin = Trigger.from_dict(trigger.to_dict())
            found[f"{kind}: {name}"] = [fire_times(twin, now), isinstance(twin, type(trigger))]
    return found


def scenarios(pickles=None):
    if pickles == "records":
        return {"records": _records}
    if pickles is not None:
        return {"read": lambda: _read(pickles)}
    return {
        **{
            f"{kind}: {name}": _fires(*case)
            for kind, cases in TRIGGERS.items()
            for name, case in cases.items()
        },
        **{f"field: {name}": _values(make) for name, make in FIELDS.items()},
        "texts": _texts,
        "and": _both,
        "refusals": _refusals,
        "pickled": _pickled,
    }
