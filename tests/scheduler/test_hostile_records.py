"""Whoever can write to a store can not harm who reads it: a job or a ValueError, nothing else.

While a text is read, an audit hook watches for imports, files, processes, sockets and whatever
else the interpreter reports. What is asked of the triggers that get through is counted in
searches of the engine, for a busy machine has no say in what is too much.
"""

from __future__ import annotations

import json
import os.path
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timezone
from decimal import Decimal
from types import FrameType
from typing import Any
from uuid import UUID
from zoneinfo import TZPATH, ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin import (
    AndTrigger,
    CalendarIntervalTrigger,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    OrTrigger,
)
from tocsin.codecs import Codec
from tocsin.convert import as_timezone, edge_of
from tocsin.errors import NoCommonFireTime
from tocsin.job import Job
from tocsin.triggers.base import ScheduledTrigger, Trigger
from tocsin.triggers.limits import MOST_SEARCHES, most_searches

NOW = 1_800_000_000_000_000
KEY = "a key of at least 16 bytes"
UTC = edge_of(timezone.utc)
START: Any = {"start_date": "2026-01-01T00:00:00.25", "timezone": "UTC"}

CODECS = {
    "plain": Codec(),
    "small": Codec(max_bytes=1024),
    "restricted": Codec(allowed_modules="json, tocsin_no_such"),
    "keyed": Codec(pickle_key=KEY),
}


class Forged:
    """Pickles to what the audit hook would notice, and a test would die of."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("unpickled",)


# What happens while a text is read

#: The events of caching triggers, on both ways.
HARMLESS = {"builtins.id", "marshal.dumps", "marshal.loads"}
SEEN: list[str] | None = None


def watch(event: str, args: tuple[Any, ...]) -> None:
    global SEEN
    if SEEN is None or event in HARMLESS:
        return
    about = str(args[0]) if args else ""
    # The only files are those of time zones, whose names zoneinfo finds harmless or refuses.
    if any(place in about for place in ZONES) or (
        event == "import" and about.startswith("tzdata.zoneinfo")
    ):
        return
    seen, SEEN = SEEN, None  # to look at frames is an event too
    if not within_qt():
        seen.append(f"{event}: {about}")
    SEEN = seen


def within_qt() -> bool:
    """Tell whether it is Qt that does this, after an import, if another test has imported Qt.

    It reads the source of each module that it has not seen imported before, even if that was
    there before Qt: of `inspect`, when pytest patches something, or `json`, when it finds an error.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith("shibokensupport/"):
        frame = frame.f_back
    return frame is not None


class Finder:
    """Takes note of imports of which no audit event tells, those by `importlib`."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        watch("import", (name,))


as_timezone(None)  # what tocsin imports on first use is no business of the text
for key in ("Atlantis", "No/Where"):
    with suppress(KeyError):
        ZoneInfo(key)  # has zoneinfo look into the package tzdata
ZONES = (*TZPATH, os.path.dirname(str(sys.modules["tzdata"].__file__)))
sys.addaudithook(watch)


@contextmanager
def watched() -> Iterator[None]:
    global SEEN
    modules = set(sys.modules)
    SEEN = []
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
            yield
        seen = SEEN
    finally:
        SEEN = None
    assert seen == []
    assert {name for name in sys.modules if not name.startswith("tzdata.")} <= modules


@contextmanager
def searches_counted() -> Iterator[list[int]]:
    count = [0]
    steps = {name: getattr(ScheduledTrigger, name) for name in ("next_instant", "_next_plain")}

    def next_instant(self: ScheduledTrigger, after: int) -> int | None:
        count[0] += not self._spread  # else each `_next_plain` is counted
        return steps["next_instant"](self, after)  # type: ignore[no-any-return]

    def next_plain(self: ScheduledTrigger, after: int) -> int | None:
        count[0] += 1
        return steps["_next_plain"](self, after)  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScheduledTrigger, "next_instant", next_instant)
        patch.setattr(ScheduledTrigger, "_next_plain", next_plain)
        yield count


def read(codec: Codec, text: Any, next_run: Any) -> Job | ValueError:
    try:
        return codec.loads(text, next_run)
    except ValueError as error:
        return error


def check(text: str | bytes, next_run: Any = NOW) -> list[Job]:
    """Have all codecs read a text; give the jobs that it is."""
    jobs = []
    for codec in CODECS.values():
        with watched():
            job = read(codec, text, next_run)
            if isinstance(job, ValueError):
                assert type(job) is ValueError, "no subclass that happened to be raised"
                assert 0 < len(str(job).encode()) < 5000, "fit for a log"
                continue
            assert isinstance(job._call[0], str), "not resolved"
            assert str(job)
            assert repr(job.trigger)
            again = codec.dumps(job)
            assert codec.dumps(codec.loads(again, next_run)) == again
            check_work(job.trigger)
        jobs.append(job)
    return jobs


def check_work(trigger: Any) -> None:
    with searches_counted() as count:
        # The scheduler sets such a job aside.
        with suppress(NoCommonFireTime, OverflowError):
            trigger.next_run(NOW, NOW, UTC)
        assert count[0] <= most_searches(trigger) <= MOST_SEARCHES


# Records that are right, to begin with


def text_of(codec: str, trigger: Trigger, *args: Any, **kwargs: Any) -> str:
    job = Job(None, json.dumps, trigger, args, kwargs, "tidy", "Tidy", "default", 60, True, 3, NOW)
    job.at_least_once = True
    job.failure = "of a kind"
    return CODECS[codec].dumps(job)


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
BERLIN = ZoneInfo("Europe/Berlin")
RIGHT = [
    text_of("plain", DateTrigger("2030-01-01", "UTC"), "a", 5, [None, {"b": 1.5}], c=True),
    text_of(
        "plain",
        CronTrigger.from_crontab("H 3 * * mon-fri", BERLIN, seed="tidy", jitter=30),
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        {1, 2},
        (date.min, UUID(int=7)),
        {1: Decimal("1.5")},
        big=2**70,
        data=b"ab",
    ),
    text_of(
        "plain",
        AndTrigger([CronTrigger(hour=5, timezone="UTC"), OrTrigger([IntervalTrigger(1, **START)])]),
    ),
    text_of("plain", CalendarIntervalTrigger(months=1, start_date="2026-01-31", timezone="UTC")),
    text_of("keyed", IntervalTrigger(seconds=5, jitter=3, **START), ENDLESS, a=ENDLESS),
    Codec(pickle_key="a key that they do not have").dumps(
        Job(None, json.dumps, DateTrigger(), (Forged(),), {}, "a", "a", "b", None, True, 1, NOW)
    ),
]


def test_what_is_right_is_read() -> None:
    assert [len(check(text)) for text in RIGHT] == [4, 4, 4, 4, 1, 0]
    assert [len(check(text.encode(), None)) for text in RIGHT] == [4, 4, 4, 4, 1, 0]


def test_the_watch_sees_what_it_is_there_for() -> None:
    for act in (
        lambda: __import__("antigravity_of_tocsin"),
        lambda: open(os.devnull).close(),
        lambda: compile("1", "x", "eval"),
        lambda: CODECS["plain"].resolve("tocsin_no_such:f"),
    ):
        with (
            pytest.raises(AssertionError, match="assert"),
            watched(),
            suppress(LookupError, ImportError),
        ):
            act()


# Texts that are wrong

PIECES: list[Any] = [
    *("$", "value", "zone", "fold", "name", "key", "mac", "trigger", "version", "triggers"),
    *("date", "datetime", "time", "timedelta", "int", "float", "tuple", "set", "frozenset", "dict"),
    *("decimal", "uuid", "bytes", "pickle", "cron", "interval", "calendarinterval", "and", "or"),
    *("expr", "timezone", "run_date", "start_date", "end_date", "jitter", "jitter_seed", "dst"),
    *("hour", "day", "seconds", "microseconds", "now", "UTC", "Europe/Berlin", "../../etc/passwd"),
    *("*/5", "*", "H", "L", "2030-01-01", "9999-12-31T23:59:59", "+05:30", "__init__.py", "a.b/c"),
    *(
        "os:system",
        "builtins:eval",
        "json:dumps",
        "__main__:f",
        "json:os.system",
        "",
        "\ud800",
        "\0",
    ),
    *(0, 1, -1, 0.001, 2**63, -(2**63), 10**400, 1e308, 5e-324, -0.0, True, False, None),
    *(float("nan"), float("inf"), 60, 3600, 86_400, 10**9, [], {}, "9" * 5000, "[" * 500),
]
leaves = st.sampled_from(PIECES) | st.text(max_size=5) | st.integers() | st.floats()
keys = st.sampled_from([piece for piece in PIECES if type(piece) is str]) | st.text(max_size=3)
junk = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=5)
        | st.fixed_dictionaries({"$": st.sampled_from(PIECES), "value": inner})
        | st.fixed_dictionaries({"trigger": leaves, "version": st.just(1), "triggers": inner})
    ),
    max_leaves=15,
)
#: What no writer of JSON writes, put into the middle of what one wrote.
TOKENS = [
    *("NaN", "-Infinity", "1e999", "-1E-999", "9" * 5000, "0x1", "01", "1.", ".5", "+1"),
    *(
        "[" * 2000,
        "]" * 10,
        '{"a":' * 2000,
        "}",
        '"',
        '"\\ud800"',
        '"\\u0000"',
        "\\",
        "\0",
        "\ud800",
    ),
    *(',"id":"other"', ',"func":"os:system"', '"$":"tuple",', '"$":"pickle",', "null", "true"),
    *(',"args":[{"$":"set","value":[1,1]}]', ',"trigger":{"trigger":"and"}', "é", "\ufeff", "//"),
]


@given(junk, st.booleans(), junk)
def test_random_json(value: Any, escaped: bool, next_run: Any) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    check(text)
    check(text.encode(errors="surrogatepass"), next_run)


@given(st.binary(max_size=50) | st.text(max_size=50))
@example(b"\x80")
@example("{" * 100_000)
@example('{"a":' * 100_000)
@example("9" * 600_000)
@example('"' + "a" * 600_000)
def test_random_text(text: str | bytes) -> None:
    assert check(text) == []


def parts_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from parts_of(value[key], (*path, key))


PLACES = [(text, path) for text in RIGHT for path in parts_of(json.loads(text)) if path]


@given(st.sampled_from(PLACES), junk, st.booleans())
def test_a_record_of_which_a_part_is_replaced(
    place: tuple[str, tuple[Any, ...]], value: Any, beside: bool
) -> None:
    text, path = place
    record = json.loads(text)
    parent = record
    for key in path[:-1]:
        parent = parent[key]
    if not beside:
        parent[path[-1]] = value
    elif isinstance(parent, list):
        parent.append(value)
    else:
        parent[f"{path[-1]}s"] = value
    check(json.dumps(record))


@given(st.sampled_from(RIGHT), st.data())
def test_a_record_that_was_damaged(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.sampled_from([start, start + 1, start + 9, len(text)]))
        token = data.draw(st.sampled_from(["", *TOKENS, text[:start], text[end:]]))
        text = text[:start] + token + text[end:]
    check(text)
    check(text.encode(errors="surrogatepass"))


@pytest.mark.parametrize("text", RIGHT)
def test_a_record_that_was_cut_off(text: str) -> None:
    for length in range(0, len(text), 3):
        assert check(text[:length]) == []


names = st.sampled_from(
    ["os", "system", "json", "dumps", "decoder", "__class__", "__globals__", "__main__", "a", ""]
)
references = st.builds(
    lambda words, signs: "".join(map("".join, zip(words, [*signs, ""], strict=False))),
    st.lists(names | st.text(max_size=4), min_size=1, max_size=6),
    st.lists(st.sampled_from([":", ".", ":.", "\n", " "]), min_size=5, max_size=5),
)


@given(references, junk)
@example("json:codecs.builtins.eval", 1)
@example("json.decoder:scanner.re.compile", 1)
@example("json:dumps.__globals__.clear", 1)
@example("a." * 100_000 + "a:b", 1)
def test_a_hostile_callable(reference: str, argument: Any) -> None:
    record = {**json.loads(RIGHT[0]), "func": reference, "args": [argument]}
    for job in check(json.dumps(record)):
        assert job._call[0] == reference
    allowed = CODECS["restricted"]
    try:
        found = allowed.resolve(reference)
    except (ValueError, LookupError):
        return
    assert found.__module__.split(".")[0] == "json"


units = st.sampled_from(["weeks", "hours", "minutes", "seconds", "microseconds"])
sizes = st.sampled_from([0.0001, 0.001, 0.25, 1, 1, 7, 61, 3600]) | st.floats(0, 1e6)
spreads = (
    st.none() | st.sampled_from([0, 1e-6, 0.001, 1, 59, 3599, 86_400, 1e9]) | st.floats(0, 1e12)
)
fields = st.sampled_from(["*", "0", "5", "*/7", "1-59", "59", "3,9"])


def with_spread(record: dict[str, Any], spread: float | None) -> dict[str, Any]:
    seed = {"jitter_seed": 12345}
    return {**record, "version": 1, **({} if spread is None else {"jitter": spread, **seed})}


intervals = st.builds(
    lambda unit, size, spread: with_spread({"trigger": "interval", unit: size, **START}, spread),
    *(units, sizes, spreads),
)
crons = st.builds(
    lambda second, minute, hour, spread: with_spread(
        {
            "trigger": "cron",
            "second": second,
            "minute": minute,
            "hour": hour.replace("59", "23"),
            "timezone": "Europe/Berlin",
        },
        spread,
    ),
    *(fields, fields, fields, spreads),
)
dates = st.just({"trigger": "date", "version": 1, "run_date": "2040-01-01", "timezone": "UTC"})
triggers = st.recursive(
    intervals | crons | dates,
    lambda inner: st.builds(
        lambda kind, parts, spread: with_spread({"trigger": kind, "triggers": parts}, spread),
        *(st.sampled_from(["and", "or", "or"]), st.lists(inner, min_size=1, max_size=4), spreads),
    ),
    max_leaves=6,
)


@given(triggers)
def test_a_trigger_makes_no_more_work_than_is_allowed(record: dict[str, Any]) -> None:
    check(json.dumps({**json.loads(RIGHT[0]), "trigger": record}))


def nested(kind: str, levels: int) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(RIGHT[0])["trigger"]
    for _ in range(levels):
        record = {"trigger": kind, "version": 1, "triggers": [record]}
    return record


@pytest.mark.parametrize(("kind", "levels", "count"), [("or", 30, 3), ("or", 40, 0), ("and", 2, 0)])
def test_a_trigger_is_nested_only_so_deep(kind: str, levels: int, count: int) -> None:
    record = {**json.loads(RIGHT[0]), "trigger": nested(kind, levels)}
    assert len(check(json.dumps(record))) == count
