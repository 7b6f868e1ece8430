"""What ``tocsin run`` keeps from one start to the next, and shares with another process."""

from __future__ import annotations

import json
import signal
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.addresses import KINDS
from support.running import Running, command, moment, run_times, toml, until

from tocsin.cli.app import app
from tocsin.cli.place import url_of_file

Run = Callable[..., Running]
HOURLY = 'trigger = "interval"\nhours = 1\n'
SAY = 'command = "echo $MINE"'
#: Rules by which no run is left out, however late the machine is.
ALL = "coalesce = false\nmax_instances = 100"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for stores where `Running` has them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


def all_of(where: Path | str) -> dict[str, dict[str, Any]]:
    """Give the jobs of a store, or of a file, by id."""
    result = CliRunner().invoke(app, ["store", "list", str(where), "--limit", "0", "--json"])
    assert result.exit_code == 0, result.output
    return {job["id"]: job for job in json.loads(result.stdout)}


def kept(where: Path | str) -> dict[str, dict[str, Any]]:
    """Give those that never run, by which `tocsin run` knows what it has put there."""
    return {key: job for key, job in all_of(where).items() if key.startswith("tocsin run ")}


def listed(where: Path | str) -> dict[str, dict[str, Any]]:
    """Give the others."""
    return {key: job for key, job in all_of(where).items() if not key.startswith("tocsin run ")}


def stop(running: Running) -> None:
    running.signal(signal.SIGTERM)
    assert running.end() == 0


def once_in(running: Running) -> None:
    """Let it run until it has started, and stop it."""
    running.wait("started")
    stop(running)


def set_back(path: Path, job_id: str, hours: float) -> None:
    """Have so much time pass for a job since it was last seen."""
    database = sqlite3.connect(url_of_file(path).removeprefix("sqlite:///"))
    with database:
        changed = database.execute(
            "UPDATE tocsin_jobs SET next_run = next_run - :by, due_at = due_at - :by"
            " WHERE id = :id",
            {"by": int(hours * 3_600_000_000), "id": job_id},
        )
        assert changed.rowcount == 1
    database.close()


def test_a_run_that_was_missed_is_had_at_the_next_start(run: Run, tmp_path: Path) -> None:
    text = toml("job", SAY, when=HOURLY) + toml("other", SAY, when=HOURLY)
    once_in(run(text))
    path = tmp_path / "schedule.toml"
    before = listed(path)
    set_back(path, "job", 5.5)
    running = run(text)
    running.wait("job_executed", "job")
    (coalesced,) = running.of("job_coalesced", "job")
    stop(running)
    first = datetime.fromisoformat(before["job"]["next_run_time"]) - timedelta(hours=5.5)
    assert moment(coalesced, "first_run_time") == first
    (ran,) = run_times(running, "job")
    assert ran == first + timedelta(hours=4)
    after = listed(path)
    assert datetime.fromisoformat(after["job"]["next_run_time"]) == first + timedelta(hours=5)
    assert after["other"] == before["other"]


def test_the_folder_is_its_users_alone(run: Run, tmp_path: Path) -> None:
    once_in(run(toml("job", SAY, when=HOURLY)))
    place = Path(url_of_file(tmp_path / "schedule.toml").removeprefix("sqlite:///"))
    assert place.exists()
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


def test_a_file_that_changed_meanwhile(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "schedule.toml"
    text = "".join(
        toml(job_id, SAY, when=HOURLY)
        for job_id in ("kept", "edited", "moved", "removed", "renamed")
    )
    once_in(run(text))
    before = listed(path)
    text = (
        toml("kept", SAY, when=HOURLY)
        + toml("edited", 'command = "echo new"', when=HOURLY)
        + toml("moved", SAY, when='trigger = "interval"\nhours = 5\n')
        + toml("renamed", SAY, 'name = "Another"', when=HOURLY)
        + toml("added", SAY, when=HOURLY)
    )
    once_in(run(text))
    after = listed(path)
    assert sorted(after) == ["added", "edited", "kept", "moved", "renamed"]
    assert after["kept"] == before["kept"]
    for job_id in ("edited", "renamed"):
        assert after[job_id]["next_run_time"] == before[job_id]["next_run_time"]
    assert after["renamed"]["name"] == "Another"
    assert after["moved"]["trigger"] == "interval[5:00:00]"
    gained = datetime.fromisoformat(after["moved"]["next_run_time"]) - datetime.fromisoformat(
        before["moved"]["next_run_time"]
    )
    assert gained > timedelta(hours=3.9)
    shown = CliRunner().invoke(app, ["store", "show", str(path), "edited", "--json"])
    assert json.loads(shown.stdout)["record"]["args"] == ["edited", "echo new"]


def test_a_job_that_has_had_its_only_run_is_not_run_again(run: Run, tmp_path: Path) -> None:
    text = toml("once", SAY, when='trigger = "date"\nrun_date = 2020-01-01T00:00:00Z\n')
    running = run(text)
    running.wait("job_executed", "once")
    stop(running)
    running = run(text + toml("tick", SAY))
    running.wait("job_executed", "tick", 2)
    stop(running)
    assert not running.of("job_started", "once")
    assert sorted(listed(tmp_path / "schedule.toml")) == ["tick"]


def test_a_job_that_has_had_its_only_run_is_run_again_at_another_time(run: Run) -> None:
    def text(what: str, year: int) -> str:
        return toml("once", what, when=f'trigger = "date"\nrun_date = {year}-01-01T00:00:00Z\n')

    running = run(text(SAY, 2020))
    running.wait("job_executed", "once")
    stop(running)
    running = run(text('command = "echo new"', 2020) + toml("tick", SAY))
    running.wait("job_executed", "tick", 2)
    stop(running)
    assert not running.of("job_started", "once")
    running = run(text('command = "echo new"', 2021))
    running.wait("job_executed", "once")
    stop(running)
    assert [each["line"] for each in running.of("job_output")] == ["new"]


def test_a_job_of_a_crontab_is_run_at_each_start_only_if_it_says_so(
    run: Run, tmp_path: Path
) -> None:
    text = "@reboot echo up\n0 5 1 1 * echo late\n"
    for _ in range(2):
        running = run(text, name="crontab")
        running.wait("job_executed", "echo up")
        stop(running)
        assert [each["job"] for each in running.of("job_started")] == ["echo up"]
    assert list(listed(tmp_path / "crontab")) == ["echo late"]


def test_a_paused_job_stays_paused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "schedule.toml"
    text = toml("job", SAY, when=HOURLY)
    once_in(run(text))
    assert CliRunner().invoke(app, ["store", "pause", str(path), "job"]).exit_code == 0
    once_in(run(text))
    assert listed(path)["job"]["status"] == "paused"
    changed = toml("job", 'command = "echo new"', when=HOURLY)
    once_in(run(changed))
    assert listed(path)["job"]["status"] == "paused"


def test_run_now_is_done_by_whoever_runs_the_file(run: Run, tmp_path: Path) -> None:
    text = toml("job", SAY, when=HOURLY)
    running = run(text)
    running.wait("started")
    path = str(tmp_path / "schedule.toml")
    result = CliRunner().invoke(app, ["store", "run-now", path, "job", "none"])
    assert result.exit_code == 1
    assert "job: is due now" in result.stdout
    assert "none: No job" in result.stderr
    running.wait("job_executed", "job")
    stop(running)
    due = datetime.fromisoformat(listed(tmp_path / "schedule.toml")["job"]["next_run_time"])
    assert due > datetime.now(timezone.utc)


def test_two_processes_share_the_runs(run: Run, tmp_path: Path) -> None:
    """Each second has one run of each job, whoever has it, from two starts at once to the end."""
    text = "".join(toml(f"job {number}", SAY, ALL) for number in range(5))
    both = [run(text), run(text)]
    for running in both:
        running.wait("started")
    both[0].wait("job_executed", "job 0", 3)
    stop(both[0])
    both[1].wait("job_executed", count=len(both[1].of("job_executed")) + 10)
    stop(both[1])
    for number in range(5):
        times = sorted(moment for running in both for moment in run_times(running, f"job {number}"))
        assert times == [times[0] + timedelta(seconds=count) for count in range(len(times))]
    assert not [each for running in both for each in running.of("job_lost")]


def test_two_processes_that_reload_at_once(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "schedule.toml"

    def text(number: int) -> str:
        every = "*" if number % 2 else "*/1"
        when = f'crontab = "{every} * * * * *"\n'
        extra = toml(f"extra {number % 3}", SAY, when=HOURLY)
        job = toml("job", f'command = "echo {number}"', ALL, when=when)
        return job + extra

    both = [run(text(0)), run(text(0))]
    for running in both:
        running.wait("started")
    number = 0
    while sum(len(running.of("job_executed", "job")) for running in both) < 6:
        number += 1
        path.write_text(text(number))
        for running in both:
            running.signal(signal.SIGHUP)
        for running in both:
            running.wait("reloaded", count=number)
    for running in both:
        stop(running)
    assert number > 5
    times = sorted(moment for running in both for moment in run_times(running, "job"))
    assert times == [times[0] + timedelta(seconds=count) for count in range(len(times))]
    assert sorted(listed(path)) == [f"extra {number % 3}", "job"]


def test_a_process_that_was_killed_is_followed_by_another(run: Run) -> None:
    text = toml("job", SAY)
    running = run(text)
    running.wait("job_executed", "job")
    running.process.kill()
    assert running.end() == -signal.SIGKILL
    following = run(text)
    following.wait("job_started", "job")
    stop(following)
    counts = Counter([*run_times(running, "job"), *run_times(following, "job")])
    assert max(counts.values()) == 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sqlite"])
def test_on_a_server(run: Run, kind: str, request: pytest.FixtureRequest) -> None:
    """Two processes share the runs, and each run is had once, also after a start anew."""
    url = KINDS[kind](request)
    text = toml("job", SAY, ALL) + toml("late", SAY, when=HOURLY)
    first, second = run(text, "--store", url), run(text, "--store", url)
    second.wait("started")
    first.wait("started")
    late = listed(url)["late"]
    until(lambda: len(first.of("job_executed")) + len(second.of("job_executed")) >= 4)
    stop(first)
    third = run(text, "--store", url)
    third.wait("started")
    stop(second)
    third.wait("job_executed", "job", 2)
    stop(third)
    times = sorted(moment for each in (first, second, third) for moment in run_times(each, "job"))
    assert times == [times[0] + timedelta(seconds=count) for count in range(len(times))]
    assert listed(url)["late"] == late


def test_a_store_that_others_use_too(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    text = toml("first", SAY, when=HOURLY) + toml("both", SAY, when=HOURLY)
    once_in(run(text, "--store", url, name="one.toml"))
    other = toml("second", SAY, when=HOURLY)
    once_in(run(other, "--store", url, name="two.toml"))
    assert sorted(listed(url)) == ["both", "first", "second"]
    # What one file no longer has is taken out; what the other has is not.
    text = toml("both", SAY, when=HOURLY)
    once_in(run(text, "--store", url, name="one.toml"))
    assert sorted(listed(url)) == ["both", "second"]
    (tmp_path / "two.toml").write_text(other + toml("both", 'command = "other"', when=HOURLY))
    done = command("two.toml", "--store", url, "--for", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert 'job "both": job store "default" has a job of this id' in done.stderr
    assert sorted(listed(url)) == ["both", "second"]


def test_the_store_that_the_file_names(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mine.sqlite'}"
    text = f'[tocsin.jobstores.default]\ntype = "sqlalchemy"\nurl = "{url}"\n' + toml(
        "job", SAY, when=HOURLY
    )
    once_in(run(text))
    assert list(listed(url)) == ["job"]
    assert not (tmp_path / "state").exists()
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    once_in(run(text, "--store", other))
    assert list(listed(other)) == ["job"]


def test_in_memory(run: Run, tmp_path: Path) -> None:
    text = toml("once", SAY, when='trigger = "date"\nrun_date = 2020-01-01T00:00:00Z\n')
    for _ in range(2):
        running = run(text, "--memory")
        running.wait("job_executed", "once")
        stop(running)
    assert not (tmp_path / "state").exists()


def test_a_file_of_very_many_jobs(run: Run, tmp_path: Path) -> None:
    """More than one record can hold the digests of."""
    long = "x" * 100
    path = tmp_path / "crontab"

    def text(count: int) -> str:
        return "".join(f"0 5 1 1 * echo {long} {number}\n" for number in range(count))

    once_in(run(text(3000), name="crontab"))
    assert sorted(kept(path)) == [
        f"tocsin run {path}",
        *(f"tocsin run {path} #{n}" for n in (2, 3)),
    ]
    before = listed(path)
    assert len(before) == 3000
    once_in(run(text(3000), name="crontab"))
    assert listed(path) == before
    once_in(run(text(10), name="crontab"))
    assert list(kept(path)) == [f"tocsin run {path}"]
    assert listed(path) == {job_id: before[job_id] for job_id in listed(path)}
    assert len(listed(path)) == 10


def test_only_its_owner_can_read_the_default_store(run: Run, tmp_path: Path) -> None:
    text = toml("job", SAY, when=HOURLY)
    once_in(run(text))
    (file,) = (tmp_path / "state" / "tocsin").glob("*.sqlite")
    assert file.name.startswith("schedule.toml-")
    assert (tmp_path / "state" / "tocsin").stat().st_mode & 0o077 == 0


def test_the_place_that_a_service_is_given(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'service'}:{tmp_path / 'more'}")
    text = toml("job", SAY, when=HOURLY)
    once_in(run(text))
    assert len(list((tmp_path / "service").glob("*.sqlite"))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--memory", "--store", "redis://localhost"), 2, "exclude each other"),
        (("--store", "nowhere"), 2, "'nowhere' is no URL such as sqlite:///"),
        (("--store", "sqlite:////no/such/folder/x.sqlite"), 1, "job store"),
        (("--store", "redis://:hush@127.0.0.1:1/0?socket_timeout=1"), 1, "job store"),
    ],
)
def test_a_store_that_is_not_to_be_had(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "a.toml").write_text(toml("job", SAY))
    done = command("a.toml", "--for", "0", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr


def test_arguments_that_no_record_holds_are_refused_with_the_job(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        '[tocsin.jobstores.default]\ntype = "sqlalchemy"\nurl = "sqlite:///x.sqlite"\n'
        'allowed_modules = "json"\n' + toml("job", 'func = "os:getcwd"')
    )
    done = command("a.toml", "--for", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert 'a.toml: job "job": func:' in done.stderr
    assert "allowed_modules" in done.stderr
