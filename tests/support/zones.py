"""Zones with odd rules, and moments near their oddities."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from support.oracle import DAY, EPOCH, EPOCH_UTC, offset_at

ZONES: dict[str, tzinfo] = {
    **{
        name: ZoneInfo(name)
        for name in (
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",  # half an hour of summer time
            "Africa/Casablanca",  # winter time in Ramadan
            "Asia/Kathmandu",
            "America/Santiago",  # changes at midnight
            "Pacific/Apia",  # 30 December 2011 never was
            "Antarctica/Troll",  # two hours of summer time
        )
    },
    "UTC": timezone.utc,
    "LMT of Berlin": timezone(timedelta(minutes=53, seconds=28)),
    "far west": timezone(-timedelta(hours=11, minutes=59, seconds=59)),
}


@cache
def changes(tz: tzinfo) -> list[int]:
    """List the UTC seconds of a zone's changes from 1880 to 2060, to the second."""
    found = []
    step = 4 * DAY
    low = -90 * 365 * DAY
    while low < 90 * 366 * DAY:
        high = low + step
        if offset_at(tz, low) != offset_at(tz, high):
            before, after = low, high
            while after - before > 1:
                middle = (before + after) // 2
                if offset_at(tz, middle) == offset_at(tz, low):
                    before = middle
                else:
                    after = middle
            found.append(after)
        low = high
    return found


@st.composite
def moments(draw: st.DrawFn, tz: tzinfo) -> datetime:
    """Draw an aware datetime: near a change, anywhere, near an end, or at the very end."""
    where = draw(st.sampled_from(("change", "change", "change", "anywhere", "label", "end")))
    jumps = changes(tz)
    if where == "change" and jumps:
        jump = draw(st.sampled_from(jumps))
        shift = draw(st.integers(-2 * DAY, 2 * DAY) | st.integers(-7200, 7200) | st.just(0))
        micros = draw(st.sampled_from((-1, 0, 0, 1)))
        return (EPOCH_UTC + timedelta(seconds=jump + shift, microseconds=micros)).astimezone(tz)
    if where == "end":
        naive = draw(
            st.sampled_from((datetime.min, datetime.max, datetime.max.replace(microsecond=0)))
            | st.datetimes(datetime(1, 1, 1), datetime(1, 2, 1))
            | st.datetimes(datetime(9999, 12, 1), datetime.max)
        )
        return naive.replace(tzinfo=tz)
    if where == "label" and jumps:  # a wall-clock time, perhaps one that never was
        jump = draw(st.sampled_from(jumps))
        local = EPOCH + timedelta(seconds=jump + offset_at(tz, jump))
        local += timedelta(seconds=draw(st.integers(-7200, 7200)))
        return local.replace(tzinfo=tz, fold=draw(st.integers(0, 1)))
    return draw(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28))).replace(tzinfo=tz)
