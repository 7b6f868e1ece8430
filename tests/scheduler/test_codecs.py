"""What persistent stores write, and what they accept of what they find."""

from __future__ import annotations

import copy
import enum
import json
import logging
import pickle
import re
import sys
from base64 import b64encode
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from support.programs import printed

from tocsin import (
    AndTrigger,
    BaseTrigger,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    OrTrigger,
    compact,
)
from tocsin.codecs import LARGEST, LARGEST_TRIGGER, SHORTEST_KEY, Codec
from tocsin.job import Job
from tocsin.records import LONGEST_GRACE, from_record, to_record
from tocsin.triggers import limits
from tocsin.triggers.base import KINDS
from tocsin.triggers.combining import MOST_STEPS
from tocsin.values import MOST_COLLISIONS

NOON = DateTrigger("2030-01-01 12:00", "UTC")
NEXT = 1_893_499_200_000_000
KEY = b"a key that nobody else knows"
OTHER = b"another key, just as secret"
START: Any = {"start_date": "2030-01-01", "timezone": "UTC"}


class Color(enum.Enum):
    RED = 1


class Basket:
    """Has no record, but can be pickled."""

    def __init__(self, *fruits: str) -> None:
        self.fruits = fruits

    def __eq__(self, other: object) -> bool:
        return type(other) is Basket and self.fruits == other.fruits

    __hash__ = None  # type: ignore[assignment]


SPRUNG: list[bool] = []


def spring() -> None:
    SPRUNG.append(True)


class Trap:
    """What an attacker pickles."""

    def __reduce__(self) -> tuple[Any, ...]:
        return spring, ()


def job_of(*args: Any, func: Any = copy.copy, trigger: BaseTrigger = NOON, **kwargs: Any) -> Job:
    return Job(None, func, trigger, args, kwargs, "tidy", "Tidy up", "default", 60, True, 3, NEXT)


def refusal(call: Callable[..., object], *args: Any) -> str:
    with pytest.raises(ValueError) as caught:
        call(*args)
    assert type(caught.value) is ValueError
    return str(caught.value)


def changed(text: str, **fields: Any) -> str:
    return json.dumps({**json.loads(text), **fields})


# The text


def test_the_text_is_the_record_without_the_next_run() -> None:
    job = job_of("käse", 5, [1.5, None], when=date(2030, 1, 1))
    codec = Codec()
    text = codec.dumps(job)
    record = to_record(job)
    assert record.pop("next_run") == NEXT
    assert json.loads(text) == record
    assert "käse" in text
    assert not re.search('[,:] ["0-9]', text), "compact"
    for stored in (text, text.encode()):
        restored = codec.loads(stored, NEXT + 1)
        assert to_record(restored) == {**record, "next_run": NEXT + 1}
    assert codec.loads(text, None).next_run_time is None
    # A file of jobs and a store hold the same.
    assert to_record(from_record({**record, "next_run": NEXT})) == to_record(job)


def test_the_text_is_this_one_to_the_byte() -> None:
    job = job_of('käse "\n', 5, -1.5, None, True, 2**63, ["\u20ac"], (), to="a", wä={"": 1})
    job.at_least_once = True
    job.failure = "of a kind"
    text = Codec().dumps(job)
    assert text == (
        '{"version":1,"id":"tidy","name":"Tidy up","func":"copy:copy","args":["k\u00e4se \\"\\n",5,'
        '-1.5,null,true,{"$":"int","value":"0x8000000000000000"},["\u20ac"],'
        '{"$":"tuple","value":[]}],"kwargs":{"to":"a","w\u00e4":{"":1}},"executor":"default",'
        '"misfire_grace_time":60,"coalesce":true,"max_instances":3,"at_least_once":true,'
        '"failure":"of a kind","trigger":{"trigger":"date","version":1,'
        '"run_date":"2030-01-01T12:00:00+00:00","timezone":"UTC"}}'
    )
    # Rules that are equal are not alike: 1 is 1.0.
    texts = []
    codec = Codec()
    for grace in (1, 1.0):
        job.misfire_grace_time = grace
        texts.append(codec.dumps(job))
    assert ['"misfire_grace_time":1.0' in text for text in texts] == [False, True]


@pytest.mark.parametrize(
    "other",
    [
        None,
        lambda: None,  # of other arguments
        lambda *_: None,
        lambda *_: lambda value, level: ("null",),
        lambda *_: json.JSONEncoder(ensure_ascii=False).iterencode,  # with blanks
    ],
)
def test_json_is_written_alike_without_the_encoder_of_c(
    other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"\u00e4": [1, 1.5, None, "\u20ac", {"$": True}], "": ()}
    text = compact.encode(value)
    assert text == '{"\u00e4":[1,1.5,null,"\u20ac",{"$":true}],"":[]}'
    with monkeypatch.context() as patched:  # json makes use of it as well
        patched.setattr("json.encoder.c_make_encoder", other)
        plain = compact._made_once()
    assert plain(value) == text
    for encode in (compact.encode, plain):
        with pytest.raises(ValueError, match="not JSON compliant"):
            encode(float("nan"))


def test_at_least_once_is_in_the_record_only_when_it_is_true() -> None:
    codec, job = Codec(), job_of()
    assert "at_least_once" not in codec.dumps(job)
    assert codec.loads(codec.dumps(job), 1).at_least_once is False
    job.at_least_once = True
    job.failure = "of a kind"
    text = codec.dumps(job)
    assert json.loads(text)["at_least_once"] is True
    restored = codec.loads(text, 1)
    assert restored.at_least_once is True
    assert restored.failure == "of a kind"
    message = refusal(lambda: codec.loads(changed(text, at_least_once=1), 1))
    assert message == "at_least_once: true or false is needed, not 1"
    assert "'owner': unknown" in refusal(lambda: codec.loads(changed(text, owner="me"), 1))


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (None, "a record is a text, not None"),
        (7, "a record is a text, not 7"),
        ("", "the record is no JSON: "),
        (b"\xff\xfe{\x00}\x00", "the record is no JSON: "),
        (b"\xef\xbb\xbf{}", "the record is no JSON: "),
        ("[]", "a record is a JSON object, not []"),
        ("[" * 100_000, "the record is no JSON that we read: nested too deeply"),
        ("9" * 5000, "the record is no JSON: "),
        ("{}", "version: a whole number of at least 1 is needed, not None"),
        ('{"version": 1, "next_run": 5}', "'next_run': unknown in the record of a store"),
        (json.dumps({"version": 1, **dict.fromkeys("abcdefghijklmnopqr" * 2)}), "'args', 'coal"),
    ],
)
def test_what_is_no_record_is_refused(text: Any, start: str) -> None:
    message = refusal(lambda: Codec().loads(text, 1))
    assert message.startswith(start)
    assert len(message) < 500


@pytest.mark.parametrize("next_run", [10**18, -(10**40), "soon", True, 1.5])
def test_a_wrong_next_run_is_refused(next_run: Any) -> None:
    text = Codec().dumps(job_of())
    assert refusal(lambda: Codec().loads(text, next_run)).startswith("next_run: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [("misfire_grace_time", 1e300), ("misfire_grace_time", 10**30), ("max_instances", 2**63)],
)
def test_a_number_that_no_scheduler_can_work_with_is_neither_written_nor_read(
    field: str, value: Any
) -> None:
    codec, job = Codec(), job_of()
    text = changed(codec.dumps(job), **{field: value})
    setattr(job, field, value)
    assert refusal(lambda: codec.dumps(job)).startswith(f"{field}: ")
    assert refusal(lambda: codec.loads(text, 1)).startswith(f"{field}: ")


# Size and work


def test_a_record_of_the_greatest_size_is_the_last_that_is_taken() -> None:
    codec = Codec(max_bytes=2000)
    fits = "ä" * ((2000 - len(codec.dumps(job_of("")))) // 2)
    text = codec.dumps(job_of(fits))
    assert len(text) < len(text.encode()) <= 2000
    assert codec.loads(text.encode(), 1).args == codec.loads(text, 1).args == (fits,)
    for longer in (fits + "ä", "a" * 2000):
        message = refusal(codec.dumps, job_of(longer))
        assert re.fullmatch(
            r"the record is 2,\d{3} bytes long, at most 2,000 may be; give the job the key of its"
            r" data as an argument instead of the data, or raise max_bytes",
            message,
        )
        text = Codec().dumps(job_of(longer))
        for stored in (text, text.encode()):
            assert "bytes long, at most" in refusal(codec.loads, stored, 1)
    assert LARGEST == 512 * 1024
    assert "524,288" in refusal(lambda: Codec().dumps(job_of("a" * LARGEST)))


@pytest.mark.parametrize("size", [0, 1023, True, "1 MB", None])
def test_a_wrong_limit_is_refused(size: Any) -> None:
    assert refusal(lambda: Codec(max_bytes=size)).startswith("max_bytes: a number of bytes")


def test_the_limits_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
    for said in (
        f"at\nmost {LARGEST // 1024} KiB of UTF-8",
        f"at most {LONGEST_GRACE:,}; `null`",
        f"| the record of a trigger | {LARGEST_TRIGGER:,} characters |",
        f"| fire times within a trigger's jitter | {limits.MOST_ACROSS:,} |",
        f"| searches for one fire time | {limits.MOST_SEARCHES:,}, ",
        f"an `and` counts for {MOST_STEPS:,} times",
        f"At most {MOST_COLLISIONS} elements of a set",
        f"or a text, of at least {SHORTEST_KEY} bytes",
    ):
        assert said in page
    assert timedelta(milliseconds=1) == limits.SHORTEST


EVERY_SECOND = CronTrigger(second="*", timezone="UTC")


@pytest.mark.parametrize(
    ("trigger", "word"),
    [
        (IntervalTrigger(microseconds=999, **START), "shorter than a millisecond"),
        (IntervalTrigger(seconds=1, jitter=2000, **START), "jitter: 2,000 fire times lie within"),
        (CronTrigger(second="*", timezone="UTC", jitter=1e6), "jitter: "),
        (CronTrigger(minute="*", timezone="UTC", jitter=61_000), "jitter: 1,017 fire times"),
        (OrTrigger([EVERY_SECOND, EVERY_SECOND], jitter=600), "jitter: 1,201 fire times"),
        (AndTrigger([AndTrigger([NOON]), NOON]), "400,000,000 searches"),
        (AndTrigger([OrTrigger([EVERY_SECOND] * 13), NOON]), "an inner 'and'"),
        (AndTrigger([OrTrigger([NOON, IntervalTrigger(microseconds=1, **START)])]), "millisecond"),
        (OrTrigger([NOON] * 250), "characters long, at most 16,384"),
    ],
)
def test_a_trigger_that_makes_the_scheduler_work_is_neither_written_nor_read(
    trigger: Any, word: str
) -> None:
    codec = Codec()
    text = changed(codec.dumps(job_of()), trigger=trigger.to_dict())
    for call in (lambda: codec.dumps(job_of(trigger=trigger)), lambda: codec.loads(text, 1)):
        message = refusal(call)
        assert message.startswith("trigger: ")
        assert word in message


@pytest.mark.parametrize(
    "trigger",
    [
        IntervalTrigger(seconds=0.001, **START),
        IntervalTrigger(seconds=1, jitter=900, **START),
        CronTrigger(second="*", timezone="UTC", jitter=600),
        CronTrigger(minute="*/5", timezone="UTC", jitter=3600),
        CronTrigger(hour=3, timezone="Europe/Berlin", jitter=86_400 * 300),
        OrTrigger([EVERY_SECOND] * 100),
        AndTrigger([EVERY_SECOND, OrTrigger([EVERY_SECOND] * 12)]),
    ],
)
def test_a_trigger_that_people_use_is_taken(trigger: Any) -> None:
    codec = Codec()
    text = codec.dumps(job_of(trigger=trigger))
    assert Codec().loads(text, 1).trigger == trigger


def test_a_trigger_nested_in_itself_is_refused() -> None:
    trigger = OrTrigger([NOON])
    trigger.triggers.append(trigger)
    message = refusal(lambda: Codec().dumps(job_of(trigger=trigger)))
    assert message == "trigger: nested too deeply, or within itself"


@pytest.mark.parametrize("levels", [70, 900, 1500, 1900, 50_000])
@pytest.mark.parametrize("inner", ["1", "NaN", '{"trigger": "date"}'])
def test_a_trigger_that_is_nested_in_text_is_a_valueerror(levels: int, inner: str) -> None:
    record = json.loads(Codec().dumps(job_of()))
    del record["trigger"]
    for opening, closing in (("[", "]"), ('{"trigger":', "}"), ('{"triggers":[', "]}")):
        trigger = opening * levels + inner + closing * levels
        assert refusal(Codec().loads, f'{json.dumps(record)[:-1]}, "trigger": {trigger}}}', 1)
        argument = changed(Codec().dumps(job_of("here"))).replace('"here"', trigger)
        assert refusal(Codec().loads, argument, 1)


def test_numbers_with_the_same_hash_do_not_stall_the_reader() -> None:
    values = [n * (2**61 - 1) for n in range(1, 66)]
    assert len(set(map(hash, values))) == 1
    codec = Codec()
    message = refusal(lambda: codec.dumps(job_of([set(values)])))
    assert message.startswith("args[0][0]: 65 elements have the same hash, 0; 64 may")
    message = refusal(lambda: codec.dumps(job_of(a=dict.fromkeys(values))))
    assert message.startswith('kwargs["a"]: 65 elements have the same hash')
    for many in ({"$": "set", "value": values}, {"$": "dict", "value": [[n, 1] for n in values]}):
        text = json.dumps({**json.loads(codec.dumps(job_of())), "args": [many]})
        assert "have the same hash" in refusal(codec.loads, text, 1)
    few = set(values[:64]) | set(range(1, 1000))
    assert codec.loads(codec.dumps(job_of(few)), 1).args == (few,)


def test_a_trigger_is_made_once_for_the_same_text() -> None:
    codec = Codec()
    texts = [
        codec.dumps(job_of(n, trigger=CronTrigger(hour=n % 3, timezone="UTC"))) for n in range(9)
    ]
    triggers = [codec.loads(text, 1).trigger for text in texts]
    assert len({id(each) for each in triggers}) == 3
    assert triggers[0] is triggers[3]
    assert [each.next_instant(-1) for each in triggers[:3]] == [0, 3_600_000_000, 7_200_000_000]
    # True is not 1, even for a cache.
    record = {"trigger": "interval", "version": 1, "hours": 1, **START}
    assert codec.loads(changed(texts[0], trigger=record), 1)
    message = refusal(lambda: codec.loads(changed(texts[0], trigger={**record, "hours": True}), 1))
    assert "hours" in message


def outcome(codec: Codec, text: str) -> Any:
    try:
        return to_record(codec.loads(text, NEXT))
    except ValueError as error:
        return str(error)


def test_a_record_says_the_same_read_by_parts_and_as_a_whole() -> None:
    parts, whole = Codec(), Codec()
    whole._parts.read = lambda *_: None  # type: ignore[method-assign]
    text = parts.dumps(job_of(1, "a", when=date(2030, 1, 1), to={"args": []}))
    plain = parts.dumps(job_of())
    failed = job_of(trigger=CronTrigger(hour=1, timezone="UTC"))
    failed.failure, failed.at_least_once = 'of "a" kind,', True
    id_, name, func = '"id":"tidy"', '"name":"Tidy up"', '"func":"copy:copy"'
    moved = '"args":[],"kwargs":{},"name":"other"'
    texts = [
        *(text, plain, parts.dumps(failed), f" {plain}", f"{plain} ", f"{plain}}}", plain[:-1]),
        # Members in other places, twice, too few and too many; and what only looks like them.
        plain.replace(f"{name},{func}", f"{func},{name}"),
        plain.replace(f"{name},{func}", f"{name},{func},{name}"),
        plain.replace(f"{name},{func}", f'{name},{func},"owner":"me"'),
        plain.replace(f"{name},{func}", name),
        plain.replace(f"{name},{func}", f'{name},{func},"a":{{"b":1'),
        plain.replace(f"{name},", ""),
        plain.replace('"args":[],"kwargs":{}', moved),
        plain.replace('"args":[],', ""),
        plain.replace('"args":[]', '"args":[[1,"],"]],"args":[2]'),
        plain.replace('"args":[]', '"args":[1'),
        plain.replace('"kwargs":{}', '"kwargs":{"args":[],"kwargs":{"a":1}}'),
        plain.replace('"kwargs":{}', '"kwargs":[]'),
        plain.replace('"kwargs":{}', '"kwargs":{},"id":"tidy up"'),
        plain.replace('"kwargs":{}', '"kwargs":{},"version":2'),
        plain.replace('"kwargs":{}', '"kwargs":{},"coalesce":false'),
        plain.replace('"coalesce":true', '"coalesce":1'),
        plain.replace('"coalesce":true,', ""),
        plain.replace('"coalesce":true,', '"coalesce":true,"at_least_once":0,'),
        plain.replace(f"{id_},", f"{id_} "),
        plain.replace('"kwargs":{},', '"kwargs":{"a":1}+'),
        plain.replace(id_, '"id":""'),
        plain.replace(id_, '"id":"k\u00e4se"'),
        plain.replace(id_, '"id":"tidy\\u0041"'),
        plain.replace(id_, '"id":7'),
        plain.replace(name, '"name":"k\u00e4se"'),
        plain.replace(name, '"name":",\\"args\\":["'),
        plain.replace(name, f'"name":"{"x" * 5000}"'),
        plain.replace('"trigger":{"trigger"', '"trigger":{"x":",\\"kwargs\\":{","trigger"'),
        '{"version":1,"id":"tidy"',
        '{"version":1,"id":"tidy","args":[],"kwargs":{}}',
    ]
    assert len(set(texts)) == len(texts)
    for one in [*texts, *reversed(texts)]:
        assert outcome(parts, one) == outcome(whole, one)
    assert parts._parts._manner.cache_info().hits > 10, "it was read by parts"


def test_triggers_that_are_alike_are_written_once_and_others_as_they_are() -> None:
    codec = Codec()
    given: list[dict[str, Any]] = [
        *({"hours": 1}, {"hours": 1.0}, {"minutes": 60}, {"hours": 1, "seconds": 1}),
        *({"hours": 1, "end_date": "2040-01-01"}, {"hours": 1, "jitter": 1}),
        *({"hours": 1, "start_date": "2030-01-02"}, {"hours": 1, "timezone": "Asia/Tokyo"}),
        *({"hours": 1, "timezone": zone} for zone in ("+01:00", timezone(timedelta(hours=1)))),
    ]
    for _ in range(2):
        for arguments in given:
            trigger = IntervalTrigger(**{**START, **arguments})
            trigger._seed = 1  # most that are drawn are too large for JSON, and written as texts
            text = codec.dumps(job_of(trigger=trigger))
            assert json.loads(text)["trigger"] == trigger.to_dict()
            restored = codec.loads(text, 1).trigger
            assert str(restored.to_dict()) == str(trigger.to_dict()), "1.0 is not 1"  # type: ignore[attr-defined]
    once = IntervalTrigger(hours=5, **START)
    codec.trigger_text(once)
    codec._texts[once._likeness()] = (once, "{}")
    assert codec.trigger_text(IntervalTrigger(hours=5, **START)) == "{}"

    class Slower(IntervalTrigger):
        kind = "slower"

        def _arguments(self) -> dict[str, Any]:
            return {**super()._arguments(), "hours": 6}

    try:
        assert json.loads(codec.trigger_text(Slower(hours=5, **START)))["hours"] == 6
    finally:
        del KINDS["slower"]


def test_more_triggers_than_are_cached_are_right_as_well() -> None:
    codec = Codec()
    for second in range(2500):
        trigger = IntervalTrigger(seconds=second + 1, **START)
        restored = codec.loads(codec.dumps(job_of(trigger=trigger)), 1).trigger
        assert isinstance(restored, IntervalTrigger)
        assert restored.interval == timedelta(seconds=second + 1)
    assert len(codec._texts) <= 1024
    assert codec._triggers.cache_info().currsize <= 1024


# Values of other types


def test_without_a_codec_or_a_key_the_ways_out_are_named() -> None:
    message = refusal(lambda: Codec().dumps(job_of(1, {"fruit": [Basket("apple")]})))
    assert message.startswith('args[1]["fruit"][0]: ')
    assert message.endswith(
        "or give the store a codec for its type (value_codecs), or a pickle_key, with which it is"
        " pickled and signed"
    )


BASKETS: Any = {
    Basket: ("basket", lambda basket: list(basket.fruits), lambda fruits: Basket(*fruits))
}


def test_a_codec_of_the_store_writes_and_reads_a_type() -> None:
    codec = Codec(value_codecs=BASKETS)
    text = codec.dumps(job_of([Basket("apple", "pear")], box=Basket()))
    assert json.loads(text)["args"] == [[{"$": "basket", "value": ["apple", "pear"]}]]
    restored = codec.loads(text, 1)
    assert restored.args == ([Basket("apple", "pear")],)
    assert restored.kwargs == {"box": Basket()}
    message = refusal(lambda: Codec().loads(text, 1))
    assert message.startswith("args[0][0]: the tag 'basket' is unknown; known: bytes, ")
    message = refusal(codec.loads, text.replace('["apple","pear"]', "7"), 1)
    assert message.startswith("args[0][0]: {'value': 7} is no basket: ")
    with pytest.raises(ValueError, match="which a record can't hold"):
        to_record(job_of(Basket()))


def test_the_codecs_may_be_named_in_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tocsin_shop_values.py").write_text(
        "class Coin(int): pass\nVALUES = {Coin: ('coin', int, Coin)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    codec = Codec(value_codecs="tocsin_shop_values:VALUES")
    import tocsin_shop_values  # type: ignore[import-not-found]

    coin = tocsin_shop_values.Coin(5)
    (restored,) = codec.loads(codec.dumps(job_of(coin)), 1).args
    assert type(restored) is tocsin_shop_values.Coin
    with pytest.raises(LookupError, match="tocsin_no_such"):
        Codec(value_codecs="tocsin_no_such:VALUES")


@pytest.mark.parametrize("tag", ["date", "pickle", "dict", ""])
def test_a_tag_that_is_taken_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=r"is taken|is empty"):
        Codec(value_codecs={Basket: (tag, list, Basket)})


# Signed pickles


def test_a_signed_pickle_comes_back() -> None:
    codec = Codec(pickle_key=KEY)
    text = codec.dumps(job_of("plain", [Basket("apple")], box=Basket(), when=date(2030, 1, 1)))
    record = json.loads(text)
    assert record["args"][0] == "plain"
    assert record["kwargs"]["when"] == {"$": "date", "value": "2030-01-01"}
    assert sorted(record["args"][1]) == ["$", "key", "mac", "value"]
    restored = codec.loads(text, 1)
    assert restored.args == ("plain", [Basket("apple")])
    assert restored.kwargs == {"box": Basket(), "when": date(2030, 1, 1)}
    assert codec.dumps(restored) == text


def signed_trap(**fields: Any) -> str:
    """Give a record with a pickle that springs a trap, signed with another key."""
    codec = Codec(pickle_key=OTHER)
    text = codec.dumps(job_of(Trap()))
    record = json.loads(text)
    record["args"][0].update(fields)
    return json.dumps(record)


def genuine_id(key: Any) -> str:
    record = json.loads(Codec(pickle_key=key).dumps(job_of(Basket())))
    return str(record["args"][0]["key"])


@pytest.mark.parametrize(
    ("codec", "fields", "reason"),
    [
        (Codec(), {}, "a pickle, which can run any code: it is read only by a store that was"),
        (Codec(pickle_key=KEY), {}, "a pickle signed with the key"),
        (Codec(pickle_key=KEY), {"key": genuine_id(KEY)}, "the signature of the pickle is wrong"),
        (Codec(pickle_key=KEY), {"key": genuine_id(KEY), "mac": ""}, "the signature of the"),
        (Codec(pickle_key=KEY), {"key": genuine_id(KEY), "mac": "Ä"}, "a malformed signed"),
        (Codec(pickle_key=KEY), {"key": genuine_id(KEY), "mac": None}, "a malformed signed"),
        (Codec(pickle_key=KEY), {"key": genuine_id(KEY), "value": "!"}, "a malformed signed"),
        (Codec(pickle_key=OTHER), {"mac": "00" * 32}, "the signature of the pickle is wrong"),
        (Codec(pickle_key=OTHER), {"more": 1}, "a signed pickle has the members"),
        (Codec(pickle_key=OTHER), {"key": ["a"]}, "key: a text is needed"),
    ],
)
def test_a_pickle_that_is_not_signed_with_our_key_is_never_unpickled(
    codec: Codec, fields: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = signed_trap(**fields)
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    message = refusal(lambda: codec.loads(text, 1))
    assert message.startswith("args[0]: ")
    assert reason in message
    assert not SPRUNG


def test_a_pickle_that_is_signed_with_our_key_is_trusted() -> None:
    Codec(pickle_key=OTHER).loads(signed_trap(), 1)
    assert SPRUNG.pop()


def test_an_unsigned_pickle_is_never_unpickled() -> None:
    value = b64encode(pickle.dumps(Trap())).decode()
    for codec in (Codec(), Codec(pickle_key=KEY)):
        for forged in (
            {"$": "pickle", "value": value},
            [{"$": "pickle", "value": value}],
            {"$": "dict", "value": [[1, {"$": "pickle", "value": value}]]},
        ):
            text = changed(codec.dumps(job_of()), args=[forged])
            assert "pickle" in refusal(codec.loads, text, 1)
    assert not SPRUNG


def test_a_signature_holds_for_one_argument_of_one_job() -> None:
    codec = Codec(pickle_key=KEY)
    text = codec.dumps(job_of(Basket("a"), Basket("b"), x=Basket("c"), y=Basket("d")))
    record = json.loads(text)
    first, second = record["args"]
    x, y = record["kwargs"]["x"], record["kwargs"]["y"]
    for fields in (
        {"args": [second, first]},
        {"args": [first, second, first]},
        {"args": [x, second]},
        {"kwargs": {"x": y, "y": x}},
        {"kwargs": {"x": first}},
        {"id": "other"},
        {"args": [{**first, "value": second["value"]}, second]},
    ):
        moved = changed(text, **fields)
        assert "signature of the pickle is wrong" in refusal(codec.loads, moved, 1)
    assert codec.loads(changed(text, name="renamed"), 1).args == (Basket("a"), Basket("b"))


def test_the_first_key_signs_and_all_verify() -> None:
    old = Codec(pickle_key=KEY).dumps(job_of(Basket()))
    both = Codec(pickle_key=[OTHER, KEY])
    restored = both.loads(old, 1)
    assert restored.args == (Basket(),)
    renewed = both.dumps(restored)
    assert Codec(pickle_key=[OTHER]).loads(renewed, 1).args == (Basket(),)
    assert "none of this store's pickle_key" in refusal(
        lambda: Codec(pickle_key=KEY).loads(renewed, 1)
    )


def test_keys_come_from_texts_variables_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    monkeypatch.setenv("TOCSIN_TEST_KEY", KEY.decode())
    text = Codec(pickle_key=KEY).dumps(job_of(Basket()))
    file, variable = f"file:{tmp_path / 'key'}", "env:TOCSIN_TEST_KEY"
    given: Any
    for given in (KEY.decode(), file, variable, [OTHER, variable], f"{file}, {variable}"):
        assert Codec(pickle_key=given).loads(text, 1).args == (Basket(),)
    monkeypatch.delenv("TOCSIN_TEST_KEY")
    message = refusal(lambda: Codec(pickle_key=variable))
    assert message == "pickle_key: the environment variable 'TOCSIN_TEST_KEY' is not set"
    with pytest.raises(FileNotFoundError):
        Codec(pickle_key=f"file:{tmp_path / 'none'}")


@pytest.mark.parametrize("given", [b"short", "short", [KEY, b"short"], "", b"", []])
def test_a_short_key_is_refused(given: Any) -> None:
    message = refusal(lambda: Codec(pickle_key=given))
    assert message.startswith("pickle_key: ")
    assert "'short'" not in message
    with pytest.raises(TypeError, match="pickle_key: bytes or a text is needed, not int"):
        Codec(pickle_key=[5])  # type: ignore[list-item]


def test_a_key_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    codec = Codec(pickle_key=[KEY, OTHER])
    text = codec.dumps(job_of(Basket()))
    shown = [repr(codec), str(codec), text, caplog.text, repr(vars(codec))]
    for call in (
        lambda: codec.dumps(job_of(lambda: None)),
        lambda: codec.loads(text.replace('"mac":"', '"mac":"00'), 1),
        lambda: Codec(pickle_key=KEY).loads(changed(text, id="x"), 1),
        lambda: Codec(pickle_key=[KEY, b"short"]),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        shown += [str(caught.value), repr(caught.value)]
    for secret in (KEY, OTHER):
        assert not [each for each in shown if secret.decode() in each or secret.hex() in each]


def test_what_can_not_be_pickled_is_refused_by_its_path() -> None:
    codec = Codec(pickle_key=KEY)
    message = refusal(lambda: codec.dumps(job_of(1, key=[lambda: None])))
    assert message.startswith('kwargs["key"]: ')
    assert "can't be pickled" in message


def test_what_belongs_to_the_running_program_is_not_pickled(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import copy\n"
        "from tocsin import DateTrigger\n"
        "from tocsin.codecs import Codec\n"
        "from tocsin.job import Job\n"
        "class Mine: pass\n"
        "for args in ([Mine()], [Mine], [Exception('__main__')]):\n"
        "    job = Job(None, copy.copy, DateTrigger(), tuple(args), {}, 'a', 'a', 'default',\n"
        "        None, True, 1, None)\n"
        "    try:\n"
        "        Codec(pickle_key='a key of 16 bytes').dumps(job)\n"
        "        print('written')\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    first, second, third = printed(sys.executable, script).splitlines()
    for line in (first, second):
        assert line.startswith("args[0]: ")
        assert line.endswith(
            "can't be pickled: Mine belongs to the program that happens to run, and another one"
            " can't find it; move it to a module"
        )
    assert third == "written"


def test_a_genuine_pickle_of_a_class_that_is_gone_is_a_valueerror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tocsin_passing.py").write_text("class Fashion: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import tocsin_passing  # type: ignore[import-not-found]

    codec = Codec(pickle_key=KEY)
    text = codec.dumps(job_of(tocsin_passing.Fashion()))
    del tocsin_passing.Fashion
    message = refusal(lambda: codec.loads(text, 1))
    assert message.startswith("args[0]: the pickle can't be restored: AttributeError: ")


# The modules that callables may come from


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a package with jobs, and with ways that lead out of it."""
    package = tmp_path / "tocsin_shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "jobs.py").write_text(
        "import logging, os, subprocess\n"
        "from functools import lru_cache, partial, wraps\n"
        "from os import getpid\n"
        "from subprocess import Popen\n"
        "log = logging.getLogger('shop')\n"
        "def send(*args): return args\n"
        "class Mail(str):\n"
        "    @classmethod\n"
        "    def sweep(cls): return 'swept'\n"
        "    @staticmethod\n"
        "    def count(): return 7\n"
        "cached = lru_cache(send)\n"
        "part = partial(os.getpid)\n"
        "@wraps(send)\n"
        "def wrapped(*args): return send(*args)\n"
    )
    (tmp_path / "tocsin_shopping.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("tocsin_shop")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("allowed", ["tocsin_shop", ["json", "tocsin_shop.jobs"], "a, tocsin_shop"])
def test_callables_of_allowed_modules_run(allowed: Any) -> None:
    codec = Codec(allowed_modules=allowed)
    for name in ("send", "Mail", "Mail.sweep", "Mail.count", "cached", "wrapped"):
        reference = f"tocsin_shop.jobs:{name}"
        codec.check_callable(reference)
        func = codec.resolve(reference)
        assert callable(func)
        restored = codec.loads(codec.dumps(job_of(func=reference)), 1)
        assert restored.func == func
    text = codec.dumps(job_of(func=codec.resolve("tocsin_shop.jobs:Mail.sweep")))
    restored = codec.loads(text, 1)
    assert restored.func_ref == "tocsin_shop.jobs:Mail.sweep"
    assert restored.func() == "swept"
    # What was read can be written again, and pickled, and stays restricted.
    assert codec.dumps(codec.loads(text, 1)) == text
    thawed = pickle.loads(pickle.dumps(codec.loads(changed(text, func="tocsin_shop.jobs:log"), 1)))
    with pytest.raises(ValueError, match="allowed_modules"):
        thawed.call()


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    "reference",
    ["tocsin_shopping:send", "tocsin_sho:send", "os:system", "builtins:eval", "tocsin_shop_:x"],
)
def test_callables_of_other_modules_are_refused_and_not_imported(reference: str) -> None:
    codec = Codec(allowed_modules="tocsin_shop")
    text = changed(Codec().dumps(job_of()), func=reference)
    modules = set(sys.modules)
    for call in (
        lambda: codec.check_callable(reference),
        lambda: codec.resolve(reference),
        lambda: codec.loads(text, 1),
        lambda: codec.dumps(job_of(func=reference)),
    ):
        message = refusal(call)
        assert message == (
            f"func: {reference!r} leads to {reference.partition(':')[0]!r}, which allowed_modules"
            " does not name; it has tocsin_shop"
        )
    assert set(sys.modules) == modules


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("os.system", "goes through the module 'posix'|goes through the module 'os'"),
        ("os.path.join", "goes through the module 'os'"),
        ("subprocess", "goes through the module 'subprocess'"),
        ("getpid", "leads to 'posix'"),
        ("Popen", "leads to 'subprocess'"),
        ("log.info", "leads to 'logging'"),
        ("part", "leads to 'functools'"),
        ("send.__class__", "leads to 'builtins'"),
        ("send.__globals__.get", "leads to no module"),
        ("send.__builtins__.get", "leads to no module"),
        ("Mail.__subclasses__", "leads to no module"),
        ("Mail.maketrans", "leads to no module"),
        ("Mail.sweep.__self__.__class__", "leads to 'builtins'"),
    ],
)
def test_what_an_allowed_module_has_from_elsewhere_is_refused(path: str, reason: str) -> None:
    codec = Codec(allowed_modules="tocsin_shop")
    reference = f"tocsin_shop.jobs:{path}"
    job = codec.loads(changed(codec.dumps(job_of(func="tocsin_shop.jobs:send")), func=reference), 1)
    for call in (lambda: codec.resolve(reference), job.call, lambda: job.func):
        assert re.search(reason, refusal(call))
    # Without a list everything goes, as everybody expects.
    assert Codec().resolve(reference) is not None


def test_a_submodule_is_named_before_the_colon() -> None:
    codec = Codec(allowed_modules="json")
    assert codec.resolve("json.decoder:JSONDecoder") is json.JSONDecoder
    message = refusal(lambda: codec.resolve("json:decoder.JSONDecoder"))
    assert message == (
        "func: 'json:decoder.JSONDecoder' goes through the module 'json.decoder'; write the module"
        " before the colon, and the callable after it"
    )


def test_an_inherited_method_of_another_module_is_refused_when_it_is_added() -> None:
    codec = Codec(allowed_modules=Stamp.__module__)
    assert codec.dumps(job_of(func=Stamp.here))
    assert "leads to no module" in refusal(lambda: codec.dumps(job_of(func=Stamp.now)))


class Stamp(datetime):
    @classmethod
    def here(cls) -> Stamp:
        return cls.now(timezone.utc)


@pytest.mark.parametrize("given", ["", [], "a..b", ["a:b"], "a b", "os.", ["*"]])
def test_a_wrong_list_of_modules_is_refused(given: Any) -> None:
    assert refusal(lambda: Codec(allowed_modules=given)).startswith("allowed_modules: ")


@pytest.mark.parametrize("codec", [Codec(), Codec(allowed_modules="functools, tests")])
def test_a_callable_without_a_record_is_refused(codec: Codec) -> None:
    def nested() -> None: ...

    for func, word in (
        (lambda: None, "lambda: give it a name in a module"),
        (nested, "defined inside a function: move it"),
        ("__main__:tidy", "move the function to a module"),
        (Basket().__eq__, "bound to an instance"),
        ("no colon", "module:name"),
        (f"os:{'a' * 1000}", "at most 1000 characters"),
    ):
        message = refusal(codec.dumps, job_of(func=func))
        assert message.startswith("func: ")
        assert word in message
