"""What APScheduler documents, asked of APScheduler itself and of tocsin in its place.

The programs are in ``programs``; each runs once on either side. What is to differ, for the
reasons given in ``docs/migration.md``, is listed here, and differs indeed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import compat

PROGRAMS = ("behaviour", "expressions", "fire_times", "frameworks", "strangers", "utilities")

#: (program, scenario): what tocsin gives at a place where APScheduler gives something else.
DIFFERENCES: dict[tuple[str, str], dict[Any, Any]] = {
    # A text is no list of arguments, and no mapping.
    ("behaviour", "refused_jobs"): {"args": ["TypeError"], "kwargs text": ["TypeError"]},
    # Whatever is wrong with a configuration is a ConfigError, which is a ValueError.
    ("behaviour", "refused_configuration"): {"timezone": True},
    # A time with an offset is shown in the trigger's time zone; it is the same instant.
    ("fire_times", "date: text"): {0: "2026-05-01 04:30:00+00:00"},
    ("utilities", "convert_to_datetime"): {
        7: "datetime.datetime(2026, 3, 29, 12, 15, 30, 123456,"
        " tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin'))"
    },
}


def cases() -> list[tuple[str, str]]:
    return [
        (program, name)
        for program in PROGRAMS
        for name in compat.run("apscheduler", program)
        if name != "pickled"
    ]


@pytest.mark.parametrize(("program", "name"), cases())
def test_tocsin_does_what_apscheduler_does(program: str, name: str) -> None:
    expected, found = (compat.given(side, program, name) for side in compat.SIDES)
    for place, value in DIFFERENCES.get((program, name), {}).items():
        assert expected[place] != value, "no difference any more"
        expected = type(expected)(expected)
        expected[place] = value
    assert found == expected


def test_triggers_have_records_that_fire_as_they_do() -> None:
    found = compat.given("tocsin", "fire_times", "records", "records")
    expected = compat.run("tocsin", "fire_times")
    assert len(found) > 30
    for name, (fires, is_theirs) in found.items():
        assert fires == expected[name]
        assert is_theirs


def test_every_difference_is_of_a_scenario() -> None:
    assert set(DIFFERENCES) <= set(cases())


def test_triggers_that_apscheduler_has_pickled_fire_as_they_did(tmp_path: Path) -> None:
    theirs = compat.run("apscheduler", "fire_times")
    pickles = tmp_path / "pickles"
    lines = [f"{name}\t{text}\n" for name, text in theirs["pickled"].items()]
    pickles.write_text("".join(lines), encoding="ascii")
    read = compat.given("tocsin", "fire_times", "read", str(pickles))
    expected = {name: theirs[name.replace(" ", ": ", 1)] for name in theirs["pickled"]}
    assert read == expected
    assert len(read) > 30
