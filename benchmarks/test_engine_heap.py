"""The heap of due jobs at 1,000 to 1,000,000 entries, against heapq with tuples and interpreted."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from benchmarks.crowd import DAY, Crowd
from benchmarks.races import SIZES, Contestant, Race, Report, ratios
from tocsin import _twin
from tocsin.engine.heap import DueHeap

ENTRIES = 1_000_000
BATCH = 20_000


@pytest.mark.parametrize("entries", SIZES)
def test_heap(entries: int, race: Race, report: Report) -> None:
    batch = min(BATCH, entries // 2)
    crowd = Crowd(DueHeap(), entries, batch)
    interpreted = _twin.load_interpreted()["tocsin.engine.heap"].DueHeap
    pure = Crowd(interpreted(), entries, batch // 10)
    times = race(
        {
            "re-arm": Contestant(crowd.rearm, batch),
            "heapreplace": Contestant(crowd.rearm_rows, batch),
            "remove": Contestant(crowd.remove, batch, crowd.put_back),
            "re-key": Contestant(crowd.rekey, batch, crowd.choose),
            "re-arm, interpreted": Contestant(pure.rearm, batch // 10),
            "remove, interpreted": Contestant(pure.remove, batch // 10, pure.put_back),
            "re-key, interpreted": Contestant(pure.rekey, batch // 10, pure.choose),
        },
        rounds=25,
    )
    assert len(crowd.heap) == len(crowd.rows) == len(pure.heap) == entries
    size = f"heap of {entries:,}"
    held = entries == ENTRIES
    found = ratios(times, "heapreplace", "re-arm")
    report.figure(f"{size}: heapreplace / re-arm", found, at_least=3 if held else None)
    report.point("cost-heap", "ratio", "heapreplace / re-arm", entries, found)
    found = ratios(times, "re-arm", "remove")
    report.figure(f"{size}: re-arm / remove by handle", found, at_least=1 if held else None)
    report.figure(f"{size}: re-arm / re-key by handle", ratios(times, "re-arm", "re-key"))
    for step in ("re-arm", "remove", "re-key"):
        found = ratios(times, f"{step}, interpreted", step)
        report.figure(f"{size}: {step}, interpreted / compiled", found)
        report.point("compiled", "ratio", f"heap: {step}", entries, found)
    for name, each in times.items():
        report.figure(f"{size}: {name}, ns", each)
        report.point("cost-heap", "time", name, entries, each)


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
