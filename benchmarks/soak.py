"""Run a million jobs for a while in one process, and account for every run.

    python benchmarks/soak.py ADAPTER --for 10m

Interval and cron jobs (see `soak_jobs.py`) in a `MemoryJobStore` run a given number of times a
second in sum. Each run is held against when it has to be (see `soak_ledger.py`), and the time
from then to the start of the job's function is noted. Memory, processor time and the pauses of
the garbage collector are noted each minute. The result is a JSON file; the program ends with 1
unless every run was made exactly once.

Jobs are what each framework runs with the least ado (see `WAYS`). No run is coalesced and none is
missed, so that a scheduler which is too slow shows by its lateness.
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
#: How each framework runs the jobs.
WAYS = {
    "asyncio": "coroutine functions on the loop, by AsyncIOExecutor",
    "gevent": "functions in greenlets, by GeventExecutor",
    "Tornado": "coroutine functions on the loop, by TornadoExecutor",
    "Twisted": "functions in the reactor's thread, by TwistedExecutor",
}
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


class Minutes:
    """What is noted of a soak each minute."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.notes: list[dict[str, Any]] = []
        #: How late runs began from one note to the next, of interval jobs and of cron jobs.
        self.parts: list[tuple[Histogram, Histogram]] = []
        self._since = self._began = time.process_time()
        self._mark = ledger.population.begin

    def note(self) -> None:
        """Note the time since the last note, and print it."""
        now, used = instant(), time.process_time()
        self.parts.append(self.ledger.take_lateness())
        self.notes.append(
            {
                "seconds": (now - self.ledger.population.begin) / SECOND,
                "started": self.ledger.started,
                "lateness_ms": lateness(*self.parts[-1]),
                "processor_share": (used - self._since) * SECOND / (now - self._mark),
                "memory_bytes": resident(),
            }
        )
        print(json.dumps(self.notes[-1]), flush=True)
        self._mark, self._since = now, used

    def result(self) -> dict[str, Any]:
        """Sum up, with the runs that began after the last note."""
        used = self._since - self._began
        last = self.notes[-1]
        intervals, crons = zip(*self.parts, self.ledger.take_lateness(), strict=True)
        return {
            "lateness_ms": {
                "all": lateness(*intervals, *crons),
                "interval": lateness(*intervals),
                "cron": lateness(*crons),
            },
            "started_in_time_per_second": last["started"] / last["seconds"],
            "processor_share": used / last["seconds"],
            "processor_microseconds_per_run": used * SECOND / max(last["started"], 1),
            "minutes": self.notes,
        }


def arm(
    framework: Framework, scheduler: Any, jobs: int, rate: float, seconds: float, seed: int
) -> Steps:
    """Add all jobs before the first one is due; give the ledger, and what it took."""
    lead = 1 + jobs * 1e-4
    planned = 0
    while True:
        begin = math.ceil(time.time() + lead) * SECOND
        ledger = Ledger(Population(jobs, rate, begin, begin + round(seconds * SECOND), seed))
        planned, since = planned or resident(), time.time()
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
    armed = resident()
    return ledger, {
        "arming_seconds": time.time() - since,
        "memory_bytes": {"planned": planned, "armed": armed, "job": (armed - planned) / jobs},
    }


def soak(framework: Framework, jobs: int, rate: float, seconds: float, seed: int) -> Steps:
    """Run the jobs, and give the result."""
    start = resident()
    scheduler = framework.make(job_defaults={"coalesce": False})
    scheduler.start(paused=True)
    ledger, arming = yield from arm(framework, scheduler, jobs, rate, seconds, seed)
    print(json.dumps(arming), flush=True)
    population = ledger.population
    ledger.listen(scheduler)
    pauses = Pauses()
    gc.callbacks.append(pauses)
    scheduler.resume()
    yield (population.begin - instant()) / SECOND
    minutes = Minutes(ledger)
    for minute in range(1, math.ceil(seconds / 60) + 1):
        until = min(population.begin + minute * 60 * SECOND, population.end)
        yield max(until - instant(), 0) / SECOND
        minutes.note()
    # What became due before the end is waited for, and then what should not come.
    seen, since = -1, instant()
    while ledger.started < population.runs and instant() - since < PATIENCE * SECOND:
        if ledger.started > seen:
            seen, since = ledger.started, instant()
        yield 0.01
    yield 1.0
    gc.callbacks.remove(pauses)
    scheduler.shutdown(wait=False)
    arming["memory_bytes"] |= {"start": start, "end": resident()}
    return {
        **arming,
        "expected_per_second": population.runs / seconds,
        "accounting": ledger.account(),
        "seconds_after_the_end": max(since - population.end, 0) / SECOND,
        "garbage_collector": {
            "collections": pauses.collections,
            "longest_pause_ms": pauses.longest * 1000,
        },
        **minutes.result(),
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
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    type=_duration,
    default="10m",
    show_default=True,
    help="Such as 90s or 1h30m.",
)
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
            "jobs_are": WAYS[ADAPTERS[adapter]],
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
