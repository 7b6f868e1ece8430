"""The scheduler of Twisted, against bare timers and APScheduler's; see `twisted_process.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.races import Report, ratios

SIDES = ("callLater", "tocsin", "tocsin threads", "APScheduler")


def measure(benchmark: BenchmarkFixture, *arguments: str) -> Any:
    """Measure in a process of its own: a reactor can't be started twice."""
    program = Path(__file__).with_name("twisted_process.py")
    done = benchmark.pedantic(
        subprocess.run,
        args=([sys.executable, program, *arguments],),
        kwargs={"capture_output": True, "text": True, "check": True},
        rounds=1,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("jobs", "rounds"), [(1_000, 9), (10_000, 5), (100_000, 1)])
def test_dispatch(benchmark: BenchmarkFixture, report: Report, jobs: int, rounds: int) -> None:
    times = measure(benchmark, "dispatch", str(jobs), str(rounds), *SIDES)
    benchmark.extra_info["ns"] = {side: round(median(each), 1) for side, each in times.items()}
    name = f"Twisted, {jobs:,} jobs due at once, to started:"
    report.figure(f"{name} tocsin / callLater", ratios(times, *SIDES[1::-1]), at_most=2)
    report.figure(f"{name} APScheduler / tocsin", ratios(times, SIDES[3], SIDES[1]), at_least=8)
    report.figure(f"{name} APScheduler / tocsin, both in threads", ratios(times, *SIDES[:1:-1]))


def test_lateness(benchmark: BenchmarkFixture, report: Report) -> None:
    late = measure(benchmark, "lateness", "5", "callLater", "tocsin")
    benchmark.extra_info["ns"] = {side: round(each) for side, each in late.items()}
    report.figure(
        "Twisted, 2,000 fires a second, p99 lateness: tocsin / callLater",
        [late["tocsin"] / late["callLater"]],
        at_most=2,
    )


def test_idle(benchmark: BenchmarkFixture, report: Report) -> None:
    found = measure(benchmark, "idle", "100000", "5")
    benchmark.extra_info.update(found)
    name = "Twisted, 100,000 jobs, none due:"
    report.figure(f"{name} share of a processor", [found["processor"]], at_most=0.001)
    report.figure(f"{name} wake-ups in 5 s", [found["wakeups"]], at_most=0)
