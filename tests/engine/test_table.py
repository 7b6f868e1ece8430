"""The table of due entries against a dictionary and a list; the same tests on both builds."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tocsin.engine.heap import Entry
from tocsin.engine.table import DueTable

INSTANTS = st.none() | st.integers(-5, 5)
KEYS = st.sampled_from("abcdefgh")


class Thing(Entry):
    """An entry as a job is one."""

    __slots__ = ("_next_run", "id")

    def __init__(self, key: str, instant: int | None) -> None:
        self.id = key
        self._next_run = instant


class TableAndModel(RuleBasedStateMachine):
    """Do the same to a table and to what says of each entry since when it waits for what."""

    @initialize()
    def start(self) -> None:
        self.table = DueTable()
        self.entries: dict[str, Thing] = {}
        # By key: the instant and the order of arrival, while it waits for one.
        self.waiting: dict[str, tuple[int, int]] = {}
        self.claims: list[Thing] = []
        self.gone: list[Thing] = []
        self.arrivals = 0

    def wait(self, thing: Thing, instant: int | None) -> None:
        """Have the model know what an entry waits for; a claim on it has ended."""
        self.waiting.pop(thing.id, None)
        self.claims = [each for each in self.claims if each is not thing]
        if instant is not None:
            self.arrivals += 1
            self.waiting[thing.id] = (instant, self.arrivals)

    def leave(self, thing: Thing) -> None:
        """Have the model know that an entry is taken out; a claim on it has ended."""
        self.wait(thing, None)
        del self.entries[thing.id]
        self.gone.append(thing)

    def enter(self, thing: Thing) -> None:
        if thing.id in self.entries:
            self.leave(self.entries[thing.id])
        self.entries[thing.id] = thing
        self.wait(thing, thing._next_run)

    @rule(things=st.lists(st.tuples(KEYS, INSTANTS), max_size=4), replace=st.booleans())
    def add(self, things: list[tuple[str, int | None]], replace: bool) -> None:
        added = [Thing(*each) for each in things]
        keys = [each.id for each in added]
        known = [key in self.entries or key in keys[:place] for place, key in enumerate(keys)]
        if any(known) and not replace:
            with pytest.raises(KeyError) as caught:
                self.table.add(added, replace)
            assert caught.value.args == (keys[known.index(True)],)
            self.arrivals += known.index(True)  # none of them is there, but the heap has seen them
            return
        assert self.table.add(added, replace) == known
        for thing in added:
            self.enter(thing)

    @rule(data=st.data(), instant=INSTANTS)
    def put(self, data: st.DataObject, instant: int | None) -> None:
        key = data.draw(KEYS | st.sampled_from(sorted(self.entries)) if self.entries else KEYS)
        thing = Thing(key, instant)
        if key not in self.entries:
            with pytest.raises(KeyError):
                self.table.put(thing)
            return
        self.table.put(thing)
        self.enter(thing)

    @rule(key=KEYS, instant=INSTANTS)
    def move(self, key: str, instant: int | None) -> None:
        thing = self.entries.get(key)
        assert self.table.get(key) is thing
        if thing is not None:
            self.table.move(thing, instant)
            self.wait(thing, instant)

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        if key not in self.entries:
            with pytest.raises(KeyError):
                self.table.remove(key)
            return
        self.table.remove(key)
        self.leave(self.entries[key])

    @rule(now=st.integers(-6, 6), limit=st.integers(0, 5))
    def claim(self, now: int, limit: int) -> None:
        ordered = sorted(self.waiting.items(), key=lambda item: item[1])
        due = [self.entries[key] for key, (instant, _) in ordered if instant <= now]
        assert self.table.due(now) == due
        assert self.table.claim(now, limit) == due[:limit]
        for thing in due[:limit]:
            self.wait(thing, None)
            self.claims.append(thing)

    def holds(self, thing: Thing) -> bool:
        return any(each is thing for each in self.claims)

    def some(self) -> st.SearchStrategy[Thing]:
        """Draw an entry, or one that is not there any more."""
        return st.sampled_from([*self.entries.values(), *self.gone])

    @rule(data=st.data(), instant=INSTANTS)
    def advance(self, data: st.DataObject, instant: int | None) -> None:
        if not self.entries:
            return
        things = data.draw(st.lists(self.some(), unique=True))
        held = [self.holds(thing) for thing in things]
        assert self.table.advance([(thing, 0, instant) for thing in things]) == held
        for thing, holds in zip(things, held, strict=True):
            if holds and instant is None:
                self.leave(thing)
            elif holds:
                self.wait(thing, instant)
                assert thing._next_run == instant

    @rule(data=st.data(), until=st.integers(-5, 5), offer=st.booleans())
    def give_back(self, data: st.DataObject, until: int, offer: bool) -> None:
        if not self.entries:
            return
        thing = data.draw(self.some())
        holds = self.holds(thing)
        if offer:
            self.table.release(thing, until)
        else:
            assert self.table.hold(thing) == holds
        if holds:
            self.wait(thing, until if offer else None)

    @rule()
    def clear(self) -> None:
        self.table.clear()
        for thing in [*self.entries.values()]:
            self.leave(thing)

    @invariant()
    def agree(self) -> None:
        assert {each.id: each for each in self.table.entries()} == self.entries
        ordered = sorted((*when, key) for key, when in self.waiting.items())
        first = None if not ordered else (ordered[0][0], self.entries[ordered[0][2]])
        assert self.table.peek() == first


TableAndModel.TestCase.settings = settings(stateful_step_count=40)
TestTableAndModel = TableAndModel.TestCase


def test_an_entry_of_another_kind_is_refused() -> None:
    class Stranger:
        id, _next_run = "a", 1
        __slots__ = ()

    table = DueTable()
    with pytest.raises((TypeError, AttributeError)):
        table.add([Stranger()], False)
