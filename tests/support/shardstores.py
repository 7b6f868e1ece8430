"""The suite of shared stores, for those that divide shards among sessions of their server."""

from __future__ import annotations

import itertools
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
from support import rowstores

from tocsin.clock import SystemClock
from tocsin.errors import ConflictingIdError
from tocsin.job import Job
from tocsin.stores.shards import ShardJobStore
from tocsin.stores.shardstate import Shard
from tocsin.stores.tree import Op, Unavailable
from tocsin.testing import SharedStoreCompliance

_DEADLINE = 20.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something holds that other threads bring about."""
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def started() -> AbstractContextManager[Callable[[Any], Any]]:
    """Give what starts a store by a scheduler on the system's clock; at the end they stop."""
    return rowstores.started(clock=SystemClock())


def job(job_id: str, due: float | None = 3600, **options: Any) -> Job:
    """Make a job that is due in so many seconds."""
    moment = None if due is None else SystemClock().now() + round(due * 1e6)
    return rowstores.job(job_id, moment, **{"name": job_id, "args": (1,), **options})


def advanced(store: ShardJobStore, limit: int = 1000) -> list[str]:
    """Claim what is due, move it on by an hour, and give the ids of what was had."""
    jobs = store.claim(SystemClock().now(), limit)
    steps = [(each, each._next_run or 0, (each._next_run or 0) + 3600_000_000) for each in jobs]
    return [each.id for each, held in zip(jobs, store.advance(steps), strict=True) if held]


def leads(stores: Sequence[ShardJobStore]) -> list[int]:
    """Give how many shards each leads, when all have looked."""
    for store in stores:
        store.next_due()
    return [len(store._led) for store in stores]


class ShardStoreCompliance(SharedStoreCompliance):
    """The suite for stores whose members are sessions of a server, and who lead shards.

    Leases do not run out with a fake clock here: the sessions of abandoned stores are ended on
    the server, as it does itself when their time is over.
    """

    def cut(self, store: ShardJobStore) -> Callable[[], None]:
        """Disconnect a store and leave its session; give a function that ends the session."""
        raise NotImplementedError

    def write(self, path: str, data: bytes) -> None:
        """Write a node that is there, of a path in the store."""
        raise NotImplementedError

    def write_record(self, job_id: str, text: str) -> None:
        store: Any = self._stores[0]
        self.write(Shard(store._number(job_id)).definition(job_id), text.encode())
        for each in self._stores:
            each._fresh.clear()  # type: ignore[attr-defined]

    def setup_method(self) -> None:
        super().setup_method()
        self._sessions: list[Callable[[], None]] = []

    def abandon(self, store: Any) -> None:
        store._stop_keeping()
        self._sessions.append(self.cut(store))
        self._stores.remove(store)

    def expire(self) -> None:
        while self._sessions:
            self._sessions.pop()()
        self.clock.advance(self.lease + 1)

    def outlive(self, store: Any) -> None:
        store._stop_keeping()
        session = store._tree.session
        self.end(store)
        wait_until(lambda: store._tree.session > session and store._tree.connected)
        self.clock.advance(self.lease + 1)

    def end(self, store: Any) -> None:
        """End the session of a store that is connected."""
        raise NotImplementedError

    def move(self, giver: Any, taker: Any) -> None:
        """Have one store lead what another one led."""
        taker.claim(self.clock.now() - 10**12, 1)
        giver._stand_back(giver._member)
        wait_until(lambda: bool(taker.claim(self.clock.now() - 10**12, 1)) or _leads_all(taker))

    def break_take_over(self, arrived: bool) -> Any:
        """Give a store that does not hear whether it has taken over the runs of another one."""
        one, other = self.open(), self.open()
        one.add_jobs([self.job("once"), self.job("again", at_least_once=True)], False)
        self.started(one)
        self.abandon(one)
        self.expire()
        store: Any = other
        wait_until(lambda: not store.claim(self.at(-60), 1) and _leads_all(store))
        commit = store._tree.commit

        def unheard(transactions: Sequence[Sequence[Op]]) -> None:
            if arrived:
                commit(transactions)
            raise Unavailable("the answer was lost")

        store._tree.commit = unheard
        try:
            with pytest.raises(Unavailable):
                self.recovered(store)
        finally:
            del store._tree.commit
        return store

    @pytest.mark.parametrize("arrived", [True, False])
    def test_what_is_taken_over_is_not_lost_with_the_answer(self, arrived: bool) -> None:
        store = self.break_take_over(arrived)
        found = {each.job_id: each for each in self.recovered(store)}
        assert found.keys() == {"once", "again"}
        assert found["again"].job is not None
        self.told(found["once"])
        assert self.settled(store, found["again"].job) == [True]
        self.clock.advance(self.lease / 2)
        assert self.recovered(store) == []

    def test_what_was_taken_over_before_is_given_though_the_next_take_over_fails(self) -> None:
        store = self.break_take_over(True)

        def unavailable() -> list[Any]:
            raise Unavailable("the connection broke")

        store._orphans = unavailable
        found = {each.job_id: each for each in self.recovered(store)}
        assert found.keys() == {"once", "again"}
        self.told(found["once"])
        self.clock.advance(self.lease / 2)
        with pytest.raises(Unavailable):
            self.recovered(store)
        del store._orphans
        assert self.recovered(store) == []

    @pytest.mark.parametrize("arrived", [True, False])
    def test_what_may_have_been_taken_over_is_left_to_others(self, arrived: bool) -> None:
        store = self.break_take_over(arrived)
        store.shutdown()
        self._stores.remove(store)
        found = {each.job_id: each for each in self.recovered(self.open())}
        assert found.keys() == {"once", "again"}

    def test_instances_elsewhere_are_counted(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("wide", max_instances=3)], False)
        jobs = self.started(one, following=1)
        assert jobs[0]._handle.elsewhere == 0
        self.move(one, other)
        (job,) = self.claimed(other, 1)
        assert job._handle.elsewhere == 1
        assert other.advance([(job, self.at(1), self.at(2))]) == [True]
        assert self.settled(one, *jobs) == [True]
        self.move(other, one)
        (job,) = self.claimed(one, 2)
        assert job._handle.elsewhere == 1
        assert one.advance([(job, self.at(2), self.at(3))]) == [True]
        (job,) = self.claimed(one, 3)
        assert job._handle.elsewhere == 1

    def test_what_can_not_run_here_is_left_to_others(self) -> None:
        # To those that lead its shard next: a shard has one leader at a time.
        one = self.open(allowed_modules="json")
        other = self.open()
        other.add_jobs([self.job("mine"), self.job("nobody's")], False)
        record = json.loads(other._written(self.job("nobody's")))
        record["func"] = "tocsin_has_no_such_module:run"
        self.write_record("nobody's", json.dumps(record))
        assert self.claimed(one) == []
        assert [job.id for job in other.get_all_jobs()] == ["mine", "nobody's"]
        self.move(one, other)
        found = other.claim(self.at(61), 10)
        assert [job.id for job in found] == ["mine"]
        assert "tocsin_has_no_such_module" not in sys.modules
        other.remove_job("nobody's")


def _leads_all(store: Any) -> bool:
    return bool(len(store._led) == store.shards)


class ShardStoreCases(ABC):
    """What is tested of each store on shards by itself, beside its contract.

    The fixture ``make`` of a test's module gives what makes stores of eight shards, all on the
    same jobs, and starts them.
    """

    #: So many jobs of two kilobytes are added at once, and so many of half a megabyte.
    many, large = 1000, 2

    @abstractmethod
    def breakable(self, make: Any) -> AbstractContextManager[tuple[Any, Callable[[], None]]]:
        """Make a store, and what breaks its connection, which then comes back."""

    def test_shards_are_divided_among_those_that_come_and_go(self, make: Any) -> None:
        stores = [make()]
        stores[0].add_jobs([job(f"{number}", -1) for number in range(50)], False)
        assert leads(stores) == [8]
        stores += [make(), make()]
        wait_until(lambda: sorted(leads(stores)) == [2, 3, 3])
        had = [advanced(store) for store in stores]
        assert all(had)
        assert sorted(itertools.chain(*had)) == sorted(f"{number}" for number in range(50))
        stores.pop(0).shutdown()
        wait_until(lambda: leads(stores) == [4, 4])
        stores.pop().shutdown()
        wait_until(lambda: leads(stores) == [8])
        assert advanced(stores[0]) == []
        assert len(stores[0].get_all_jobs()) == 50

    def test_a_broken_connection_doubles_and_loses_nothing(self, make: Any) -> None:
        with self.breakable(make) as (store, cut):
            ids = [f"{number:03}" for number in range(200)]
            store.add_jobs([job(each, -1) for each in ids], False)
            had: list[str] = []
            deadline = time.monotonic() + 60
            for turn in itertools.count():
                assert time.monotonic() < deadline
                try:
                    now = SystemClock().now()
                    had += [each.job_id for each in store.recover(now)]
                    jobs = store.claim(now, 20)
                    if not jobs:
                        break
                    if turn % 3 == 1:
                        cut()
                    steps = [(each, each._next_run, each._next_run + 3600_000_000) for each in jobs]
                    held = store.advance(steps)
                except Unavailable:
                    assert store._tree.wait(20)
                    continue
                had += [each.id for each, holds in zip(jobs, held, strict=True) if holds]
            assert store._tree.connection > 2
            assert sorted(had) == ids

    def test_a_batch_of_many_megabytes(self, make: Any) -> None:
        store, other = make(), make()
        store.next_due()
        jobs = [job(f"{number:04}", -1, kwargs={"x": "y" * 2000}) for number in range(self.many)]
        jobs += [
            job(f"large {number}", -1, kwargs={"x": "y" * 500_000}) for number in range(self.large)
        ]
        store.add_jobs(jobs, False)
        with pytest.raises(ConflictingIdError):
            other.add_jobs([job("new"), *jobs[5:50]], False)
        assert other.lookup_job("new") is None
        ids = sorted(each.id for each in jobs)
        assert sorted(each.id for each in other.get_all_jobs()) == ids
        had = []
        while some := advanced(store):
            had += some
        assert sorted(had) == ids
        other.remove_all_jobs()
        assert store.get_all_jobs() == []
