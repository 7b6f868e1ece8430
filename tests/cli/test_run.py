"""``tocsin run`` as a process: its output, signals and exit codes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from support.programs import ended
from support.running import COMMAND, Running, command, environment, moment, run_times, toml, until


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_functions_and_commands_run_for_a_time(run: Callable[..., Running], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def work(a, b):\n    print('printed')\n    return a + b\ndef fail():\n    1 / 0\n"
    )
    running = run(
        toml("function", 'func = "mine:work"', "args = [1]", "kwargs = {b = 2}")
        + toml("raises", 'func = "mine:fail"')
        + toml("shell", 'command = "echo one; echo two >&2; echo $MINE; cat"', 'stdin = "in"')
        + toml("list", 'command = ["echo", "a  b"]', 'environment = {X = "y"}')
        + toml("exits", 'command = "echo gone; exit 7"'),
        "--for",
        "2.9s",
    )
    assert running.end() == 0
    (first,) = running.of("started")
    assert first["jobs"] == 5
    assert first["stops_after"] == 2.9
    assert running.records[-1]["event"] == "stopped"
    done = running.of("job_executed", "function")
    assert [each["retval"] for each in done] == [3] * len(done)
    assert len(done) == 2
    assert "printed" in running.errors  # and not between the lines of JSON
    for job_id, lines in {"shell": ["one", "two", "", "in"], "list": ["a  b"]}.items():
        printed = [each["line"] for each in running.of("job_output", job_id)]
        assert printed[: len(lines)] == lines
        assert running.of("job_executed", job_id)
    raised = running.of("job_error", "raises")[0]
    assert raised["error"] == "ZeroDivisionError: division by zero"
    assert "in fail" in raised["traceback"]
    exited = running.of("job_error", "exits")[0]
    assert exited["error"].endswith("ended with exit code 7")
    assert running.of("job_output", "exits")[0]["line"] == "gone"
    for record in running.records:
        assert datetime.fromisoformat(record["time"]).utcoffset() == timedelta(0)


def test_a_crontab(run: Callable[..., Running]) -> None:
    running = run(
        "GREETING = hello\n@reboot echo $GREETING; cat%to you%\n0 5 1 1 * never\n",
        name="crontab",
    )
    running.wait("job_executed")
    assert [each["line"] for each in running.of("job_output")] == ["hello", "to you"]
    assert running.of("started")[0]["jobs"] == 2
    running.signal(signal.SIGHUP)
    (reloaded,) = running.wait("reloaded")
    assert reloaded["unchanged"] == ["echo $GREETING; cat", "never"]
    running.signal(signal.SIGTERM)
    assert running.end() == 0
    assert len(running.of("job_started")) == 1


def test_a_crontab_with_a_command_twice(run: Callable[..., Running], tmp_path: Path) -> None:
    text = "0 5 1 1 * echo late\n0 6 1 1 * echo late\n"
    running = run(text, name="crontab")
    running.wait("started")
    (tmp_path / "crontab").write_text(f"{text}@reboot echo late\n")
    running.signal(signal.SIGHUP)
    (reloaded,) = running.wait("reloaded")
    assert reloaded["unchanged"] == ["echo late", "echo late #2"]
    assert reloaded["added"] == ["echo late #3"]
    (tmp_path / "crontab").write_text(text)
    running.signal(signal.SIGHUP)
    assert running.wait("reloaded", count=2)[1]["removed"] == ["echo late #3"]
    running.signal(signal.SIGTERM)
    assert running.end() == 0
    assert not running.of("job_started")


@pytest.mark.parametrize("name", ["Nowhere/Land", "EST5EDT,M3.2.0,M11.1.0"])
def test_a_crontab_where_the_local_zone_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "crontab").write_text("@reboot echo up\n0 5 1 1 * echo late\n")
    done = command("crontab", "--for", "1s", cwd=tmp_path, TZ=name)
    assert done.returncode == 0, done.stderr
    assert "UTC is used; timezone: the local one was not found, name one: " in done.stderr
    assert "echo up  | up" in done.stdout


def test_a_local_zone_that_is_a_file_of_its_own(tmp_path: Path) -> None:
    """It has no name that a store could hold."""
    zone = tmp_path / "home"
    zone.write_bytes(files("tzdata").joinpath("zoneinfo", "Europe", "Berlin").read_bytes())
    (tmp_path / "crontab").write_text("@reboot echo up\n0 5 1 1 * echo late\n")
    done = command("crontab", "--for", "1s", cwd=tmp_path, TZ=str(zone))
    assert (done.returncode, done.stdout) == (1, "")
    assert "crontab:2: trigger: the time zone " in done.stderr
    assert "has no name to store" in done.stderr
    done = command("crontab", "--for", "1s", "--memory", cwd=tmp_path, TZ=str(zone))
    assert done.returncode == 0, done.stderr
    assert "echo up  | up" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_jobs_finish(
    run: Callable[..., Running], tmp_path: Path, number: int
) -> None:
    running = run(
        toml("long", 'command = "echo begun; until [ -e go ]; do sleep 0.02; done; echo ended"')
    )
    running.wait("job_output", "long")
    running.signal(number)
    (stopping,) = running.wait("stopping")
    assert stopping["running"] == 1
    assert running.process.poll() is None
    (tmp_path / "go").touch()
    assert running.end() == 0
    assert [each["line"] for each in running.of("job_output")] == ["begun", "ended"]
    assert running.records[-2]["event"] == "job_executed"
    assert running.records[-1]["event"] == "stopped"
    assert running.records[-1]["cut_off"] == 0


@pytest.mark.parametrize("how", ["second signal", "grace time"])
def test_running_jobs_are_cut_off(run: Callable[..., Running], how: str) -> None:
    running = run(
        toml("long", 'command = "sleep 1000 & echo $$ $!; wait"'),
        "--grace",
        "0.2s" if how == "grace time" else "1h",
    )
    (output,) = running.wait("job_output", "long")
    running.signal(signal.SIGTERM)
    running.wait("stopping")
    if how == "second signal":
        running.signal(signal.SIGINT)
    assert running.end() == 3
    (stopped,) = running.of("stopped")
    assert stopped["cut_off"] == 1
    shell, child = map(int, output["line"].split())
    until(lambda: not is_alive(shell) and not is_alive(child))


def test_reload_adds_changes_and_removes(run: Callable[..., Running], tmp_path: Path) -> None:
    hourly = 'trigger = "interval"\nhours = 1\n'
    kept = toml("kept", 'command = "echo kept"')
    running = run(
        kept
        + toml("edited", 'command = "echo old"')
        + toml("moved", 'command = "echo moved"', when=hourly)
        + toml("removed", 'command = "echo removed"')
    )
    running.wait("job_executed", "removed")
    running.wait("job_executed", "edited")
    (tmp_path / "schedule.toml").write_text(
        kept
        + toml("edited", 'command = "echo new"')
        + toml("moved", 'command = "echo moved"')
        + toml("added", 'command = "echo added"')
    )
    running.signal(signal.SIGHUP)
    (reloaded,) = running.wait("reloaded")
    assert {key: reloaded[key] for key in ("added", "changed", "removed", "unchanged")} == {
        "added": ["added"],
        "changed": ["edited", "moved"],
        "removed": ["removed"],
        "unchanged": ["kept"],
    }
    for job_id in ("added", "moved", "kept", "edited"):
        running.wait("job_executed", job_id, 3 if job_id in ("kept", "edited") else 1)
    running.signal(signal.SIGTERM)
    assert running.end() == 0
    for each in running.of("job_started", "removed"):
        assert moment(each, "scheduled_run_time") <= moment(reloaded, "time")
    assert running.of("job_output", "edited")[-1]["line"] == "new"
    for job_id in ("kept", "edited"):  # whose schedules are the same
        times = run_times(running, job_id)
        assert times == [times[0] + timedelta(seconds=number) for number in range(len(times))]


def test_many_reloads_neither_miss_nor_double_a_run(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    """The schedule changes to and fro while runs become due, and the runs stay on their grid."""

    def text(number: int) -> str:
        return toml(
            "job",
            f'command = "echo {number}"',
            "coalesce = false",  # a slow machine may be late, but drops nothing
            "max_instances = 100",
            when=f'crontab = "{"*" if number % 2 else "*/1"} * * * * *"\n',
        )

    running = run(text(0))
    running.wait("job_executed", "job")
    number = 0
    while len(running.of("job_executed")) < 6:
        number += 1
        (tmp_path / "schedule.toml").write_text(text(number))
        running.signal(signal.SIGHUP)
        running.wait("reloaded", count=number)
    running.signal(signal.SIGTERM)
    assert running.end() == 0
    assert number > 20
    times = sorted(run_times(running, "job"))
    assert times == [times[0] + timedelta(seconds=count) for count in range(len(times))]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[job]\n", "not TOML"),
        (toml("kept", 'func = "no.such:thing"'), "no.such"),
        (toml("kept", 'command = "x"', when='crontab = "0 25 * * *"\n'), "out of range"),
        (
            '[tocsin]\ntimezone = "Asia/Tokyo"\n' + toml("kept", 'command = "echo new"'),
            "tocsin: settings can't be changed while the scheduler runs; restart",
        ),
        (None, "No such file"),
    ],
)
def test_a_broken_file_keeps_the_old_schedule(
    run: Callable[..., Running], tmp_path: Path, text: str | None, reason: str
) -> None:
    path = tmp_path / "schedule.toml"
    running = run(toml("kept", 'command = "echo kept"'))
    running.wait("job_executed", "kept")
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    running.signal(signal.SIGHUP)
    (refused,) = running.wait("reload_refused")
    assert reason in refused["reason"]
    running.wait("job_executed", "kept", len(running.of("job_executed", "kept")) + 1)
    path.write_text(toml("kept", 'command = "echo mended"'))
    running.signal(signal.SIGHUP)
    assert running.wait("reloaded")[0]["changed"] == ["kept"]
    running.signal(signal.SIGTERM)
    assert running.end() == 0


def test_lines_for_people(tmp_path: Path) -> None:
    (tmp_path / "schedule.toml").write_text(
        toml("say", 'command = "echo [bold]hello"') + toml("bad", 'command = "exit 3"')
    )
    done = command("schedule.toml", "--for", "1.5s", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].endswith("  running 2 jobs of schedule.toml for 1.5 s")
    assert [line for line in lines if line.endswith("  say  | [bold]hello")]
    assert [line for line in lines if "  say  finished in 0." in line]
    assert [
        line for line in lines if "bad  failed: CommandFailed: 'exit 3' ended with exit" in line
    ]
    assert lines[-1].endswith("  stopped")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "x = 1\n", "unknown"),
        ("a.toml", toml("a", 'func = "os:nothing"'), 'job "a"'),
        ("a.toml", toml("a", 'command = "x"', 'jobstore = "other"'), "'other' is unknown"),
        ("crontab", "0 25 * * * x\n0 5 * 0 * x\n", "crontab:2:7: month: '0'"),
    ],
)
def test_a_file_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    done = command(name, "--for", "0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{name} is refused" in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "FILE"),
        (("missing.toml",), "missing.toml"),
        (("a.toml", "--for", "soon"), "'soon' is not a duration such as 15, 90s"),
        (("a.toml", "--for", "-1"), "not a duration"),
        (("a.toml", "--jason"), "--jason"),
    ],
)
def test_wrong_command_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "a.toml").write_text("")
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("form", ["", "--json"])
def test_a_closed_pipe_stops_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.toml").write_text(toml("say", 'command = "echo hello"'))
    script = f"{COMMAND} run a.toml --for 1h {form} | head -n 2"
    done = ended("/bin/sh", "-c", script, cwd=tmp_path, env=environment(tmp_path))
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


def test_the_example_runs(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "schedule.toml"
    done = command(str(example), "--for", "1.2s", cwd=tmp_path)
    assert done.returncode == 0
    assert "greet  | Hello from the shell, process" in done.stdout
