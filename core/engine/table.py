# cython: annotation_typing=False, binding=False, auto_pickle=False
"""A table of entries by key, those that wait for an instant ordered by it.

It is a dictionary and a heap, and what has to be done to both at once. Not thread-safe: its
owner holds a lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tocsin.engine import civil
from tocsin.engine.heap import DueHeap


def absent() -> int:
    """Give what an entry holds instead of a handle while it waits for nothing."""
    return -1


def claimed() -> int:
    """Give what it holds while it is claimed. Whatever else is done to it ends the claim."""
    return -2


class DueTable:
    """Entries by their ``id``, each waiting for the instant ``_next_run``, or, with None, for none.

    Which instant an entry waits for is read when it is added or put; `move`, `advance` and
    `release` are told. Each takes O(log n) for each entry, a look-up O(1).
    """

    def __init__(self) -> None:
        self._entries: dict[str, Any] = {}
        self._heap = DueHeap()

    def get(self, key: str) -> Any:
        """Give the entry of a key, or None; O(1)."""
        return self._entries.get(key)

    def entries(self) -> list[Any]:
        """List all entries, in no order that is promised; O(n)."""
        return list(self._entries.values())

    def add(self, entries: Sequence[Any], replace: bool) -> list[bool]:
        """Add entries, all or none; tell for each whether it replaced one.

        Raises KeyError for a key that is taken, unless they are to ``replace``.
        """
        known = self._entries
        replaced: list[bool] = []
        for item in entries:
            key = item.id
            old = known.get(key)
            if old is not None:
                if not replace:
                    for added in entries[: len(replaced)]:
                        del known[added.id]
                        self._drop(added)
                    raise KeyError(key)
                self._drop(old)
            known[key] = item
            self._wait(item, item._next_run)
            replaced.append(old is not None)
        return replaced

    def put(self, item: Any) -> None:
        """Put an entry in the place of the one of its key; KeyError without one."""
        self._drop(self._entries[item.id])
        self._entries[item.id] = item
        self._wait(item, item._next_run)

    def move(self, item: Any, instant: int | None) -> None:
        """Have an entry wait for another instant, or for none."""
        entry = item
        if instant is not None and entry._entry >= 0:
            self._heap.rekey(entry._entry, instant)
        else:
            self._drop(item)
            self._wait(item, instant)

    def remove(self, key: str) -> None:
        """Take an entry out; KeyError without one."""
        self._drop(self._entries.pop(key))

    def clear(self) -> None:
        """Take all entries out; O(n)."""
        for item in self._entries.values():
            entry = item
            entry._entry = absent()
        self._entries.clear()
        self._heap.clear()

    def due(self, now: int) -> list[Any]:
        """List what is due at ``now``, in order, and leave it; O(k log k) for so many."""
        return [item for _, item in self._heap.due(now)]

    def peek(self) -> tuple[int, Any] | None:
        """Give the earliest instant that is waited for, and its entry, or None; O(1)."""
        return self._heap.peek()

    def claim(self, now: int, limit: int) -> list[Any]:
        """Claim what is due at ``now``, in order, at most ``limit``: it is not offered again."""
        instant = civil.checked(now)
        found: list[Any] = []
        while len(found) < limit:
            item = self._heap.pop(instant)
            if item is None:
                break
            entry = item
            entry._entry = claimed()
            found.append(item)
        return found

    def advance(self, claims: Iterable[tuple[Any, int, int | None]]) -> list[bool]:
        """Have claimed entries wait for what follows, and set it; without it, take them out.

        A claim is an entry, the instant that it was claimed at, and what follows. Tells for each
        whether it still held.
        """
        held = []
        for item, _, following in claims:
            entry = item
            holds = entry._entry == claimed()
            held.append(holds)
            if holds and following is None:
                entry._entry = absent()
                del self._entries[item.id]
            elif holds:
                item._next_run = following
                self._wait(item, following)
        return held

    def release(self, item: Any, until: int) -> None:
        """Offer a claimed entry again, from an instant on, unless the claim has ended."""
        entry = item
        if entry._entry == claimed():
            self._wait(item, until)

    def hold(self, item: Any) -> bool:
        """Have a claimed entry wait for nothing; tell whether the claim held."""
        entry = item
        holds: bool = entry._entry == claimed()
        if holds:
            entry._entry = absent()
        return holds

    def _wait(self, item: Any, instant: Any) -> None:
        """Have an entry that is not in the heap wait for an instant, or for none."""
        entry = item
        if instant is None:
            entry._entry = absent()
        else:
            entry._entry = self._heap.add(civil.checked(instant), item)

    def _drop(self, item: Any) -> None:
        """Take an entry out of the heap; a claim on it no longer holds."""
        entry = item
        if entry._entry >= 0:
            self._heap.take(entry._entry)
        entry._entry = absent()
