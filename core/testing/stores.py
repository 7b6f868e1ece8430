"""What a job store must do, as tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any

from tocsin import plugins
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores.base import BaseJobStore
from tocsin.testing.scheduler import FakeScheduler
from tocsin.triggers.cron import CronTrigger
from tocsin.triggers.interval import IntervalTrigger

_SECOND = 1_000_000
_THREADS = 8
#: What the jobs of these tests have done.
_done: list[Any] = []


def note(*args: Any, **kwargs: Any) -> None:
    """Keep what a job was called with: the job of most tests."""
    _done.append((args, kwargs))


def other() -> None:
    """Do nothing: the callable that a job is changed to."""


class JobStoreCompliance:
    """The contract of job stores. A subclass says how a store is made, and pytest does the rest:

        from tocsin.testing import JobStoreCompliance

        class TestMyStore(JobStoreCompliance):
            def make_store(self):
                return MyStore("localhost")

    Each test gets a store of its own, which must be empty, started by a scheduler on a fake
    clock. Both contracts are tested: the batches that the loop uses, and the one-job calls of
    APScheduler 3 that every store has.
    """

    def make_store(self) -> BaseJobStore:
        """Make a store without jobs, not started."""
        raise NotImplementedError("a compliance suite needs make_store()")

    def setup_method(self) -> None:
        """Make a scheduler on a fake clock."""
        _done.clear()
        self.scheduler = FakeScheduler(timezone="Europe/Berlin")
        self.clock = self.scheduler.clock
        self.now = self.clock.now()

    @cached_property
    def store(self) -> BaseJobStore:
        """The store, made when a test first uses it: after all fixtures of the test."""
        store = self.make_store()
        store.start(self.scheduler, "default")
        return store

    def teardown_method(self) -> None:
        """Empty and close the store."""
        if "store" in self.__dict__:
            self.store.remove_all_jobs()
            self.store.shutdown()

    def job(self, job_id: str, due: float | None = 0, **changes: Any) -> Job:
        """Make a job that is due some seconds from now, or paused."""
        options = {"args": (job_id,), "trigger": IntervalTrigger(hours=1), **changes}
        job = Job(
            self.scheduler,
            options.pop("func", note),
            id=job_id,
            name=options.pop("name", f"name of {job_id}"),
            misfire_grace_time=options.pop("misfire_grace_time", None),
            coalesce=options.pop("coalesce", True),
            max_instances=options.pop("max_instances", 1),
            next_run=None if due is None else self.at(due),
            **options,
        )
        job._jobstore_alias = "default"
        return job

    def add(self, *jobs: Job, replace: bool = False) -> list[bool]:
        """Add jobs as one batch."""
        return self.store.add_jobs(jobs, replace)

    def at(self, seconds: float) -> int:
        """Give the instant so many seconds from now."""
        return self.now + round(seconds * _SECOND)

    def moment(self, seconds: float) -> datetime:
        """Give the time so many seconds from now."""
        return self.clock.time + timedelta(seconds=seconds)

    def ids(self, jobs: Iterable[Job] | None = None) -> list[str]:
        """Give the ids of jobs, by default of all that the store has."""
        return [job.id for job in (self.store.get_all_jobs() if jobs is None else jobs)]

    def claim(self, seconds: float = 0, limit: int = 100) -> dict[str, Job]:
        """Claim what is due in so many seconds, by id."""
        return {job.id: job for job in self.store.claim(self.at(seconds), limit)}

    def due(self, job_id: str) -> int | None:
        """Give the next run of a job, as an instant."""
        found = self.store.lookup_job(job_id)
        assert found is not None, f"no job {job_id!r} in the store"
        return found._next_run

    # Keeping jobs

    def test_it_is_a_plugin(self) -> None:
        assert isinstance(self.store, BaseJobStore)
        plugins.verify("stores", type(self.store))

    def test_an_empty_store(self) -> None:
        assert self.store.get_all_jobs() == []
        assert self.store.lookup_job("none") is None
        assert self.store.get_next_run_time() is None
        assert self.store.next_due() is None
        assert self.store.claim(self.at(0), 10) == []
        assert self.store.get_due_jobs(self.moment(0)) == []
        assert self.store.add_jobs([], False) == []
        assert self.store.advance([]) == []

    def test_a_job_comes_back_as_it_was(self) -> None:
        trigger = CronTrigger.from_crontab("30 2 * * mon-fri", timezone="Europe/Berlin")
        stored = self.job(
            "whole",
            1.000001,
            trigger=trigger,
            args=(1, "two", [3.5, None]),
            kwargs={"key": {"nested": True}},
            misfire_grace_time=2.5,
            coalesce=False,
            max_instances=3,
            executor="other",
        )
        assert self.add(stored) == [False]
        found = self.store.lookup_job("whole")
        assert found is not None
        assert found.id == "whole"
        assert found.name == "name of whole"
        assert found.func is note
        assert tuple(found.args) == (1, "two", [3.5, None])
        assert dict(found.kwargs) == {"key": {"nested": True}}
        assert found.trigger.next_instant(self.now) == trigger.next_instant(self.now)
        assert found.misfire_grace_time == 2.5
        assert found.coalesce is False
        assert found.max_instances == 3
        assert found.executor == "other"
        assert found.next_run_time == self.moment(1.000001)
        assert found._next_run == self.at(1.000001)

    def test_ids_are_any_text(self) -> None:
        ids = ["a b", "a/b/../c", "per%cent_", "quote'\"`", "Zoë\N{SNOWMAN}", "A", "a", "x" * 150]
        self.add(*(self.job(each, number) for number, each in enumerate(ids)))
        assert self.ids() == ids
        for each in ids:
            found = self.store.lookup_job(each)
            assert found is not None
            assert found.id == each
            assert found.args == (each,)
            self.store.remove_job(each)
        assert self.ids() == []

    def test_all_jobs_are_in_order_paused_ones_last(self) -> None:
        self.add(self.job("late", 30), self.job("rest", None), self.job("soon", 1))
        self.store.add_job(self.job("between", 2))
        self.store.add_job(self.job("rest too", None))
        found = self.ids()
        assert found[:3] == ["soon", "between", "late"]
        assert sorted(found[3:]) == ["rest", "rest too"]

    def test_a_job_of_the_year_9999(self) -> None:
        far = datetime(9999, 12, 31, 22, tzinfo=timezone.utc)
        job = self.job("far")
        job.next_run_time = far
        self.add(job)
        found = self.store.lookup_job("far")
        assert found is not None
        assert found.next_run_time == far
        assert self.store.get_next_run_time() == far
        assert self.claim(0) == {}

    def test_jobs_outlast_a_shutdown(self) -> None:
        self.add(self.job("kept", 5), self.job("paused", None))
        self.store.shutdown()
        self.store.start(self.scheduler, "default")
        assert self.ids() == ["kept", "paused"]
        assert self.store.next_due() == self.at(5)
        assert list(self.claim(5)) == ["kept"]

    # Adding

    def test_a_conflict_changes_nothing(self) -> None:
        self.add(self.job("taken", 1))
        try:
            self.store.add_job(self.job("taken", 2))
        except ConflictingIdError as error:
            assert "taken" in str(error)
        else:
            raise AssertionError("add_job took an id twice")
        assert self.due("taken") == self.at(1)

    def test_a_batch_with_a_conflict_adds_nothing(self) -> None:
        self.add(self.job("taken", 1))
        batches = [
            [self.job("new", 2), self.job("taken", 3), self.job("newer", 4)],
            [self.job("twice", 2), self.job("new", 3), self.job("twice", 4)],
        ]
        for batch in batches:
            try:
                self.add(*batch)
            except ConflictingIdError as error:
                assert "taken" in str(error) or "twice" in str(error)
            else:
                raise AssertionError("add_jobs took an id twice")
            assert self.ids() == ["taken"]
            assert self.due("taken") == self.at(1)
            assert list(self.claim(10)) == ["taken"]
            self.store.remove_job("taken")
            self.add(self.job("taken", 1))

    def test_a_batch_may_replace(self) -> None:
        self.add(self.job("old", 1), self.job("other", 2))
        replaced = self.add(
            self.job("new", 3),
            self.job("old", 4, args=("fresh",)),
            self.job("new", 5),
            replace=True,
        )
        assert replaced == [False, True, True]
        assert self.ids() == ["other", "old", "new"]
        found = self.store.lookup_job("old")
        assert found is not None
        assert found.args == ("fresh",)
        assert self.due("new") == self.at(5)
        assert self.claim(1) == {}
        assert self.ids(self.store.claim(self.at(5), 10)) == ["other", "old", "new"]

    def test_a_batch_that_cannot_be_kept_leaves_all_as_it_was(self) -> None:
        self.add(self.job("old", 1))
        # A store that writes jobs down refuses this one, one that keeps them alive does not.
        batch = [self.job("new", 2), self.job("old", 3), self.job("odd", 4, func=lambda _: None)]
        try:
            self.add(*batch, replace=True)
        except Exception:
            assert self.ids() == ["old"]
            assert self.due("old") == self.at(1)
        else:
            assert self.ids() == ["new", "old", "odd"]

    def test_a_thousand_jobs(self) -> None:
        self.add(*(self.job(f"{number:04}", number) for number in range(1000)))
        assert self.ids() == [f"{number:04}" for number in range(1000)]
        claimed = self.store.claim(self.at(2000), 2000)
        assert self.ids(claimed) == [f"{number:04}" for number in range(1000)]
        held = self.store.advance([(job, job._next_run or 0, self.at(3000)) for job in claimed])
        assert held == [True] * 1000
        assert self.store.next_due() == self.at(3000)

    # Changing and removing

    def test_update(self) -> None:
        self.add(self.job("one", 1), self.job("two", 2))
        self.store.update_job(self.job("one", 3, args=("changed",), name="renamed"))
        found = self.store.lookup_job("one")
        assert found is not None
        assert (found.args, found.name) == (("changed",), "renamed")
        assert self.ids() == ["two", "one"]
        assert self.claim(1) == {}
        self.store.update_job(self.job("two", None))
        assert list(self.claim(5)) == ["one"]

    def test_modify(self) -> None:
        self.add(self.job("one", 1), self.job("two", 2))
        given = self.store.modify_job("one", {"name": "renamed", "args": (7,), "func": other})
        assert (given.id, given.name, given.args, given.func) == ("one", "renamed", (7,), other)
        assert self.due("one") == self.at(1)
        self.store.modify_job("one", {"_next_run": self.at(3)})
        found = self.store.lookup_job("one")
        assert found is not None
        assert (found.name, found.args, found.func) == ("renamed", (7,), other)
        assert self.ids() == ["two", "one"]
        assert self.store.next_due() == self.at(2)
        self.store.modify_job("two", {"_next_run": None})
        assert self.store.next_due() == self.at(3)
        self.store.modify_job("two", {"_next_run": self.at(1)})
        assert list(self.claim(1)) == ["two"]

    def test_remove(self) -> None:
        self.add(self.job("one", 1), self.job("two", 2), self.job("rest", None))
        self.store.remove_job("one")
        self.store.remove_job("rest")
        assert self.ids() == ["two"]
        assert self.store.lookup_job("one") is None
        assert list(self.claim(9)) == ["two"]
        self.add(self.job("one", 1))
        assert self.due("one") == self.at(1)

    def test_remove_all(self) -> None:
        self.add(self.job("one", 1), self.job("rest", None))
        self.store.remove_all_jobs()
        assert self.ids() == []
        assert self.store.next_due() is None
        assert self.claim(9) == {}
        self.store.remove_all_jobs()
        self.add(self.job("one", 1))
        assert list(self.claim(9)) == ["one"]

    def test_what_is_not_there_is_said_so(self) -> None:
        calls: dict[str, Callable[[], Any]] = {
            "remove_job": lambda: self.store.remove_job("nobody"),
            "update_job": lambda: self.store.update_job(self.job("nobody")),
            "modify_job": lambda: self.store.modify_job("nobody", {"name": "x"}),
        }
        for name, call in calls.items():
            try:
                call()
            except JobLookupError as error:
                assert "nobody" in str(error)
            else:
                raise AssertionError(f"{name} did not miss the job")
        assert self.ids() == []

    # What is due

    def test_due_jobs_of_the_one_job_contract(self) -> None:
        self.add(self.job("two", 2), self.job("rest", None), self.job("one", 1.000001))
        assert self.store.get_next_run_time() == self.moment(1.000001)
        assert self.store.get_due_jobs(self.moment(1)) == []
        assert self.ids(self.store.get_due_jobs(self.moment(1.000001))) == ["one"]
        assert self.ids(self.store.get_due_jobs(self.moment(2))) == ["one", "two"]
        assert self.ids() == ["one", "two", "rest"]

    def test_a_claim_takes_what_is_due_and_nothing_else(self) -> None:
        self.add(self.job("three", 3), self.job("rest", None), self.job("one", 1.000001))
        assert self.store.next_due() == self.at(1.000001)
        assert self.claim(1) == {}
        claimed = self.claim(1.000001)
        assert list(claimed) == ["one"]
        job = claimed["one"]
        assert job._next_run == self.at(1.000001)
        assert job.next_run_time == self.moment(1.000001)
        assert job.args == ("one",)

    def test_a_claim_has_a_limit_and_takes_the_earliest(self) -> None:
        self.add(*(self.job(f"{10 - due}", due) for due in range(10)))
        first = self.store.claim(self.at(20), 4)
        assert self.ids(first) == ["10", "9", "8", "7"]
        held = self.store.advance([(job, job._next_run or 0, self.at(100)) for job in first])
        assert held == [True] * 4
        due = self.store.next_due()
        assert due == self.at(4)
        assert self.ids(self.store.claim(self.at(20), 100)) == ["6", "5", "4", "3", "2", "1"]

    def test_advance(self) -> None:
        self.add(self.job("on", 1), self.job("done", 1), self.job("later", 7))
        claimed = self.claim(1)
        held = self.store.advance(
            [(claimed["on"], self.at(1), self.at(5)), (claimed["done"], self.at(1), None)]
        )
        assert held == [True, True]
        assert self.ids() == ["on", "later"]
        assert self.store.lookup_job("done") is None
        assert self.due("on") == self.at(5)
        assert self.store.next_due() == self.at(5)
        assert self.claim(4.9) == {}
        assert list(self.claim(5)) == ["on"]

    def test_a_run_is_advanced_once(self) -> None:
        self.add(self.job("one", 1))
        job = self.claim(1)["one"]
        assert self.store.advance([(job, self.at(1), self.at(5))]) == [True]
        assert self.store.advance([(job, self.at(1), self.at(9))]) == [False]
        assert self.due("one") == self.at(5)

    def test_a_claim_ends_when_the_job_is_changed(self) -> None:
        ids = ["moved", "paused", "gone", "replaced", "updated", "kept"]
        self.add(*(self.job(each, 1) for each in ids))
        claimed = self.claim(1)
        assert sorted(claimed) == sorted(ids)
        self.store.modify_job("moved", {"_next_run": self.at(30)})
        self.store.modify_job("paused", {"_next_run": None})
        self.store.remove_job("gone")
        self.add(self.job("replaced", 40), replace=True)
        self.store.update_job(self.job("updated", 50))
        held = self.store.advance([(claimed[each], self.at(1), self.at(20)) for each in ids])
        assert dict(zip(ids, held, strict=True)) == {each: each == "kept" for each in ids}
        assert self.due("moved") == self.at(30)
        assert self.due("paused") is None
        assert self.store.lookup_job("gone") is None
        assert self.due("replaced") == self.at(40)
        assert self.due("updated") == self.at(50)
        assert self.due("kept") == self.at(20)
        assert self.ids(self.store.claim(self.at(99), 10)) == [
            "kept", "moved", "replaced", "updated",
        ]  # fmt: skip

    def test_a_change_that_leaves_the_time_alone_leaves_the_claim_alone(self) -> None:
        self.add(self.job("one", 1))
        job = self.claim(1)["one"]
        self.store.modify_job("one", {"name": "renamed"})
        assert self.store.advance([(job, self.at(1), self.at(5))]) == [True]
        found = self.store.lookup_job("one")
        assert found is not None
        assert (found.name, found._next_run) == ("renamed", self.at(5))

    def test_claims_end_when_all_jobs_are_removed(self) -> None:
        self.add(self.job("one", 1), self.job("two", 1))
        claimed = self.claim(1)
        self.store.remove_all_jobs()
        self.add(self.job("one", 60))
        held = self.store.advance([(job, self.at(1), self.at(5)) for job in claimed.values()])
        assert held == [False, False]
        assert self.ids() == ["one"]
        assert self.due("one") == self.at(60)

    # Giving back, and setting aside

    def test_release(self) -> None:
        self.add(self.job("bad", 1), self.job("good", 1.3))
        job = self.claim(1)["bad"]
        self.clock.advance(1)
        self.store.release(job, self.at(1), self.at(11))
        assert self.due("bad") == self.at(1)
        assert self.ids() == ["bad", "good"]
        # The others are on time.
        assert self.store.next_due() == self.at(1.3)
        assert list(self.claim(1.3)) == ["good"]
        assert "bad" not in self.claim(10.9)
        again = self.claim(11)["bad"]
        assert again._next_run == self.at(1)
        assert self.store.advance([(again, self.at(1), self.at(20))]) == [True]
        assert self.due("bad") == self.at(20)

    def test_the_wake_up_for_what_is_given_back(self) -> None:
        self.add(self.job("bad", 1))
        job = self.claim(1)["bad"]
        self.clock.advance(1)
        self.store.release(job, self.at(1), self.at(1.5))
        assert self.store.next_due() == self.at(1.5)
        job = self.claim(1.5)["bad"]
        self.store.release(job, self.at(1), self.at(61))
        due = self.store.next_due()
        assert due is not None
        assert self.at(1) < due <= self.at(61)

    def test_a_stale_release_changes_nothing(self) -> None:
        ids = ["moved", "gone", "back"]
        self.add(*(self.job(each, 1) for each in ids))
        claimed = self.claim(1)
        self.store.modify_job("moved", {"_next_run": self.at(2)})
        self.store.remove_job("gone")
        self.store.remove_job("back")
        self.add(self.job("back", 3))
        for each in ids:
            self.store.release(claimed[each], self.at(1), self.at(99))
        assert self.ids() == ["moved", "back"]
        assert self.store.next_due() == self.at(2)
        assert list(self.claim(3)) == ["moved", "back"]

    def test_a_change_of_the_time_ends_the_wait(self) -> None:
        self.add(self.job("bad", 1))
        self.store.release(self.claim(1)["bad"], self.at(1), self.at(99))
        self.store.modify_job("bad", {"_next_run": self.at(2)})
        assert self.store.next_due() == self.at(2)
        assert list(self.claim(2)) == ["bad"]

    def test_set_aside(self) -> None:
        self.add(self.job("bad", 1), self.job("good", 2))
        self.store.set_aside(self.claim(1)["bad"], self.at(1), "its trigger is broken")
        assert self.ids() == ["good", "bad"]
        assert self.due("bad") is None
        assert self.store.next_due() == self.at(2)
        assert list(self.claim(99)) == ["good"]
        self.store.modify_job("bad", {"_next_run": self.at(100), "failure": None})
        assert self.claim(100)["bad"]._next_run == self.at(100)

    def test_a_stale_set_aside_changes_nothing(self) -> None:
        self.add(self.job("moved", 1), self.job("gone", 1))
        claimed = self.claim(1)
        self.store.modify_job("moved", {"_next_run": self.at(2)})
        self.store.remove_job("gone")
        for job in claimed.values():
            self.store.set_aside(job, self.at(1), "too late")
        assert self.ids() == ["moved"]
        assert self.due("moved") == self.at(2)

    # Many threads

    def test_each_run_is_given_to_one_of_many_threads(self) -> None:
        runs = 5
        self.add(*(self.job(f"{number}", 0) for number in range(40)))
        taken: list[tuple[str, int]] = []
        together = threading.Barrier(_THREADS)

        def work() -> list[tuple[str, int]]:
            mine = []
            together.wait()
            while claimed := self.store.claim(self.at(runs - 1), 7):
                times = [job._next_run for job in claimed]
                claims = [
                    (job, due, due + _SECOND)
                    for job, due in zip(claimed, times, strict=True)
                    if due is not None
                ]
                held = self.store.advance(claims)
                mine += [
                    (job.id, due)
                    for (job, due, _), holds in zip(claims, held, strict=True)
                    if holds
                ]
            return mine

        for result in _in_threads(work):
            taken += result
        assert sorted(taken) == sorted(
            (f"{number}", self.at(run)) for number in range(40) for run in range(runs)
        )

    def test_an_id_is_given_to_one_of_many_threads(self) -> None:
        assert self.ids() == []  # made here, or each thread would make a store
        together = threading.Barrier(_THREADS)

        def work() -> int:
            added = 0
            for number in range(20):
                together.wait()
                try:
                    self.add(self.job(f"{number}", 1))
                    added += 1
                except ConflictingIdError:
                    continue
            return added

        assert sum(_in_threads(work)) == 20
        assert len(self.ids()) == 20

    def test_no_change_of_many_threads_is_lost(self) -> None:
        names = ["name", "args", "coalesce", "max_instances", "executor", "misfire_grace_time"]
        self.add(self.job("shared", 1))
        together = threading.Barrier(_THREADS)
        numbers = iter(range(_THREADS))

        def work() -> None:
            mine = next(numbers)
            together.wait()
            for round_ in range(10):
                changes: Mapping[str, Any] = {
                    "name": {"name": f"{round_}"},
                    "args": {"args": (round_,)},
                    "coalesce": {"coalesce": bool(round_ % 2)},
                    "max_instances": {"max_instances": round_ + 1},
                    "executor": {"executor": f"{round_}"},
                    "misfire_grace_time": {"misfire_grace_time": round_ + 1},
                }
                if mine < len(names):
                    self.store.modify_job("shared", changes[names[mine]])
                else:
                    job_id = f"{mine} {round_}"
                    self.add(self.job(job_id, 2))
                    self.store.remove_job(job_id)

        _in_threads(work)
        assert self.ids() == ["shared"]
        found = self.store.lookup_job("shared")
        assert found is not None
        assert (found.name, found.args, found.coalesce) == ("9", (9,), True)
        assert (found.max_instances, found.executor) == (10, "9")
        assert found.misfire_grace_time == 10

    # Under a scheduler

    def test_a_scheduler_on_it_runs_jobs_when_they_are_due(self) -> None:
        self.store.shutdown()
        self.scheduler.add_jobstore(self.store)
        self.scheduler.start()
        self.scheduler.add_job(note, "interval", minutes=1, args=("minutely",), id="minutely")
        self.scheduler.add_job(note, "date", run_date=self.moment(90), args=("once",), id="once")
        paused = self.scheduler.add_job(note, "interval", minutes=1, args=("never",), id="paused")
        paused.pause()
        self.clock.advance(timedelta(minutes=3))
        runs = [args[0] for args, _ in _done]
        assert runs == ["minutely", "once", "minutely", "minutely"]
        assert [job.id for job in self.scheduler.get_jobs()] == ["minutely", "paused"]
        self.scheduler.shutdown()
        self.clock.advance(timedelta(minutes=10))
        assert len(_done) == 4
        self.scheduler.start()
        self.clock.advance(0)
        assert [args[0] for args, _ in _done[4:]] == ["minutely"]
        self.clock.advance(timedelta(minutes=1))
        assert [args[0] for args, _ in _done[4:]] == ["minutely", "minutely"]
        self.scheduler.remove_all_jobs()
        self.clock.advance(timedelta(minutes=10))
        assert len(_done) == 6
        self.scheduler.shutdown()
        self.store.start(self.scheduler, "default")


def _in_threads(work: Any) -> list[Any]:
    """Call a function in many threads at once; give what they return, raise what one raises."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return [future.result() for future in [pool.submit(work) for _ in range(_THREADS)]]
