"""One of the schedulers that `test_sharing.py` has share a store, in a process of its own.

    python benchmarks/sharing_process.py CLASS JSON

``CLASS`` is that of the store, as ``module:name``; the JSON object has its arguments. It answers
each line that it reads:

- ``fill JOBS``: open the store, put so many jobs into it that are long due, and close it.
- ``open``: open the store, as a scheduler does at its start.
- ``claim JOBS``: claim, advance and settle so many by batches of 100, as the loop does. What was
  advanced is due again, after all others. Prints when it began and ended, in seconds.
- ``close``: close the store.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stores import BATCH, HOUR, Ours

#: How far a job is advanced, in microseconds.
STEP = 1_000_000


class Member:
    """A scheduler's part of the store."""

    def __init__(self, kind: Any, arguments: dict[str, Any]) -> None:
        self.kind, self.arguments = kind, arguments

    def fill(self, jobs: str) -> None:
        self.open()
        self.ours.store.add_jobs(
            self.ours.jobs(int(jobs), datetime.now(timezone.utc) - HOUR), False
        )
        self.close()

    def open(self) -> None:
        self.ours = Ours(self.kind(**self.arguments))

    def claim(self, jobs: str) -> tuple[float, float]:
        left = int(jobs)
        began = time.time()
        while left > 0:
            # What others have in hand at this moment is no job for this one: it may get fewer.
            left -= self.ours.step(min(BATCH, left), STEP)
            self.ours.settle()
        return began, time.time()

    def close(self) -> None:
        self.ours.store.shutdown()


def main(name: str, arguments: str) -> None:
    module, _, kind = name.partition(":")
    member = Member(getattr(import_module(module), kind), json.loads(arguments))
    for line in sys.stdin:
        what, *rest = line.split()
        print(json.dumps(getattr(member, what)(*rest)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
