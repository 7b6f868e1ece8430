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

from benchmarks.races import Report, ratios

FRAMEWORKS = ("asyncio", "gevent", "Tornado", "Twisted")


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


@pytest.mark.parametrize(("jobs", "rounds"), [(1_000, 9), (10_000, 5), (100_000, 1)])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_dispatch(
    benchmark: BenchmarkFixture, report: Report, framework: str, jobs: int, rounds: int
) -> None:
    sides = ["timer", "tocsin", "APScheduler"]
    if framework == "Twisted":
        sides.append("tocsin threads")
    times = measure(benchmark, framework, "dispatch", str(jobs), str(rounds), *sides)
    benchmark.extra_info["ns"] = {side: round(median(each), 1) for side, each in times.items()}
    name = f"{framework}, {jobs:,} jobs due at once, to started:"
    report.figure(f"{name} tocsin / timer", ratios(times, "tocsin", "timer"), at_most=2)
    report.figure(
        f"{name} APScheduler / tocsin", ratios(times, "APScheduler", "tocsin"), at_least=8
    )
    report.figure(f"{name} APScheduler / timer", ratios(times, "APScheduler", "timer"))
    if framework == "Twisted":
        both = ratios(times, "APScheduler", "tocsin threads")
        report.figure(f"{name} APScheduler / tocsin, both in threads", both)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_lateness(benchmark: BenchmarkFixture, report: Report, framework: str) -> None:
    late = measure(benchmark, framework, "lateness", "5", "timer", "tocsin")
    benchmark.extra_info["ns"] = {side: round(each) for side, each in late.items()}
    report.figure(
        f"{framework}, 2,000 fires a second, p99 lateness: tocsin / timer",
        [late["tocsin"] / late["timer"]],
        at_most=2,
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_idle(benchmark: BenchmarkFixture, report: Report, framework: str) -> None:
    found = measure(benchmark, framework, "idle", "100000", "5")
    benchmark.extra_info.update(found)
    name = f"{framework}, 100,000 jobs, none due:"
    report.figure(f"{name} share of a processor", [found["processor"]], at_most=0.001)
    report.figure(f"{name} wake-ups in 5 s", [found["wakeups"]], at_most=0)
