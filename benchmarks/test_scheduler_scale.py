"""A million jobs, memory, catching up, and asyncio at 5,000 fires a second.

Each is measured in processes of its own; see `scale_process.py`. APScheduler catches up with 4
jobs instead of 1,000, for it takes seconds for each; the time is per job on both sides.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.races import MOST_ROUNDS, Report, divide


def measure(benchmark: BenchmarkFixture | None, *arguments: str) -> Any:
    program = Path(__file__).with_name("scale_process.py")
    command = [sys.executable, str(program), *arguments]
    options = {"capture_output": True, "text": True, "check": True}
    if benchmark is None:
        done = subprocess.run(command, **options)  # type: ignore[call-overload]
    else:
        done = benchmark.pedantic(subprocess.run, args=(command,), kwargs=options, rounds=1)
    return json.loads(done.stdout)


def test_a_million_jobs(benchmark: BenchmarkFixture, report: Report) -> None:
    small, large = [], []
    for turn in range(min(5, MOST_ROUNDS)):
        small.append(measure(None, "steps", "1000"))
        large.append(measure(None if turn else benchmark, "steps", "1000000"))
    benchmark.extra_info["ns"] = {"1,000": small, "1,000,000": large}
    for name in ("arm", "dispatch", "remove"):
        found = divide([each[name] for each in large], [each[name] for each in small])
        report.figure(f"tocsin, {name}: a job of 1,000,000 / of 1,000", found, at_most=1.5)


@pytest.mark.parametrize("kind", ["shared", "own"])
def test_memory(benchmark: BenchmarkFixture, report: Report, kind: str) -> None:
    ours = measure(benchmark, "memory", "tocsin", "100000", kind)
    theirs = measure(None, "memory", "APScheduler", "100000", kind)
    benchmark.extra_info["bytes"] = {"tocsin": ours, "APScheduler": theirs}
    name = f"100,000 jobs, {kind} trigger: memory of a job, tocsin / APScheduler"
    report.figure(name, [ours / theirs], at_most=0.5)


def test_catching_up(benchmark: BenchmarkFixture, report: Report) -> None:
    ours = measure(benchmark, "catch-up", "tocsin", "1000")
    theirs = measure(None, "catch-up", "APScheduler", "4")
    benchmark.extra_info["seconds"] = {"tocsin": ours, "APScheduler": theirs}
    name = "a year asleep, one-minute interval: APScheduler / tocsin"
    report.figure(name, [theirs / ours], at_least=1000)


def test_lateness(benchmark: BenchmarkFixture, report: Report) -> None:
    late = measure(benchmark, "lateness", "5")
    benchmark.extra_info["ns"] = late
    name = "asyncio, 5,000 fires a second, p99 lateness: tocsin / call_at"
    report.figure(name, [late["tocsin"] / late["call_at"]], at_most=2)
