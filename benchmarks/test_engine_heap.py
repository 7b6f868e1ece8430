"""The heap of due jobs at 1,000,000 entries, against heapq with tuples."""

from __future__ import annotations

import random
import tracemalloc
from array import array
from collections.abc import Iterator
from heapq import heapify, heapreplace
from itertools import count

import pytest

from benchmarks.races import Contestant, Race, Report, ratios
from tocsin.engine.heap import DueHeap

ENTRIES = 1_000_000
BATCH = 20_000
DAY = 86_400_000_000


class Crowd:
    """The same entries in both heaps, spread over a day; a re-armed one comes within a day."""

    def __init__(self) -> None:
        chance = random.Random(1)
        self.item = object()
        self.heap = DueHeap()
        self.handles: list[int] = []
        self.rows: list[tuple[int, int, object]] = []
        for number in range(ENTRIES):
            when, item = chance.randrange(DAY), object()
            self.handles.append(self.heap.push(when, item))
            self.rows.append((when, number, item))
        heapify(self.rows)
        self.numbers = count(ENTRIES)
        self.delays = [chance.randrange(1, DAY) for _ in range(BATCH)]
        self.chance = chance
        self.choose()

    def choose(self) -> None:
        """Choose the entries to remove or to move."""
        self.places = self.chance.sample(range(ENTRIES), BATCH)
        self.victims = array("q", [self.handles[place] for place in self.places])

    def rearm(self) -> None:
        heap = self.heap
        for delay in self.delays:
            heap.rearm(heap.peek()[0] + delay)  # type: ignore[index]

    def rearm_rows(self) -> None:
        rows, numbers = self.rows, self.numbers
        for delay in self.delays:
            when, _, item = rows[0]
            heapreplace(rows, (when + delay, next(numbers), item))

    def rekey(self) -> None:
        heap = self.heap
        for handle, delay in zip(self.victims, self.delays, strict=True):
            heap.rekey(handle, heap.when(handle) + delay)

    def remove(self) -> None:
        remove = self.heap.remove
        for handle in self.victims:
            remove(handle)

    def put_back(self) -> None:
        now, _ = self.heap.peek() or (0, None)
        for place, delay in zip(self.places, self.delays, strict=True):
            self.handles[place] = self.heap.push(now + delay, self.item)
        self.choose()


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    assert len(crowd.heap) == len(crowd.rows) == ENTRIES


def test_heap(crowd: Crowd, race: Race, report: Report) -> None:
    times = race(
        {
            "re-arm": Contestant(crowd.rearm, BATCH),
            "heapreplace": Contestant(crowd.rearm_rows, BATCH),
            "remove": Contestant(crowd.remove, BATCH, crowd.put_back),
            "re-key": Contestant(crowd.rekey, BATCH, crowd.choose),
        },
        rounds=25,
    )
    size = "heap of 1,000,000"
    report.figure(
        f"{size}: heapreplace / re-arm", ratios(times, "heapreplace", "re-arm"), at_least=3
    )
    report.figure(
        f"{size}: re-arm / remove by handle", ratios(times, "re-arm", "remove"), at_least=1
    )
    report.figure(f"{size}: re-arm / re-key by handle", ratios(times, "re-arm", "re-key"))
    for name, each in times.items():
        report.figure(f"{size}: {name}, ns", each)


def test_memory(report: Report) -> None:
    """Measure what the heap allocates, at a million and wherever it is largest until 1,200,000."""
    heap = DueHeap()
    item = object()
    chance = random.Random(2)
    sizes = []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1, 1_200_001):
            heap.push(chance.randrange(DAY), item)
            if number >= ENTRIES and number % 1000 == 0:
                sizes.append((tracemalloc.get_traced_memory()[0] - before) / number)
    finally:
        tracemalloc.stop()
    assert len(heap) == 1_200_000
    report.figure("heap of 1,000,000: bytes an entry", sizes[:1], at_most=64)
    report.figure("heap of 1,000,000 and more: most bytes an entry", [max(sizes)], at_most=64)
