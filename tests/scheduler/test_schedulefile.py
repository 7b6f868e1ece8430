"""Schedules in TOML files."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tocsin import schedulefile
from tocsin.errors import ConfigError
from tocsin.schedulefile import CommandFailed, run_command
from tocsin.testing import FakeClock, FakeScheduler
from tocsin.triggers import CronTrigger, IntervalTrigger

GOOD = """
[tocsin]
timezone = "Europe/Berlin"
job_defaults.max_instances = 3

[tocsin.jobstores]
other = "memory"

[[job]]
id = "rates"
name = "exchange rates"
func = "tocsin.convert:as_timezone"
args = ["UTC"]
trigger = "interval"
minutes = 15
coalesce = false
max_instances = 2
misfire_grace_time = "none"
jobstore = "other"

[[job]]
id = "backup"
command = "exit 3"
crontab = "30 2 * * H"
misfire_grace_time = 60

[[job]]
id = "list"
command = ["true", "--quickly"]
environment = { LANG = "C" }
stdin = "input"
crontab = "@daily"
timezone = "UTC"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "schedule.toml"
        path.write_text(text)
        return path

    return write


def make(path: Path) -> FakeScheduler:
    schedule = schedulefile.load(path)
    scheduler = FakeScheduler(schedule.settings, prefix=None, clock=FakeClock("2026-03-01"))
    schedule.add_to(scheduler)
    return scheduler


def test_a_file_describes_a_scheduler_and_its_jobs(write: Callable[[str], Path]) -> None:
    scheduler = make(write(GOOD))
    scheduler.start()
    rates, backup, listing = (scheduler.get_job(name) for name in ("rates", "backup", "list"))
    assert rates is not None
    assert backup is not None
    assert listing is not None
    assert (rates.name, rates.args, rates.kwargs) == ("exchange rates", ("UTC",), {})
    assert isinstance(rates.trigger, IntervalTrigger)
    assert (rates.coalesce, rates.max_instances, rates.misfire_grace_time) == (False, 2, None)
    assert scheduler.get_jobs("other") == [rates]
    assert (backup.func, backup.args, backup.name) == (run_command, ("exit 3",), "backup")
    assert (backup.max_instances, backup.misfire_grace_time) == (3, 60)
    assert backup.trigger == CronTrigger.from_crontab("30 2 * * H", "Europe/Berlin", seed="backup")
    assert listing.args == (["true", "--quickly"],)
    assert listing.kwargs == {"environment": {"LANG": "C"}, "stdin": "input"}
    assert listing.next_run_time == datetime(2026, 3, 1, tzinfo=timezone.utc)


def test_a_file_takes_the_place_of_the_jobs_with_its_ids(write: Callable[[str], Path]) -> None:
    scheduler = make(write(GOOD))
    scheduler.start()
    changed = GOOD.replace("minutes = 15", "minutes = 20")
    schedulefile.load(write(changed)).add_to(scheduler)
    assert len(scheduler.get_jobs()) == 3
    job = scheduler.get_job("rates")
    assert job is not None
    assert "0:20:00" in str(job.trigger)


def test_a_file_may_be_empty(write: Callable[[str], Path]) -> None:
    assert make(write("")).get_jobs() == []


JOB = '[[job]]\nid = "a"\n'
CALL = JOB + 'func = "os:getcwd"\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[job", "schedule.toml: not TOML"),
        ("[[jobs]]", r'jobs: unknown \(did you mean "job"\?\); accepted: \[tocsin\], \[\[job\]\]'),
        ("tocsin = 1", r"tocsin: a table is needed, \[tocsin\], not 1"),
        ("[job]", r"job: an array of tables is needed: write \[\[job\]\]"),
        ("job = [1]", r"job: an array of tables"),
        ("[[job]]", "job 1: id: missing"),
        ("[[job]]\nid = 5", "job 1: id: a text is needed, not 5"),
        (CALL + 'trigger = "date"\n' + JOB, "job 2: id: 'a' belongs to a job before it"),
        (JOB + 'trigger = "date"', 'job "a": func: a func or a command is needed; neither'),
        (CALL + 'command = "x"\ntrigger = "date"', 'job "a": func: .*; both are given'),
        (CALL, 'job "a": trigger: a trigger or a crontab is needed; neither is given'),
        (CALL + 'trigger = "date"\ncrontab = "@daily"', "trigger: .*; both are given"),
        (CALL + "trigger = 5", r'job "a": trigger: the name of a trigger, .* is needed, not 5'),
        (JOB + 'func = 5\ntrigger = "date"', 'job "a": func: .* is needed, not 5'),
        (JOB + 'command = []\ntrigger = "date"', r"command: a text .* is needed, not \[\]"),
        (JOB + 'command = [1]\ntrigger = "date"', r"command: .* is needed, not \[1\]"),
        (JOB + 'command = "x"\nstdin = 1\ntrigger = "date"', "stdin: a text is needed, not 1"),
        (
            JOB + 'command = "x"\nenvironment = { A = 1 }\ntrigger = "date"',
            "environment: a table of texts is needed",
        ),
        (JOB + 'command = "x"\nargs = [1]\ntrigger = "date"', "args: it goes with a func, not"),
        (CALL + 'stdin = "x"\ntrigger = "date"', "stdin: it goes with a command, not with a func"),
        (CALL + 'crontab = "0 25 * * *"', "job \"a\": hour: '25' at position 3"),
        (CALL + 'crontab = "@daily"\nminuets = 5', 'job "a": minuets: unknown; accepted: func, '),
        (CALL + 'crontab = "@daily"\nmax_instance = 5', r'did you mean "max_instances"\?'),
        (CALL + 'trigger = "interval"\nminuets = 5', 'job "a": minuets: neither arguments of a'),
        (CALL + 'trigger = "intervall"', r'job "a": No trigger by the name "intervall"'),
        (JOB + 'func = "os:nothing"\ntrigger = "date"', 'job "a": error resolving reference'),
        (CALL + 'args = [1]\ntrigger = "date"', 'job "a": .*the job\'s arguments do not fit'),
        (CALL + 'max_instances = 0\ntrigger = "date"', 'job "a": max_instances'),
        (CALL + 'coalesce = "perhaps"\ntrigger = "date"', 'job "a": .*perhaps'),
    ],
)
def test_what_is_wrong_is_named(write: Callable[[str], Path], text: str, reason: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=reason) as refused:
        make(path)
    assert str(path) in str(refused.value)


def test_a_mistake_adds_no_job(write: Callable[[str], Path]) -> None:
    text = CALL + 'trigger = "date"\n[[job]]\nid = "b"\nfunc = "os:nothing"\ntrigger = "date"\n'
    scheduler = FakeScheduler()
    with pytest.raises(ConfigError, match='job "b"'):
        schedulefile.load(write(text)).add_to(scheduler)
    assert scheduler.get_jobs() == []


def test_an_unknown_job_store_is_named(write: Callable[[str], Path]) -> None:
    scheduler = FakeScheduler()
    scheduler.start()
    schedule = schedulefile.load(write(CALL + 'trigger = "date"\njobstore = "nowhere"\n'))
    with pytest.raises(KeyError, match="nowhere"):
        schedule.add_to(scheduler)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        schedulefile.load(tmp_path / "nowhere.toml")


def test_a_command_gets_its_input_and_environment(capfd: pytest.CaptureFixture[str]) -> None:
    run_command("read line; echo $line $WORD $HOME", stdin="in\n", environment={"WORD": "env"})
    run_command([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"])
    first, second = capfd.readouterr().out.splitlines()
    assert first.startswith("in env /")
    assert second == "''"


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("exit 3", 3, "'exit 3' ended with exit code 3"),
        (["sh", "-c", "kill -9 $$"], -9, r"\['sh', .* ended with signal 9"),
    ],
)
def test_a_command_that_fails(command: Any, code: int, reason: str) -> None:
    with pytest.raises(CommandFailed, match=reason) as failed:
        run_command(command)
    assert failed.value.returncode == code
    copy = pickle.loads(pickle.dumps(failed.value))
    assert (str(copy), copy.returncode) == (str(failed.value), code)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        run_command(["no-such-program"])
