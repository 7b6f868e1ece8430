"""What a job store must do that several schedulers share, as tests."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any

from tocsin.claims import Claim, Loss, Recovered
from tocsin.clock import SystemClock
from tocsin.errors import TransientJobError
from tocsin.events import (
    EVENT_JOB_BROKEN,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_SUBMITTED,
)
from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.job import Job
from tocsin.stores.shared import SharedJobStore
from tocsin.testing.clock import FakeClock
from tocsin.testing.scheduler import FakeScheduler
from tocsin.triggers.date import DateTrigger
from tocsin.triggers.interval import IntervalTrigger

_SECOND = 1_000_000
_MEMBERS = 4
_DEADLINE = 20.0
#: What the jobs of these tests have done.
_done: list[Any] = []


def note(*args: Any, **kwargs: Any) -> None:
    """Keep what a job was called with: the job of most tests."""
    _done.append((args, kwargs))


class _KeepingExecutor(BaseExecutor):
    """Take jobs and never run them, until they are ended one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self.jobs.append(job)

    def end(self) -> None:
        """End the oldest run."""
        self.release(self.jobs.pop(0))


class SharedStoreCompliance:
    """The contract of stores that several schedulers share.

    A subclass says how a store is opened and how a record is spoilt:

        class TestMyStore(SharedStoreCompliance):
            def make_store(self, **options):
                return MyStore("localhost", name=self.name, **options)

            def write_record(self, job_id, text):
                ...

    Within one test all stores must show the same jobs; at its beginning there are none.
    ``options`` are those of `SharedJobStore`. Schedulers run on one fake clock, unless a test
    says otherwise.
    """

    #: Whether schedulers are woken by a change, and need not wait for the next poll.
    announces = True
    #: Whether the store has a clock of its own.
    has_clock = True

    def make_store(self, **options: Any) -> SharedJobStore:
        """Make a store, not started."""
        raise NotImplementedError("a compliance suite needs make_store()")

    def write_record(self, job_id: str, text: str) -> None:
        """Put a text in the place of the stored record of a job, behind the store's back."""
        raise NotImplementedError("a compliance suite needs write_record()")

    def abandon(self, store: SharedJobStore) -> None:
        """Leave a store as a process does that is killed."""
        store._stop_keeping()
        store._close()
        self._stores.remove(store)

    def expire(self) -> None:
        """Let so much time pass that the leases of abandoned stores run out."""
        self.clock.advance(self.lease + 1)

    lease = 15.0

    def setup_method(self) -> None:
        """Make a fake clock."""
        _done.clear()
        self.clock = FakeClock()
        self.now = self.clock.now()
        self._stores: list[SharedJobStore] = []
        self._schedulers: list[FakeScheduler] = []

    def teardown_method(self) -> None:
        """Shut everything down."""
        for scheduler in self._schedulers:
            if scheduler.running:
                scheduler.shutdown()
            for each in scheduler._jobstores.values():
                each.shutdown()  # also those where runs go on that never end
        for store in self._stores:
            store.shutdown()

    # Helpers

    def open(self, **options: Any) -> SharedJobStore:
        """Open the store once more, as another scheduler does."""
        store = self.make_store(**{"clock": "scheduler", "lease": self.lease, **options})
        scheduler = FakeScheduler(clock=self.clock, timezone="UTC")
        store.start(scheduler, "default")
        self._stores.append(store)
        return store

    def scheduler(self, **options: Any) -> FakeScheduler:
        """Start a scheduler on the store."""
        store = self.make_store(clock="scheduler", lease=self.lease)
        made = FakeScheduler(
            clock=self.clock, timezone="UTC", jobstores={"default": store}, **options
        )
        made.start()
        self._schedulers.append(made)
        return made

    def job(self, job_id: str, due: float | None = 0, **changes: Any) -> Job:
        """Make a job that is due some seconds from the beginning, or paused."""
        options = {"args": (job_id,), "trigger": IntervalTrigger(hours=1), **changes}
        return Job(
            None,
            options.pop("func", note),
            id=job_id,
            name=options.pop("name", job_id),
            misfire_grace_time=None,
            coalesce=options.pop("coalesce", True),
            max_instances=options.pop("max_instances", 1),
            next_run=None if due is None else self.at(due),
            **options,
        )

    def at(self, seconds: float) -> int:
        """Give the instant so many seconds from the beginning."""
        return self.now + round(seconds * _SECOND)

    def claimed(self, store: SharedJobStore, seconds: float = 0, limit: int = 100) -> list[Job]:
        """Claim what is due at some time."""
        return store.claim(self.at(seconds), limit)

    def started(self, store: SharedJobStore, following: float | None = 3600) -> list[Job]:
        """Claim what is due at the beginning, and record its runs."""
        jobs = self.claimed(store)
        after = None if following is None else self.at(following)
        held = store.advance([(job, job._next_run or 0, after) for job in jobs])
        assert held == [True] * len(jobs)
        return jobs

    def recovered(self, store: SharedJobStore) -> list[Recovered]:
        """Look after abandoned runs."""
        return list(store.recover(self.clock.now()))

    def settled(self, store: SharedJobStore, *jobs: Job) -> list[bool]:
        """Settle runs at once."""
        assert store._member is not None
        return store._settle(store._member, [job._handle for job in jobs])

    def lost(self, *found: Recovered) -> list[Loss]:
        """Give what is to be told of, where all that was found is lost."""
        losses = [each.loss for each in found if each.job is None and each.loss is not None]
        assert len(losses) == len(found)
        return losses

    def told(self, *found: Recovered) -> None:
        """Settle losses, as a scheduler does that has told of them, and wait for that."""
        losses = self.lost(*found)
        for loss in losses:
            loss.settle()
        _wait_until(lambda: not any(map(self.is_recorded, losses)))

    def is_recorded(self, loss: Loss) -> bool:
        """Tell whether lost runs are still stored as those of whoever took them over."""
        store: Any = loss.store
        return any(store._recorded(store._member, [loss]))

    # Seeing what others do

    def test_what_one_does_another_sees(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("a", 1), self.job("b", 2), self.job("c", None)], False)
        assert [job.id for job in other.get_all_jobs()] == ["a", "b", "c"]
        other.modify_job("a", {"name": "renamed", "_next_run": self.at(3)})
        found = one.lookup_job("a")
        assert found is not None
        assert (found.name, found._next_run) == ("renamed", self.at(3))
        assert [job.id for job in one.get_all_jobs()] == ["b", "a", "c"]
        one.remove_job("b")
        assert other.lookup_job("b") is None
        other.modify_job("a", {"_next_run": None})
        assert self.claimed(one, 10) == []
        one.add_jobs([self.job("a", 4, args=(5,))], True)
        found = other.lookup_job("a")
        assert found is not None
        assert found.args == (5,)
        other.remove_all_jobs()
        assert one.get_all_jobs() == []

    def test_a_change_wakes_the_others(self) -> None:
        if not self.announces:
            assert self.make_store().poll_interval == 5.0
            return
        one, other = self.open(), self.open()
        woken = threading.Event()
        other.claim(self.clock.now(), 1)
        other._woken = woken.set  # type: ignore[method-assign]
        one.add_jobs([self.job("rest", None)], False)
        deadline = threading.Event()
        for number in range(100):
            # The other one may not listen yet when it has only just been opened.
            one.add_jobs([self.job(f"soon {number}", 100 - number)], False)
            if woken.wait(_DEADLINE / 100):
                deadline.set()
                break
        assert deadline.is_set()
        woken.clear()
        one.modify_job("rest", {"_next_run": self.at(-5)})
        assert woken.wait(_DEADLINE)

    def test_changes_at_once_are_never_torn(self) -> None:
        stores = [self.open() for _ in range(2)]
        stores[0].add_jobs([self.job("one", 60)], False)
        rounds = 15

        def name_it() -> None:
            for number in range(rounds):
                stores[0].modify_job("one", {"name": f"name {number}"})

        def give_it_arguments() -> None:
            for number in range(rounds):
                stores[1].modify_job("one", {"args": (number,)})

        _at_once([name_it, give_it_arguments])
        found = stores[0].lookup_job("one")
        assert found is not None
        assert (found.name, found.args) == (f"name {rounds - 1}", (rounds - 1,))
        assert found._next_run == self.at(60)

    def test_many_open_a_new_store_at_once(self) -> None:
        stores = [self.make_store(clock="scheduler") for _ in range(10)]
        schedulers = [FakeScheduler(clock=self.clock) for _ in stores]
        _at_once(
            [
                lambda store=store, scheduler=scheduler: store.start(scheduler, "default")
                for store, scheduler in zip(stores, schedulers, strict=True)
            ]
        )
        self._stores += stores
        stores[0].add_jobs([self.job("one")], False)
        assert [[job.id for job in store.get_all_jobs()] for store in stores] == [["one"]] * 10

    def test_what_may_not_be_created_is_asked_for(self) -> None:
        store = self.make_store(create=False)
        try:
            store.start(FakeScheduler(clock=self.clock), "default")
        except Exception as error:
            assert "tocsin store init" in str(error)
        else:
            raise AssertionError("a store that is not there was opened with create=False")
        self.open()
        store = self.make_store(create=False, clock="scheduler")
        store.start(FakeScheduler(clock=self.clock), "default")
        self._stores.append(store)
        assert store.get_all_jobs() == []

    # Claims

    def test_a_claim_has_a_token(self) -> None:
        store = self.open()
        store.add_jobs([self.job("one")], False)
        (job,) = self.claimed(store)
        assert type(job._handle) is Claim
        first = job._handle.fence
        assert store.advance([(job, self.at(0), self.at(1))]) == [True]
        assert list(job._handle.times) == [self.at(0)]
        (job,) = self.claimed(store, 1)
        assert job._handle.fence > first

    def test_each_run_is_claimed_once(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job(f"{number:02}") for number in range(30)], False)
        mine = self.claimed(one, limit=10)
        theirs = self.claimed(other)
        ids = [job.id for job in (*mine, *theirs)]
        assert len(set(ids)) == len(ids)
        for store, jobs in ((one, mine), (other, theirs)):
            held = store.advance([(job, job._next_run or 0, self.at(60)) for job in jobs])
            assert held == [True] * len(jobs)
        rest = [*self.claimed(one), *self.claimed(other)]
        assert sorted(ids + [job.id for job in rest]) == [f"{number:02}" for number in range(30)]

    def test_many_claim_at_once_and_each_run_is_had_once(self) -> None:
        stores = [self.open() for _ in range(_MEMBERS)]
        count, rounds = 60, 3
        stores[0].add_jobs([self.job(f"{number}") for number in range(count)], False)
        runs: list[tuple[str, int]] = []
        left = count * rounds
        lock = threading.Lock()

        def work(store: SharedJobStore) -> None:
            nonlocal left
            while left > 0:
                claims = [
                    (job, job._next_run or 0, (job._next_run or 0) + _SECOND)
                    for job in store.claim(self.at(rounds - 1), 7)
                ]
                held = store.advance(claims)
                with lock:
                    for (job, run_time, _), holds in zip(claims, held, strict=True):
                        if holds:
                            runs.append((job.id, run_time))
                            left -= 1
                for (job, _, _), holds in zip(claims, held, strict=True):
                    if holds:
                        job._handle.settle()

        _at_once([lambda store=store: work(store) for store in stores])
        expected = {(f"{n}", self.at(turn)): 1 for n in range(count) for turn in range(rounds)}
        assert Counter(runs) == expected

    def test_a_claim_that_is_not_advanced_goes_to_another(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("one")], False)
        (mine,) = self.claimed(one)
        assert self.claimed(other) == []
        self.outlive(one)
        (theirs,) = other.claim(self.clock.now(), 10)
        assert theirs._next_run == self.at(0)
        assert theirs._handle.fence > mine._handle.fence
        assert one.advance([(mine, self.at(0), self.at(60))]) == [False]
        one.release(mine, self.at(0), self.at(0))
        assert other.claim(self.clock.now(), 10) == []
        assert other.advance([(theirs, self.at(0), self.at(70))]) == [True]
        found = one.lookup_job("one")
        assert found is not None
        assert found._next_run == self.at(70)

    def test_a_change_by_another_ends_a_claim(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("moved"), self.job("gone"), self.job("named")], False)
        jobs = {job.id: job for job in self.claimed(one)}
        other.modify_job("moved", {"_next_run": self.at(30)})
        other.remove_job("gone")
        other.modify_job("named", {"name": "renamed"})
        held = one.advance([(job, self.at(0), self.at(60)) for job in jobs.values()])
        assert dict(zip(jobs, held, strict=True)) == {"moved": False, "gone": False, "named": True}
        found = {job.id: (job._next_run, job.name) for job in other.get_all_jobs()}
        assert found == {
            "moved": (self.at(30), "moved"),
            "named": (self.at(60), "renamed"),
        }

    # Runs

    def test_a_settled_run_needs_no_looking_after(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("once"), self.job("again", at_least_once=True)], False)
        assert self.settled(one, *self.started(one)) == [True, True]
        self.abandon(one)
        self.expire()
        assert self.recovered(other) == []

    def test_the_run_of_a_living_scheduler_is_left_alone(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True)], False)
        jobs = self.started(one)
        for _ in range(5):
            self.clock.advance(self.lease / 2)
            one.claim(self.clock.now(), 1)
            assert self.recovered(other) == []
        assert self.settled(one, *jobs) == [True]

    def test_a_run_whose_scheduler_died_is_lost_and_reported_once(self) -> None:
        one, other, third = self.open(), self.open(), self.open()
        one.add_jobs([self.job("once"), self.job("ended")], False)
        self.started(one, following=None)
        self.abandon(one)
        assert self.recovered(other) == []
        self.expire()
        found = [*self.recovered(other), *self.recovered(third)]
        assert sorted(lost.job_id for lost in found) == ["ended", "once"]
        for lost in found:
            assert lost.job is None
            assert list(lost.times) == [self.at(0)]
            assert lost.reason
        self.told(*found)
        for store in (other, third):
            self.abandon(store)
        self.expire()
        last = self.open()
        assert self.recovered(last) == []
        assert last.get_all_jobs() == []

    def test_a_loss_that_nobody_has_told_of_is_reported_by_the_next(self) -> None:
        one, other, third = self.open(), self.open(), self.open()
        one.add_jobs([self.job(f"{number}") for number in range(5)], False)
        self.started(one)
        self.abandon(one)
        self.expire()
        found = [*self.recovered(other), *self.recovered(third)]
        assert sorted(lost.job_id for lost in found) == [f"{number}" for number in range(5)]
        before = {loss.job_id: loss for loss in self.lost(*found)}
        self.told(*(lost for lost in found if lost.job_id == "3"))
        for store in (other, third):
            self.abandon(store)
        self.expire()
        last = self.open()
        found = self.recovered(last)
        assert sorted(lost.job_id for lost in found) == ["0", "1", "2", "4"]
        for loss in self.lost(*found):
            assert loss.fence > before[loss.job_id].fence
            assert list(loss.times) == [self.at(0)]
            assert loss.member == before[loss.job_id].store._member  # type: ignore[attr-defined]
        self.told(*found)
        self.abandon(last)
        self.expire()
        assert self.recovered(self.open()) == []

    def test_a_loss_is_given_until_it_is_settled(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("a"), self.job("b")], False)
        self.started(one)
        self.abandon(one)
        self.expire()
        found = self.recovered(other)
        assert sorted(lost.job_id for lost in found) == ["a", "b"]
        self.told(*(lost for lost in found if lost.job_id == "a"))
        self.clock.advance(self.lease / 2)
        again = self.recovered(other)  # the first telling was interrupted
        assert self.lost(*again) == [loss for loss in self.lost(*found) if loss.job_id == "b"]
        self.told(*again)
        self.clock.advance(self.lease / 2)
        assert self.recovered(other) == []

    def test_whoever_tells_too_late_of_a_loss_is_refused(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("once")], False)
        self.started(one)
        self.abandon(one)
        self.expire()
        (first,) = self.lost(*self.recovered(other))
        member = other._member
        assert member is not None
        self.outlive(other)
        third = self.open()
        (second,) = self.lost(*self.recovered(third))
        assert other._settle(member, [first]) == [False]
        assert third._settle(third._member or "", [second]) == [True]
        assert third._settle(third._member or "", [second]) == [False]

    def test_a_lost_instance_counts_until_it_was_told_of(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("wide", max_instances=3)], False)
        self.started(one, following=1)
        self.abandon(one)
        self.expire()
        found = self.recovered(other)
        assert len(self.lost(*found)) == 1
        third = self.open()
        self.move(other, third)
        (job,) = self.claimed(third, 1)
        assert job._handle.elsewhere == 1
        assert third.advance([(job, self.at(1), self.at(2))]) == [True]
        self.told(*found)
        (job,) = self.claimed(third, 2)
        assert job._handle.elsewhere == 0

    def test_a_run_at_least_once_is_begun_anew(self) -> None:
        one, other, third = self.open(), self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True, args=(1, "two"))], False)
        (mine,) = self.started(one)
        self.abandon(one)
        self.expire()
        found = [*self.recovered(other), *self.recovered(third)]
        assert len(found) == 1
        job = found[0].job
        assert job is not None
        assert (job.id, job.func, tuple(job.args)) == ("again", note, (1, "two"))
        assert list(found[0].times) == list(job._handle.times) == [self.at(0)]
        assert job._handle.fence > mine._handle.fence
        assert job.at_least_once
        # It was advanced by the first, so that it is due again only then.
        current = other.lookup_job("again")
        assert current is not None
        assert current._next_run == self.at(3600)
        assert current.at_least_once
        keeper = job._handle.store
        assert self.settled(keeper, job) == [True]
        self.expire()
        assert [*self.recovered(other), *self.recovered(third)] == []

    def test_a_run_that_was_begun_anew_may_need_another(self) -> None:
        one, other, third = self.open(), self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True)], False)
        self.started(one)
        self.abandon(one)
        self.expire()
        (first,) = self.recovered(other)
        self.abandon(other)
        self.expire()
        (second,) = self.recovered(third)
        assert first.job is not None
        assert second.job is not None
        assert second.job._handle.fence > first.job._handle.fence

    def test_a_run_that_can_not_be_begun_here_is_left_to_others(self) -> None:
        one, other = self.open(), self.open(allowed_modules="json")
        one.add_jobs([self.job("again", at_least_once=True)], False)
        self.started(one)
        self.abandon(one)
        self.expire()
        told: list[Any] = []
        assert other._scheduler is not None
        other._scheduler.add_listener(told.append, EVENT_JOB_BROKEN)
        for _ in range(2):
            assert self.recovered(other) == []
            self.clock.advance(self.lease / 2)
        assert [event.job_id for event in told] == ["again"]
        third = self.open()
        self.move(other, third)
        (found,) = self.recovered(third)
        assert found.job is not None
        assert list(found.times) == [self.at(0)]
        assert self.settled(third, found.job) == [True]
        assert self.recovered(other) == []

    def test_a_late_holder_is_refused(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True), self.job("once")], False)
        late = {job.id: job for job in self.started(one)}
        claims = [late["again"]._handle, late["once"]._handle]
        member = one._member
        assert member is not None
        self.outlive(one)
        found = {each.job_id: each for each in self.recovered(other)}
        assert sorted(found) == ["again", "once"]
        assert one._settle(member, claims) == [False, False]
        again, once = found["again"].job, found["once"].loss
        assert again is not None
        assert once is not None
        assert once.fence > late["once"]._handle.fence
        assert self.settled(other, again) == [True]
        assert other._settle(other._member or "", [once]) == [True]

    def outlive(self, store: SharedJobStore) -> None:
        """Let the lease of a store run out that goes on being used."""
        store._stop_keeping()
        self.expire()

    def test_a_run_at_least_once_outlives_its_schedule(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("last", at_least_once=True)], False)
        self.started(one, following=None)
        assert other.lookup_job("last") is None
        self.abandon(one)
        self.expire()
        (found,) = self.recovered(other)
        assert found.job is not None
        assert (found.job.id, found.job.func) == ("last", note)

    def test_a_run_at_least_once_does_not_outlive_its_removal(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job(each, at_least_once=True) for each in ("a", "b", "c")], False)
        self.started(one)
        other.remove_job("a")
        self.abandon(one)
        other.remove_job("b")
        self.expire()
        assert [found.job_id for found in self.recovered(other)] == ["c"]

    def test_whoever_leaves_leaves_what_must_run_at_once(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True), self.job("once")], False)
        self.started(one)
        one.shutdown()
        self._stores.remove(one)
        self.clock.advance(self.lease / 2)
        assert [found.job_id for found in self.recovered(other)] == ["again"]

    def test_whoever_leaves_leaves_the_losses_that_he_has_not_told_of(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job(each) for each in ("settled", "told", "untold", "last")], False)
        self.started(one)
        self.abandon(one)
        self.expire()
        losses = {loss.job_id: loss for loss in self.lost(*self.recovered(other))}
        assert len(losses) == 4
        losses["settled"].settle()
        losses["told"].told = True  # by whoever shuts the store down, who hears of it
        members = {one._member, other._member}
        other.shutdown()
        self._stores.remove(other)
        self.clock.advance(self.lease / 2)
        found = self.recovered(self.open())
        assert sorted(lost.job_id for lost in found) == ["last", "untold"]
        assert {loss.member for loss in self.lost(*found)} <= members

    def test_whoever_leaves_while_runs_go_on_is_a_member_until_they_have_ended(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("wide", max_instances=5), self.job("ended")], False)
        wide, ended = sorted(self.started(one, following=1), key=lambda job: job.id, reverse=True)
        one.shutdown([wide._handle, ended._handle])
        (job,) = self.awaited(other, "wide")
        assert job._handle.elsewhere == 1
        assert self.recovered(other) == []
        ended._handle.settle()
        assert other.advance([(job, self.at(1), self.at(2))]) == [True]
        assert one._member is not None
        wide._handle.settle()
        _wait_until(lambda: one._member is None)
        self.expire()
        assert self.recovered(other) == []
        (job,) = [job for job in other.claim(self.clock.now(), 10) if job.id == "wide"]
        assert job._handle.elsewhere == 0

    def awaited(self, store: SharedJobStore, job_id: str) -> list[Job]:
        """Claim a job, as soon as it can be had, and what is due besides."""
        found: list[Job] = []

        def look() -> bool:
            found.extend(job for job in self.claimed(store, 1) if job.id == job_id)
            return bool(found)

        _wait_until(look)
        return found

    def test_a_store_that_is_opened_again_while_runs_go_on_is_the_same_member(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True)], False)
        (job,) = self.started(one)
        member, scheduler = one._member, one._scheduler
        one.shutdown([job._handle])
        assert scheduler is not None
        one.start(scheduler, "default")
        assert one._member == member
        assert [found.id for found in one.get_all_jobs()] == ["again"]
        assert self.recovered(other) == []
        assert self.settled(one, job) == [True]
        one.shutdown()
        assert one._member is None

    def test_several_run_times_are_one_claim(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True, coalesce=False)], False)
        (job,) = self.claimed(one)
        times = [self.at(0), self.at(1), self.at(2)]
        assert one.advance([(job, self.at(0), self.at(60))], {"again": times}) == [True]
        self.abandon(one)
        self.expire()
        (found,) = self.recovered(other)
        assert list(found.times) == times
        assert found.job is not None
        assert self.settled(other, found.job) == [True]
        self.expire()
        assert self.recovered(other) == []

    def test_instances_elsewhere_are_counted(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("wide", max_instances=3)], False)
        jobs = self.started(one, following=1)
        assert jobs[0]._handle.elsewhere == 0
        self.clock.advance(1)
        (job,) = self.claimed(other, 1)
        assert job._handle.elsewhere == 1
        assert other.advance([(job, self.at(1), self.at(2))]) == [True]
        assert self.settled(one, *jobs) == [True]
        (job,) = self.claimed(one, 2)
        assert job._handle.elsewhere == 1
        assert one.advance([(job, self.at(2), self.at(3))]) == [True]
        (job,) = self.claimed(one, 3)
        assert job._handle.elsewhere == 1

    def test_instances_that_were_taken_over_are_counted_elsewhere(self) -> None:
        one = self.open()
        one.add_jobs([self.job("wide", max_instances=5, at_least_once=True)], False)
        self.started(one, following=1)
        for _ in range(2):  # with as many fences as the claims that follow will have
            self.abandon(one)
            self.expire()
            one = self.open()
            assert len(self.recovered(one)) == 1
        for second in (1, 2, 3):
            (job,) = self.claimed(one, second)
            assert job._handle.elsewhere == 0
            assert one.advance([(job, self.at(second), self.at(second + 1))]) == [True]
        other = self.open()
        self.move(one, other)
        (job,) = self.claimed(other, 4)
        assert job._handle.elsewhere == 4

    def move(self, giver: SharedJobStore, taker: SharedJobStore) -> None:
        """Have one store lead what another one led, where stores lead parts of the jobs."""

    # What can't be read or run here

    def test_a_spoilt_record_harms_nobody(self) -> None:
        store = self.open()
        texts = ["", "{", "null", "[]", '{"version": 99}', '{"version": 1}', "\N{SNOWMAN}" * 10]
        store.add_jobs([self.job(f"bad {n}") for n in range(len(texts))], False)
        store.add_jobs([self.job("good", 1)], False)
        for number, text in enumerate(texts):
            self.write_record(f"bad {number}", text)
        told: list[Any] = []
        assert store._scheduler is not None
        store._scheduler.add_listener(told.append, EVENT_JOB_BROKEN)
        assert [job.id for job in self.claimed(store, 5)] == ["good"]
        assert self.claimed(store, 5) == []
        assert [job.id for job in store.get_all_jobs()] == ["good"]
        store.get_all_jobs()
        assert sorted(event.job_id for event in told) == [f"bad {n}" for n in range(len(texts))]
        assert all(event.reason for event in told)
        assert [job.id for job in store.claim(self.at(3600), 100)] == ["good"]
        assert len(told) == len(texts)
        # They are kept until somebody removes them, or puts something better in their place.
        store.add_jobs([self.job("bad 0", 2)], True)
        assert "bad 0" in [job.id for job in store.get_all_jobs()]
        for number in range(1, len(texts)):
            store.remove_job(f"bad {number}")

    def test_what_can_not_run_here_is_left_to_others(self) -> None:
        one = self.open(allowed_modules="json")
        other = self.open()
        other.add_jobs([self.job("mine"), self.job("nobody's")], False)
        record = json.loads(other._written(self.job("nobody's")))
        record["func"] = "tocsin_has_no_such_module:run"
        self.write_record("nobody's", json.dumps(record))
        assert self.claimed(one) == []
        assert [job.id for job in other.get_all_jobs()] == ["mine", "nobody's"]
        found = other.claim(self.at(61), 10)
        assert [job.id for job in found] == ["mine"]
        assert "tocsin_has_no_such_module" not in sys.modules
        other.remove_job("nobody's")

    def test_what_is_not_allowed_is_not_stored(self) -> None:
        store = self.open(allowed_modules=["json"])
        refused = [
            self.job("module"),
            self.job("lambda", func=lambda _: None),
            self.job("argument", args=(object(),)),
        ]
        for job in refused:
            try:
                store.add_jobs([job], False)
            except TransientJobError as error:
                assert job.id in str(error)
            else:
                raise AssertionError(f"a job with a bad {job.id} was stored")
        assert store.get_all_jobs() == []

    # Whole schedulers

    def test_schedulers_share_the_work(self) -> None:
        schedulers = [self.scheduler() for _ in range(3)]
        for number in range(10):
            schedulers[number % 3].add_job(
                note,
                IntervalTrigger(minutes=1, start_date=self.clock.time),
                args=[number],
                id=str(number),
                max_instances=10,  # for a fake minute may be over before a run is settled
            )
        end = DateTrigger(self.clock.time + timedelta(minutes=3, seconds=30))
        schedulers[1].add_job(note, end, args=["once"])
        self.clock.advance(timedelta(minutes=5, seconds=30))
        assert Counter(str(args[0]) for args, _ in _done) == self.runs(6)
        schedulers[0].shutdown()
        self.clock.advance(timedelta(minutes=2))
        assert Counter(str(args[0]) for args, _ in _done) == self.runs(8)

    @staticmethod
    def runs(minutes: int) -> dict[str, int]:
        """Say how often the ten jobs must have run, and the one that runs once."""
        return {**{str(number): minutes for number in range(10)}, "once": 1}

    def test_the_limit_of_instances_holds_for_all(self) -> None:
        executors = [_KeepingExecutor() for _ in range(2)]
        schedulers = [self.scheduler(executors={"default": each}) for each in executors]
        told: list[Any] = []
        for scheduler in schedulers:
            scheduler.add_listener(told.append, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_SUBMITTED)
        trigger = IntervalTrigger(minutes=1, start_date=self.clock.time)
        schedulers[0].add_job(note, trigger, args=[1], id="narrow")
        for _ in range(6):
            self.clock.advance(timedelta(minutes=1))
        assert sum(len(executor.jobs) for executor in executors) == 1
        assert [event.code for event in told].count(EVENT_JOB_SUBMITTED) == 1
        assert [event.code for event in told].count(EVENT_JOB_MAX_INSTANCES) >= 5

    def test_a_scheduler_takes_over_from_one_that_died(self) -> None:
        keeping = _KeepingExecutor()
        one = self.scheduler(executors={"default": keeping})
        other = self.scheduler(executors={"default": DebugExecutor()})
        other.pause()
        told: list[Any] = []
        other.add_listener(told.append, EVENT_JOB_LOST | EVENT_JOB_EXECUTED)
        for job_id, repeat in (("again", True), ("once", False)):
            one.add_job(note, args=[job_id], id=job_id, at_least_once=repeat)
        self.clock.advance(0)
        assert len(keeping.jobs) == 2
        one._stop_timer()
        self._schedulers.remove(one)
        store: Any = one._jobstores["default"]
        self._stores.append(store)
        self.abandon(store)
        self.expire()
        other.resume()
        self.clock.advance(self.lease)
        assert [args for args, _ in _done] == [("again",)]
        codes = {event.job_id: event.code for event in told}
        assert codes == {"again": EVENT_JOB_EXECUTED, "once": EVENT_JOB_LOST}
        assert self.open().get_all_jobs() == []

    def test_a_scheduler_that_dies_as_it_tells_of_losses_leaves_none_untold(self) -> None:
        keeping = _KeepingExecutor()
        first = self.scheduler(executors={"default": keeping})
        for number in range(3):
            first.add_job(note, args=[number], id=f"{number}")
        self.clock.advance(0)
        assert len(keeping.jobs) == 3
        heard: list[str] = []

        def die(event: Any) -> None:
            heard.append(event.job_id)
            raise KeyboardInterrupt

        def live(event: Any) -> None:
            heard.append(event.job_id)

        self.kill(first)
        second = self.scheduler()
        second.add_listener(die, EVENT_JOB_LOST)
        with suppress(KeyboardInterrupt):
            self.clock.advance(self.lease)
        assert len(heard) == 1
        self.kill(second)
        third = self.scheduler()
        third.add_listener(live, EVENT_JOB_LOST)
        self.clock.advance(self.lease)
        assert sorted(heard[1:]) == ["0", "1", "2"]
        self.kill(third)  # after it has settled them
        fourth = self.scheduler()
        fourth.add_listener(live, EVENT_JOB_LOST)
        self.clock.advance(self.lease)
        assert len(heard) == 4

    def kill(self, scheduler: FakeScheduler) -> None:
        """Have a scheduler end as if its process were killed, and its lease run out."""
        scheduler._stop_timer()
        self._schedulers.remove(scheduler)
        store: Any = scheduler._jobstores["default"]
        self._stores.append(store)
        self.abandon(store)
        self.expire()

    # Time

    def test_the_clock_of_the_store_decides(self) -> None:
        if not self.has_clock:
            return
        skews = (-300.0, 300.0)
        stores = []
        for skew in skews:
            clock = _SkewedClock(skew)
            store = self.make_store(clock="store", lease=self.lease)
            store.start(FakeScheduler(clock=clock, timezone="UTC"), "default")
            self._stores.append(store)
            store.claim(clock.now(), 1)
            stores.append((store, clock))
        true = SystemClock().now()
        for store, clock in stores:
            assert abs(store.time(clock.now()) - SystemClock().now()) < 60 * _SECOND
        due = self.job("due")
        due._next_run = true - 100 * _SECOND
        later = self.job("later")
        later._next_run = true + 200 * _SECOND
        stores[0][0].add_jobs([due, later], False)
        claims = [[job.id for job in store.claim(clock.now(), 10)] for store, clock in stores]
        assert claims == [["due"], []]
        store, clock = stores[1]
        assert store.next_due() is not None


class _SkewedClock(FakeClock):
    """The system's clock, some seconds fast or slow."""

    def __init__(self, skew: float) -> None:
        super().__init__()
        self._skew = round(skew * _SECOND)

    def now(self) -> int:
        """Give the instant that this clock shows."""
        return SystemClock().now() + self._skew


def _wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something holds that other threads bring about."""
    deadline = monotonic() + _DEADLINE
    while not condition():
        assert monotonic() < deadline, "it never came about"
        sleep(0.01)


def _at_once(works: Iterable[Any]) -> None:
    """Call functions in threads at once; raise what one raises."""
    works = list(works)
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work) for work in works]:
            future.result()
