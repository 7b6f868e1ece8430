"""The heap of due jobs against a plain list; the same tests on both builds."""

from __future__ import annotations

import gc
import random
import sys
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.programs import printed

import tocsin
from tocsin.engine.heap import DueHeap

INSTANTS = st.integers(-5, 5) | st.integers(-(2**60), 2**60)


class HeapAndList(RuleBasedStateMachine):
    """Do the same to a heap and to a list of [instant, arrival, handle, item]."""

    @initialize()
    def start(self) -> None:
        self.heap = DueHeap()
        self.rows: list[list[int]] = []
        self.gone: list[int] = []
        self.arrivals = 0

    def arrive(self) -> int:
        self.arrivals += 1
        return self.arrivals

    @rule(instant=INSTANTS)
    def push(self, instant: int) -> None:
        item = self.arrive()
        handle = self.heap.push(instant, item)
        assert handle not in self.gone
        assert handle not in [row[2] for row in self.rows]
        self.rows.append([instant, item, handle, item])

    @rule(instants=st.lists(INSTANTS, min_size=5, max_size=30))
    def push_many(self, instants: list[int]) -> None:
        for instant in instants:
            self.push(instant)

    @rule(now=INSTANTS, limit=st.none() | st.integers(0, 4))
    def pop_due(self, now: int, limit: int | None) -> None:
        due = sorted(row for row in self.rows if row[0] <= now)
        assert self.heap.due(now) == [(row[0], row[3]) for row in due]
        due = due[:limit]
        assert self.heap.pop_due(now, limit) == [(row[0], row[3]) for row in due]
        for row in due:
            self.leave(row)

    @rule(instant=INSTANTS)
    def rearm(self, instant: int) -> None:
        if not self.rows:
            with pytest.raises(IndexError, match=r"^the heap is empty$"):
                self.heap.rearm(instant)
            return
        row = min(self.rows)
        assert self.heap.rearm(instant) == row[3]
        row[:2] = [instant, self.arrive()]

    @rule(instant=INSTANTS, data=st.data())
    def rekey(self, instant: int, data: st.DataObject) -> None:
        if self.rows:
            row = data.draw(st.sampled_from(self.rows))
            self.heap.rekey(row[2], instant)
            row[:2] = [instant, self.arrive()]

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.rows:
            row = data.draw(st.sampled_from(self.rows))
            assert self.heap.remove(row[2]) == row[3]
            self.leave(row)

    @rule(data=st.data())
    def use_a_stale_handle(self, data: st.DataObject) -> None:
        if self.gone:
            handle = data.draw(st.sampled_from(self.gone))
            with pytest.raises(KeyError):
                self.heap.remove(handle)
            with pytest.raises(KeyError):
                self.heap.rekey(handle, 0)
            with pytest.raises(KeyError):
                self.heap.when(handle)

    @rule()
    def clear(self) -> None:
        self.heap.clear()
        for row in self.rows[:]:
            self.leave(row)

    def leave(self, row: list[int]) -> None:
        self.rows.remove(row)
        self.gone.append(row[2])

    @invariant()
    def agree(self) -> None:
        self.heap._check()
        assert [self.heap.when(row[2]) for row in self.rows] == [row[0] for row in self.rows]
        ordered = [(row[0], row[3]) for row in sorted(self.rows)]
        assert list(self.heap) == ordered
        assert len(self.heap) == len(ordered)
        assert self.heap.peek() == (ordered[0] if ordered else None)


HeapAndList.TestCase.settings = settings(stateful_step_count=40)
TestHeapAndList = HeapAndList.TestCase


def test_equal_instants_leave_first_in_first_out() -> None:
    heap = DueHeap()
    for item in range(1000):
        heap.push(7, item)
    assert [item for _, item in heap] == list(range(1000))
    assert [item for _, item in heap.pop_due(7)] == list(range(1000))


def test_a_moved_entry_waits_behind_those_of_its_new_instant() -> None:
    heap = DueHeap()
    first, _, _ = (heap.push(1, item) for item in "abc")
    heap.rekey(first, 1)
    assert [item for _, item in heap] == ["b", "c", "a"]
    assert heap.rearm(1) == "b"
    assert [item for _, item in heap.pop_due(1)] == ["c", "a", "b"]


@pytest.mark.parametrize("size", [1000, 20_000])
def test_a_random_history_keeps_the_order(size: int) -> None:
    rng = random.Random(1)
    heap = DueHeap()
    handles = [heap.push(rng.randrange(size // 40), n) for n in range(size)]
    for handle in rng.sample(handles, size // 4):
        heap.rekey(handle, rng.randrange(size // 40))
    for handle in rng.sample(handles, size // 4):
        heap.remove(handle)
    heap._check()
    listed = list(heap)
    popped = []
    while len(heap):
        popped += heap.pop_due(size, 64)
    assert popped == listed
    assert [when for when, _ in popped] == sorted(when for when, _ in popped)


@pytest.mark.parametrize("size", [*range(1, 61), 200])
def test_what_is_left_of_many_keeps_its_order(size: int) -> None:
    """Down to the last one: what is taken out leaves its row at first, then all leave at once."""
    rng = random.Random(size)
    heap = DueHeap()
    handles = [heap.push(0, n) for n in range(size)]
    rows = {}
    for arrival, n in enumerate(rng.sample(range(size), size)):
        when = rng.randrange(size // 3 + 1)
        heap.rekey(handles[n], when)
        rows[n] = (when, arrival, n)
    while rows:
        if rng.random() < 0.2:
            when, _, n = min(rows.values())
            assert heap.pop_due(when, 1) == [(when, n)]
        else:
            n = rng.choice(list(rows))
            assert heap.remove(handles[n]) == n
        del rows[n]
        heap._check()
        assert list(heap) == [(when, each) for when, _, each in sorted(rows.values())]
        assert all(heap.when(handles[each]) == when for when, _, each in rows.values())


@pytest.mark.parametrize("handle", [-1, 0, 1, 5, 2**31, 2**40, 2**62, -(2**62)])
def test_a_handle_that_never_was(handle: int) -> None:
    heap = DueHeap()
    with pytest.raises(KeyError) as caught:
        heap.remove(handle)
    assert caught.value.args == (handle,)
    good = heap.push(1, "a")
    if handle != good:
        with pytest.raises(KeyError):
            heap.rekey(handle, 5)
    assert heap.remove(good) == "a"


@pytest.mark.parametrize(
    ("instant", "error"),
    [
        (2**60 + 1, OverflowError),
        (-(2**60) - 1, OverflowError),
        (2**80, OverflowError),
        (1.5, TypeError),
        (float("nan"), TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_instant_changes_nothing(instant: int, error: type[Exception]) -> None:
    heap = DueHeap()
    handle = heap.push(1, "a")
    for act in (
        lambda: heap.push(instant, "b"),
        lambda: heap.pop_due(instant),
        lambda: heap.rearm(instant),
        lambda: heap.rekey(handle, instant),
    ):
        with pytest.raises(error):
            act()
    heap._check()
    assert list(heap) == [(1, "a")]


class Item:
    pass


def test_items_are_let_go() -> None:
    heap = DueHeap()
    items = [Item() for _ in range(4)]
    alive = [weakref.ref(item) for item in items]
    handles = [heap.push(n, item) for n, item in enumerate(items)]
    del items
    heap.remove(handles[3])
    assert [each() is not None for each in alive] == [True, True, True, False]
    heap.pop_due(0)
    assert [each() is not None for each in alive] == [False, True, True, False]
    heap.clear()
    assert not any(each() for each in alive)
    heap.push(1, Item())
    ref = weakref.ref(heap)
    del heap
    gc.collect()
    assert ref() is None


LEAK = """
import resource, sys, tracemalloc
from tocsin.engine.heap import DueHeap

def work(operations):
    heap = DueHeap()
    handles = [heap.push(n, n) for n in range(10_000)]
    for n in range(operations // 5):
        slot = n * 7919 % 10_000
        heap.remove(handles[slot])
        handles[slot] = heap.push(n, n)
        heap.rekey(handles[slot], n + 5)
        heap.rearm(n + 9)
        heap.pop_due(-1)
    heap._check()
    heap.clear()

def resident():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

operations = int(sys.argv[1])
work(operations // 50)
before = resident()
work(operations)
grown = resident() - before
tracemalloc.start()
work(operations // 50)
start = tracemalloc.get_traced_memory()[0]
work(operations // 50)
print(grown, tracemalloc.get_traced_memory()[0] - start)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_ten_million_operations_leak_nothing() -> None:
    """In a process of its own, for its peak; half a million operations when interpreted."""
    operations = 10_000_000 if tocsin.COMPILED else 500_000
    figures = printed(sys.executable, "-c", LEAK, str(operations), patience=280)
    resident, traced = map(int, figures.split())
    assert resident < 4_000_000  # a byte an operation would be 10 million
    assert traced < 10_000
