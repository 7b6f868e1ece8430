"""Guards of the single source: a ``.pxd`` is used, is complete, and changes no result."""

from __future__ import annotations

import ast
import re
from array import array
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.zones import ZONES, moments

import tocsin
from tocsin import _twin
from tocsin.engine import civil, cron, heap, periodic, schedule, table, zone

COMPILED = {
    each.__name__.rpartition(".")[2]: each
    for each in (civil, cron, heap, periodic, schedule, table, zone)
}
FOLDER = Path(tocsin.__file__).parent / "engine"

_CLASS = re.compile(r"cdef class (\w+)")
_FUNCTION = re.compile(r"(cp?def)\s+(?:inline\s+)?[\w*]+(?:\s+[\w*]+)?\s+\**(\w+)\s*\(")
_ATTRIBUTES = re.compile(
    r"cdef (?!class|public|readonly|inline|extern)(?:unsigned )?\w+ ([\w, ]+)$"
)
_LOCALS = re.compile(r"@cython\.locals\((.*?)\)\s*(?=\n\s*cp?def)", re.DOTALL)


def declarations(name: str) -> Iterator[tuple[str, str, str, set[str]]]:
    """Give what a ``.pxd`` declares: its class, the kind, the name, and the names of its locals."""
    text = re.sub(r"#.*", "", (FOLDER / f"{name}.pxd").read_text(encoding="utf-8"))
    owner = ""
    position = 0
    locals_: set[str] = set()
    for line in text.splitlines(keepends=True):
        here, position = position, position + len(line)
        if line.strip() and not line[0].isspace() and line[0] not in ")":
            owner = ""
        if match := _CLASS.match(line):
            owner = match[1]
        elif "@cython.locals(" in line:
            found = _LOCALS.search(text, here)
            assert found is not None, f"{name}.pxd: {line}"
            locals_ = set(re.findall(r"(\w+)\s*=", found[1]))
        elif match := _FUNCTION.match(line.strip()):
            yield owner, match[1], match[2], locals_
            locals_ = set()
        elif match := _ATTRIBUTES.match(line.rstrip().lstrip() if owner else ""):
            for each in match[1].split(","):
                yield owner, "attribute", each.strip(), set()


def test_every_compiled_module_is_guarded() -> None:
    stems = {path.stem for path in FOLDER.glob("*.pxd")} - {"__init__", "capi"}
    assert stems == set(COMPILED) == set(_twin.MODULES)


@pytest.mark.parametrize("name", COMPILED)
def test_the_build_is_the_one_that_was_asked_for(name: str) -> None:
    file = COMPILED[name].__file__
    assert file is not None
    assert file.endswith(".py") != tocsin.COMPILED


@pytest.mark.compiled
@pytest.mark.parametrize("name", COMPILED)
def test_the_declarations_were_used(name: str) -> None:
    """Cython ignores a ``.pxd`` that it does not find: what is cdef must be out of sight."""
    hidden = [
        (owner, each)
        for owner, kind, each, _ in declarations(name)
        if kind in ("cdef", "attribute")
    ]
    module: Any = COMPILED[name]
    assert hidden or name == "civil"
    for owner, each in hidden:
        assert not hasattr(getattr(module, owner) if owner else module, each), (owner, each)
    for owner in {owner for owner, *_ in declarations(name) if owner}:
        assert type(getattr(module, owner).__init__).__name__ == "wrapper_descriptor"


_SCOPES = (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp, ast.Lambda)


def assigned(function: ast.FunctionDef) -> set[str]:
    """List the names that a function assigns, parameters aside; comprehensions have their own."""
    found: set[str] = set()
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(
            node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp, ast.Lambda)
        ):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        todo.extend(ast.iter_child_nodes(node))
    arguments = function.args
    return found - {each.arg for each in (*arguments.args, *arguments.kwonlyargs)}


@pytest.mark.parametrize("name", COMPILED)
def test_no_local_is_untyped(name: str) -> None:
    """One untyped local costs a factor of ten, and no compiler says so."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    functions = {("", node.name): node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for node in owner.body:
            if isinstance(node, ast.FunctionDef):
                functions[owner.name, node.name] = node
    checked = 0
    for owner, kind, each, locals_ in declarations(name):
        if kind == "attribute":
            continue
        function = functions[owner, each]
        parameters = {argument.arg for argument in function.args.args}
        assert assigned(function) <= locals_, f"{owner}.{each} has untyped locals"
        unused = locals_ - assigned(function) - parameters
        assert not unused, f"{owner}.{each} declares {unused}"
        checked += 1
    assert checked


# --- Compiled and interpreted give the same, bit for bit ---


@pytest.fixture(scope="module")
def source() -> dict[str, ModuleType]:
    return {name.rpartition(".")[2]: module for name, module in _twin.load_interpreted().items()}


def outcome(function: Any, *arguments: Any) -> object:
    try:
        return function(*arguments)
    except Exception as error:
        return type(error), str(error)


SCHEDULE_CALLS = ("next", "previous", "moment", "next_datetime", "previous_datetime", "instant")
NUMBERS = (
    st.integers(-63_000_000_000_000_000, 254_000_000_000_000_000)
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 2**60, 2**60 + 1, -(2**60), 1.5, "1", None, True])
)
# Few, for an interpreted table of a zone from the year 1 to 9999 takes a second to make.
ZONE = st.sampled_from([ZONES[name] for name in ("Australia/Lord_Howe", "Pacific/Apia", "UTC")])
MOMENTS = ZONE.flatmap(moments) | st.datetimes() | st.integers()


def compare(left: Any, right: Any, data: st.DataObject) -> None:
    """Ask both schedules the same."""
    for name in SCHEDULE_CALLS:
        argument = data.draw(MOMENTS if "datetime" in name or name == "instant" else NUMBERS)
        if name == "moment" and not (isinstance(argument, int) and abs(argument) <= 2**60):
            continue  # for the engine alone, which passes instants
        a, b = (outcome(getattr(each, name), argument) for each in (left, right))
        assert a == b, name
        if isinstance(a, datetime) and isinstance(b, datetime):
            assert (a.tzinfo, a.fold, a.replace(tzinfo=None)) == (
                b.tzinfo,
                b.fold,
                b.replace(tzinfo=None),
            )
    after, until = data.draw(NUMBERS), data.draw(NUMBERS)
    cells = array("q", bytes(8 * 6)), array("q", bytes(8 * 6))
    assert outcome(left.fill, cells[0], after, until) == outcome(right.fill, cells[1], after, until)
    assert cells[0] == cells[1]


def masks(low: int, high: int) -> st.SearchStrategy[int]:
    bits = st.sets(st.integers(low, high), min_size=1).map(lambda s: sum(1 << n for n in s))
    return (
        bits | st.just((1 << (high + 1)) - (1 << low)) | st.integers(low, high).map((1).__lshift__)
    )


BOUND = st.none() | st.integers(-62_000_000_000_000_000, 253_000_000_000_000_000)


@pytest.mark.compiled
@given(data=st.data(), tz=ZONE, first=BOUND, last=BOUND, once=st.booleans(), either=st.booleans())
def test_cron_is_the_same(
    source: dict[str, ModuleType],
    data: st.DataObject,
    tz: tzinfo,
    first: int | None,
    last: int | None,
    once: bool,
    either: bool,
) -> None:
    rare = st.just(0) | masks(0, 30)
    nth = st.just(0) | masks(0, 41)
    clock = [data.draw(masks(0, high)) for high in (59, 59, 23)]
    days = [data.draw(each) for each in (masks(1, 31), rare, rare, nth)]
    weekdays = [data.draw(masks(0, 6)), data.draw(nth)]
    rest = [data.draw(masks(1, 53)), data.draw(masks(1, 12))]
    years = data.draw(st.none() | masks(1, 9999))
    arguments = (tz, first, last, once, *clock, *days, *weekdays, either, *rest, years)
    left, right = (each.CronSchedule(*arguments) for each in (cron, source["cron"]))
    possible = left.can_match()
    assert right.can_match() == possible
    if possible:  # no trigger holds another one, and it would search up to the year 9999
        compare(left, right, data)


@pytest.mark.compiled
@given(data=st.data(), tz=ZONE, start=BOUND.map(lambda n: n or 0), last=BOUND)
def test_intervals_are_the_same(
    source: dict[str, ModuleType], data: st.DataObject, tz: tzinfo, start: int, last: int | None
) -> None:
    step = data.draw(st.integers(1, 10**9) | st.integers(1, 2**60))
    left, right = (
        each.IntervalSchedule(tz, start, last, step) for each in (periodic, source["periodic"])
    )
    compare(left, right, data)


def steps(module: Any, edge: Any, first: int, last: int | None, step: int) -> Any:
    """Make steps with what an interval trigger gives them."""
    made = module.Steps()
    made._edge = edge
    made._interval = module.Interval({}, "", None, step)
    made._jitter = None
    made._first, made._last = first, last
    return made


@pytest.mark.compiled
@given(data=st.data(), tz=ZONE, first=BOUND.map(lambda n: n or 0), last=BOUND)
def test_steps_are_the_same(
    source: dict[str, ModuleType], data: st.DataObject, tz: tzinfo, first: int, last: int | None
) -> None:
    step = data.draw(st.integers(1, 10**9) | st.integers(1, 2**60))
    bounds = first, last, step
    left = steps(periodic, schedule.Schedule(tz), *bounds)
    right = steps(source["periodic"], source["schedule"].Schedule(tz), *bounds)
    previous, now = data.draw(st.none() | NUMBERS), data.draw(NUMBERS)
    assert outcome(left.next_run, previous, now, None) == outcome(
        right.next_run, previous, now, None
    )
    assert outcome(left.latest_run, first, now, None) == outcome(right.latest_run, first, now, None)
    assert left.moment(first, None) == right.moment(first)


@pytest.mark.compiled
@given(
    data=st.data(),
    tz=ZONE,
    last=BOUND,
    anchor=st.integers(306, 3652364),
    months=st.integers(0, 40) | st.integers(0, 4_000_000),
    days=st.integers(1, 40) | st.integers(1, 4_000_000),
    time=st.integers(0, 86_399_999_999),
)
def test_calendar_intervals_are_the_same(
    source: dict[str, ModuleType],
    data: st.DataObject,
    tz: tzinfo,
    last: int | None,
    anchor: int,
    months: int,
    days: int,
    time: int,
) -> None:
    left, right = (
        each.CalendarSchedule(tz, last, anchor, months, days, time)
        for each in (periodic, source["periodic"])
    )
    compare(left, right, data)


@pytest.mark.compiled
@given(day=st.integers(306, 3652364), local=st.integers(-62_000_000_000_000_000, 2**60))
def test_the_calendar_is_the_same(source: dict[str, ModuleType], day: int, local: int) -> None:
    twin: Any = source["civil"]
    date = civil.civil_from_days(day)
    year, month, number = date >> 9, date >> 5 & 15, date & 31
    assert twin.civil_from_days(day) == date
    assert (
        twin.days_from_civil(year, month, number)
        == day
        == civil.days_from_civil(year, month, number)
    )
    assert twin.month_length(year, month) == civil.month_length(year, month)
    assert twin.weekday(day) == civil.weekday(day) == datetime(year, month, number).weekday()
    assert (
        twin.iso_week(day) == civil.iso_week(day) == datetime(year, month, number).isocalendar()[1]
    )
    seconds = civil.seconds_from_micros(local)
    assert twin.seconds_from_micros(local) == seconds
    assert twin.micros_from_seconds(seconds) == civil.micros_from_seconds(seconds)
    assert twin.forever() == civil.forever() == 2**62


OPERATION = st.tuples(
    st.sampled_from(("push", "pop_due", "rearm", "rekey", "remove", "clear", "peek")),
    st.integers(-3, 3) | NUMBERS,
    st.integers(0, 20) | NUMBERS,
)


@pytest.mark.compiled
@given(operations=st.lists(OPERATION, max_size=60))
def test_the_heap_is_the_same(
    source: dict[str, ModuleType], operations: list[tuple[str, Any, Any]]
) -> None:
    left, right = heap.DueHeap(), source["heap"].DueHeap()
    handles: list[int] = []
    for count, (name, instant, pick) in enumerate(operations):
        chosen = handles[pick % len(handles)] if handles and type(pick) is int else pick
        arguments = {
            "push": (instant, count),
            "pop_due": (instant, None if pick is None else pick),
            "rearm": (instant,),
            "rekey": (chosen, instant),
            "remove": (chosen,),
        }.get(name, ())
        a, b = (outcome(getattr(each, name), *arguments) for each in (left, right))
        assert a == b, (name, arguments)
        if name == "push" and isinstance(a, int):
            handles.append(a)
        left._check()
        right._check()
        assert list(left) == list(right)
