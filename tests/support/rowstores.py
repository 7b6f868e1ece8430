"""What is tested of each store with a row, document or hash for each job, beside its contract.

Above all what its server may do to it: answers that are lost, connections that are cut, restarts.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from support.schedulers import Recorder

from tocsin.adapters.background import BackgroundScheduler
from tocsin.events import EVENT_JOB_EXECUTED, EVENT_JOBSTORE_ERROR
from tocsin.job import Job
from tocsin.stores.base import BaseJobStore
from tocsin.testing import FakeScheduler
from tocsin.triggers.interval import IntervalTrigger

__all__ = ["RowStoreCases", "Ticking", "claim", "ids", "job", "started"]

_SECOND = 1_000_000


@contextmanager
def started(**options: Any) -> Iterator[Callable[[Any], Any]]:
    """Give what starts a store, by a fake scheduler with these options; at the end they stop."""
    all_of_them: list[BaseJobStore] = []

    def start(store: Any) -> Any:
        store.start(FakeScheduler(**{"timezone": "UTC", **options}), "default")
        all_of_them.append(store)
        return store

    yield start
    for store in all_of_them:
        store.shutdown()


def job(job_id: str, due: int | None = 0, **options: Any) -> Job:
    """Make a job that is due at an instant, and hourly from then on."""
    return Job(
        None,
        json.dumps,
        id=job_id,
        trigger=IntervalTrigger(hours=1),
        args=options.pop("args", (job_id,)),
        misfire_grace_time=None,
        coalesce=True,
        max_instances=1,
        next_run=due,
        **options,
    )


def ids(store: Any) -> list[str]:
    """Give the ids of all jobs, in their order."""
    return [each.id for each in store.get_all_jobs()]


def claim(store: Any) -> list[Job]:
    """Claim what is due by the scheduler's clock."""
    return store.claim(store._scheduler.now(), 100)  # type: ignore[no-any-return]


class RowStoreCases(ABC):
    """What is the same for each of these stores; a subclass says how it is had.

    Its stores are all on the same jobs, which are this test's own.
    """

    #: What a call raises whose answers are all lost.
    lost: type[Exception]

    @pytest.fixture(autouse=True)
    def starts(self) -> Iterator[None]:
        with started() as self.start:
            yield

    @abstractmethod
    def make(self, **options: Any) -> Any:
        """Make a store that loses as many answers as `lose` says; not started."""

    @abstractmethod
    def lose(self, store: Any, count: int) -> None:
        """Have the next so many answers be lost on the way to a store."""

    def lose_at_take_over(self, store: Any, count: int) -> None:
        """Have so many answers be lost as soon as it is known which runs may be taken over."""
        self.lose(store, count)

    @abstractmethod
    def stored(self, store: Any) -> set[str]:
        """Give the ids of the jobs of which anything is stored: the job, or a run of it."""

    def open(self, **options: Any) -> Any:
        """Make a store, and start it."""
        return self.start(self.make(**options))

    def settled(self, store: Any, handles: list[Any]) -> list[bool]:
        """Settle claims, a second time if the answer to the first was lost."""
        with suppress(self.lost):
            return store._settle(store._member, handles)  # type: ignore[no-any-return]
        return store._settle(store._member, handles)  # type: ignore[no-any-return]

    # Runs

    def test_a_run_is_not_recorded_twice(self) -> None:
        store = self.open()
        store.add_jobs([job("one")], False)
        (first,) = claim(store)
        assert store.advance([(first, 0, 60 * _SECOND)]) == [True]
        store.modify_job("one", {"_next_run": 0})  # the run time that is running
        (second,) = claim(store)
        assert store.advance([(second, 0, 60 * _SECOND)]) == [False]
        assert store._settle(store._member, [first._handle]) == [True]
        assert store.advance([(second, 0, 60 * _SECOND)]) == [True]

    @pytest.mark.parametrize("repeat", [False, True], ids=["at most once", "at least once"])
    @pytest.mark.parametrize("end", ["removed", "ended"])
    def test_nothing_is_left_of_a_job_when_its_last_run_is_settled(
        self, repeat: bool, end: str
    ) -> None:
        store = self.open()
        store.add_jobs([job("one", at_least_once=repeat)], False)
        (claimed,) = claim(store)
        assert store.advance([(claimed, 0, None if end == "ended" else 1)]) == [True]
        if end == "removed":
            store.remove_job("one")
        assert ids(store) == []
        assert self.stored(store) == {"one"}
        assert store._settle(store._member, [claimed._handle]) == [True]
        assert self.stored(store) == set()

    @pytest.mark.parametrize("how", ["alone", "by many", "replacing"])
    def test_a_job_is_added_again_while_runs_of_it_go_on(self, how: str) -> None:
        store = self.open()
        store.add_jobs([job("one", at_least_once=True)], False)
        (first,) = claim(store)
        assert store.advance([(first, 0, None)]) == [True]
        more = [job("two", 5)] if how == "by many" else []
        added = store.add_jobs([job("one", 3, args=("new",)), *more], how == "replacing")
        assert not any(added)
        (second, *_) = claim(store)
        assert second._handle.fence > first._handle.fence
        assert store.advance([(second, 3, None)]) == [True]
        assert store._settle(store._member, [first._handle]) == [True]
        assert store._settle(store._member, [second._handle]) == [True]
        assert self.stored(store) == {each.id for each in more}

    # Answers that are lost

    def test_answers_that_are_lost(self) -> None:
        store = self.open()
        store.add_jobs([job("one"), job("two", at_least_once=True)], False)
        claimed = claim(store)
        self.lose(store, 2)
        assert store.advance([(each, 0, 1) for each in claimed]) == [True, True]
        assert store.advance([(each, 0, 2) for each in claimed]) == [False, False]
        assert [each._next_run for each in store.get_all_jobs()] == [1, 1]
        handles = [each._handle for each in claimed]
        self.lose(store, 1)
        assert self.settled(store, handles) == [True, True]
        assert store._settle(store._member, handles) == [False, False]
        self.lose(store, 3)
        assert store.modify_job("one", {"name": "named"}).name == "named"

    def test_an_advance_whose_answers_are_all_lost_is_resolved(self) -> None:
        store = self.open()
        store.add_jobs([job("one")], False)
        (claimed,) = claim(store)
        self.lose(store, 4)
        with pytest.raises(self.lost):
            store.advance([(claimed, 0, 1)])
        (found,) = store.recover(store._scheduler.now())
        assert (found.job_id, list(found.times), found.job) == ("one", [0], claimed)
        assert store.recover(store._scheduler.now()) == ()

    def orphaned(self, count: int) -> Any:
        """Make a store that is to take two runs over, and to lose so many answers as it does."""
        dead, store = (self.open(clock="scheduler", lease=5) for _ in range(2))
        dead.add_jobs([job("once"), job("again", at_least_once=True)], False)
        assert dead.advance([(each, 0, 1) for each in claim(dead)]) == [True, True]
        dead._stop_keeping()
        store._scheduler.clock.advance(6)
        store._join(store._scheduler.now())
        self.lose_at_take_over(store, count)
        return store

    @pytest.mark.parametrize("count", [3, 4], ids=["some answers", "all answers of a call"])
    def test_what_is_taken_over_is_not_lost_with_the_answer(self, count: int) -> None:
        store = self.orphaned(count)
        now = store._scheduler.now()
        if count > 3:
            with pytest.raises(self.lost):
                store.recover(now)
            self.lose(store, 0)
        found = {each.job_id: each for each in store.recover(now)}
        if found.keys() != {"once", "again"}:  # the rest is found by the next call
            store._recover_at = 0
            found |= {each.job_id: each for each in store.recover(now)}
        assert found.keys() == {"once", "again"}
        loss, again = found["once"].loss, found["again"].job._handle
        assert found["once"].job is None
        assert again.store is loss.store is store
        loss.settle()
        store._stop_keeping()
        store._recover_at = 0
        assert store.recover(now) == []
        assert store._recorded(store._member, [loss, again]) == [False, True]

    def test_what_may_have_been_taken_over_is_left_to_others(self) -> None:
        store = self.orphaned(4)
        with pytest.raises(self.lost):
            store.recover(store._scheduler.now())
        self.lose(store, 0)
        other = self.open(clock="scheduler", lease=5)
        other._scheduler.clock.advance(6)
        store.shutdown()
        found = {each.job_id: each for each in other.recover(other._scheduler.now())}
        assert found.keys() == {"once", "again"}
        assert found["once"].loss is not None
        assert found["again"].job is not None


class Ticking:
    """A scheduler with a job that is due four times a second, on a server that has its troubles."""

    def __init__(self, store: BaseJobStore) -> None:
        self.scheduler = BackgroundScheduler(
            jobstores={"default": store}, timezone="UTC", jobstore_retry_interval=0.5
        )
        self._recorder = Recorder()
        self.scheduler.add_listener(self._recorder, EVENT_JOB_EXECUTED | EVENT_JOBSTORE_ERROR)

    def __enter__(self) -> Ticking:
        self.scheduler.start()
        start = datetime.now(timezone.utc) + timedelta(seconds=0.2)
        self.scheduler.add_job(
            "json:dumps", "interval", seconds=0.25, start_date=start, args=["tick"], id="tick",
            coalesce=False, misfire_grace_time=None, max_instances=100,
        )  # fmt: skip
        self.wait_for_more(2)
        return self

    def __exit__(self, *_: object) -> None:
        self.scheduler.shutdown()

    @property
    def run_times(self) -> list[datetime]:
        """The run times of all runs, in the order in which they ended."""
        return [event.scheduled_run_time for event in self._recorder.of(EVENT_JOB_EXECUTED)]

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more runs have ended."""
        self._recorder.wait(EVENT_JOB_EXECUTED, len(self.run_times) + count)

    def wait_for_trouble(self) -> None:
        """Wait until it is told that the store has failed."""
        self._recorder.wait(EVENT_JOBSTORE_ERROR)

    def check_rhythm(self) -> None:
        """No run was lost, and none was had twice."""
        times = self.run_times
        assert sorted(times) == [
            min(times) + number * timedelta(seconds=0.25) for number in range(len(times))
        ]

    def survives_a_restart(self, server: Any, listening: Callable[[], object] = bool) -> None:
        """Kill the server and start it again; ``listening`` waits for who hears of changes."""
        with self:
            server.kill()
            self.wait_for_trouble()
            server.start()
            listening()
            self.wait_for_more(4)
            assert [each.id for each in self.scheduler.get_jobs()] == ["tick"]
        self.check_rhythm()

    def survives_cuts(self, proxy: Any, times: int, listening: Callable[[], object] = bool) -> None:
        """Cut the connection so often, and once for longer."""
        with self:
            for _ in range(times):
                self.wait_for_more(2)
                proxy.cut()
                proxy.resume()
            proxy.cut()
            self.wait_for_trouble()
            proxy.resume()
            self.wait_for_more(4)
            listening()
        self.check_rhythm()
