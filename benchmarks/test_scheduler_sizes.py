"""What a job costs in a scheduler with 1,000 to 1,000,000: compiled, interpreted, and the peers.

All have a process of their own and take turns, those of other sizes as well; see `sides.py` for
the jobs and how each peer is used. The peers end at 100,000 jobs, ``schedule`` at 10,000 where it
removes jobs: it compares each with all before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.races import MOST_ROUNDS, SIZES, Report, divide
from benchmarks.sides import OURS, PURE, SCHEDULE, STEPS, THEIRS
from benchmarks.turns import Contestant, measure_memory, take_turns

PEERS = (THEIRS, SCHEDULE)
MOST_JOBS = 100_000
MOST_REMOVED = {SCHEDULE: 10_000}
ROUNDS = 15
Contestants = dict[tuple[str, int], Contestant]


@pytest.fixture(scope="module")
def contestants() -> Iterator[Contestants]:
    """Start all sides at all sizes."""
    with ExitStack() as stack:
        yield {
            (side, jobs): stack.enter_context(
                Contestant(
                    "scheduler", OURS if side == PURE else side, str(jobs), pure=side == PURE
                )
            )
            for jobs in SIZES
            for side in (OURS, PURE, *PEERS)
            if jobs <= MOST_JOBS or side not in PEERS
        }


@pytest.mark.parametrize("step", STEPS)
def test_a_job(
    contestants: Contestants, step: str, benchmark: BenchmarkFixture, report: Report
) -> None:
    most = MOST_REMOVED if step == "remove" else {}
    racing = {each: it for each, it in contestants.items() if each[1] <= most.get(each[0], each[1])}
    rounds = min(ROUNDS, MOST_ROUNDS)
    times = benchmark.pedantic(take_turns, args=(racing, step, rounds), rounds=1)
    benchmark.extra_info["ns"] = {
        f"{side}, {jobs:,} jobs": round(median(each), 1) for (side, jobs), each in times.items()
    }
    plot = f"cost-{step.replace(' ', '-')}"
    for (side, jobs), each in times.items():
        report.point(plot, "time", side, jobs, each)
        if side != OURS:
            found = divide(each, times[OURS, jobs])
            report.figure(f"{step}, {jobs:,} jobs: {side} / {OURS}", found)
            report.point(plot, "ratio", side, jobs, found)
            if side == PURE:
                report.point("compiled", "ratio", f"scheduler: {step}", jobs, found)
    for side in dict.fromkeys(side for side, _ in times):
        few, *_, many = (jobs for name, jobs in times if name == side)
        name = f"{step}, {side}: a job of {many:,} / of {few:,}"
        report.figure(name, divide(times[side, many], times[side, few]))


@pytest.mark.parametrize("jobs", SIZES)
def test_memory(benchmark: BenchmarkFixture, report: Report, jobs: int) -> None:
    """Measure the memory of a job with a trigger of its own; it is the same in every round."""

    found = {OURS: benchmark.pedantic(measure_memory, args=(OURS, jobs), rounds=1)}
    if jobs <= MOST_JOBS:
        found |= {side: measure_memory(side, jobs) for side in PEERS}
    benchmark.extra_info["bytes"] = found
    for side, each in found.items():
        report.point("memory", "bytes", side, jobs, [each])
        if side != OURS:
            report.point("memory", "ratio", side, jobs, [each / found[OURS]])
            report.figure(f"memory of a job, {jobs:,} jobs: {side} / {OURS}", [each / found[OURS]])
