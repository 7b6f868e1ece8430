"""``tocsin next`` and the command around it."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.programs import ended

import tocsin
from tocsin.cli.app import app

COMMAND = Path(sysconfig.get_path("scripts")) / "tocsin"
BERLIN = ("--timezone", "Europe/Berlin")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["next", *arguments])


def printed(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def records(*arguments: str) -> list[dict[str, object]]:
    loaded = json.loads(printed(*arguments, "--json"))
    assert isinstance(loaded, list)
    return loaded


def fire_times(*arguments: str) -> object:
    (record,) = records(*arguments)
    return record["fire_times"]


def refused(code: int, *arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.fixture
def crontab(tmp_path: Path) -> Path:
    path = tmp_path / "crontab"
    path.write_text("MAILTO=ops\n0 5 * * * /bin/a\nCRON_TZ=Asia/Tokyo\n0 5 * * * /bin/b\n")
    return path


def test_text() -> None:
    assert printed("30 2 * * *", *BERLIN, "--from", "2026-03-28") == (
        "30 2 * * *\n"
        "  at 2:30 every day, Europe/Berlin\n"
        "  Sat 2026-03-28 02:30:00+01:00  in 2 h 30 min\n"
        "  Sun 2026-03-29 03:00:00+02:00  in 1 d 2 h\n"
        "  Mon 2026-03-30 02:30:00+02:00  in 2 d 1 h\n"
    )


def test_several_expressions_are_apart() -> None:
    text = printed("0 5 * * *", "@daily", "-n1", *BERLIN, "--from", "2026-01-01")
    blocks = text.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["0 5 * * *", "@daily"]
    assert blocks[1].splitlines()[2] == "  Thu 2026-01-01 00:00:00+01:00  now"


def test_json() -> None:
    assert records("0 9 * * mon", *BERLIN, "--from", "2026-03-24", "-n", "2") == [
        {
            "expression": "0 9 * * mon",
            "description": "at 9:00 on Monday, Europe/Berlin",
            "timezone": "Europe/Berlin",
            "fire_times": ["2026-03-30T09:00:00+02:00", "2026-04-06T09:00:00+02:00"],
        }
    ]


def test_six_and_seven_fields() -> None:
    assert fire_times("30 0 9 * * *", "-z", "UTC", "--from", "2026-01-01", "-n1") == [
        "2026-01-01T09:00:30+00:00"
    ]
    assert fire_times("0 0 9 1 1 * 2030", "-z", "UTC", "--from", "2026-01-01") == [
        "2030-01-01T09:00:00+00:00"
    ]


def test_no_more_fire_times() -> None:
    arguments = ("0 0 9 1 1 * 2020", "-z", "UTC", "--from", "2026-01-01")
    assert "  never again\n" in printed(*arguments)
    assert fire_times(*arguments) == []


@pytest.mark.parametrize(("dst", "hours"), [("exactly-once", [3, 2, 2]), ("wall-clock", [2, 2, 2])])
def test_dst(dst: str, hours: list[int]) -> None:
    found = fire_times("30 2 * * *", *BERLIN, "--from", "2026-03-29", "--dst", dst)
    assert isinstance(found, list)
    assert [datetime.fromisoformat(each).hour for each in found] == hours


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("2026-03-01", "2026-03-01T00:00:00+01:00"),  # included
        ("2026-03-01 00:00:01", "2026-03-02T00:00:00+01:00"),
        ("2026-02-28T23:30Z", "2026-03-02T00:00:00+01:00"),
    ],
)
def test_from(start: str, first: str) -> None:
    assert fire_times("@daily", *BERLIN, "--from", start, "-n1") == [first]


def test_from_now() -> None:
    before = datetime.now(timezone.utc)
    found = fire_times("* * * * *", "-n1", "-z", "UTC")
    assert isinstance(found, list)
    moment = datetime.fromisoformat(found[0])
    assert before <= moment <= datetime.now(timezone.utc) + timedelta(minutes=1)


def test_local_zone_is_the_default() -> None:
    done = command(
        "next", "0 5 * * *", "--from", "2026-07-01", "-n1", "--json", TZ="Pacific/Auckland"
    )
    (record,) = json.loads(done.stdout)
    assert record["timezone"] == "Pacific/Auckland"
    assert record["fire_times"] == ["2026-07-01T05:00:00+12:00"]


def test_seed() -> None:
    first = fire_times("H H * * *", "--seed", "backup", "-n1", "--from", "2026-01-01")
    assert first == fire_times("H H * * *", "--seed", "backup", "-n1", "--from", "2026-01-01")
    assert "needs a seed" in refused(1, "H H * * *")


def test_file_as_text(crontab: Path) -> None:
    text = printed("--file", str(crontab), "-n1", *BERLIN, "--from", "2026-01-01")
    assert text == (
        f"0 5 * * *  /bin/a  ({crontab}:2)\n"
        "  at 5:00 every day, Europe/Berlin\n"
        "  Thu 2026-01-01 05:00:00+01:00  in 5 h\n"
        "\n"
        f"0 5 * * *  /bin/b  ({crontab}:4)\n"
        "  at 5:00 every day, Asia/Tokyo\n"
        "  Fri 2026-01-02 05:00:00+09:00  in 21 h\n"
    )


def test_file_as_json(crontab: Path) -> None:
    first, second = records("-f", str(crontab), "-n1", *BERLIN, "--from", "2026-01-01")
    assert first == {
        "expression": "0 5 * * *",
        "file": str(crontab),
        "line": 2,
        "user": None,
        "command": "/bin/a",
        "description": "at 5:00 every day, Europe/Berlin",
        "timezone": "Europe/Berlin",
        "fire_times": ["2026-01-01T05:00:00+01:00"],
    }
    assert second["timezone"] == "Asia/Tokyo"


def test_files_and_expressions_together(crontab: Path) -> None:
    found = records("@daily", "-f", str(crontab), "-f", str(crontab))
    assert [each.get("line") for each in found] == [None, 2, 4, 2, 4]


def test_system_file(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_text("0 5 * * * root /bin/a\n@reboot www-data /bin/b\n")
    first, second = records("-f", str(path), "--system", "-z", "UTC")
    assert (first["user"], first["command"]) == ("root", "/bin/a")
    assert (second["user"], second["timezone"], second["fire_times"]) == ("www-data", None, [])
    text = printed("-f", str(path), "--system", "-z", "UTC")
    assert f"0 5 * * *  root: /bin/a  ({path}:1)\n" in text
    assert text.endswith("  once, when the scheduler starts\n")


def test_file_without_jobs(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_text("# nothing yet\n")
    assert printed("-f", str(path)) == "no jobs\n"
    assert records("-f", str(path)) == []


def test_text_is_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_text("0 5 * * * echo [bold]x[/bold] :smile: " + "long " * 60 + "\n")
    first = printed("-f", str(path)).splitlines()[0]
    assert first.startswith("0 5 * * *  echo [bold]x[/bold] :smile: long long")
    assert first.endswith(f"({path}:1)")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_refused_expression(form: tuple[str, ...]) -> None:
    message = refused(1, "0 5 * * *", "0 25 * * *", *form)
    assert message == (
        "Error: hour: '25' at position 3 of '0 25 * * *' is out of range; allowed: 0 to 23\n"
    )


def test_expression_that_never_fires() -> None:
    assert "the expression can never fire" in refused(1, "30 2 31 4 *")


def test_expression_without_quotes() -> None:
    message = refused(1, "0", "9", "*", "*", "mon")
    assert "put it in quotes" in message
    assert "put it in quotes" not in refused(1, "0 9 * *")


def test_refused_file_names_every_line(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_text("61 * * * * x\n0 5 * * * ok\n0 5 * 0 * x\n")
    lines = refused(1, "-f", str(path)).splitlines()
    assert lines[1].startswith(f"{path}:1:1: minute: '61'")
    assert lines[2].startswith(f"{path}:3:7: month: '0'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a crontab expression, or a file with --file"),
        (("@daily", "-n0"), "--count"),
        (("@daily", "-n", "many"), "--count"),
        (("@daily", "-z", "Mars/Base"), "--timezone: 'Mars/Base' is not in the time zone database"),
        (("@daily", "--from", "soon"), "--from: 'soon' is not a date and time such as"),
        (("@daily", "--from", "2026-02-30"), "--from: '2026-02-30'"),
        (("@daily", "--dst", "never"), "'exactly-once', 'wall-clock'"),
        (("@daily", "--jason"), "--jason"),
        (("--file", "no-such-file"), "no-such-file"),
        (("--file", "."), "is a directory"),
    ],
)
def test_wrong_command_line(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(2, *arguments)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return ended(COMMAND, *arguments, env=environment)


def test_the_installed_command() -> None:
    done = command("next", "@daily", "-z", "UTC", "--from", "2026-01-01", "-n1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2] == "  Thu 2026-01-01 00:00:00+00:00  now"


def test_exit_codes_of_the_installed_command() -> None:
    assert command("next", "nonsense").returncode == 1
    assert command("next").returncode == 2
    assert command("nonsense").returncode == 2


def test_version_tells_the_engine() -> None:
    engine = "compiled" if tocsin.COMPILED else "pure Python"
    assert command("--version").stdout == f"tocsin {tocsin.__version__}, {engine} engine\n"


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("next", "--help")])
def test_help_tells_the_exit_codes(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.returncode == 0
    assert "Exit codes: 0" in done.stdout


def test_module_is_the_command() -> None:
    done = ended(sys.executable, "-m", "tocsin", "next", "@daily", "-z", "UTC", "-n1")
    assert (done.returncode, done.stdout[:7]) == (0, "@daily\n")


def test_a_local_zone_that_is_not_found() -> None:
    done = command("next", "@daily", TZ="EST5EDT,M3.2.0,M11.1.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--timezone: the local one was not found, name one: " in done.stderr
    assert command("next", "@daily", "-z", "UTC", TZ="Nowhere/Land").returncode == 0


@pytest.mark.parametrize("package", ["click", "platformdirs", "rich"])
def test_a_missing_package_of_the_extra_is_named(package: str) -> None:
    done = without(package)
    message = f"tocsin: the command line needs {package}: pip install tocsin[cli]\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_another_missing_module_is_not_put_down_to_the_extra() -> None:
    done = without("tocsin.schedulefile")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ModuleNotFoundError" in done.stderr
    assert "tocsin[cli]" not in done.stderr


def without(package: str) -> subprocess.CompletedProcess[str]:
    """Run the command as if a package, or a module, were not installed."""
    script = f"import sys; sys.modules[{package!r}] = None; from tocsin.cli import main; main()"
    return ended(sys.executable, "-c", script, "next", "@daily", "-n1")


def test_closed_pipe_is_quiet() -> None:
    script = f"{COMMAND} next '* * * * *' -n 20000 -z UTC | head -n 1"
    done = ended("/bin/sh", "-c", script, patience=120)
    assert (done.stdout, done.stderr) == ("* * * * *\n", "")
