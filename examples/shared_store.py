"""Two processes share the jobs of one store: each run is had by one of them, and lost by none.

    python shared_store.py                              (a file of SQLite in this folder)
    python shared_store.py redis://localhost:6379/0

Start it in two terminals, and stop one of them with Ctrl-C, or kill -9: the other goes on alone.
With a second argument it runs for so many seconds.
"""

from __future__ import annotations

import os
import sys
import threading

from tocsin.adapters import BackgroundScheduler
from tocsin.events import EVENT_JOB_EXECUTED, EVENT_JOB_LOST, JobExecutionEvent


def told(event: JobExecutionEvent) -> None:
    """Print what became of a run."""
    what = "ran" if event.code == EVENT_JOB_EXECUTED else "lost by another process:"
    print(f"process {os.getpid()}: {what} {event.job_id} of {event.scheduled_run_time:%H:%M:%S}")


def main(url: str = "sqlite:///shared_jobs.sqlite", seconds: str | None = None) -> None:
    """Run the shared jobs until Ctrl-C, or for some seconds."""
    kind = "redis" if url.startswith(("redis", "unix")) else "sqlalchemy"
    scheduler = BackgroundScheduler(
        jobstores={"default": {"type": kind, "url": url, "lease": 5}}, timezone="UTC"
    )
    scheduler.add_listener(told, EVENT_JOB_EXECUTED | EVENT_JOB_LOST)
    scheduler.start()
    # A function that every process can import. Here it stands for the work of an application.
    for name in ("bread", "cake"):
        scheduler.add_job(
            "time:sleep", "interval", seconds=1, args=[0.1], id=name, replace_existing=True
        )
    try:
        threading.Event().wait(None if seconds is None else float(seconds))
    except KeyboardInterrupt:
        pass
    finally:
        scheduler.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
