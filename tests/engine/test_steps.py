"""Run times one step apart, as an interval trigger has them without a schedule of its own."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.oracle import instant_of

from tocsin.engine.periodic import Interval, Steps
from tocsin.engine.schedule import Schedule

UTC = Schedule(timezone.utc)


class Bare(Steps):
    """What has steps, and nothing else."""

    __slots__ = ()

    def __init__(self, first: int, last: int | None, step: int, edge: Schedule = UTC) -> None:
        self._edge, self._first, self._last, self._jitter = edge, first, last, None
        self._interval = Interval({}, "", timedelta(microseconds=step), step)


@given(
    first=st.integers(-20, 20),
    step=st.integers(1, 7),
    last=st.none() | st.integers(-20, 40),
    shift=st.integers(0, 6),
    now=st.integers(-30, 60),
)
@example(first=5, step=1, last=0, shift=0, now=-5)
def test_steps_go_on_from_the_run_before(
    first: int, step: int, last: int | None, shift: int, now: int
) -> None:
    """From where they were begun, in step with the first or not."""
    trigger = Bare(first, last, step)
    until = 100 if last is None else last
    grid = range(first, until + 1, step)
    assert trigger.next_run(None, now, UTC) == next((n for n in grid if n >= now), None)
    begun = first + shift
    steps = range(begun, until + 1, step)
    for one, following in pairwise([*steps, None]):
        if one is not None and (following is not None or last is not None):
            assert trigger.next_run(one, now, UTC) == following
    latest = max((n for n in steps if n <= now), default=begun)
    assert trigger.latest_run(begun, now, UTC) == latest


def test_the_first_run_time_is_one_object_for_all_jobs() -> None:
    first = instant_of(datetime(2026, 1, 1, tzinfo=timezone.utc))
    trigger = Bare(first, None, 5)
    for now in (first - 1, first):
        assert trigger.next_run(None, now, UTC) is first


@pytest.mark.parametrize("hours", [-14, 0, 14])
def test_steps_end_with_the_calendar(hours: int) -> None:
    edge = Schedule(timezone(timedelta(hours=hours)))
    last = instant_of(datetime.max.replace(tzinfo=edge.tz))
    trigger = Bare(last - 3, None, 3, edge)
    assert trigger.next_run(None, last - 2, UTC) == trigger.next_run(last - 3, 0, UTC) == last
    assert trigger.next_run(None, last + 1, UTC) is trigger.next_run(last, 0, UTC) is None
    long = Bare(last, None, 2**60, edge)
    assert long.next_run(None, 0, UTC) == last
    assert long.next_run(None, last + 1, UTC) is long.next_run(last, 0, UTC) is None


class Elsewhere:
    """The next base, which gives back what it is asked."""

    def next_run(self, *asked: Any) -> Any:
        return ("next", *asked)

    def latest_run(self, *asked: Any) -> Any:
        return ("latest", *asked)


class Jittered(Bare, Elsewhere):
    pass


def test_with_jitter_the_next_base_is_asked() -> None:
    trigger = Jittered(0, None, 1)
    assert (trigger.next_run(1, 2, UTC), trigger.latest_run(1, 2, UTC)) == (2, 2)
    trigger._jitter = object()
    assert trigger.next_run(1, 2, UTC) == ("next", 1, 2, UTC)
    assert trigger.latest_run(1, 2, UTC) == ("latest", 1, 2, UTC)
