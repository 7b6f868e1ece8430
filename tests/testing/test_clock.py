"""The clock of tests that users write: it goes forwards through all that is due, in order."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tocsin.testing import FakeClock

UTC = timezone.utc


def test_calls_are_made_in_their_order_each_at_its_own_time() -> None:
    clock = FakeClock("2026-03-01")
    made: list[tuple[str, datetime]] = []
    start = clock.now()

    def note(name: str) -> None:
        made.append((name, clock.time))

    clock.call_at(start + 2_000_000, lambda: note("second"))
    clock.call_at(start + 1_000_000, lambda: note("first"))
    clock.call_at(start - 1, lambda: note("overdue"))
    clock.call_at(start + 2_000_001, lambda: note("later"))
    clock.advance(2)
    assert made == [
        ("overdue", datetime(2026, 3, 1, tzinfo=UTC)),
        ("first", datetime(2026, 3, 1, 0, 0, 1, tzinfo=UTC)),
        ("second", datetime(2026, 3, 1, 0, 0, 2, tzinfo=UTC)),
    ]
    assert clock.now() == start + 2_000_000
    assert repr(clock) == "<FakeClock 2026-03-01T00:00:02+00:00>"


def test_a_call_that_asks_for_another_is_followed_by_it() -> None:
    clock = FakeClock("2026-03-01")
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(clock.now())
        clock.call_at(clock.now() + 60_000_000, tick)

    tick()
    clock.advance(timedelta(hours=1))
    assert len(ticks) == 61


def test_a_cancelled_call_is_not_made_and_may_be_cancelled_again() -> None:
    clock = FakeClock()
    made: list[int] = []
    handle = clock.call_at(clock.now() + 1, lambda: made.append(1))
    clock.cancel(handle)
    clock.cancel(handle)
    clock.advance(1)
    assert made == []
    handle = clock.call_at(clock.now(), lambda: made.append(2))
    clock.advance(0)
    clock.cancel(handle)  # too late
    assert made == [2]


def test_only_set_time_goes_back() -> None:
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match=r"^by: -1 is negative; set_time sets the clock back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match=r"^moment: '2026-02-28' is past"):
        clock.advance_to("2026-02-28")
    assert clock.time == datetime(2026, 3, 1, tzinfo=UTC)
    made: list[datetime] = []
    clock.call_at(clock.now(), lambda: made.append(clock.time))
    clock.set_time("2026-02-28")
    clock.advance_to("2026-02-28 23:59:59")
    assert made == []
    clock.set_time("2026-03-02")  # without living through what was due
    assert made == []
    clock.advance(0)
    assert made == [datetime(2026, 3, 2, tzinfo=UTC)]
