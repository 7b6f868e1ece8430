"""A contestant in a process of its own, which takes a turn for each line that it reads.

    python benchmarks/turns_process.py scheduler SIDE JOBS   dispatch, add, remove, add in bulk
    python benchmarks/turns_process.py engine                next fire time, fill
    python benchmarks/turns_process.py heap ENTRIES          rearm, rekey, remove
    python benchmarks/turns_process.py memory SIDE JOBS      bytes

It prints "ready" when all is prepared, then for each line, which names a step, the nanoseconds
that one job, fire time or entry took in it. The environment chooses the engine, and the
interpreter the installation of tocsin: only what any version has is used here. See `turns.py`.
"""

from __future__ import annotations

import gc
import sys
from array import array
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter_ns
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.corpus import CORPUS
from benchmarks.crowd import Crowd
from benchmarks.sides import memory, side

#: Give the nanoseconds that one of what is counted took in a step.
Turn = Callable[[str], float]
FIRE_TIMES = 20
BATCH = 10_000


def scheduler(name: str, jobs: str) -> Turn:
    made = side(name, int(jobs))
    made.fill()
    gc.collect()
    gc.freeze()  # or each turn would look through all jobs first
    return made.measure


def engine() -> Turn:
    from tocsin import CronTrigger

    zones = (timezone.utc, ZoneInfo("Europe/Berlin"))
    triggers = [CronTrigger.from_crontab(each, zone) for each in CORPUS for zone in zones]
    starts = [datetime(2026, 1, 5, 7, 13, 22, tzinfo=zone) for _ in CORPUS for zone in zones]
    cells = array("q", bytes(8 * FIRE_TIMES))

    def turn(step: str) -> float:
        before = perf_counter_ns()
        for trigger, start in zip(triggers, starts, strict=True):
            if step == "fill":
                schedule = trigger._schedule
                schedule.fill(cells, schedule.instant(start), 2**60)
            else:
                after = start
                for _ in range(FIRE_TIMES):
                    after = trigger.next_fire_time(after)  # type: ignore[assignment]
        return (perf_counter_ns() - before) / (len(triggers) * FIRE_TIMES)

    return turn


def heap(entries: str) -> Turn:
    from tocsin.engine.heap import DueHeap

    crowd = Crowd(DueHeap(), int(entries), min(BATCH, int(entries) // 10))
    after = {"rearm": lambda: None, "rekey": crowd.choose, "remove": crowd.put_back}

    def turn(step: str) -> float:
        call = getattr(crowd, step)
        before = perf_counter_ns()
        call()
        elapsed = perf_counter_ns() - before
        after[step]()
        return elapsed / len(crowd.delays)

    return turn


WORKS: dict[str, Callable[..., Turn]] = {"scheduler": scheduler, "engine": engine, "heap": heap}


def main(work: str, *arguments: str) -> None:
    if work == "memory":
        name, jobs = arguments
        print(memory(name, int(jobs)))
        return
    turn = WORKS[work](*arguments)
    print("ready", flush=True)
    for line in sys.stdin:
        print(turn(line.strip()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
