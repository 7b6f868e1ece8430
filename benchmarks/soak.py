"""Run a million jobs for a while in one process, and account for every run.

    python benchmarks/soak.py ADAPTER --for 10m

Interval and cron jobs (see `soak_jobs.py`) in a `MemoryJobStore` run a given number of times a
second in sum. Each run is held against when it has to be (see `soak_ledger.py`), and the time
from then to the start of the job's function is noted. Memory, processor time and the pauses of
the garbage collector are noted each minute. The result is a JSON file; the program ends with 1
unless every run was made exactly once.

Jobs are what each framework runs with the least ado: coroutine functions on the loop (asyncio,
Tornado), functions in greenlets (gevent), and in the reactor's thread (Twisted). No run is
coalesced and none is missed, so that a scheduler which is too slow shows by its lateness.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import psutil
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.utils import get_commit_info

import tocsin
from benchmarks.frameworks import FRAMEWORKS, Framework, Steps
from benchmarks.histogram import Histogram
from benchmarks.soak_jobs import CRON_SHARES, SECOND, ZONES, Population
from benchmarks.soak_ledger import Ledger
from tocsin.cli.run import _duration

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
ADAPTERS = {name.lower(): name for name in FRAMEWORKS}
#: So many jobs are added in one step.
BATCH = 10_000
#: For so many seconds without any run the rest is waited for at the end.
PATIENCE = 10


def instant() -> int:
    return time.time_ns() // 1000


def resident() -> int:
    """Give the memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def lateness(*histograms: Histogram) -> dict[str, float]:
    """Sum up how late runs began, in milliseconds."""
    whole = Histogram().merge(histograms)
    found = {name: whole.quantile(share) / 1000 for name, share in QUANTILES.items()}
    return {"runs": whole.total, **found, "max": whole.longest / 1000}


class Pauses:
    """What the garbage collector does: how often by generation, and its longest pause."""

    def __init__(self) -> None:
        self.collections = [0, 0, 0]
        self.longest = 0.0
        self._since = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Be a callback of the garbage collector."""
        if phase == "start":
            self._since = time.perf_counter()
        else:
            self.collections[info["generation"]] += 1
            self.longest = max(self.longest, time.perf_counter() - self._since)


def arm(
    framework: Framework, scheduler: Any, jobs: int, rate: float, seconds: float, seed: int
) -> Steps:
    """Add all jobs before the first one is due, and give the ledger and what it took."""
    lead = 1 + jobs * 1e-4
    while True:
        before = time.time()
        begin = math.ceil(before + lead) * SECOND
        ledger = Ledger(Population(jobs, rate, begin, begin + round(seconds * SECOND), seed))
        planned, since = resident(), time.time()
        job = framework.job(ledger.run)
        numbers = enumerate(ledger.population.triggers())
        while batch := [
            {"id": str(number), "trigger": trigger, "args": (number,)}
            for number, trigger in islice(numbers, BATCH)
        ]:
            scheduler.add_jobs(batch, func=job, **framework.options)
            yield 0
        if instant() < begin:
            break
        scheduler.remove_all_jobs()  # this machine takes longer
        lead *= 2
    taken = resident() - planned
    arming = {"seconds": time.time() - since, "bytes_per_job": taken / jobs}
    return ledger, {"planned": planned, "armed": planned + taken}, arming


def soak(framework: Framework, jobs: int, rate: float, seconds: float, seed: int) -> Steps:
    """Run the jobs, and give the result."""
    memory = {"start": resident()}
    scheduler = framework.make(job_defaults={"coalesce": False})
    scheduler.start(paused=True)
    ledger, more, arming = yield from arm(framework, scheduler, jobs, rate, seconds, seed)
    memory |= more
    population = ledger.population
    print(
        f"{jobs:,} jobs armed in {arming['seconds']:.1f} s,"
        f" {arming['bytes_per_job']:.0f} bytes each; {memory['armed'] / 1e6:.0f} MB",
        flush=True,
    )
    ledger.listen(scheduler)
    pauses = Pauses()
    gc.callbacks.append(pauses)
    scheduler.resume()
    yield (population.begin - instant()) / SECOND
    minutes: list[dict[str, Any]] = []
    parts: list[tuple[Histogram, Histogram]] = []
    used = began = time.process_time()
    mark = population.begin

    def note() -> None:
        nonlocal used, mark
        now, processor = instant(), time.process_time()
        parts.append(ledger.take_lateness())
        minutes.append(
            {
                "seconds": (now - population.begin) / SECOND,
                "lateness_ms": lateness(*parts[-1]),
                "processor": (processor - used) * SECOND / (now - mark),
                "memory": resident(),
                "started": ledger.started,
            }
        )
        print(json.dumps(minutes[-1]), flush=True)
        mark, used = now, processor

    for minute in range(1, math.ceil(seconds / 60) + 1):
        until = min(population.begin + minute * 60 * SECOND, population.end)
        yield max(until - instant(), 0) / SECOND
        note()
    processor = (time.process_time() - began) / (instant() - population.begin) * SECOND
    # What became due before the end is waited for, and then what should not come.
    expected = population.expected()
    seen, since = -1, instant()
    while ledger.started < sum(expected.values()) and instant() - since < PATIENCE * SECOND:
        if ledger.started > seen:
            seen, since = ledger.started, instant()
        yield 0.01
    late = (since - population.end) / SECOND
    yield 1.0
    gc.callbacks.remove(pauses)
    parts.append(ledger.take_lateness())
    memory["end"] = resident()
    scheduler.shutdown(wait=False)
    intervals, crons = zip(*parts, strict=True)
    return {
        "arming": arming,
        "expected": {"runs": expected, "per_second": sum(expected.values()) / seconds},
        "accounting": ledger.account(),
        "lateness_ms": {
            "all": lateness(*intervals, *crons),
            "interval": lateness(*intervals),
            "cron": lateness(*crons),
        },
        "started_in_time_per_second": minutes[-1]["started"] / seconds,
        "seconds_after_the_end": max(late, 0.0),
        "processor": processor,
        "memory": memory,
        "garbage_collector": {
            "collections": pauses.collections,
            "longest_pause_ms": pauses.longest * 1000,
        },
        "minutes": minutes,
    }


def machine(adapter: str) -> dict[str, Any]:
    """Tell the machine, as the results of benchmarks do."""
    info: dict[str, Any] = pytest_benchmark_generate_machine_info()
    info.pop("node", None)
    info["cpu"].pop("flags", None)
    info["compiled"] = tocsin.COMPILED
    info["versions"] = {"tocsin": version("tocsin"), "Python": platform.python_version()}
    if adapter != "asyncio":
        info["versions"][adapter] = version(adapter)
    if hasattr(os, "sched_getaffinity"):
        info["processors_used"] = sorted(os.sched_getaffinity(0))
    return info


@click.command()
@click.argument("adapter", type=click.Choice(list(ADAPTERS), case_sensitive=False))
@click.option("--for", "seconds", type=_duration, default="10m", help="Such as 90s or 1h30m.")
@click.option("--jobs", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--rate", type=float, default=20_000, show_default=True, help="Runs a second.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same makes the same.")
@click.option("--output", type=click.Path(path_type=Path), help="The file of the result.")
def main(
    adapter: str, seconds: float, jobs: int, rate: float, seed: int, output: Path | None
) -> None:
    """Soak a scheduler; the exit code is 0 if every run was made exactly once."""
    framework = FRAMEWORKS[ADAPTERS[adapter]]()
    today = datetime.now(timezone.utc)
    result = {
        "kind": "soak",
        "adapter": ADAPTERS[adapter],
        "settings": {
            "jobs": jobs,
            "rate": rate,
            "seconds": seconds,
            "seed": seed,
            "cron_shares": CRON_SHARES,
            "zones": ZONES,
            "store": "memory",
            "executor": framework.options.get("executor", "default"),
        },
        "date": today.isoformat(timespec="seconds"),
        "machine_info": machine(ADAPTERS[adapter]),
        "commit_info": get_commit_info(),
        **framework.measure(soak(framework, jobs, rate, seconds, seed)),
    }
    if output is None:
        folder = Path(__file__).with_name("results")
        output = folder / f"{today:%Y-%m-%d}-soak-{adapter}.json"
    output.write_text(json.dumps(result, indent=4) + "\n")
    print(json.dumps(result["accounting"]))
    print(json.dumps(result["lateness_ms"]))
    sys.exit(not result["accounting"]["ok"])


if __name__ == "__main__":
    main()
