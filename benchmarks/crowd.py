"""The same entries in tocsin's heap of due jobs and in a list of ``heapq``."""

from __future__ import annotations

import random
from array import array
from heapq import heapify, heapreplace
from itertools import count
from typing import Any

DAY = 86_400_000_000


class Crowd:
    """So many entries in both heaps, spread over a day; a re-armed one comes within a day.

    ``heap`` is an empty `tocsin.engine.heap.DueHeap`, compiled or interpreted; ``batch`` entries
    are re-armed, moved or removed at a time.
    """

    def __init__(self, heap: Any, entries: int, batch: int) -> None:
        chance = random.Random(1)
        self.item = object()
        self.heap = heap
        self.handles: list[int] = []
        self.rows: list[tuple[int, int, object]] = []
        for number in range(entries):
            when, item = chance.randrange(DAY), object()
            self.handles.append(self.heap.push(when, item))
            self.rows.append((when, number, item))
        heapify(self.rows)
        self.numbers = count(entries)
        self.delays = [chance.randrange(1, DAY) for _ in range(batch)]
        self.chance = chance
        self.choose()

    def choose(self) -> None:
        """Choose the entries to remove or to move."""
        self.places = self.chance.sample(range(len(self.handles)), len(self.delays))
        self.victims = array("q", [self.handles[place] for place in self.places])

    def rearm(self) -> None:
        """Move the first entry to some time later, over and over."""
        heap = self.heap
        for delay in self.delays:
            heap.rearm(heap.peek()[0] + delay)

    def rearm_rows(self) -> None:
        """Do the same with ``heapreplace``."""
        rows, numbers = self.rows, self.numbers
        for delay in self.delays:
            when, _, item = rows[0]
            heapreplace(rows, (when + delay, next(numbers), item))

    def rekey(self) -> None:
        """Move entries wherever they are."""
        heap = self.heap
        for handle, delay in zip(self.victims, self.delays, strict=True):
            heap.rekey(handle, heap.when(handle) + delay)

    def remove(self) -> None:
        """Remove entries wherever they are; `put_back` has to follow."""
        remove = self.heap.remove
        for handle in self.victims:
            remove(handle)

    def put_back(self) -> None:
        """Add as many entries as were removed, and choose others."""
        now, _ = self.heap.peek() or (0, None)
        for place, delay in zip(self.places, self.delays, strict=True):
            self.handles[place] = self.heap.push(now + delay, self.item)
        self.choose()
