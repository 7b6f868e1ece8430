"""A scheduler in a process of its own: it shares a store, and writes down all that it starts.

    python member.py LEDGER '{"type": "sqlalchemy", "url": "sqlite:///jobs.db", "lease": 3}'

Each line of the ledger is one write to a file opened for appending: the time, the process, what
happened, the job, and the run time. It stops in an orderly way on SIGTERM. When it has told of the
first loss, it ``hesitates`` for so many seconds before it tells of the others.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from datetime import datetime, timezone
from typing import Any

from tocsin.adapters.background import BackgroundScheduler
from tocsin.clock import SystemClock
from tocsin.events import (
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_STARTED,
    NAMES,
)

_TOLD = (
    EVENT_JOB_COALESCED
    | EVENT_JOB_ERROR
    | EVENT_JOB_EXECUTED
    | EVENT_JOB_LOST
    | EVENT_JOB_MAX_INSTANCES
    | EVENT_JOB_MISSED
    | EVENT_JOB_STARTED
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class SkewedClock(SystemClock):
    """A clock that is some seconds fast."""

    def __init__(self, skew: float) -> None:
        self._skew = round(skew * 1_000_000)

    def now(self) -> int:
        return super().now() + self._skew


def work(pause: float = 0.0) -> None:
    """Do what a job does."""
    if pause:
        time.sleep(pause)


def main() -> None:
    """Run the jobs of a store until told to stop."""
    ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    options = json.loads(sys.argv[2])
    clock = SkewedClock(float(options.pop("skew", 0)))
    hesitations = [float(options.pop("hesitates", 0))]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(message)s")

    def write(event: Any) -> None:
        times = getattr(event, "scheduled_run_times", None)
        if times is None:
            times = [getattr(event, "scheduled_run_time", None) or event.first_run_time]
        for moment in times:
            instant = (moment - _EPOCH) // (moment.resolution)
            line = f"{time.time()} {os.getpid()} {NAMES[event.code]} {event.job_id} {instant}\n"
            os.write(ledger, line.encode())
        if event.code == EVENT_JOB_LOST and hesitations:
            time.sleep(hesitations.pop())

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    scheduler = BackgroundScheduler(jobstores={"default": options}, timezone="UTC", clock=clock)
    scheduler.add_listener(write, _TOLD)
    scheduler.start()
    os.write(ledger, f"{time.time()} {os.getpid()} READY - 0\n".encode())
    while not stop.wait(1.0):
        pass
    scheduler.shutdown()
    os.write(ledger, f"{time.time()} {os.getpid()} DONE - 0\n".encode())


if __name__ == "__main__":
    main()
