"""Crontab files: what a line means, and what is said of one that means nothing."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin import CronTrigger
from tocsin.crontab import (
    CrontabEntry,
    CrontabError,
    CrontabProblem,
    is_system_crontab,
    parse_crontab,
    read_crontab,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "crontab"


def parse(text: str, system: bool = False) -> list[CrontabEntry]:
    return parse_crontab(text, "UTC", system=system)


def problems(text: str, system: bool = False) -> list[tuple[int, int, str]]:
    with pytest.raises(CrontabError) as caught:
        parse(text, system)
    return [(each.line, each.position, each.reason) for each in caught.value.problems]


def only_problem(text: str, system: bool = False) -> tuple[int, int, str]:
    (problem,) = problems(text, system)
    return problem


def test_entry() -> None:
    (entry,) = parse("30 2 * * mon-fri  /bin/backup --all\n")
    assert entry.line == 1
    assert entry.expression == "30 2 * * mon-fri"
    assert entry.trigger == CronTrigger.from_crontab("30 2 * * mon-fri", "UTC")
    assert (entry.user, entry.command, entry.stdin) == (None, "/bin/backup --all", None)
    assert entry.environment == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# 0 0 * * * no\n",
        "   # blank before\n",
        " \t \n",
        "#\r\n\r\n",
    ],
)
def test_lines_without_an_entry(text: str) -> None:
    assert parse(text) == []


def test_line_numbers_tabs_line_ends_and_a_missing_last_one() -> None:
    entries = parse("# one\r\n\t0\t5  * * *\tfirst  arg \r\n\n1 5 * * * second")
    assert [(each.line, each.command) for each in entries] == [(2, "first  arg"), (4, "second")]
    assert entries[0].trigger == CronTrigger.from_crontab("0 5 * * *", "UTC")


def test_number_sign_belongs_to_the_command() -> None:
    assert parse("0 5 * * * echo # not a comment")[0].command == "echo # not a comment"


@pytest.mark.parametrize("shortcut", ["@hourly", "@daily", "@Weekly", "@monthly", "@yearly"])
def test_shortcuts(shortcut: str) -> None:
    (entry,) = parse(f"{shortcut} do it")
    assert entry.trigger == CronTrigger.from_crontab(shortcut, "UTC")
    assert entry.command == "do it"


def test_reboot_has_no_trigger() -> None:
    (entry,) = parse("@reboot warm up")
    assert (entry.expression, entry.trigger, entry.command) == ("@reboot", None, "warm up")


def test_hash_is_seeded_by_the_command() -> None:
    first, second, again = parse("H H * * * one\nH H * * * two\nH H * * * one\n")
    assert (
        first.trigger == again.trigger == CronTrigger.from_crontab("H H * * *", "UTC", seed="one")
    )
    assert first.trigger != second.trigger


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=value", "value"),
        ("NAME = two words  ", "two words"),
        ("NAME='  kept  '", "  kept  "),
        ('NAME="it\'s"', "it's"),
        ('"NAME" = value', "value"),
        ("NAME=", ""),
        ('NAME=""', ""),
        ("NAME=a=b#c", "a=b#c"),
        ("NAME=$HOME/bin", "$HOME/bin"),  # crontab(5): nothing is expanded
        ("NAME=50%", "50%"),
    ],
)
def test_assignment(line: str, value: str) -> None:
    (entry,) = parse(f"{line}\n@daily run")
    assert entry.environment == {"NAME": value}


def test_assignments_hold_for_the_entries_below() -> None:
    first, second, third = parse("@daily a\nX=1\n@daily b\nX=2\nY=3\n@daily c\n")
    assert [dict(each.environment) for each in (first, second, third)] == [
        {},
        {"X": "1"},
        {"X": "2", "Y": "3"},
    ]


def test_an_assignment_before_a_command_is_part_of_it() -> None:
    (entry,) = parse("0 5 * * * LANG=C sort file")
    assert (entry.command, dict(entry.environment)) == ("LANG=C sort file", {})


def zone_of(text: str) -> object:
    trigger = parse(text)[-1].trigger
    assert trigger is not None
    return trigger.timezone


@pytest.mark.parametrize(
    ("head", "zone"),
    [
        ("", timezone.utc),
        ("TZ=Asia/Tokyo\n", ZoneInfo("Asia/Tokyo")),
        ("TZ=:Asia/Tokyo\n", ZoneInfo("Asia/Tokyo")),  # the form of tzset(3)
        ("CRON_TZ=Europe/Berlin\n", ZoneInfo("Europe/Berlin")),
        ("CRON_TZ=Europe/Berlin\nTZ=Asia/Tokyo\n", ZoneInfo("Europe/Berlin")),
        ("TZ=Asia/Tokyo\nCRON_TZ=Europe/Berlin\n", ZoneInfo("Europe/Berlin")),
        ("TZ=Asia/Tokyo\nCRON_TZ=Europe/Berlin\nCRON_TZ=\n", ZoneInfo("Asia/Tokyo")),
        ("TZ=Asia/Tokyo\nTZ=''\n", timezone.utc),
    ],
)
def test_time_zone(head: str, zone: object) -> None:
    assert zone_of(f"{head}0 5 * * * run") == zone


def test_each_entry_has_the_zone_above_it() -> None:
    text = "0 5 * * * a\nCRON_TZ=Asia/Tokyo\n0 5 * * * b\nCRON_TZ=Europe/Berlin\n0 5 * * * c\n"
    after = datetime(2026, 7, 1, tzinfo=timezone.utc)
    found = [each.trigger and each.trigger.next_fire_time(after) for each in parse(text)]
    assert [moment and moment.astimezone(timezone.utc).hour for moment in found] == [5, 20, 3]


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        (r"date +\%F", "date +%F", None),
        ("mail ops%hello", "mail ops", "hello\n"),
        ("mail ops%hello%world%", "mail ops", "hello\nworld\n"),
        (r"mail 5\% ops%at 100\%", "mail 5% ops", "at 100%\n"),
        ("cat%", "cat", "\n"),
    ],
)
def test_percent_sign(text: str, command: str, stdin: str | None) -> None:
    (entry,) = parse(f"@daily {text}")
    assert (entry.command, entry.stdin) == (command, stdin)


@pytest.mark.parametrize("user", ["root", "www-data", "_apt", "build:staff", "samba$", "a.b"])
def test_system_crontab_has_a_user(user: str) -> None:
    fields, shortcut = parse(f"0 5 * * * {user} run it\n@daily\t{user}\trun", system=True)
    assert (fields.user, fields.command) == (user, "run it")
    assert (shortcut.user, shortcut.command) == (user, "run")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/crontab", True),
        ("/etc/cron.d/sysstat", True),
        ("/etc/cron.daily/x", False),
        ("/home/me/crontab", False),
        ("crontab", False),
    ],
)
def test_place_of_a_system_crontab(path: str, expected: bool) -> None:
    assert is_system_crontab(Path(path)) is expected


@pytest.mark.parametrize(
    ("text", "line", "position", "reason"),
    [
        ("61 * * * * x", 1, 1, "minute: '61' at position 1 of '61 * * * *' is out of range"),
        ("\n  0  5 * 13 * x", 2, 10, "month: '13'"),
        ("0 0 * * mon-fry x", 1, 13, "day_of_week: 'fry'"),
        ("0 0 31 4 * x", 1, 1, "'0 0 31 4 *' the expression can never fire"),
        ("  @fortnightly x", 1, 3, "'@fortnightly' is not a known shortcut"),
        ("0 5 * *", 1, 1, "'0 5 * *' is neither an entry"),
        ("0 5 * * *", 1, 10, "no command follows '0 5 * * *'"),
        ("@daily   ", 1, 7, "no command follows '@daily'"),
        ("@reboot %in", 1, 12, "no command follows '@reboot'"),
        ("* 5 * * * x\nhello", 2, 1, "'hello' is neither an entry"),
        ("NAME = 'open", 1, 8, "NAME: the quote ' is not closed"),
        ("NAME = '", 1, 8, "NAME: the quote ' is not closed"),
        ("CRON_TZ = Mars/Base", 1, 11, "CRON_TZ: 'Mars/Base' is not in the time zone database"),
        ("TZ=../../etc/passwd", 1, 4, "TZ: '../../etc/passwd' is not in the time zone database"),
    ],
)
def test_refused(text: str, line: int, position: int, reason: str) -> None:
    found = only_problem(text)
    assert found[:2] == (line, position)
    assert found[2].startswith(reason)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("0 5 * * * /bin/run now", 11, "user: '/bin/run' is not a user's name"),
        ("0 5 * * *", 10, "user: nothing is not a user's name"),
        ("0 5 * * * root", 15, "no command after the user 'root' follows"),
    ],
)
def test_refused_in_a_system_crontab(text: str, position: int, reason: str) -> None:
    found = only_problem(text, system=True)
    assert found[:2] == (1, position)
    assert found[2].startswith(reason)


def test_all_problems_are_reported_with_their_source() -> None:
    text = "61 * * * * a\n0 5 * * * fine\nCRON_TZ=Nowhere\nrubbish\n"
    with pytest.raises(CrontabError) as caught:
        parse_crontab(text, "UTC", source="jobs.cron")
    error = caught.value
    assert [each.line for each in error.problems] == [1, 3, 4]
    assert [line.split(" ")[0] for line in str(error).splitlines()] == [
        "jobs.cron:1:1:",
        "jobs.cron:3:9:",
        "jobs.cron:4:1:",
    ]
    assert isinstance(error, ValueError)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_bytes(b"# fine\n0 5 * * * caf\xe9\n")
    with pytest.raises(CrontabError) as caught:
        read_crontab(path, "UTC")
    (problem,) = caught.value.problems
    assert (problem.line, problem.position) == (2, 14)
    assert "0xe9 is not UTF-8" in problem.reason


def test_byte_order_mark_and_other_scripts(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_bytes("\ufeff0 5 * * * käse 時\u2028x\n".encode())
    (entry,) = read_crontab(path, "UTC")
    assert (entry.line, entry.command) == (1, "käse 時\u2028x")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_crontab(tmp_path / "none")


def test_system_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_text("0 5 * * * root run\n")
    assert [each.user for each in read_crontab(path, "UTC")] == [None]
    assert [each.user for each in read_crontab(path, "UTC", system=True)] == ["root"]


def test_the_example() -> None:
    entries = read_crontab(EXAMPLE, "UTC")
    assert [each.expression for each in entries] == [
        "30 2 * * *",
        "*/15 * * * *",
        "0 9-17 * * mon-fri",
        "0 18 LW * *",
        "0 6 1 * mon",
        "@weekly",
        "0 9 * * mon",
        "@reboot",
    ]
    assert entries[4].command.endswith('"as of 100%"')
    assert entries[5].stdin == "The scheduler is well.\nRegards\n"


_FIELD = st.text("0123456789*/,-?LW#Hmonja ", min_size=1, max_size=8)
_LINE = st.one_of(
    st.text(max_size=60),
    st.lists(_FIELD, min_size=4, max_size=8).map(" ".join),
    st.builds("{}={}".format, st.sampled_from(["TZ", "CRON_TZ", "A", "'A'"]), st.text(max_size=20)),
)


@given(st.lists(_LINE, max_size=5).map("\n".join), st.booleans())
def test_any_text_is_parsed_or_refused_with_a_place_in_it(text: str, system: bool) -> None:
    lines = text.split("\n")
    entries: list[CrontabEntry] = []
    found: tuple[CrontabProblem, ...] = ()
    try:
        entries = parse(text, system=system)
    except CrontabError as error:
        found = error.problems
    for each in found:
        assert 1 <= each.line <= len(lines)
        assert 1 <= each.position <= len(lines[each.line - 1]) + 1
        assert each.reason
    for entry in entries:
        assert entry.expression in lines[entry.line - 1]
        assert (entry.trigger is None) == (entry.expression.lower() == "@reboot")
        assert entry.command.strip()
    if not found and not entries:  # nothing but comments, blanks and assignments
        assert all(not line.strip() or line.strip()[0] in "#'ATC" for line in lines)
