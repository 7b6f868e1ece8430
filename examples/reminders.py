"""A program of its own with a scheduler in the background: reminders for what you type.

    python examples/reminders.py
    10 tea          # in ten seconds
    */5 stretch     # every five seconds, until the end

The end of the input (Ctrl-D) or Ctrl-C ends it, and with it the reminders that are still to come.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone

from tocsin.adapters import BackgroundScheduler


def remind(text: str) -> None:
    """Say it: this runs in a thread, while the main one waits for the next line."""
    print(f"{text}!", flush=True)


def take(scheduler: BackgroundScheduler, line: str) -> None:
    """Add the reminder that a line asks for; ValueError or OverflowError if it asks for none."""
    when, _, text = line.strip().partition(" ")
    seconds = float(when.removeprefix("*/"))
    if when.startswith("*/"):
        scheduler.add_job(remind, "interval", seconds=seconds, args=[text])
    else:
        moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        scheduler.add_job(remind, "date", run_date=moment, args=[text])


def main() -> None:
    """Take reminders until the end of the input."""
    with BackgroundScheduler() as scheduler:
        for line in sys.stdin:
            try:
                take(scheduler, line)
            except (OverflowError, ValueError) as error:
                print(f"no reminder: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
