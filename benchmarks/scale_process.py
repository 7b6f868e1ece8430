"""What `test_scheduler_scale.py` measures, in a process of its own; prints JSON.

python benchmarks/scale_process.py steps JOBS
python benchmarks/scale_process.py memory SIDE JOBS shared|own
python benchmarks/scale_process.py catch-up SIDE JOBS
python benchmarks/scale_process.py lateness SECONDS
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.sides import START, make
from tocsin.adapters import AsyncIOScheduler

HOUR = timedelta(hours=1)
FIRES = 5000


def noop() -> None:
    """Be a job."""


def steps(jobs: int) -> dict[str, float]:
    """Measure the nanoseconds a job takes to be armed, dispatched and removed, so many at a time.

    It is the mean of a million in all: the least of many rounds of a thousand would be a time that
    one round of a million can't be compared to.
    """
    rounds = [steps_once(jobs) for _ in range(1_000_000 // jobs)]
    return {name: fmean(each[name] for each in rounds) for name in rounds[0]}


def steps_once(jobs: int) -> dict[str, float]:
    scheduler, advance, trigger = make("tocsin")
    every = trigger(hours=1, start_date=START + HOUR, timezone="UTC")
    ids = [str(number) for number in range(jobs)]
    gc.collect()
    marks = [time.perf_counter()]
    scheduler.add_jobs(({"id": each} for each in ids), func=noop, trigger=every)
    marks.append(time.perf_counter())
    advance(HOUR)
    marks.append(time.perf_counter())
    for each in ids:
        scheduler.remove_job(each)
    marks.append(time.perf_counter())
    assert scheduler.get_jobs() == []
    names = ("arm", "dispatch", "remove")
    return {
        name: (end - start) / jobs * 1e9
        for name, (start, end) in zip(names, pairwise(marks), strict=True)
    }


def memory(side: str, jobs: int, shared: bool) -> float:
    """Measure the bytes that a job and its part of the store take."""
    scheduler, _, trigger = make(side)
    common = trigger(hours=1, start_date=START + HOUR, timezone="UTC")
    scheduler.add_job(noop, common)
    gc.collect()
    tracemalloc.start()
    for _ in range(jobs):
        own = common if shared else trigger(hours=1, start_date=START + HOUR, timezone="UTC")
        scheduler.add_job(noop, own)
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / jobs


def catch_up(side: str, jobs: int) -> float:
    """Measure the seconds a job of one minute takes to catch up with a year."""
    scheduler, advance, trigger = make(side)
    for _ in range(jobs):
        every = trigger(minutes=1, start_date=START + timedelta(minutes=1), timezone="UTC")
        scheduler.add_job(noop, every)
    if side == "tocsin":
        scheduler.clock.set_time(START + timedelta(days=365))
        advance = lambda by: scheduler.clock.advance(0)  # noqa: E731
    before = time.perf_counter()
    advance(timedelta(days=365))
    elapsed = time.perf_counter() - before
    times = {job.next_run_time for job in scheduler.get_jobs()}
    assert times == {START + timedelta(days=365, minutes=1)}, times
    return elapsed / jobs


async def lateness(seconds: float) -> dict[str, float]:
    """Measure the 99th percentile of how late coroutines start at 5,000 a second."""
    loop = asyncio.get_running_loop()
    found = {}
    for side in ("call_at", "tocsin"):
        late: list[float] = []
        first = time.time() + 1.0
        if side == "call_at":

            async def fire(due: float, late: list[float] = late) -> None:
                late.append(time.time() - due)
                if len(late) < FIRES * seconds:
                    again(due + 1)

            def again(due: float) -> None:
                at = loop.time() + due - time.time()
                loop.call_at(at, lambda: loop.create_task(fire(due)))

            for number in range(FIRES):
                again(first + number / FIRES)
            await asyncio.sleep(1 + seconds)
        else:
            async with AsyncIOScheduler(timezone="UTC") as scheduler:
                start = START + timedelta(seconds=first - START.timestamp())

                async def note(due: float, late: list[float] = late) -> None:
                    late.append((time.time() - due) % 1)

                for number in range(FIRES):
                    due = start + timedelta(seconds=number / FIRES)
                    scheduler.add_job(
                        note, "interval", seconds=1, start_date=due, args=[due.timestamp()]
                    )
                await asyncio.sleep(1 + seconds)
                scheduler.remove_all_jobs()
        assert len(late) > FIRES * seconds * 0.9, f"{side}: {len(late)} ran"
        found[side] = sorted(late)[int(len(late) * 0.99)] * 1e9
        gc.collect()
    return found


def main(what: str, *arguments: str) -> Any:
    if what == "steps":
        return steps(int(arguments[0]))
    if what == "memory":
        side, jobs, kind = arguments
        return memory(side, int(jobs), kind == "shared")
    if what == "catch-up":
        return catch_up(arguments[0], int(arguments[1]))
    return asyncio.run(lateness(float(arguments[0])))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
