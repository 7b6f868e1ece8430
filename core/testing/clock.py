"""A clock for tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from tocsin.convert import as_datetime, edge_of
from tocsin.engine.heap import DueHeap

_UTC = edge_of(timezone.utc)


class FakeClock:
    """A clock that stands still until it is told to go on.

    ``start`` is an aware datetime, or a naive one or text in UTC. `advance` goes through all
    that is due meanwhile in its order, each at its own time, so that a month of schedules runs
    in milliseconds.
    """

    def __init__(self, start: datetime | str = "2026-01-01T00:00:00") -> None:
        self._now = _UTC.instant(as_datetime(start, timezone.utc, "start"))
        self._timers = DueHeap()

    def now(self) -> int:
        """Give the instant: microseconds since 1970-01-01T00:00Z."""
        return self._now

    @property
    def time(self) -> datetime:
        """The time as a datetime in UTC."""
        moment = _UTC.moment(self._now)
        assert moment is not None  # it came from a datetime
        return moment

    def call_at(self, instant: int, function: Callable[[], Any]) -> int:
        """Call a function when the clock reaches an instant; give a handle for `cancel`."""
        return self._timers.push(instant, function)

    def cancel(self, handle: int) -> None:
        """Take a call back; nothing happens if it was made already."""
        try:
            self._timers.remove(handle)
        except KeyError:
            return

    def advance(self, by: timedelta | float) -> None:
        """Go on by a time, a timedelta or seconds, and make all calls that are due meanwhile."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise ValueError(f"by: {by!r} is negative; set_time sets the clock back")
        self._run(self._now + step // timedelta(microseconds=1))

    def advance_to(self, moment: datetime | str) -> None:
        """Go on to a time, and make all calls that are due meanwhile."""
        target = _UTC.instant(as_datetime(moment, timezone.utc, "moment"))
        if target < self._now:
            raise ValueError(f"moment: {moment!r} is past; set_time sets the clock back")
        self._run(target)

    def set_time(self, moment: datetime | str) -> None:
        """Set the clock, as an administrator does: without living through the time between."""
        self._now = _UTC.instant(as_datetime(moment, timezone.utc, "moment"))

    def _run(self, target: int) -> None:
        while True:
            due = self._timers.pop_due(target, 1)
            if not due:
                break
            when, function = due[0]
            self._now = max(self._now, when)
            function()
        self._now = max(self._now, target)

    def __repr__(self) -> str:
        return f"<FakeClock {self.time.isoformat()}>"
