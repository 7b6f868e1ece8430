# cython: annotation_typing=False, binding=False, auto_pickle=False
"""An indexed heap of due entries: the earliest in O(1), any by its handle in O(log n).

A 4-ary implicit heap over an array: all of the children of one entry lie in two cache lines,
and a comparison never leaves the array (see LaMarca and Ladner, "The influence of caches on the
performance of heaps", 1996). An entry costs 40 bytes and its share of the spare room that
growing arrays keep. Not thread-safe: its owner holds a lock.

What is taken out by its handle only leaves a mark: its row goes when it comes to the top, or with
all others when they are more than three quarters of the rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from operator import index
from typing import Any

from tocsin.engine import capi, civil


class Entry:
    """A base for items that keep their own handle: here it takes 8 bytes, as an object 36."""

    __slots__ = ("_entry",)

    _entry: int


class DueHeap:
    """Items ordered by instant, and, for equal instants, first in, first out.

    `push` gives a handle, an integer, good until the item leaves the heap; a handle that is no
    longer good raises KeyError, for a slot that is used again has another handle.
    """

    def __init__(self) -> None:
        # By heap position, at 3 * position: the instant, the order of arrival, and the slot.
        self._rows = array("q")
        # By slot, at 2 * slot: the heap position, or -2 less the next free slot if it is free;
        # beside it, for both are always wanted at once, the turn, or -1 less the turn if the item
        # has left its row. And the item.
        self._place = array("i")
        self._items: list[Any] = []
        # Rows, and how many of them no item is left of.
        self._size = 0
        self._left = 0
        self._free = -1
        self._arrivals = 0

    def __len__(self) -> int:
        return self._size - self._left

    def push(self, instant: int, item: object) -> int:
        """Add an item and give its handle; O(log n).

        Raises TypeError and OverflowError for what is no instant.
        """
        return self.add(civil.checked(instant), item)

    def add(self, when: int, item: object) -> int:
        """Do what `push` does, for the compiled modules beside this one."""
        if self._free < 0:
            self._grow()
        slot = self._free
        places = capi.int32s(self._place)
        self._free = -2 - places[2 * slot]
        turn = places[2 * slot + 1]
        self._items[slot] = item
        self._size += 1
        self._arrivals += 1
        self._settle(self._size - 1, when, self._arrivals, slot)
        return (turn << 31) + slot

    def pop(self, instant: int) -> Any:
        """Take out the earliest item if it is due at an instant, else give None; likewise."""
        self._clear_top()
        if self._size == 0 or capi.int64s(self._rows)[0] > instant:
            return None
        return self._take_top()

    def peek(self) -> tuple[int, Any] | None:
        """Give the earliest instant and its item, or None; O(1), and O(log n) for each removed."""
        self._clear_top()
        if self._size == 0:
            return None
        rows = capi.int64s(self._rows)
        slot = rows[2]
        return rows[0], self._items[slot]

    def due(self, now: int) -> list[tuple[int, Any]]:
        """List what is due at ``now``, in order, and leave it; O(k log k) for so many."""
        instant = civil.checked(now)
        rows = self._rows
        turns = self._place
        found = []
        places = [0]
        for place in places:  # it grows by the children of what is due
            if place < self._size and rows[3 * place] <= instant:
                if turns[2 * rows[3 * place + 2] + 1] >= 0:
                    found.append((rows[3 * place], rows[3 * place + 1], rows[3 * place + 2]))
                places.extend(range(place * 4 + 1, place * 4 + 5))
        found.sort()
        return [(when, self._items[slot]) for when, _, slot in found]

    def pop_due(self, now: int, limit: int | None = None) -> list[tuple[int, Any]]:
        """Take out what is due at ``now``, in order, at most ``limit``; O(log n) each."""
        instant = civil.checked(now)
        most = self._size if limit is None else max(min(index(limit), self._size), 0)
        due: list[tuple[int, Any]] = []
        while most > 0:
            self._clear_top()
            if self._size == 0:
                break
            when = capi.int64s(self._rows)[0]
            if when > instant:
                break
            due.append((when, self._take_top()))
            most -= 1
        return due

    def rearm(self, instant: int) -> Any:
        """Move the earliest item to another instant and give it; O(log n).

        The handle stays good. Raises IndexError when the heap is empty.
        """
        when = civil.checked(instant)
        self._clear_top()
        if self._size == 0:
            raise IndexError("the heap is empty")
        slot = capi.int64s(self._rows)[2]
        self._arrivals += 1
        self._settle(0, when, self._arrivals, slot)
        return self._items[slot]

    def rekey(self, handle: int, instant: int) -> None:
        """Move an item to another instant, behind those that wait for it; O(log n).

        Raises KeyError for a handle that is no longer good.
        """
        when = civil.checked(instant)
        slot = self._find(handle)
        self._arrivals += 1
        self._settle(capi.int32s(self._place)[2 * slot], when, self._arrivals, slot)

    def when(self, handle: int) -> int:
        """Give the instant of an item; O(1), KeyError if it is not there."""
        slot = self._find(handle)
        return capi.int64s(self._rows)[3 * capi.int32s(self._place)[2 * slot]]

    def remove(self, handle: int) -> Any:
        """Take an item out by its handle; O(1) over many, KeyError if it is not there."""
        return self.take(self._find(handle))

    def take(self, handle: int) -> Any:
        """Do what `remove` does with a handle that is good, for the modules beside this one."""
        slot = handle & 0x7FFFFFFF
        places = capi.int32s(self._place)
        item = self._items[slot]
        self._items[slot] = None
        places[2 * slot + 1] = -1 - places[2 * slot + 1]
        self._left += 1
        if 4 * self._left > 3 * self._size:
            self._purge()
        return item

    def clear(self) -> None:
        """Drop all items; their handles are no longer good. O(n)."""
        rows = capi.int64s(self._rows)
        for place in range(self._size):
            self._release(rows[3 * place + 2])
        self._size = 0
        self._left = 0

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Go through instants and items in order, as they were at the start; O(n log n)."""
        end = 3 * self._size
        columns = [self._rows[column:end:3] for column in range(3)]
        items, turns = self._items, self._place
        ordered = sorted(zip(*columns, strict=True))
        return iter([(when, items[slot]) for when, _, slot in ordered if turns[2 * slot + 1] >= 0])

    def _grow(self) -> None:
        """Add free slots, an eighth of those that are there."""
        size = len(self._items)
        more = size // 8 + 8
        if size + more > 0x7FFFFFFF:
            raise OverflowError(f"the heap is full: it holds {size} items")
        self._rows.frombytes(bytes(3 * more * self._rows.itemsize))
        self._place.frombytes(bytes(2 * more * self._place.itemsize))
        self._items.extend([None] * more)
        places = capi.int32s(self._place)
        for slot in range(size, size + more):
            places[2 * slot] = -3 - slot
        places[2 * (size + more - 1)] = -1  # the last one: none was free
        self._free = size

    def _find(self, handle: int) -> int:
        """Give the slot of a handle; KeyError if it is no longer good."""
        number = capi.exact_int(handle)
        slot = number & 0x7FFFFFFF
        places = capi.int32s(self._place)
        if (
            number < 0
            or slot >= len(self._items)
            or places[2 * slot + 1] != number >> 31
            or places[2 * slot] < 0
        ):
            raise KeyError(index(handle))
        return slot

    def _clear_top(self) -> None:
        """Take out rows at the top that no item is left of."""
        while self._left > 0:
            slot = capi.int64s(self._rows)[2]
            if capi.int32s(self._place)[2 * slot + 1] >= 0:
                break
            self._left -= 1
            self._take_top()

    def _take_top(self) -> Any:
        """Take out the first row, close the hole with the last one, and give the item."""
        rows = capi.int64s(self._rows)
        slot = rows[2]
        item = self._items[slot]
        self._release(slot)
        self._size -= 1
        last = self._size
        if last > 0:
            self._settle(0, rows[3 * last], rows[3 * last + 1], rows[3 * last + 2])
        if 4 * self._left > 3 * last:
            self._purge()
        return item

    def _purge(self) -> None:
        """Take out all rows that no item is left of; O(n)."""
        rows = capi.int64s(self._rows)
        places = capi.int32s(self._place)
        size = 0
        for place in range(self._size):
            slot = rows[3 * place + 2]
            if places[2 * slot + 1] < 0:
                self._release(slot)
                continue
            rows[3 * size] = rows[3 * place]
            rows[3 * size + 1] = rows[3 * place + 1]
            rows[3 * size + 2] = slot
            places[2 * slot] = size
            size += 1
        self._size = size
        self._left = 0
        # From the last parent up, as Floyd has it ("Treesort 3", 1964).
        for place in range((size - 2) // 4, -1, -1):
            when, order, slot = rows[3 * place], rows[3 * place + 1], rows[3 * place + 2]
            sink(rows, places, size, place, when, order, slot)

    def _release(self, slot: int) -> None:
        """Free a slot."""
        places = capi.int32s(self._place)
        turn = places[2 * slot + 1]
        if turn < 0:
            turn = -1 - turn
        places[2 * slot] = -2 - self._free
        places[2 * slot + 1] = (turn + 1) & 0x7FFFFFFF
        self._free = slot
        self._items[slot] = None

    def _settle(self, place: int, when: int, order: int, slot: int) -> None:
        """Put an entry at a position, then up or down to where it belongs."""
        settle(
            capi.int64s(self._rows),
            capi.int32s(self._place),
            self._size,
            place,
            when,
            order,
            slot,
        )

    def _check(self) -> None:
        """Raise AssertionError if an invariant does not hold; O(n), for tests."""
        free = set()
        slot = self._free
        while slot >= 0:
            if slot in free:
                raise AssertionError(f"slot {slot} is free twice")
            free.add(slot)
            slot = -2 - self._place[2 * slot]
        if len(free) + self._size != len(self._items):
            raise AssertionError(f"{len(free)} free, {self._size} used, of {len(self._items)}")
        rows = self._rows
        left = 0
        for place in range(self._size):
            slot = rows[3 * place + 2]
            left += self._place[2 * slot + 1] < 0
            if slot in free or self._place[2 * slot] != place:
                raise AssertionError(f"slot {slot} does not know its position {place}")
            up = (place - 1) // 4
            if place > 0 and rows[3 * place : 3 * place + 2] < rows[3 * up : 3 * up + 2]:
                raise AssertionError(f"position {place} is earlier than its parent {up}")
        if left != self._left or 4 * left > 3 * self._size:
            raise AssertionError(f"{left} of {self._size} rows have no item, not {self._left}")


def settle(
    rows: array[int],
    places: array[int],
    size: int,
    place: int,
    when: int,
    order: int,
    slot: int,
) -> None:
    """Move the hole at a position up, else down, to where an entry belongs; fill it there."""
    start = place
    while place > 0:
        up = 3 * ((place - 1) // 4)
        if rows[up] <= when:  # what goes up came last of all
            break
        rows[3 * place] = rows[up]
        rows[3 * place + 1] = rows[up + 1]
        rows[3 * place + 2] = rows[up + 2]
        places[2 * rows[up + 2]] = place
        place = up // 3
    # What has gone up is earlier than all below it, of which nothing needs to be looked at.
    sink(rows, places, size if place == start else 0, place, when, order, slot)


def sink(
    rows: array[int],
    places: array[int],
    size: int,
    place: int,
    when: int,
    order: int,
    slot: int,
) -> None:
    """Move the hole at a position down to where an entry belongs; fill it there."""
    child = place * 4 + 1
    while child < size:
        end = 3 * (child + 4 if child + 4 < size else size)
        least = 3 * child
        child = least + 3
        while child < end:
            if rows[child] < rows[least] or (
                rows[child] == rows[least] and rows[child + 1] < rows[least + 1]
            ):
                least = child
            child += 3
        if rows[least] > when or (rows[least] == when and rows[least + 1] > order):
            break
        rows[3 * place] = rows[least]
        rows[3 * place + 1] = rows[least + 1]
        rows[3 * place + 2] = rows[least + 2]
        places[2 * rows[least + 2]] = place
        place = least // 3
        child = place * 4 + 1
    rows[3 * place] = when
    rows[3 * place + 1] = order
    rows[3 * place + 2] = slot
    places[2 * slot] = place
