"""The job stores against APScheduler's of the same kind, and against what the server can do.

A module ``test_store_*.py`` makes a `Contest` for each server and calls `adding`, `claiming`,
`waking_up` and `against_raw_writes` with it. Stores are called as the loop of each scheduler
calls them, in this thread, and no job is run. tocsin's store uses the server's clock; its runs are
settled between the rounds, out of the measured time, and again with it for a figure of its own.

The same calls take APScheduler so long that it gets fewer jobs where its time for each does not
depend on how many there are; times are per job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from apscheduler.job import Job as PeerJob
from apscheduler.triggers.interval import IntervalTrigger as PeerTrigger

from benchmarks.peers import PeerScheduler
from benchmarks.races import SIZES, Contestant, Race, Report, ratios
from tocsin import IntervalTrigger
from tocsin.clock import SystemClock
from tocsin.convert import edge_of
from tocsin.job import Job
from tocsin.stores.shared import SharedJobStore
from tocsin.testing import FakeScheduler

JOBS = min(10_000, max(SIZES))
STORED = min(100_000, max(SIZES))
BATCH = 100
#: So many jobs APScheduler's store gets to add and to claim.
PEER_JOBS = 500
DUE = 10
#: A wake-up is measured with all stored jobs, and with such parts of them.
PARTS = (100, 10, 1)
HOUR = timedelta(hours=1)
EDGE = edge_of(timezone.utc)
OURS, THEIRS, RAW = "tocsin", "APScheduler", "raw"


def noop(number: int = 0) -> None:
    """Be a job."""


@dataclass
class Contest:
    """One server, and what opens stores on it that are empty at first.

    ``raw`` makes a function that writes ids and instants of `BATCH` rows in the fastest way that
    the server has, durably, given all ids; ``raw_ratio`` is the part of its speed to reach.
    ``fill`` puts APScheduler's jobs into its store faster than one by one, where needed.
    """

    name: str
    ours: Callable[[], SharedJobStore]
    theirs: Callable[[], Any]
    raw: Callable[[Sequence[str]], Callable[[Sequence[str], int], object]]
    raw_ratio: float
    fill: Callable[[Any, Sequence[PeerJob]], object] | None = None
    #: The part of tocsin's jobs that APScheduler's store has at a wake-up.
    peer_part: int = 1


class Ours:
    """tocsin's store, and the calls of its loop."""

    def __init__(self, store: SharedJobStore) -> None:
        self.store = store
        self.scheduler = FakeScheduler(clock=SystemClock(), timezone="UTC")
        self.store.start(self.scheduler, "default")
        self.claims: list[Any] = []

    def jobs(self, count: int, due: datetime) -> list[Job]:
        """Make jobs with a trigger of their own, all due at one time."""
        first = EDGE.instant(due)
        return [
            Job(
                self.scheduler,
                noop,
                id=f"job {number:06}",
                name="noop",
                args=(number,),
                trigger=IntervalTrigger(hours=1, start_date=due),
                misfire_grace_time=None,
                coalesce=True,
                max_instances=1,
                next_run=first,
            )
            for number in range(count)
        ]

    def now(self) -> int:
        """Read the scheduler's clock."""
        return self.scheduler.now()

    def step(self, limit: int, by: int = 1_000_000) -> int:
        """Claim what is due, and advance it to some time later; give how many jobs that were."""
        claimed = self.store.claim(self.now(), limit)
        claims = []
        for job in claimed:
            due = job._next_run or 0
            claims.append((job, due, due + by))
        held = self.store.advance(claims)
        assert all(held)
        self.claims += [job._handle for job in claimed]
        return len(claimed)

    def settle(self) -> None:
        """Say that all runs have ended."""
        member, claims = self.store._member, self.claims
        assert member is not None
        for first in range(0, len(claims), 1000):
            assert all(self.store._settle(member, claims[first : first + 1000]))
        self.claims = []


class Theirs:
    """APScheduler's store, and the calls of its loop."""

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.store = contest.theirs()
        self.scheduler = PeerScheduler()
        self.store.start(self.scheduler, "default")

    def jobs(self, count: int, due: datetime) -> list[PeerJob]:
        """Make jobs with a trigger of their own, all due at one time."""
        return [
            PeerJob(
                self.scheduler,
                id=f"job {number:06}",
                func=noop,
                args=(number,),
                kwargs={},
                name="noop",
                trigger=PeerTrigger(hours=1, start_date=due, timezone=timezone.utc),
                executor="default",
                misfire_grace_time=None,
                coalesce=True,
                max_instances=1,
                next_run_time=due,
            )
            for number in range(count)
        ]

    def add(self, jobs: Sequence[PeerJob]) -> None:
        """Add jobs one by one: there is no other way."""
        for job in jobs:
            self.store.add_job(job)

    def step(self, by: timedelta = timedelta(seconds=1)) -> int:
        """Find what is due, and advance it; give how many jobs that were."""
        due = self.store.get_due_jobs(datetime.now(timezone.utc))
        for job in due:
            job._modify(next_run_time=job.next_run_time + by)
            self.store.update_job(job)
        return len(due)


@contextmanager
def both(contest: Contest) -> Iterator[tuple[Ours, Theirs]]:
    """Open both stores, and empty and close them at the end."""
    ours, theirs = Ours(contest.ours()), Theirs(contest)
    try:
        yield ours, theirs
    finally:
        ours.store.remove_all_jobs()
        ours.store.shutdown()
        theirs.store.remove_all_jobs()
        theirs.store.shutdown()
        theirs.scheduler.shutdown()


def adding(contest: Contest, race: Race, report: Report) -> None:
    """Add 10,000 jobs in bulk."""
    with both(contest) as (ours, theirs):
        later = datetime.now(timezone.utc) + HOUR
        mine, peers = ours.jobs(JOBS, later), theirs.jobs(PEER_JOBS, later)
        times = race(
            {
                OURS: Contestant(
                    lambda: ours.store.add_jobs(mine, False), JOBS, ours.store.remove_all_jobs
                ),
                THEIRS: Contestant(
                    lambda: theirs.add(peers), PEER_JOBS, theirs.store.remove_all_jobs
                ),
            },
            rounds=3,
        )
    name = f"{contest.name}: adding {JOBS:,} jobs: {THEIRS} / {OURS}"
    report.figure(name, ratios(times, THEIRS, OURS), at_least=20)


def claiming(contest: Contest, race: Race, report: Report) -> None:
    """Claim and advance 10,000 jobs that are due, by batches of 100."""
    with both(contest) as (ours, theirs):
        earlier = datetime.now(timezone.utc) - HOUR
        ours.store.add_jobs(ours.jobs(JOBS, earlier), False)
        theirs.add(theirs.jobs(PEER_JOBS, earlier))

        def claim_all() -> None:
            # What was advanced is due again, after all others.
            assert sum(ours.step(BATCH) for _ in range(JOBS // BATCH)) == JOBS

        def claim_theirs() -> None:
            assert theirs.step() == PEER_JOBS

        times = race(
            {
                OURS: Contestant(claim_all, JOBS, ours.settle),
                THEIRS: Contestant(claim_theirs, PEER_JOBS),
            },
            rounds=5,
        )
    name = f"{contest.name}: claiming and advancing {JOBS:,} due jobs: {THEIRS} / {OURS}"
    report.figure(name, ratios(times, THEIRS, OURS), at_least=20)


def waking_up(contest: Contest, part: int, race: Race, report: Report) -> None:
    """Wake up once with so big a part of the 100,000 jobs, of which 10 are due."""
    stored = STORED // part
    peers_stored = stored // contest.peer_part
    with both(contest) as (ours, theirs):
        now = datetime.now(timezone.utc)
        mine, peers = ours.jobs(stored, now + HOUR), theirs.jobs(peers_stored, now + HOUR)
        for number in range(DUE):
            mine[number]._next_run = EDGE.instant(now - HOUR)
            peers[number].next_run_time = now - HOUR
        ours.store.add_jobs(mine, False)
        (contest.fill or Theirs.add)(theirs, peers)
        del mine, peers

        def wake_up() -> None:
            assert ours.step(1000) == DUE
            ours.store.next_due()

        def wake_theirs() -> None:
            assert theirs.step() == DUE
            theirs.store.get_next_run_time()

        times = race(
            {
                OURS: Contestant(wake_up, 1, ours.settle),
                THEIRS: Contestant(wake_theirs, 1),
            },
            rounds=7,
        )
    found = ratios(times, THEIRS, OURS)
    name = f"{contest.name}: a wake-up, {stored:,} jobs, 10 due: {THEIRS} / {OURS}"
    report.figure(name, found, at_least=50 if part == 1 else None)
    report.point("cost-wake-up", "ratio", contest.name, stored, found)
    report.point("cost-wake-up", contest.name, OURS, stored, times[OURS])
    report.point("cost-wake-up", contest.name, THEIRS, peers_stored, times[THEIRS])


def against_raw_writes(contest: Contest, race: Race, report: Report, rounds: int = 101) -> None:
    """Claim and advance 100 jobs in the time of so many raw batch writes."""
    ours = Ours(contest.ours())
    try:
        jobs = ours.jobs(JOBS, datetime.now(timezone.utc) - HOUR)
        ours.store.add_jobs(jobs, False)
        ids = [job.id for job in jobs]
        write = contest.raw(ids)
        turns = [0]

        def write_raw() -> None:
            first = turns[0] * BATCH % JOBS
            turns[0] += 1
            write(ids[first : first + BATCH], ours.now())

        def settled() -> None:
            assert ours.step(BATCH) == BATCH
            ours.settle()

        def claim() -> None:
            assert ours.step(BATCH) == BATCH

        times = race(
            {
                OURS: Contestant(claim, BATCH, ours.settle),
                RAW: Contestant(write_raw, BATCH),
                "settled": Contestant(settled, BATCH),
            },
            rounds=rounds,
        )
    finally:
        ours.store.remove_all_jobs()
        ours.store.shutdown()
    name = f"{contest.name}: claim and advance of 100: speed, of the raw batch write"
    report.figure(name, ratios(times, RAW, OURS), at_least=contest.raw_ratio)
    name = f"{contest.name}: the same, and settled: speed, of the raw batch write"
    report.figure(name, ratios(times, RAW, "settled"))
