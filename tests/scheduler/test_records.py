"""The stored form of jobs: what goes in comes out, and nothing else does any harm."""

from __future__ import annotations

import enum
import functools
import io
import json
import math
import os.path
import pickle
import re
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import pytz
from hypothesis import example, given
from hypothesis import strategies as st
from support.programs import printed

import tocsin
from tocsin import (
    AndTrigger,
    BaseTrigger,
    CalendarIntervalTrigger,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    OrTrigger,
    Trigger,
    records,
)
from tocsin.job import Job
from tocsin.records import dump, from_record, load, to_record
from tocsin.triggers.base import KINDS
from tocsin.values import MOST_DEPTH, register, shown

BERLIN = ZoneInfo("Europe/Berlin")
NOON = DateTrigger("2030-01-01 12:00", "UTC")
NEXT = 1_893_499_200_000_000


def stable(value: Any) -> str:
    """Name a value alike in every process that collects the tests."""
    return re.sub(r"x?[0-9a-f]{6,}", "x", value if isinstance(value, str) else shown(value))


class Color(enum.Enum):
    RED = 1
    BLUE = 2


register("color", Color, lambda color: color.name, Color.__getitem__)


class Level(enum.IntEnum):
    HIGH = 3


class Greeting(str):
    __slots__ = ()


class Mailbox:
    def deliver(self) -> None: ...

    def __call__(self) -> None: ...

    @classmethod
    def sweep(cls) -> None: ...

    @staticmethod
    def count() -> None: ...


def job_of(*args: Any, func: Any = os.path.join, trigger: BaseTrigger = NOON, **kwargs: Any) -> Job:
    return Job(None, func, trigger, args, kwargs, "tidy", "Tidy up", "default", 60, True, 3, NEXT)


def through(*args: Any, **kwargs: Any) -> Job:
    """Write a job down as text, and read it."""
    text = json.dumps(to_record(job_of(*args, **kwargs)), allow_nan=False)
    return from_record(json.loads(text))


def record_with(**fields: Any) -> dict[str, Any]:
    return {**to_record(job_of()), **fields}


def exactly(value: Any) -> Any:
    """Turn a value into something that is equal only for the same types and contents."""
    kind = type(value)
    if kind is int:
        return kind, value
    if kind in (list, tuple):
        return kind, [exactly(each) for each in value]
    if kind in (set, frozenset):
        return kind, sorted((exactly(each) for each in value), key=repr)
    if kind is dict:
        return kind, [(exactly(key), exactly(each)) for key, each in value.items()]
    if kind is datetime or kind is time:
        zone = value.tzinfo
        shown = zone.key if isinstance(zone, ZoneInfo) else None if zone is None else repr(zone)
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, type(zone), shown
    return kind, repr(value)


# Round trips

texts = st.text(st.characters(codec="utf-8"))
offsets = st.integers(-86_399, 86_399).map(lambda seconds: timedelta(seconds=seconds))
fixed_zones = st.builds(timezone, offsets) | st.builds(timezone, offsets, texts)
zones = st.none() | st.just(timezone.utc) | st.timezones() | fixed_zones
hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**70)
    | st.floats()
    | texts
    | st.binary()
    | st.decimals(allow_nan=False)  # a signalling one has no hash
    | st.uuids()
    | st.dates()
    | st.times(timezones=zones)
    | st.datetimes(timezones=zones)
    | st.builds(lambda when: when.replace(fold=1), st.datetimes(timezones=zones))
    | st.timedeltas()
    | st.sampled_from(Color),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(hashables, max_size=4)
        | st.dictionaries(texts | st.just("$"), inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(values, max_size=3), st.dictionaries(texts.filter(bool), values, max_size=3))
def test_arguments_come_back_exactly(args: list[Any], kwargs: dict[str, Any]) -> None:
    job = job_of(*args)
    job._call = (os.path.join, tuple(args), kwargs)
    text = json.dumps(to_record(job), allow_nan=False)
    restored = from_record(json.loads(text))
    assert exactly(restored.args) == exactly(tuple(args))
    assert exactly(dict(restored.kwargs)) == exactly(kwargs)
    assert json.dumps(to_record(restored)) == text


@pytest.mark.parametrize(
    "value",
    [
        True,
        1,
        1.0,
        -0.0,
        math.inf,
        -math.inf,
        2**63 - 1,
        2**63,
        -(2**63) - 1,
        10**6000,
        "$",
        "\0 \U0001f514",
        {"$": "date", "value": "2026-03-29"},
        {"$": {"$": 1}},
        {1: "a", "1": "b", None: {True: ()}},
        Decimal("-0E-5"),
        Decimal("sNaN123"),
        UUID(int=7),
        b"\x00\xff",
        (),
        ((1,), [2], {3}, frozenset({(4, 5)})),
        date.min,
        timedelta.max,
        timedelta.min,
        timedelta(microseconds=-1),
        time(2, 30, tzinfo=BERLIN, fold=1),
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
        datetime(2026, 3, 29, 2, 30),
        datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(seconds=-3723))),
        Color.BLUE,
        {Color.RED: [Color.BLUE]},
    ],
    ids=stable,
)
def test_a_value_comes_back_exactly(value: Any) -> None:
    restored = through(value, key=[value])
    assert exactly(restored.args) == exactly((value,))
    assert exactly(dict(restored.kwargs)) == exactly({"key": [value]})


def test_an_argument_that_json_has_stands_as_it_is() -> None:
    given = [None, True, 5, 2.5, "x", {"a": [1]}]
    assert to_record(job_of(*given))["args"] == given


def test_equal_sets_have_equal_records() -> None:
    code = (
        "import json; from test_records import *;"
        " print(json.dumps(to_record(job_of({'a', 'b', 'c', 'd', (1, 'e')}))))"
    )
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent)])
    found = {
        printed(sys.executable, "-c", code, env={"PYTHONHASHSEED": seed, "PYTHONPATH": path})
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "trigger",
    [
        NOON,
        IntervalTrigger(minutes=5, start_date="2030-01-01", timezone="Asia/Tokyo", jitter=3),
        CalendarIntervalTrigger(months=1, start_date="2030-01-31", timezone="Europe/Berlin"),
        CronTrigger(hour="*/2", timezone="Europe/Berlin", dst="wall-clock"),
        CronTrigger.from_crontab("H 3 * * mon-fri", "America/New_York", seed="tidy"),
        AndTrigger([CronTrigger(hour=5, timezone="UTC"), OrTrigger([NOON])]),
    ],
    ids=stable,
)
def test_all_of_a_job_comes_back(trigger: Trigger) -> None:
    job = job_of(1, trigger=trigger, end="x")
    job.executor, job.misfire_grace_time, job.failure = "processes", 0.25, "no such module"
    restored = from_record(json.loads(json.dumps(to_record(job))))
    for name in ("id", "name", "executor", "misfire_grace_time", "coalesce", "max_instances"):
        assert exactly(getattr(restored, name)) == exactly(getattr(job, name)), name
    assert restored.failure == "no such module"
    assert restored.trigger == trigger
    assert restored.func_ref == f"{os.path.__name__}:join"
    assert restored.func is os.path.join
    assert restored.next_run_time == job.next_run_time
    assert restored.pending
    start = datetime(2030, 1, 1, tzinfo=timezone.utc)
    ours, theirs = (each.fire_times(start, limit=5) for each in (restored.trigger, trigger))
    assert list(ours) == list(theirs), "jitter too"


def test_a_paused_job_comes_back_paused() -> None:
    job = job_of()
    job._next_run = None
    assert to_record(job)["next_run"] is None
    assert from_record(to_record(job)).next_run_time is None


def test_the_record_is_what_the_documentation_says() -> None:
    document = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", document, re.DOTALL)
    job = from_record(json.loads(blocks[0]))
    assert to_record(job) == json.loads(blocks[0])
    assert job.args[1] == datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)
    rows = re.findall(r"^\| `(\w+)` \| .*? \| `(\{.*\})` \|$", document, re.MULTILINE)
    for tag, text in rows:
        record = json.loads(text)
        assert record["$"] == tag
        value = from_record(record_with(args=[record])).args[0]
        assert to_record(job_of(value))["args"] == [record]
    known = re.search("known: (.*);", refusal(record_with(args=[{"$": "?"}])))
    assert known is not None
    assert {tag for tag, _ in rows} == set(known[1].split(", ")) - {"color"}


# What can't be written


class OwnZone(ZoneInfo):
    pass


def nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
PAIR = namedtuple("PAIR", "left right")
with files("tzdata").joinpath("zoneinfo", "Europe", "Berlin").open("rb") as zone:
    LOCAL = ZoneInfo.from_file(zone, key="local")  # as tzlocal makes it


@pytest.mark.parametrize(
    ("value", "path", "word"),
    [
        (object(), "", "builtins.object"),
        (1j, "", "builtins.complex"),
        (bytearray(b"x"), "", "builtins.bytearray"),
        (Level.HIGH, "", "Level"),
        (Greeting("hello"), "", "Greeting"),
        (PAIR(1, 2), "", "PAIR"),
        (OrderedDict(a=1), "", "OrderedDict"),
        (re.compile("x"), "", "re.Pattern"),
        ([{"when": object()}], '[0]["when"]', "builtins.object"),
        ([(0, {1: [object()]})], "[0][1][1][0]", "builtins.object"),
        ({"$": 1, "b": object()}, '["b"]', "builtins.object"),
        ("\ud83d", "", "surrogate"),
        (["\ud83d\ude00"], "[0]", "surrogate"),
        (datetime(2026, 1, 1, tzinfo=OwnZone("UTC")), "", "its time zone"),
        (time(tzinfo=timezone(timedelta(microseconds=1))), "", "whole seconds"),
        (pytz.timezone("Europe/Berlin").localize(datetime(2026, 1, 1)), "", "zoneinfo.ZoneInfo"),
        (datetime(2026, 1, 1, tzinfo=LOCAL), "", "'local') is neither"),
        (time(2, 30, tzinfo=LOCAL), "", "'local') is neither"),
        (nested(MOST_DEPTH + 1), "[0]", "nested"),
        (ENDLESS, "[0]", "nested"),
    ],
    ids=stable,
)
def test_a_value_without_a_record_is_refused_by_its_path(
    value: object, path: str, word: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"args[1]{path}")) as caught:
        to_record(job_of(0, value))
    assert word in str(caught.value)
    with pytest.raises(ValueError, match=re.escape(f'kwargs["key"]{path}')):
        to_record(job_of(key=value))


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(ValueError) as caught:
        to_record(job_of(Level.HIGH))
    assert str(caught.value).startswith(
        "args[0]: <Level.HIGH: 3> is a " + Level.__module__ + ".Level, which a record can't hold;"
        " convert it (a record holds bytes, "
    )
    assert str(caught.value).endswith("or register its type with tocsin.values.register")


def test_as_deep_as_allowed_is_read_again() -> None:
    assert through(nested(MOST_DEPTH)).args == (nested(MOST_DEPTH),)
    deepest: Any = ()
    for _ in range(MOST_DEPTH // 2 - 1):
        deepest = (deepest,)
    assert through(deepest).args == (deepest,)


@pytest.mark.parametrize(
    ("func", "word"),
    [
        (lambda: None, "lambda"),
        (functools.partial(print, 1), "partial"),
        (Mailbox().deliver, "bound to an instance"),
        ("x".upper, "bound to an instance"),
        (Mailbox(), "no name"),
        ("__main__:tidy", "move the function to a module"),
        ("no colon", "module:name"),
        ("os:path.<locals>.f", "module:name"),
    ],
    ids=stable,
)
def test_a_callable_without_a_record_is_refused(func: Any, word: str) -> None:
    with pytest.raises(ValueError, match=f"^func: .*{word}"):
        to_record(job_of(func=func))


def test_a_nested_function_is_refused() -> None:
    def nested_one() -> None: ...

    with pytest.raises(ValueError, match=r"^func: .* defined inside a function: move it"):
        to_record(job_of(func=nested_one))


def test_a_function_of_the_running_program_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "from tocsin.job import Job\n"
        "from tocsin.records import to_record\n"
        "from tocsin import DateTrigger\n"
        "def tidy(): pass\n"
        "job = Job(None, tidy, DateTrigger(), coalesce=True, max_instances=1, next_run=None,\n"
        "    misfire_grace_time=None)\n"
        "try:\n    to_record(job)\n"
        "except ValueError as error:\n    print(error)\n"
    )
    assert printed(sys.executable, script).startswith(
        "func: '__main__:tidy' belongs to the program that happens"
    )


@pytest.mark.parametrize("func", [print, Mailbox.sweep, Mailbox.count, datetime.now, Mailbox])
def test_whatever_has_a_name_is_found_again(func: Callable[..., Any]) -> None:
    assert through(func=func).func == func


class HalfPast(CronTrigger):
    """Changes the meaning, but takes no kind of its own."""


class ThirdParty(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: datetime) -> datetime | None:
        return None


@pytest.mark.parametrize(
    ("trigger", "word"),
    [
        (ThirdParty(), "derive its class from tocsin.Trigger"),
        (AndTrigger([ThirdParty()]), "has no record"),
        (HalfPast(minute=30), "HalfPast has no record of its own"),
        (OrTrigger([HalfPast(minute=30)]), "HalfPast has no record of its own"),
    ],
    ids=["base", "and", "cron", "or"],
)
def test_a_trigger_without_a_record_is_refused(trigger: BaseTrigger, word: str) -> None:
    with pytest.raises(ValueError, match=f"^trigger: .*{word}"):
        to_record(job_of(trigger=trigger))


def test_a_job_that_waits_for_the_start_is_refused() -> None:
    job = Job(None, print, NOON)
    with pytest.raises(ValueError, match="waits for its scheduler to start"):
        to_record(job)


@pytest.mark.parametrize(
    ("tag", "kind"),
    [("date", Path), ("dict", Path), ("path", date), ("path", str), ("path", bool), ("", Path)],
)
def test_nothing_is_registered_twice(tag: str, kind: type[Any]) -> None:
    with pytest.raises(ValueError):
        register(tag, kind, str, kind)
    with pytest.raises(ValueError, match="which a record can't hold"):
        to_record(job_of(Path()))


# What can't be read


def refusal(record: object) -> str:
    with pytest.raises(ValueError) as caught:
        from_record(record)
    assert type(caught.value) is ValueError
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"version": 2}, "version: 2 is newer than 1"),
        ({"version": 10**5000}, "version: "),
        ({"version": True}, "version: a whole number"),
        ({"version": "1"}, "version: a whole number"),
        ({"version": 0}, "version: a whole number"),
        ({"id": ""}, "id: the text is empty"),
        ({"id": 5}, "id: a text is needed, not 5"),
        ({"id": "\ud800"}, "id: "),
        ({"name": None}, "name: a text"),
        ({"executor": ["default"]}, "executor: a text"),
        ({"func": "os"}, "func: a reference"),
        ({"func": "os:"}, "func: a reference"),
        ({"func": "os:f()"}, "func: a reference"),
        ({"func": "os:a:b"}, "func: a reference"),
        ({"func": "__main__:f"}, "func: '__main__:f' belongs to the program"),
        ({"func": {"$": "tuple", "value": []}}, "func: a text"),
        ({"args": {}}, "args: a list"),
        ({"args": ()}, "args: a list"),
        ({"args": [math.nan]}, "args[0]: nan is no JSON value"),
        ({"args": [object()]}, "args[0]: <object"),
        ({"args": [[{"a": ["\udfff"]}]]}, 'args[0][0]["a"][0]: '),
        ({"args": nested(100_000)}, "args[0][0]"),
        ({"args": [{5: 6}]}, "a key of args[0]: a text"),
        ({"kwargs": []}, "kwargs: an object"),
        ({"kwargs": {"a": {"$": "os"}}}, "kwargs[\"a\"]: the tag 'os' is unknown; known: "),
        ({"kwargs": {"a": {"$": ["date"]}}}, "kwargs[\"a\"]: the tag ['date'] is unknown"),
        ({"kwargs": {"": 1}}, "a name of kwargs: the text is empty"),
        ({"kwargs": {5: 1}}, "a name of kwargs: a text"),
        ({"trigger": "cron"}, "trigger: an object"),
        ({"trigger": {}}, "trigger: None is not a kind of Trigger"),
        ({"trigger": {"$": "tuple", "value": []}}, "trigger: "),
        ({"trigger": {"trigger": "os:system"}}, "trigger: 'os:system' is not a kind"),
        ({"trigger": {"trigger": "cron", "version": 9}}, "trigger: version: 9"),
        ({"trigger": {"trigger": "cron", "version": 1, "x": 1}}, "trigger: a 'cron' record"),
        ({"trigger": {"trigger": "cron", "version": 1, "hour": "77"}}, "trigger: hour: "),
        (
            {"trigger": {"trigger": "interval", "version": 1, "days": 1, "jitter": 1e300}},
            "trigger: ",
        ),
        (
            {"trigger": {"trigger": "interval", "version": 1, "days": 10**400}},
            "trigger: interval: ",
        ),
        ({"trigger": {"trigger": "date", "version": 1, "jitter_seed": 1.5}}, "trigger: "),
        ({"trigger": {"trigger": "date", "version": 1, "timezone": "../x"}}, "trigger: timezone"),
        ({"trigger": {"trigger": "and", "version": 1, "triggers": 5}}, "trigger: a 'and' record"),
        ({"misfire_grace_time": 0}, "misfire_grace_time: a positive number"),
        ({"misfire_grace_time": True}, "misfire_grace_time: a positive number"),
        ({"misfire_grace_time": math.inf}, "misfire_grace_time: a positive number"),
        ({"misfire_grace_time": "60"}, "misfire_grace_time: a positive number"),
        ({"coalesce": 1}, "coalesce: true or false"),
        ({"max_instances": 0}, "max_instances: at least 1"),
        ({"max_instances": 1.0}, "max_instances: a whole number"),
        ({"next_run": 10**18}, "next_run: microseconds since 1970"),
        ({"next_run": -(10**40)}, "next_run: microseconds since 1970"),
        ({"next_run": "soon"}, "next_run: a whole number"),
        ({"failure": None}, "failure: a text"),
        ({"owner": "me"}, "'owner': unknown in the record"),
        ({5: "me"}, "5: unknown in the record"),
    ],
    ids=stable,
)
def test_a_wrong_field_is_named(fields: dict[Any, Any], start: str) -> None:
    assert refusal({**record_with(), **fields}).startswith(start)


@pytest.mark.parametrize("name", sorted(record_with().keys() - {"version"}))
def test_a_missing_field_is_named(name: str) -> None:
    record = record_with()
    del record[name]
    assert refusal(record) == f"'{name}': missing in the record"


@pytest.mark.parametrize(
    "tagged",
    [
        {"$": "date"},
        {"$": "date", "value": 5},
        {"$": "date", "value": "2026-02-30"},
        {"$": "date", "value": "2026-02-03", "more": 1},
        {"$": "datetime", "value": None},
        {"$": "datetime", "value": "2026-01-01T00:00:00+01:00", "zone": "Europe/Berlin"},
        {"$": "datetime", "value": "2026-01-01T00:00:00", "zone": "Europe/Atlantis"},
        {"$": "datetime", "value": "2026-01-01T00:00:00", "zone": "../../../etc/passwd"},
        {"$": "datetime", "value": "2026-01-01T00:00:00", "zone": ["UTC"]},
        {"$": "datetime", "value": "2026-01-01T00:00:00", "name": "CET"},
        {"$": "datetime", "value": "2026-01-01T00:00:00", "fold": 2},
        {"$": "datetime", "value": "2026-01-01T00:00:00", "fold": True},
        {"$": "time", "value": "25:00"},
        {"$": "timedelta", "value": [1, 2]},
        {"$": "timedelta", "value": [10**20, 0, 0]},
        {"$": "timedelta", "value": [1.5, 0, 0]},
        {"$": "timedelta", "value": 5},
        {"$": "uuid", "value": "1234"},
        {"$": "uuid", "value": 7},
        {"$": "decimal", "value": "one"},
        {"$": "decimal", "value": 1.5},
        {"$": "bytes", "value": "a"},
        {"$": "bytes", "value": "ÄÄÄÄ"},
        {"$": "int", "value": "0xg"},
        {"$": "int", "value": 3},
        {"$": "float", "value": "wide"},
        {"$": "tuple", "value": "ab"},
        {"$": "set", "value": [[]]},
        {"$": "set", "value": [1, True]},
        {"$": "dict", "value": ["ab"]},
        {"$": "dict", "value": [[1]]},
        {"$": "dict", "value": [[1, 2], [True, 3]]},
        {"$": "dict", "value": [[[], 2]]},
        {"$": "color", "value": "GREEN"},
    ],
    ids=stable,
)
def test_a_malformed_tag_is_refused_by_its_path(tagged: dict[str, Any]) -> None:
    message = refusal(record_with(args=[[tagged]]))
    assert re.match(rf"args\[0\]\[0\]: .* is no {tagged['$']}: ", message, re.DOTALL)


def test_reading_imports_and_calls_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "tocsin_trap.py"
    trap.write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    job = from_record(record_with(func="tocsin_trap:spring", args=["x"]))
    assert "tocsin_trap" not in sys.modules
    assert job.func_ref == "tocsin_trap:spring"
    assert to_record(job)["func"] == "tocsin_trap:spring"


def test_a_callable_that_is_gone_fails_only_when_it_is_needed() -> None:
    job = from_record(record_with(func="tocsin_gone:f"))
    with pytest.raises(LookupError, match="tocsin_gone"):
        job.call()


# Hostile records

pieces = st.sampled_from(
    [
        *("$", "value", "zone", "fold", "name", "trigger", "version", "triggers", "jitter"),
        *("date", "datetime", "time", "timedelta", "int", "float", "tuple", "set", "dict"),
        *("frozenset", "decimal", "uuid", "bytes", "color", "cron", "interval", "and", "or"),
        *("calendarinterval", "expr", "timezone", "run_date", "start_date", "end_date"),
        *("hour", "day", "seconds", "jitter_seed", "UTC", "Europe/Berlin", "*/5", "2030-01-01"),
        *(0, 1, -1, 2**63, 10**400, 1e308, math.nan, True, None, "\ud800", "", "os:system"),
    ]
)
leaves = pieces | st.text(max_size=5) | st.integers() | st.floats() | st.booleans()
junk = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(pieces.map(str) | st.text(max_size=5), inner, max_size=5)
        | st.fixed_dictionaries({"$": pieces, "value": inner})
        | st.fixed_dictionaries({"trigger": pieces, "version": st.just(1), "triggers": inner})
    ),
    max_leaves=12,
)


def check_hostile(read: Callable[[], Any]) -> Any:
    """Allow a result, or a ValueError of ours that says something."""
    try:
        return read()
    except ValueError as error:
        caught = error
    assert type(caught) is ValueError
    assert str(caught)
    return None


@given(junk | st.dictionaries(st.sampled_from(sorted(record_with())), junk))
def test_a_random_record_gives_a_job_or_a_valueerror(record: Any) -> None:
    check_hostile(lambda: from_record(record))


@given(st.sampled_from([*sorted(record_with()), "failure"]), junk)
@example("trigger", {"trigger": "interval", "version": 1, "hours": 1, "jitter": 1e308})
@example("args", [{"$": "decimal", "value": "1E+999999999999"}])
def test_a_record_with_one_random_field_gives_a_job_or_a_valueerror(name: str, value: Any) -> None:
    job = check_hostile(lambda: from_record(record_with(**{name: value})))
    if job is not None:
        record = to_record(job)
        assert to_record(from_record(record)) == record
        assert str(job)
        assert repr(job.trigger)


@given(st.dictionaries(pieces.map(str), junk, max_size=6), st.sampled_from(sorted(KINDS)))
def test_a_random_trigger_gives_a_job_or_a_valueerror(fields: dict[str, Any], kind: str) -> None:
    record = record_with(trigger={**fields, "trigger": kind, "version": 1})
    check_hostile(lambda: from_record(record))


# Files


def test_a_file_holds_all_jobs(tmp_path: Path) -> None:
    first, second = job_of("käse", BERLIN.key), job_of({1, 2})
    second.id = "other"
    path = tmp_path / "jobs.json"
    dump([first, second], path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["version"] == 1
    assert found["tocsin"] == tocsin.__version__
    assert found["jobs"] == [to_record(first), to_record(second)]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4, "one job a line"
    stream = io.StringIO()
    dump(iter([first, second]), stream)
    assert stream.getvalue() == path.read_text(encoding="utf-8")
    stream.seek(0)
    for restored in (load(path), load(str(path)), load(stream)):
        assert [to_record(job) for job in restored] == found["jobs"]


def test_a_file_of_no_jobs(tmp_path: Path) -> None:
    dump([], tmp_path / "jobs.json")
    assert load(tmp_path / "jobs.json") == []


def test_a_job_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    dump([job_of()], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^job 'tidy': args\[0\]: "):
        dump([job_of(), job_of(object())], path)
    assert path.read_bytes() == before


RECORD = json.dumps(record_with())


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "no JSON file of jobs: "),
        (RECORD[:-5], "no JSON file of jobs: "),
        (b"\x80\x81".decode("latin-1"), "no JSON file of jobs: "),
        ("[" * 100_000, "no JSON file of jobs: "),
        ('{"a":' * 100_000, "no JSON file of jobs: "),
        ("1" * 5000, "no JSON file of jobs: "),
        ("[]", "a file of jobs holds a JSON object, not []"),
        ("{}", "version: "),
        ('{"version": 2, "jobs": []}', "version: 2 is newer"),
        ('{"version": 1}', "jobs: a list"),
        (f'{{"version": 1, "jobs": [{RECORD}, 5]}}', "jobs[1]: a record is a JSON object"),
        (f'{{"version": 1, "jobs": [{RECORD}, {RECORD}]}}', "jobs[1]: id: 'tidy' occurs twice"),
        (
            f'{{"version": 1, "jobs": [{RECORD.replace("60", "NaN")}]}}',
            "jobs[0]: misfire_grace_time",
        ),
    ],
    ids=stable,
)
def test_a_wrong_file_is_refused(text: str, start: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    path.write_text(text, encoding="latin-1")
    for source in (io.StringIO(text), path):
        with pytest.raises(ValueError) as caught:
            load(source)
        assert type(caught.value) is ValueError
        assert str(caught.value).startswith(start)


def test_a_file_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.json")


def test_an_export_of_apscheduler_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apscheduler.schedulers.background import BackgroundScheduler

    path = tmp_path / "jobs.json"
    scheduler = BackgroundScheduler()
    scheduler.start(paused=True)
    try:
        scheduler.add_job(print, "date", run_date="2030-01-01", args=[{1}], id="a")
        scheduler.export_jobs(str(path))
    finally:
        scheduler.shutdown()
    assert "__apscheduler_pickle__" in path.read_text()
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match="export of APScheduler 3 is not read: it holds pickles"):
        load(path)


@given(
    junk.map(json.dumps)
    | st.text()
    | st.lists(junk).map(lambda each: json.dumps({"version": 1, "jobs": each}))
)
def test_a_random_file_gives_jobs_or_a_valueerror(text: str) -> None:
    check_hostile(lambda: load(io.StringIO(text)))


@given(st.binary())
def test_random_bytes_give_jobs_or_a_valueerror(content: bytes) -> None:
    check_hostile(lambda: load(io.BytesIO(content)))  # type: ignore[arg-type]


def test_the_public_names() -> None:
    assert set(records.__all__) == {"dump", "from_record", "load", "to_record"}
