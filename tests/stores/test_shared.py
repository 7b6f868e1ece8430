"""What all stores have in common that schedulers share, on SQLite: faults, refusals, copies."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from support.schedulers import PATIENCE, Recorder

from tocsin import plugins
from tocsin.adapters.apscheduler.executors import BaseExecutor as StrangersBase
from tocsin.adapters.asyncio import AsyncIOScheduler
from tocsin.adapters.background import BackgroundScheduler
from tocsin.adapters.pools import ProcessPoolExecutor
from tocsin.claims import Claim
from tocsin.errors import TransientJobError
from tocsin.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_SUBMITTED,
    EVENT_JOBSTORE_ERROR,
)
from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.job import Job
from tocsin.loop import BATCH
from tocsin.stores import rows as rows_module
from tocsin.stores import shared as shared_module
from tocsin.stores.rows import Advance, OrphanedRuns
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore
from tocsin.testing import FakeClock, FakeScheduler
from tocsin.triggers.interval import IntervalTrigger

LEASE = 15.0
_SECOND = 1_000_000
_calls: list[Any] = []


def note(*args: Any) -> None:
    _calls.append(args)


def grow(items: list[int], **kwargs: list[int]) -> None:
    items.append(0)
    for each in kwargs.values():
        each.append(0)
    _calls.append((len(items), *map(len, kwargs.values())))


class Broken(Exception):
    """The connection broke, or so it seems."""


class Store(SQLAlchemyJobStore):
    """Loses the answers, and the questions, that it is told to."""

    lost: str = ""
    stuck: list[tuple[str, Sequence[Advance]]]

    def _advance_rows(self, member: str, entries: Sequence[Advance]) -> list[bool]:
        if self.lost == "question":
            self.stuck = [(member, entries)]
            raise Broken
        held = super()._advance_rows(member, entries)
        if self.lost == "answer":
            raise Broken
        return held

    def arrive(self) -> list[bool]:
        """Have what was stuck on its way arrive."""
        ((member, entries),) = self.stuck
        return super()._advance_rows(member, entries)

    def _orphans(self, member: str, now: int | None) -> list[OrphanedRuns]:
        if self.lost == "orphans":
            raise Broken
        return super()._orphans(member, now)


class Keeping(BaseExecutor):
    """Keep jobs as if they ran."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        self.jobs.append(job)


class Schedulers:
    """Schedulers with stores on one file and one clock."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path / 'jobs.sqlite'}"
        self.clock = FakeClock()
        self.all: list[FakeScheduler] = []

    def start(self, executor: BaseExecutor | None = None) -> tuple[FakeScheduler, Store]:
        store = Store(self.url, clock="scheduler", lease=LEASE)
        scheduler = FakeScheduler(
            clock=self.clock,
            timezone="UTC",
            jobstores={"default": store},
            executors={"default": executor or DebugExecutor()},
        )
        scheduler.start()
        self.all.append(scheduler)
        return scheduler, store

    def kill(self, scheduler: FakeScheduler) -> None:
        """Have a scheduler and its store end as if their process were killed."""
        scheduler._stop_timer()
        store: Any = scheduler._jobstores["default"]
        store._stop_keeping()
        store._close()
        self.all.remove(scheduler)


@pytest.fixture
def schedulers(tmp_path: Path) -> Iterator[Schedulers]:
    _calls.clear()
    made = Schedulers(tmp_path)
    yield made
    for scheduler in made.all:
        if scheduler.running:
            scheduler.shutdown()
        scheduler._jobstores["default"].shutdown()  # also where runs go on that never end


Told = Callable[[FakeScheduler, int], list[Any]]


@pytest.fixture
def told() -> Told:
    """Give what a scheduler tells of from now on."""

    def listen(scheduler: FakeScheduler, mask: int) -> list[Any]:
        heard: list[Any] = []
        scheduler.add_listener(heard.append, mask)
        return heard

    return listen


def rows(store: Store) -> list[Any]:
    """Give the recorded runs."""
    with store._engine.connect() as connection:
        return list(connection.execute(store.tables.runs.select()))


# Doubtful advances


def test_a_run_whose_answer_was_lost_is_started_though_the_take_over_fails(
    schedulers: Schedulers,
) -> None:
    scheduler, store = schedulers.start()
    scheduler.add_job(note, args=["once"])
    store.lost = "answer"
    schedulers.clock.advance(0)
    assert _calls == []
    # It is asked what became of it, and then who is gone: this fails.
    store.lost = "orphans"
    store._recover_at = 0
    schedulers.clock.advance(LEASE)
    assert _calls == [("once",)]
    store.lost = ""
    schedulers.clock.advance(LEASE)
    assert scheduler.health()["ok"]
    assert _calls == [("once",)]


def test_an_advance_that_arrives_after_it_was_asked_about_is_refused(
    schedulers: Schedulers,
) -> None:
    scheduler, store = schedulers.start()
    trigger = IntervalTrigger(hours=1, start_date=schedulers.clock.time)
    scheduler.add_job(note, trigger, args=["a"])
    store.lost = "question"
    schedulers.clock.advance(0)
    assert _calls == []
    store.lost = ""
    store.recover(schedulers.clock.now())
    assert store.arrive() == [False]
    assert rows(store) == []
    # Nor does the job wait for the end of the lease.
    schedulers.clock.advance(1)
    assert _calls == [("a",)]


def test_a_doubtful_run_counts_the_instances_elsewhere(schedulers: Schedulers, told: Told) -> None:
    keeping = Keeping()
    one, _ = schedulers.start(keeping)
    trigger = IntervalTrigger(seconds=4, start_date=schedulers.clock.time)
    one.add_job(note, trigger, args=["narrow"])
    schedulers.clock.advance(0)
    assert len(keeping.jobs) == 1
    one.pause()
    other, store = schedulers.start()
    heard = told(other, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_SUBMITTED)
    store.lost = "answer"
    schedulers.clock.advance(4)
    store.lost = ""
    schedulers.clock.advance(3)
    assert [each.code for each in heard] == [EVENT_JOB_MAX_INSTANCES]
    assert _calls == []


# Runs at least once


def test_a_run_that_is_taken_over_waits_until_an_instance_may_run(
    schedulers: Schedulers, told: Told
) -> None:
    first, second = Keeping(), Keeping()
    one, _ = schedulers.start(first)
    one.add_job(note, "date", args=["again"], id="again", at_least_once=True)
    schedulers.clock.advance(0)
    assert len(first.jobs) == 1
    schedulers.kill(one)
    other, store = schedulers.start(second)
    other.add_job(note, "interval", hours=1, id="again", at_least_once=True)
    other.run_job_now("again")
    heard = told(other, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_SUBMITTED)
    schedulers.clock.advance(4 * LEASE)
    assert len(second.jobs) == len(rows(store)) == 1
    assert heard == []
    second.release(second.jobs.pop())
    schedulers.clock.advance(LEASE)
    assert [each.code for each in heard] == [EVENT_JOB_SUBMITTED]
    (job,) = second.jobs
    assert job.args == ("again",)
    second.release(job)
    store._stop_keeping()
    assert rows(store) == []


def test_runs_that_wait_for_a_process_are_left_to_others(
    schedulers: Schedulers, told: Told
) -> None:
    one, store = schedulers.start(ProcessPoolExecutor(1))
    failed = told(one, EVENT_JOB_ERROR)
    executor: Any = one._executors["default"]
    executor._busy = 1  # so that all wait
    for job_id, repeat in (("again", True), ("once", False)):
        one.add_job(note, args=[job_id], id=job_id, at_least_once=repeat)
    schedulers.clock.advance(0)
    assert len(rows(store)) == 2
    one.shutdown(wait=False)
    assert sorted(each.job_id for each in failed) == ["again", "once"]
    other, _ = schedulers.start()
    done = told(other, EVENT_JOB_EXECUTED)
    schedulers.clock.advance(LEASE)
    assert [each.job_id for each in done] == ["again"]


def test_a_run_that_is_refused_by_a_stopped_executor_is_left_to_others(
    schedulers: Schedulers, told: Told
) -> None:
    class Stopped(Keeping):
        def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
            if self._scheduler.running:
                self._scheduler.state = 0  # by another thread, which stops the store next
            raise RuntimeError("stopped")

    one, store = schedulers.start(Stopped())
    failed = told(one, EVENT_JOB_ERROR)
    for job_id, repeat in (("again", True), ("once", False)):
        one.add_job(note, args=[job_id], id=job_id, at_least_once=repeat)
    schedulers.clock.advance(0)
    assert sorted(each.job_id for each in failed) == ["again", "once"]
    store.shutdown()
    schedulers.all.remove(one)
    other, _ = schedulers.start()
    done = told(other, EVENT_JOB_EXECUTED)
    schedulers.clock.advance(LEASE)
    assert [each.job_id for each in done] == ["again"]


# Runs that are lost


def lose(schedulers: Schedulers, count: int = 1) -> None:
    """Have a scheduler die while runs of so many jobs go on."""
    keeping = Keeping()
    dead, _ = schedulers.start(keeping)
    for number in range(count):
        dead.add_job(note, id=f"{number}")
    schedulers.clock.advance(0)
    assert len(keeping.jobs) == count
    schedulers.kill(dead)
    schedulers.clock.advance(LEASE)


def test_many_losses_are_told_of_once_and_settled_together(
    schedulers: Schedulers, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 2500
    lose(schedulers, count)
    sizes: list[int] = []
    settle = Store._settle

    def counted(self: Store, member: str, claims: Sequence[Claim]) -> list[bool]:
        sizes.append(len(claims))
        return settle(self, member, claims)

    monkeypatch.setattr(Store, "_settle", counted)
    other, store = schedulers.start()
    heard = told(other, EVENT_JOB_LOST)
    schedulers.clock.advance(LEASE)
    assert Counter(each.job_id for each in heard) == dict.fromkeys(map(str, range(count)), 1)
    store._stop_keeping()
    assert rows(store) == []
    assert sum(sizes) == count
    assert len(sizes) < count / 10
    assert store._losses == {}


def test_a_listener_that_shuts_down_hears_of_a_loss_once(
    schedulers: Schedulers, told: Told
) -> None:
    lose(schedulers, 3)
    other, _ = schedulers.start()
    heard = told(other, EVENT_JOB_LOST)
    other.add_listener(lambda _: other.shutdown(), EVENT_JOB_LOST)
    schedulers.clock.advance(0)
    assert len(heard) == 1
    third, store = schedulers.start()
    rest = told(third, EVENT_JOB_LOST)
    schedulers.clock.advance(0)
    assert sorted(each.job_id for each in [*heard, *rest]) == ["0", "1", "2"]
    store._stop_keeping()
    assert rows(store) == []


def test_what_was_told_late_of_a_loss_is_in_the_log(
    schedulers: Schedulers, caplog: pytest.LogCaptureFixture
) -> None:
    lose(schedulers)
    first, store = schedulers.start()
    first.pause()
    (found,) = store.recover(schedulers.clock.now())
    store._stop_keeping()
    schedulers.clock.advance(2 * LEASE)
    second, other = schedulers.start()
    second.pause()
    (again,) = other.recover(schedulers.clock.now())
    assert found.loss is not None
    store._settle_batch([found.loss])
    moment = schedulers.clock.time - timedelta(seconds=3 * LEASE)
    assert caplog.messages[-1] == (
        f'A run of job "0" at {moment} was reported lost when its lease had run out; another'
        " scheduler reports it as well"
    )
    assert again.loss is not None
    other._settle_batch([again.loss])
    assert rows(store) == []
    assert len(caplog.messages) == 1


# Leases that run out


class Elapsed:
    """The time that has elapsed, as a store sees it, advanced by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> Elapsed:
    made = Elapsed()
    for module in (shared_module, rows_module):
        monkeypatch.setattr(module, "elapsed", made)
    return made


@pytest.mark.parametrize("pace", [0.02, 1.0], ids=["a little slow", "very slow"])
def test_a_member_that_is_slow_claims_less_at_once_and_gets_on(
    schedulers: Schedulers, told: Told, elapsed: Elapsed, pace: float
) -> None:
    one, store = schedulers.start()
    count = round(2 * LEASE / pace)
    one.pause()
    one.add_jobs([{"func": note, "args": [n], "id": f"{n}"} for n in range(count)])
    began, late = told(one, EVENT_JOB_EXECUTED), []
    advance = store.advance

    def slowly(claims: Any, several: Any) -> list[bool]:
        claims = list(claims)
        elapsed.seconds += pace * len(claims)
        held = advance(claims, several)
        late.append((pace * len(claims), any(held)))
        return held

    store.advance = slowly  # type: ignore[method-assign]
    one.resume()
    for _ in range(40):
        schedulers.clock.advance(LEASE + 1)
    assert not [took for took, held in late if held and took >= LEASE]
    assert Counter(event.job_id for event in began) == {f"{n}": 1 for n in range(count)}


def test_what_is_recorded_after_the_lease_has_run_out_is_not_started(
    schedulers: Schedulers, told: Told, elapsed: Elapsed
) -> None:
    one, store = schedulers.start()
    for job_id, repeat in (("again", True), ("once", False)):
        one.add_job(note, args=[job_id], id=job_id, at_least_once=repeat)
    advance_rows = store._advance_rows

    def late(member: str, entries: Sequence[Advance]) -> list[bool]:
        held = advance_rows(member, entries)
        store._stop_keeping()  # it is asleep, and so is its thread
        elapsed.seconds += LEASE + 1
        return held

    store._advance_rows = late  # type: ignore[method-assign]
    done = told(one, EVENT_JOB_EXECUTED | EVENT_JOB_LOST)
    one._process_jobs()
    assert len(rows(store)) == 2
    assert done == []
    one._stop_timer()
    other, _ = schedulers.start()
    others = told(other, EVENT_JOB_EXECUTED | EVENT_JOB_LOST)
    schedulers.clock.advance(2 * LEASE)
    codes = {event.job_id: event.code for event in others}
    assert codes == {"again": EVENT_JOB_EXECUTED, "once": EVENT_JOB_LOST}
    one._process_jobs()
    assert (_calls, done) == ([("again",)], [])


# Runs that outlive their scheduler

_held, _go_on = threading.Event(), threading.Event()


def hold() -> None:
    _held.set()
    assert _go_on.wait(PATIENCE)


async def hold_first() -> None:
    if not _held.is_set():
        _held.set()
        await asyncio.Event().wait()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[SQLAlchemyJobStore]]:
    """Two stores on one file."""
    _held.clear()
    _go_on.clear()
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    made = [SQLAlchemyJobStore(url, lease=LEASE, poll_interval=0.1) for _ in range(2)]
    yield made
    _go_on.set()
    for store in made:
        store.shutdown()


def test_an_instance_that_outlives_its_scheduler_counts(stores: list[SQLAlchemyJobStore]) -> None:
    first, second = (
        BackgroundScheduler(jobstores={"default": store}, timezone="UTC") for store in stores
    )
    recorder = Recorder()
    second.add_listener(recorder, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_SUBMITTED)
    first.start()
    first.add_job(hold, "interval", seconds=0.2, id="narrow")
    assert _held.wait(PATIENCE)
    first.shutdown(wait=False)
    assert stores[0]._member is not None
    second.start()
    recorder.wait(EVENT_JOB_MAX_INSTANCES, 3)
    assert recorder.of(EVENT_JOB_SUBMITTED) == []
    _go_on.set()
    recorder.wait(EVENT_JOB_SUBMITTED)
    keeper = stores[0]._keeper
    assert keeper is not None
    keeper.join(PATIENCE)
    assert stores[0]._member is None
    second.shutdown()


def test_a_coroutine_that_is_cut_short_is_begun_anew(stores: list[SQLAlchemyJobStore]) -> None:
    async def cut_short() -> None:
        scheduler = AsyncIOScheduler(jobstores={"default": stores[0]}, timezone="UTC")
        scheduler.start()
        scheduler.add_job(hold_first, id="again", at_least_once=True)
        while not _held.is_set():
            await asyncio.sleep(0.01)
        scheduler.shutdown(wait=False)

    asyncio.run(cut_short())
    assert stores[0]._member is None  # it has left: nothing goes on
    second = BackgroundScheduler(jobstores={"default": stores[1]}, timezone="UTC")
    recorder = Recorder()
    second.add_listener(recorder, EVENT_JOB_EXECUTED)
    second.start()
    recorder.wait(EVENT_JOB_EXECUTED)
    assert [each.job_id for each in recorder.of(EVENT_JOB_EXECUTED)] == ["again"]
    second.shutdown()


# Executors written for APScheduler


def test_the_runs_of_executors_written_for_apscheduler_are_settled(
    schedulers: Schedulers,
) -> None:
    class Strange(StrangersBase):
        def _do_submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
            if job.args == ("refused",):
                raise RuntimeError("refused")
            waiting.append(job)

    waiting: list[Job] = []
    strange = Strange()
    one, store = schedulers.start(strange)
    for name in ("well", "badly", "refused"):
        one.add_job(note, args=[name], id=name)
    trigger = IntervalTrigger(seconds=5, start_date=schedulers.clock.time)
    one.add_job(note, trigger, args=["long"], id="long")
    schedulers.clock.advance(0)
    strange._run_job_success("well", [])
    strange._run_job_error("badly", RuntimeError())
    assert {key[1] for key in strange._claims} == {"long"}
    schedulers.start()
    one.pause()
    schedulers.clock.advance(5)
    assert _calls == []  # for it runs elsewhere
    strange._run_job_success("long", [])
    store._stop_keeping()
    assert [row for row in rows(store) if row.member == store._member] == []
    schedulers.clock.advance(5)
    assert _calls == [("long",)]


# What can't be read


def test_thousands_that_can_not_be_read_hold_up_nobody(schedulers: Schedulers) -> None:
    scheduler, store = schedulers.start()
    start = schedulers.clock.time
    count = 2 * BATCH + 1
    spoilt = [{"func": note, "id": f"spoilt {number}"} for number in range(count)]
    scheduler.pause()
    scheduler.add_jobs(spoilt, trigger=IntervalTrigger(hours=1, start_date=start))
    with store._engine.begin() as connection:
        connection.execute(store.tables.jobs.update().values(record="{"))
    later = start + timedelta(seconds=1)
    scheduler.add_job(note, IntervalTrigger(minutes=1, start_date=later), args=["good"])
    taken = 0

    def count_steps(*_: Any) -> None:
        nonlocal taken
        taken += 1

    event.listen(store._engine, "commit", count_steps)
    event.listen(store._engine, "before_cursor_execute", count_steps)
    scheduler.resume()
    schedulers.clock.advance(1)
    assert _calls == [("good",)]
    assert taken < 100
    # They are offered to others once their claims have ended.
    schedulers.clock.advance(LEASE)
    assert len(store._claim_rows("another", schedulers.clock.now() + 15 * _SECOND, 10)[1]) == 10


# Copies


def test_a_run_that_changes_its_arguments_changes_no_other(schedulers: Schedulers) -> None:
    scheduler, store = schedulers.start()
    trigger = IntervalTrigger(minutes=1, start_date=schedulers.clock.time)
    scheduler.add_job(grow, trigger, args=[[]], kwargs={"more": [1]}, id="grow")
    schedulers.clock.advance(180)
    assert _calls == [(1, 2)] * 4
    scheduler.modify_job("grow", name="renamed")
    found = store.lookup_job("grow")
    assert found is not None
    assert found.args == ([],)
    assert found.kwargs == {"more": [1]}


def test_the_arguments_of_a_job_that_was_found_are_its_own(schedulers: Schedulers) -> None:
    scheduler, _ = schedulers.start()
    options = {"args": [[]], "kwargs": {"more": 1}}
    scheduler.add_job(grow, "interval", hours=1, id="one", **options)
    for _ in range(2):
        found = scheduler.get_job("one")
        assert found is not None
        assert found.kwargs == {"more": 1}
        found.kwargs["more"] = 2


# Reports


def test_a_job_that_runs_again_is_broken_no_more(schedulers: Schedulers) -> None:
    scheduler, store = schedulers.start()
    trigger = IntervalTrigger(minutes=1, start_date=schedulers.clock.time + timedelta(minutes=1))
    scheduler.add_job(note, trigger, args=["a"], id="one")
    good = store._row("one")
    assert good is not None
    store._replace(good._replace(record="{"), False)
    schedulers.clock.advance(60)
    assert [each["id"] for each in scheduler.health()["broken_jobs"]] == ["one"]
    # Another scheduler mends it.
    store._replace(good._replace(version=good.version + 1), False)
    schedulers.clock.advance(LEASE)
    assert len(_calls) == 1
    assert scheduler.health()["ok"]


# The thread that keeps the lease


def keepers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "tocsin-store-default"]


def test_a_thread_that_was_stuck_ends_when_the_store_was_started_anew(tmp_path: Path) -> None:
    class Stuck(SQLAlchemyJobStore):
        def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
            if threading.current_thread() in first:
                reached.set()
                go_on.wait(PATIENCE)
            return super()._renew(member, now)

    first: list[threading.Thread] = []
    reached, go_on = threading.Event(), threading.Event()
    store = Stuck(f"sqlite:///{tmp_path / 'jobs.sqlite'}", lease=0.5)
    scheduler = BackgroundScheduler(jobstores={"default": store})
    scheduler.start()
    deadline = time.monotonic() + PATIENCE
    while not first and time.monotonic() < deadline:
        first += keepers()
    assert reached.wait(PATIENCE)
    scheduler.shutdown()
    scheduler.start()
    while len(keepers()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.set()
    first[0].join(PATIENCE)
    assert not first[0].is_alive()
    assert len(keepers()) == 1
    scheduler.shutdown()
    assert keepers() == []


def test_the_lease_is_renewed_amid_a_backlog_of_runs_that_have_ended(tmp_path: Path) -> None:
    class Slow(SQLAlchemyJobStore):
        def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
            steps.append(len(claims))
            begun.set()
            assert go_on.wait(PATIENCE)
            self._renew_at = 0.0  # it took as long as that
            return super()._settle(member, claims)

        def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
            steps.append("lease")
            return super()._renew(member, now)

    steps: list[Any] = []
    begun, go_on = threading.Event(), threading.Event()
    store = Slow(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    scheduler = FakeScheduler(jobstores={"default": store})
    scheduler.start()
    scheduler.clock.advance(0)

    def end(first: int, last: int) -> None:
        for number in range(first, last):
            claim = Claim(store, "one", number, 0, 0.0)
            claim.times = (number,)
            claim.settle()

    end(0, 1)
    assert begun.wait(PATIENCE)
    end(1, 2001)
    go_on.set()
    deadline = time.monotonic() + PATIENCE
    while steps[-1:] != ["lease"] or 1000 not in steps:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    scheduler.shutdown()
    steps.remove("lease")  # with the first claim
    assert steps[:5] == [1, "lease", 1000, "lease", 1000]


def test_ends_of_runs_do_not_hurry_what_waits_for_the_server(tmp_path: Path) -> None:
    class Failing(SQLAlchemyJobStore):
        def _settle(self, member: str, claims: Sequence[Claim]) -> list[bool]:
            tried.append(len(claims))
            if len(tried) < 4:
                raise Broken
            settled.set()
            return super()._settle(member, claims)

    tried: list[int] = []
    settled = threading.Event()
    store = Failing(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    scheduler = FakeScheduler(jobstores={"default": store})
    scheduler.start()
    scheduler.clock.advance(0)
    failures: list[Any] = []
    scheduler.add_listener(failures.append, EVENT_JOBSTORE_ERROR)
    count = 0
    while not settled.is_set() and count < 10_000:
        claim = Claim(store, "one", count, 0, 0.0)
        claim.times = (count,)
        claim.settle()
        count += 1
        settled.wait(0.005)
    scheduler.shutdown()
    assert len(failures) == 3
    assert [round(each.retry_in, 1) for each in failures] == [0.2, 0.4, 0.8]
    assert count > 20


@pytest.mark.parametrize("name", ["etcd", "zookeeper"])
def test_stores_on_shards_take_the_options_of_all(name: str) -> None:
    store = plugins.load("stores", name)(
        value_codecs={complex: ("complex", str, complex)}, max_bytes="2048", lease="20", shards="4"
    )
    assert (store.lease, store.shards) == (20.0, 4)
    job = Job(None, print, IntervalTrigger(hours=1), (1 + 2j,), id="one",
              misfire_grace_time=None, coalesce=True, max_instances=1, next_run=0)  # fmt: skip
    assert store.codec.loads(store.codec.dumps(job), 0).args == (1 + 2j,)
    job._apply({"args": ("x" * 2048,)})
    with pytest.raises(ValueError, match=r"2,?048"):
        store.codec.dumps(job)


def test_an_imported_file_is_held_to_the_allowed_modules(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    scheduler, other = (FakeScheduler(timezone="UTC") for _ in range(2))
    scheduler.start()
    scheduler.add_job("json:dumps", "interval", hours=1, args=["x"], id="job")
    path = tmp_path / "jobs.json"
    scheduler.export_jobs(path)
    path.write_text(path.read_text().replace("json:dumps", "this:s"))  # which would print a poem
    other.add_jobstore(SQLAlchemyJobStore(url, allowed_modules=["json"]))
    other.start()
    with pytest.raises(TransientJobError, match="'this', which allowed_modules does not name"):
        other.import_jobs(path)
    assert "this" not in sys.modules
    assert other.get_jobs() == []
    other.shutdown()


class Distant(SQLAlchemyJobStore):
    """Its server's clock is five minutes fast, and its answers can take long."""

    ahead = 300 * _SECOND
    there = back = 0.0
    ticking: FakeClock

    def _renew(self, member: str, now: int | None) -> tuple[int, bool]:
        _, known = super()._renew(member, now)
        self.ticking.advance(self.there)
        theirs = self.ticking.now() + self.ahead
        self.ticking.advance(self.back)
        return theirs, known


@pytest.mark.parametrize(("asked", "there", "back"), [(4, 0, 0), (0, 4, 0), (0, 0, 4), (1, 2, 1)])
def test_an_answer_that_takes_long_does_not_change_what_is_known_of_the_time(
    tmp_path: Path, asked: float, there: float, back: float
) -> None:
    clock = FakeClock()
    store = Distant(f"sqlite:///{tmp_path}/jobs.sqlite")
    store.ticking = clock
    store.start(FakeScheduler(clock=clock, timezone="UTC"), "default")
    try:
        store._renew_lease(clock.now())
        assert store.time(clock.now()) == clock.now() + store.ahead
        told = clock.now()
        clock.advance(asked)  # others had the store's lock meanwhile
        store.there, store.back = there, back
        store._renew_lease(told)
        assert store.time(clock.now()) == clock.now() + store.ahead
        store.there = store.back = 0.0
        store.ahead -= 60 * _SECOND  # it was set
        store._renew_lease(clock.now())
        assert store.time(clock.now()) == clock.now() + store.ahead
    finally:
        store.shutdown()
