"""The schedulers of frameworks, against bare timers and APScheduler's; see `adapter_process.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.adapter_process import QUANTILES
from benchmarks.frameworks import RACED
from benchmarks.races import MOST_ROUNDS, SIZES, Report, divide, ratios

#: Where APScheduler has but threads for jobs: tocsin is raced with threads as well.
IN_THREADS = ("Twisted", "Qt")
DISPATCHED = [
    (jobs, rounds) for jobs, rounds in [(1_000, 9), (10_000, 5), (100_000, 1)] if jobs <= max(SIZES)
]


def measure(benchmark: BenchmarkFixture, *arguments: str) -> Any:
    """Measure in a process of its own: a reactor can't be started twice."""
    program = Path(__file__).with_name("adapter_process.py")
    done = benchmark.pedantic(
        subprocess.run,
        args=([sys.executable, program, *arguments],),
        kwargs={"capture_output": True, "text": True, "check": True},
        rounds=1,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("jobs", "rounds"), DISPATCHED)
@pytest.mark.parametrize("framework", RACED)
def test_dispatch(
    benchmark: BenchmarkFixture, report: Report, framework: str, jobs: int, rounds: int
) -> None:
    sides = ["timer", "tocsin", "APScheduler"]
    if framework in IN_THREADS:
        sides.append("tocsin threads")
    times = measure(benchmark, framework, "dispatch", str(jobs), str(rounds), *sides)
    benchmark.extra_info["ns"] = {side: round(median(each), 1) for side, each in times.items()}
    name = f"{framework}, {jobs:,} jobs due at once, to started:"
    report.figure(f"{name} tocsin / timer", ratios(times, "tocsin", "timer"), at_most=2)
    report.figure(
        f"{name} APScheduler / tocsin", ratios(times, "APScheduler", "tocsin"), at_least=8
    )
    report.figure(f"{name} APScheduler / timer", ratios(times, "APScheduler", "timer"))
    if framework in IN_THREADS:
        both = ratios(times, "APScheduler", "tocsin threads")
        report.figure(f"{name} APScheduler / tocsin, both in threads", both)


@pytest.mark.parametrize("framework", RACED)
def test_lateness(benchmark: BenchmarkFixture, report: Report, framework: str) -> None:
    rounds = min(5, MOST_ROUNDS)
    sides = ("timer", "tocsin", "APScheduler")
    late = measure(benchmark, framework, "lateness", "2", str(rounds), *sides)
    by_quantile = {side: list(zip(*late[side], strict=True)) for side in sides}
    benchmark.extra_info["ns"] = {
        side: {
            str(share): round(median(each)) for share, each in zip(QUANTILES, found, strict=True)
        }
        for side, found in by_quantile.items()
    }
    for side, found in by_quantile.items():
        for share, each in zip(QUANTILES, found, strict=True):
            report.point("lateness", framework, side, share, each)
    for share, ours, timer in zip(
        QUANTILES, by_quantile["tocsin"], by_quantile["timer"], strict=True
    ):
        report.point("lateness", "ratio", framework, share, divide(ours, timer))
    last = {side: found[QUANTILES.index(0.99)] for side, found in by_quantile.items()}
    name = f"{framework}, 2,000 fires a second, p99 lateness:"
    report.figure(f"{name} tocsin / timer", divide(last["tocsin"], last["timer"]), at_most=2)
    report.figure(f"{name} APScheduler / tocsin", divide(last["APScheduler"], last["tocsin"]))


@pytest.mark.parametrize("framework", RACED)
def test_idle(benchmark: BenchmarkFixture, report: Report, framework: str) -> None:
    found = measure(benchmark, framework, "idle", "100000", "5")
    benchmark.extra_info.update(found)
    name = f"{framework}, 100,000 jobs, none due:"
    report.figure(f"{name} share of a processor", [found["processor"]], at_most=0.001)
    report.figure(f"{name} wake-ups in 5 s", [found["wakeups"]], at_most=0)
