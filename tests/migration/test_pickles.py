"""Jobs that APScheduler 3 has pickled, and pickles that are meant to do harm."""

from __future__ import annotations

import _codecs
import collections
import copy
import copyreg
import pickle
import sys
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.tz
import pytest
import pytz
from apscheduler.job import Job as OldJob
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

import tocsin
from tocsin.adapters.apscheduler import triggers
from tocsin.codecs import Codec
from tocsin.migration.apscheduler import _Reader, read_job
from tocsin.migration.pickles import Made, read

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2024, 1, 31, 8, tzinfo=BERLIN)
NEXT = datetime(2026, 10, 25, 2, 30, 0, 7, tzinfo=BERLIN, fold=1)

#: Each of APScheduler's triggers, and tocsin's of the same meaning.
TRIGGERS: dict[str, tuple[Any, Any]] = {
    name: (old(**arguments), new(**arguments))
    for name, old, new, arguments in [
        ("date", DateTrigger, triggers.DateTrigger, {"run_date": START}),
        (
            "interval",
            IntervalTrigger,
            triggers.IntervalTrigger,
            {"minutes": 7, "seconds": 0.5, "start_date": START, "end_date": NEXT},
        ),
        (
            "cron",
            CronTrigger,
            triggers.CronTrigger,
            {
                "month": "jan-mar,12",
                "day": "2nd fri,last,*/9",
                "hour": "2-5/2",
                "minute": 30,
                "start_date": START,
                "timezone": BERLIN,
            },
        ),
        ("every second", CronTrigger, triggers.CronTrigger, {"timezone": timezone.utc}),
        (
            "weekdays",
            CronTrigger,
            triggers.CronTrigger,
            {"day_of_week": "mon-fri", "minute": "*/15", "timezone": BERLIN},
        ),
        (
            "calendarinterval",
            CalendarIntervalTrigger,
            triggers.CalendarIntervalTrigger,
            {"months": 1, "hour": 2, "minute": 30, "start_date": "2024-01-31", "timezone": BERLIN},
        ),
        (
            "mixed",
            CalendarIntervalTrigger,
            triggers.CalendarIntervalTrigger,
            {"months": 1, "days": 2, "start_date": "2024-01-31", "timezone": BERLIN},
        ),
    ]
}
for _name, _old, _new in (
    ("and", AndTrigger, triggers.AndTrigger),
    ("or", OrTrigger, triggers.OrTrigger),
):
    _pairs = [TRIGGERS["weekdays"], TRIGGERS["cron"]]
    TRIGGERS[_name] = (_old([each for each, _ in _pairs]), _new([each for _, each in _pairs]))
TRIGGERS["nested"] = (OrTrigger([TRIGGERS["and"][0], TRIGGERS["date"][0]]),
                      triggers.OrTrigger([TRIGGERS["and"][1], TRIGGERS["date"][1]]))  # fmt: skip

PYTZ = pytz.timezone("Europe/Berlin")
#: Values of arguments, by what they become.
VALUES: list[tuple[Any, Any]] = [
    *(
        (each, each)
        for each in (
            None, True, 7, -(2**80), 1.5, "grüße", b"", b"\xff\0", (1, (2,)), [1, [2]],
            {"a": {2: [3]}}, {1, 2}, set(), frozenset({1}), Decimal("1.50"), uuid.UUID(int=7),
            timedelta(days=-1, microseconds=1), date(2026, 3, 29), time(3, 4, 5, 6),
            time(3, tzinfo=timezone.utc), START, NEXT, NEXT.replace(fold=0), datetime(2026, 1, 1),
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5), "X")),
        )
    ),
    (
        PYTZ.localize(datetime(2026, 10, 25, 2, 30), is_dst=True),
        NEXT.replace(microsecond=0, fold=0),
    ),
    (PYTZ.localize(datetime(2026, 10, 25, 2, 30), is_dst=False), NEXT.replace(microsecond=0)),
    (datetime(2026, 1, 1, tzinfo=pytz.utc), datetime(2026, 1, 1, tzinfo=timezone.utc)),
    (
        datetime(2026, 1, 1, tzinfo=pytz.FixedOffset(90)),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(minutes=90))),
    ),
    (datetime(2026, 1, 1, tzinfo=dateutil.tz.tzutc()), datetime(2026, 1, 1, tzinfo=timezone.utc)),
    (
        datetime(2026, 1, 1, tzinfo=dateutil.tz.tzoffset("X", 60)),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=60), "X")),
    ),
    (
        datetime(2026, 1, 1, tzinfo=dateutil.tz.gettz("Europe/Berlin")),
        datetime(2026, 1, 1, tzinfo=BERLIN),
    ),
]  # fmt: skip


def state_of(**changes: Any) -> dict[str, Any]:
    """Give what APScheduler pickles of a job."""
    made: dict[str, Any] = {
        "trigger": TRIGGERS["interval"][0],
        "executor": "threads",
        "func": "shop.jobs:report",
        "args": (),
        "kwargs": {},
        "id": "job",
        "name": "A job",
        "misfire_grace_time": 30,
        "coalesce": False,
        "max_instances": 3,
        "next_run_time": NEXT,
    }
    job = OldJob.__new__(OldJob)
    for name, value in (made | changes).items():
        setattr(job, "func_ref" if name == "func" else name, value)
    job.func = None
    state = job.__getstate__()
    assert isinstance(state, dict)
    return state


def reason(data: bytes) -> str:
    """Give the words with which a pickle is refused."""
    with pytest.raises(ValueError) as caught:
        read_job(data, "job")
    return str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_job_is_what_it_was(protocol: int) -> None:
    moment = NEXT.replace(fold=1 if protocol > 3 else 0)  # which older protocols do not have
    state = state_of(args=[1], kwargs={"a": 2}, next_run_time=moment)
    job = read_job(pickle.dumps(state, protocol), "job")
    assert (job.id, job.name, job.executor) == ("job", "A job", "threads")
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (30, False, 3)
    assert (job.func_ref, job.args, job.kwargs) == ("shop.jobs:report", (1,), {"a": 2})
    assert job.next_run_time is not None
    assert job.next_run_time.astimezone(timezone.utc) == moment.astimezone(timezone.utc)
    assert not job.at_least_once


def test_a_job_of_apscheduler_itself() -> None:
    scheduler = BackgroundScheduler(timezone="Europe/Berlin")
    rules = {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1}
    made = scheduler.add_job(
        "json:dumps", "cron", hour=3, args=["x"], id="job", jitter=5, next_run_time=None, **rules
    )
    job = read_job(pickle.dumps(made.__getstate__(), pickle.HIGHEST_PROTOCOL), "job")
    assert job.next_run_time is None
    assert job.func_ref == "json:dumps"
    assert job.args == ("x",)
    assert job.trigger.jitter == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TRIGGERS)
def test_triggers(name: str, protocol: int) -> None:
    old, new = TRIGGERS[name]
    job = read_job(pickle.dumps(state_of(trigger=old), protocol), "job")
    assert type(job.trigger) is type(new)
    if name == "interval":  # whose length is pickled as days, seconds and microseconds
        names = ("interval", "start_date", "end_date", "timezone")
        for each in names:
            assert getattr(job.trigger, each) == getattr(new, each)
    else:
        assert job.trigger == new


@pytest.mark.parametrize("name", TRIGGERS)
def test_any_scheduler_reads_what_became_of_a_trigger(name: str) -> None:
    """With APScheduler's meaning, and without its names."""
    job = read_job(pickle.dumps(state_of(trigger=TRIGGERS[name][0])), "job")
    codec = Codec()
    restored = codec.loads(codec.dumps(job), None).trigger
    assert type(restored).__module__.startswith("tocsin.triggers")
    expected = TRIGGERS[name][1]
    found, wanted = START, START
    for _ in range(40):
        following = expected.next_fire_time(wanted)
        assert restored.next_fire_time(found) == following
        if following is None:
            break
        found = wanted = following


def test_what_would_search_for_hours_is_refused_by_stores() -> None:
    mixed = [
        CalendarIntervalTrigger(months=1, days=days, start_date="0001-01-01", timezone=BERLIN)
        for days in (1, 2)
    ]
    job = read_job(pickle.dumps(state_of(trigger=AndTrigger(mixed))), "job")
    with pytest.raises(ValueError, match="searches"):
        Codec().dumps(job)


def test_delays_are_the_same_when_a_job_is_read_again() -> None:
    trigger = OrTrigger([CronTrigger(hour=3, jitter=60, timezone=BERLIN)], jitter=5)
    data = pickle.dumps(state_of(trigger=trigger))
    codec = Codec()
    assert codec.dumps(read_job(data, "job")) == codec.dumps(read_job(data, "job"))


def test_a_trigger_of_apscheduler_3_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DateTrigger, "__getstate__", lambda self: (None, {"run_date": START}))
    job = read_job(pickle.dumps(state_of(trigger=DateTrigger(START))), "job")
    assert job.trigger == triggers.DateTrigger(START)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("old", "new"), VALUES, ids=[repr(old)[:40] for old, _ in VALUES])
def test_arguments(old: Any, new: Any, protocol: int) -> None:
    if protocol < 4 and isinstance(old, datetime) and old is new:
        old = new = old.replace(fold=0)  # which older protocols do not have
    data = pickle.dumps(state_of(args=(old,), kwargs={"key": [old]}), protocol)
    job = read_job(data, "job")
    (found,) = job.args
    assert type(found) is type(new)
    assert found == new
    assert job.kwargs == {"key": [new]}
    if isinstance(new, datetime):
        assert (found.fold, str(found.tzinfo)) == (new.fold, str(new.tzinfo))
    assert Codec().dumps(job)


@pytest.mark.parametrize(
    ("data", "zone"),
    [
        (
            (
                b"\x80\x04\x8c\x0edateutil.tz.tz\x8c\x08tzoffset\x93)\x81}(\x8c\x05_nameN\x8c\x07_offset"
                b"\x8c\x08datetime\x8c\x09timedelta\x93K\x00K<K\x00\x87Rub."
            ),
            timezone(timedelta(seconds=60)),
        ),
        (
            (
                b"\x80\x04\x8c\x0edateutil.tz.tz\x8c\x06tzfile\x93N\x8c\x21/usr/share/zoneinfo/Europe/Berlin"
                b"\x86R}\x8c\x09_filename\x8c\x01xsb."
            ),
            BERLIN,
        ),
    ],
    ids=["tzoffset", "tzfile"],
)
def test_zones_of_older_versions_of_dateutil(data: bytes, zone: Any) -> None:
    assert _Reader().value(read(data), "zone") == zone


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        1 + 2j,
        range(1, 9, 2),
        bytearray(b"ab"),
        collections.OrderedDict([("b", 1), ("a", 2)]),
        collections.Counter("aab"),
        collections.deque([1, 2], 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arguments_that_records_hold_as_pickles_only(value: Any, protocol: int) -> None:
    job = read_job(pickle.dumps(state_of(args=(value,)), protocol), "job")
    (found,) = job.args
    assert type(found) is type(value)
    assert found == value
    assert getattr(found, "maxlen", None) == getattr(value, "maxlen", None)
    with pytest.raises(ValueError, match=r"args\[0\].*pickle_key"):
        Codec().dumps(job)
    codec = Codec(pickle_key="0123456789abcdef")
    assert codec.loads(codec.dumps(job), None).args == (value,)


class Order:
    """An object of an application."""


def test_an_object_of_an_application_is_named() -> None:
    for path, changes in {
        "args[1]": {"args": (1, Order())},
        'kwargs["order"]': {"kwargs": {"order": Order()}},
        "args[0]['a'][1]": {"args": ({"a": [1, Order()]},)},
    }.items():
        words = reason(pickle.dumps(state_of(**changes)))
        assert words.startswith(f"{path}: an object that {__name__}:Order makes is not looked up")
    assert f"{__name__}:Order is not looked up" in reason(pickle.dumps(state_of(args=(Order,))))


class Bag(list[Any]):
    """A list of an application."""


class Table(dict[str, Any]):
    """A dictionary of an application."""


class Keyed:
    """What is made of keywords."""

    def __init__(self, number: int, *, key: str) -> None:
        self.given = number, key

    def __new__(cls, number: int, *, key: str) -> Keyed:
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        number, key = self.given
        return (number,), {"key": key}


@pytest.mark.parametrize("protocol", PROTOCOLS[2:])
def test_what_would_be_made_is_told(protocol: int) -> None:
    bag = Bag([1, [2]])
    bag.label = "x"  # type: ignore[attr-defined]
    keyed = (f"{__name__}:Keyed", (5, {"key": "k"}))
    if protocol < 4:  # which have no way to say it, but a call of this
        keyed = ("functools:partial()", ())
    for made, name, args, items, state in (
        (bag, f"{__name__}:Bag", (), [1, [2]], {"label": "x"}),
        (Table(a=1, b=None), f"{__name__}:Table", (), [("a", 1), ("b", None)], None),
        (Keyed(5, key="k"), *keyed, [], {"given": (5, "k")}),
    ):
        found = read(pickle.dumps(made, protocol))
        assert isinstance(found, Made)
        assert (found.name, found.args) == (name, args)
        assert (found.items, found.state) == (items, state)
        for turn in (pickle.dumps, copy.copy):
            with pytest.raises(ValueError, match="was read from a pickle, and was never made"):
                turn(found)


@pytest.mark.parametrize(
    ("data", "name", "args"),
    [
        (b"cshop\nmake\n(tR(S'x'\ntR.", "shop:make()", ("x",)),
        (b"cbuiltins\ngetattr\n(cshop\nOrder\nS'of'\ntR(I1\ntR.", "shop:Order.of", (1,)),
        (b"c__builtin__\ngetattr\n(cshop\nOrder\nI5\ntR(tR.", "builtins:getattr()", ()),
    ],
    ids=["what is called", "a method", "no method"],
)
def test_what_was_made_and_is_called(data: bytes, name: str, args: tuple[Any, ...]) -> None:
    found = read(data)
    assert isinstance(found, Made)
    assert (found.name, found.args) == (name, args)


def test_only_bytes_are_pickles() -> None:
    data = pickle.dumps({"a": [1]})
    assert read(bytearray(data)) == read(memoryview(data)) == {"a": [1]}
    with pytest.raises(ValueError, match=r"^a pickle is bytes, not str$"):
        read("N.")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ((timedelta, ("x",)), "no datetime:timedelta is made of this: "),
        ((Decimal, ("x",)), "no decimal:Decimal is made of this: "),
        ((_codecs.encode, ("x", "utf-16")), "no _codecs:encode is made of this: the encoding"),
        ((ZoneInfo._unpickle, ("No/Where", True)), "no zoneinfo:ZoneInfo._unpickle is made of"),  # type: ignore[attr-defined]
        ((uuid.UUID, (), {"int": -1}), "no uuid:UUID is made of this: int is out of range"),
    ],
    ids=lambda each: each[0].__name__ if isinstance(each, tuple) else "",
)
def test_what_can_not_be_made_is_named_with_its_place(made: Any, words: str) -> None:
    assert reason(pickle.dumps(state_of(args=({"a": Harm(made)},)))).startswith(
        f"args[0]['a']: {words}"
    )


def test_what_old_protocols_make_is_named_by_its_class() -> None:
    words = reason(pickle.dumps(state_of(coalesce=Order()), 0))
    assert words == f"coalesce: an object that {__name__}:Order makes is not a bool"
    harm = Harm((copyreg._reconstructor, (1, object, None)))  # type: ignore[attr-defined]
    assert reason(pickle.dumps(state_of(args=(harm,)))) == "a class is made of what is none"


def test_a_trigger_in_one_offset_of_a_zone_of_pytz_is_in_the_zone() -> None:
    trigger = IntervalTrigger(hours=1, start_date=START, timezone=PYTZ)
    trigger.timezone = PYTZ.localize(datetime(2026, 7, 1)).tzinfo
    job = read_job(pickle.dumps(state_of(trigger=trigger)), "job")
    assert job.trigger.timezone == ZoneInfo(PYTZ.zone)


def test_a_zone_as_an_argument_is_not_turned_into_another() -> None:
    job = read_job(pickle.dumps(state_of(args=(PYTZ,))), "job")
    with pytest.raises(ValueError, match="a time zone of pytz"):
        Codec(pickle_key="0123456789abcdef").dumps(job)


class OwnTrigger(CronTrigger):
    """A trigger of an application."""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trigger": OwnTrigger(hour=1, timezone=BERLIN)}, "is none of APScheduler's own"),
        ({"trigger": OrTrigger([OwnTrigger(hour=1, timezone=BERLIN)])}, "none of APScheduler's"),
        ({"id": "other"}, "stored under another id than its own, 'other'"),
        ({"func": "__main__:work"}, "belongs to the program"),
        ({"func": "nothing"}, "func"),
        ({"misfire_grace_time": -1}, "misfire_grace_time"),
        ({"max_instances": 0}, "max_instances"),
        ({"name": 5}, "name"),
        ({"args": "text"}, "args: 'text' is not a list"),
        ({"kwargs": [1]}, "kwargs"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in reason(pickle.dumps(state_of(**changes)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], "not the state of a job"),
        ({"version": 2}, "not the state of a job"),
        ({"version": 1, "id": "job"}, "its state lacks args, "),
        ({"job_state": 5}, "not the state of a job"),
    ],
)
def test_what_is_no_job(value: Any, words: str) -> None:
    assert words in reason(pickle.dumps(value))


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x04.", b"\x80\xff", b"N", b"(lp0\n"])
def test_what_is_no_pickle(data: bytes) -> None:
    assert "no pickle that can be read" in reason(data)


def test_cut_anywhere() -> None:
    data = pickle.dumps(
        state_of(trigger=TRIGGERS["nested"][0], args=[value for value, _ in VALUES])
    )
    for length in range(0, len(data), 7):
        assert reason(data[:length])


# Harm

CALLS: dict[str, Callable[[str], Any]] = {
    "os.system": lambda command: (__import__("os").system, (command,)),
    "eval": lambda command: (eval, (f"__import__('os').system({command!r})",)),
    "exec": lambda command: (exec, (f"import os; os.system({command!r})",)),
    "popen": lambda command: (__import__("subprocess").Popen, (["/bin/sh", "-c", command],)),
    "getattr": lambda command: (getattr, (__import__("os"), "system")),
    "import": lambda command: (__import__, ("harmful",)),
}


class Harm:
    """What runs a command where it is unpickled by the usual means."""

    def __init__(self, made: tuple[Any, ...]) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return self.made


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that harm leaves, by a command or by the import of a module ``harmful``."""
    path = tmp_path / "mark"
    (tmp_path / "harmful.py").write_text(f"open({str(path)!r}, 'w')\nname = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("call", [name for name in CALLS if name != "getattr"])
@pytest.mark.parametrize("place", ["state", "trigger", "args", "nested", "key", "id", "part"])
def test_calls_are_told_and_not_made(mark: Path, call: str, place: str, protocol: int) -> None:
    harm: Any = Harm(CALLS[call](f"touch {mark}"))
    if place == "state":
        data = pickle.dumps(harm, protocol)
    else:
        changes: dict[str, Any] = {
            "trigger": {"trigger": harm},
            "args": {"args": (1, harm)},
            "nested": {"kwargs": {"a": [{"b": (harm,)}]}},
            "key": {"kwargs": {"a": {harm: 1}}},
            "id": {"id": harm},
            "part": {"trigger": _with_a_part(harm)},
        }[place]
        data = pickle.dumps(state_of(**changes), protocol)
    assert reason(data)
    assert not mark.exists()
    assert "harmful" not in sys.modules


def _with_a_part(harm: Any) -> Any:
    trigger = CronTrigger(hour=1, timezone=BERLIN)
    trigger.fields[0].expressions = [harm]
    trigger.start_date = harm
    return trigger


#: Pickles written by hand; each leads to the module ``harmful`` or to os.system.
WRITTEN = {
    "global": b"charmful\nname\n.",
    "dotted": b"\x80\x04\x8c\x07harmful\x8c\x04name\x93.",
    "dotted attribute": b"\x80\x04\x8c\x02os\x8c\x0fsys.modules.pop\x93.",
    "through tocsin": b"\x80\x04\x8c\x10tocsin.callables\x8c\x0aref_to_obj\x93"
    b"\x8c\x0charmful:name\x85R.",
    "through the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x04true\x85R.",
    "inst": b"(S'true'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'true'\no.",
    "newobj": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85\x81.",
    "build": b"\x80\x02cdatetime\ndatetime\n}X\x04\0\0\0nameK\x01sb.",
    "build a class": b"\x80\x02capscheduler.triggers.date\nDateTrigger\n"
    b"N}X\x08\0\0\0run_dateK\x01s\x86b.",
    "getattr": b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x02os\x8c\x06system\x93"
    b"\x8c\x08__call__\x86R\x8c\x04true\x85R.",
    "persistent": b"Pos.system\n.",
    "extension": b"\x82\x01.",
    "buffer": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_pickles_written_by_hand(mark: Path, name: str) -> None:
    assert reason(WRITTEN[name])
    # The same in the place of an argument, where it would be made for each.
    data = pickle.dumps(state_of(args=("@here@",)), 2)
    spliced = data.replace(b"X\x06\0\0\0@here@", WRITTEN[name][:-1].replace(b"\x80\x02", b""))
    assert spliced != data
    assert reason(spliced)
    assert not mark.exists()
    assert "harmful" not in sys.modules


def test_a_class_that_is_built_on_is_nobody_elses() -> None:
    before = vars(triggers.DateTrigger).copy()
    with pytest.raises(ValueError):
        read(WRITTEN["build a class"])
    assert vars(triggers.DateTrigger) == before
    assert isinstance(DateTrigger, type)
    found = read(b"\x80\x02capscheduler.triggers.date\nDateTrigger\n)\x81}X\x01\0\0\0aK\x01sb.")
    assert isinstance(found, Made)
    assert (found.name, found.state) == ("apscheduler.triggers.date:DateTrigger", {"a": 1})


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # a place far out in the memo
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",  # a long array, said to be
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
        b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"N.",
        b"\x80\x04]" + b"\x94" + b"h\x00h\x00\x86\x94" * 3 + b".",
    ],
)
def test_a_few_bytes_take_no_memory(data: bytes) -> None:
    assert reason(data)


def test_a_list_within_itself_and_one_that_doubles() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert "nested too deeply" in reason(pickle.dumps(state_of(args=(circle,))))
    doubling: list[Any] = [0]
    for _ in range(60):
        doubling = [doubling, doubling]
    assert "more than 1,000,000 values" in reason(pickle.dumps(state_of(args=(doubling,))))


@given(st.data())
def test_spoilt_pickles_make_jobs_or_are_refused(data: st.DataObject) -> None:
    whole = bytearray(_WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    loaded = set(sys.modules)
    try:
        job = read_job(bytes(whole), "job")
    except ValueError:
        pass
    else:
        assert isinstance(job, tocsin.job.Job)
    assert {name for name in set(sys.modules) - loaded if "tocsin" not in name} <= _KNOWN


_WHOLE = pickle.dumps(
    state_of(trigger=TRIGGERS["nested"][0], args=[value for value, _ in VALUES]), 4
)
#: What reading a zone's name may load.
_KNOWN = {"tzdata", "tzdata.zoneinfo", "tzdata.zoneinfo.Europe", "tzlocal", "tzlocal.unix"}


def test_the_module_of_a_job_is_not_imported(mark: Path) -> None:
    job = read_job(pickle.dumps(state_of(func="harmful:name")), "job")
    assert job.func_ref == "harmful:name"
    assert not mark.exists()


def test_modules_that_stand_in_for_others_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("apscheduler_stand_in")
    monkeypatch.setitem(sys.modules, "apscheduler_stand_in", module)
    data = pickle.dumps(state_of()).replace(
        b"apscheduler.triggers.interval", b"apscheduler_stand_in.interval"
    )
    assert reason(data)
