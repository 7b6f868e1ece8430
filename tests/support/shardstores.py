"""The suite of shared stores, for those that divide shards among sessions of their server."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from tocsin.clock import SystemClock
from tocsin.job import Job
from tocsin.stores.shards import ShardJobStore
from tocsin.testing import SharedStoreCompliance
from tocsin.triggers.interval import IntervalTrigger

_DEADLINE = 20.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something holds that other threads bring about."""
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def job(job_id: str, due: float | None = 3600, **options: Any) -> Job:
    """Make a job that is due in so many seconds."""
    return Job(
        None,
        json.dumps,
        IntervalTrigger(hours=1),
        (1,),
        id=job_id,
        name=options.pop("name", job_id),
        misfire_grace_time=None,
        coalesce=True,
        max_instances=1,
        next_run=None if due is None else SystemClock().now() + round(due * 1e6),
        **options,
    )


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
