"""``tocsin store`` on real stores: what it shows, what it changes, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.addresses import KINDS

from tocsin.adapters.background import BackgroundScheduler
from tocsin.cli.addresses import make_store, read_address
from tocsin.cli.app import app
from tocsin.cli.place import url_of_file
from tocsin.clock import SystemClock

SOON = datetime(2031, 3, 30, 2, 30, tzinfo=timezone.utc)


def tocsin(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["store", *arguments])


def printed(*arguments: str) -> str:
    result = tocsin(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def loaded(*arguments: str) -> Any:
    return json.loads(printed(*arguments, "--json"))


def refused(code: int, *arguments: str) -> str:
    result = tocsin(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def add(url: str, *, now: bool = False, **options: Any) -> None:
    """Add jobs to a store: one of each status, and then some."""
    store = make_store(read_address(url), **options)
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start(paused=True)
    scheduler.add_job(
        "json:dumps", "interval", hours=1, args=["x"], id="hourly", next_run_time=SOON
    )
    scheduler.add_job("json:loads", "cron", hour=2, args=["1"], id="nightly", name="Night work")
    scheduler.add_job(
        "json:dumps", "interval", days=1, args=["y"], id="paused one", next_run_time=None
    )
    scheduler.shutdown()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with three jobs."""
    made = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    add(made)
    return made


def spoil(url: str, job_id: str, record: str) -> None:
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    with database:
        database.execute("UPDATE tocsin_jobs SET record = ? WHERE id = ?", (record, job_id))
    database.close()


def members(url: str) -> int:
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    ((count,),) = database.execute("SELECT count(*) FROM tocsin_jobs_members")
    database.close()
    return int(count)


# Every kind of store


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_each_kind(kind: str, request: pytest.FixtureRequest) -> None:
    """From before it is made to after its jobs are gone, by commands alone."""
    url = KINDS[kind](request)
    assert "tocsin store init" in refused(1, "list", url)
    assert loaded("init", url)["changed"] is True
    assert loaded("init", url)["changed"] is False
    assert loaded("upgrade", url)["changed"] is False
    assert loaded("list", url) == []
    add(url)
    assert [job["id"] for job in loaded("list", url)] == ["nightly", "hourly", "paused one"]
    shown = loaded("show", url, "hourly")
    assert shown["next_run_times"][:2] == [
        SOON.isoformat(),
        (SOON + timedelta(hours=1)).isoformat(),
    ]
    assert shown["record"]["func"] == "json:dumps"
    assert "hourly: paused" in printed("pause", url, "hourly")
    assert [job["id"] for job in loaded("list", url, "--status", "paused")] == [
        "hourly",
        "paused one",
    ]
    assert "paused one: runs next at " in printed("resume", url, "paused one")
    before = datetime.now(timezone.utc)
    assert "hourly: is due now" in printed("run-now", url, "hourly")
    first = loaded("list", url)[0]
    assert first["id"] == "hourly"
    due = datetime.fromisoformat(first["next_run_time"])
    assert before <= due <= datetime.now(timezone.utc)
    assert "hourly: removed" in printed("remove", url, "hourly", "nightly")
    assert [job["id"] for job in loaded("list", url)] == ["paused one"]
    assert "No job by the id of hourly" in refused(1, "remove", url, "hourly")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "etcd"])  # it has no clock
@pytest.mark.parametrize("skew", [-300, 300])
def test_the_clock_of_the_store_decides_what_is_now(
    kind: str, skew: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = KINDS[kind](request)
    printed("init", url)
    add(url)
    true = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda self: true(self) + skew * 1_000_000)
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    printed("run-now", url, "hourly", "nightly")
    printed("resume", url, "paused one")
    due = {job["id"]: datetime.fromisoformat(job["next_run_time"]) for job in loaded("list", url)}
    for job_id in ("hourly", "nightly"):
        assert before <= due[job_id] <= datetime.now(timezone.utc) + timedelta(seconds=5)
    assert due["paused one"] > before


# What is shown


def test_a_list_for_people(url: str) -> None:
    lines = printed("list", url).splitlines()
    assert lines[0].split() == ["ID", "NEXT", "RUN", "TRIGGER", "FUNCTION"]
    assert [line.split()[0] for line in lines[1:4]] == ["nightly", "hourly", "paused"]
    assert "2031-03-30T02:30:00+00:00" in lines[2]
    assert "interval[1:00:00]" in lines[2]
    assert lines[3].split()[2:4] == ["paused", "interval[1"]
    assert lines[-1] == "3 jobs"


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--status", "scheduled"), ["nightly", "hourly"]),
        (("--status", "broken"), []),
        (("--match", "Night"), ["nightly"]),
        (("--match", "json:dumps"), ["hourly", "paused one"]),
        (("--executor", "default"), ["nightly", "hourly", "paused one"]),
        (("--executor", "other"), []),
        (("--limit", "1"), ["nightly"]),
        (("--limit", "1", "--offset", "1"), ["hourly"]),
        (("--offset", "1"), ["hourly", "paused one"]),
        (("--limit", "0"), ["nightly", "hourly", "paused one"]),
    ],
)
def test_a_part_of_the_list(url: str, arguments: tuple[str, ...], ids: list[str]) -> None:
    assert [job["id"] for job in loaded("list", url, *arguments)] == ids


def test_a_page_says_that_it_is_one(url: str) -> None:
    assert printed("list", url, "--limit", "2").splitlines()[-1] == "1 to 2 of 3 jobs"


def test_a_job_for_people(url: str) -> None:
    text = printed("show", url, "nightly")
    assert "name           Night work\n" in text
    assert "function       json:loads\n" in text
    assert "trigger        at 2:00 every day, UTC\n" in text
    assert text.count("T02:00:00+00:00") == 5


def test_what_can_not_be_read_is_shown_as_such(url: str) -> None:
    spoil(url, "hourly", '{"version": 1, "id": "\x1b[31mred"')
    *_, broken = loaded("list", url)
    assert (broken["id"], broken["status"]) == ("hourly", "broken")
    assert "the record is no JSON" in broken["reason"]
    assert [job["id"] for job in loaded("list", url, "--status", "broken")] == ["hourly"]
    assert "can't be read: the record is no JSON" in printed("list", url)
    result = tocsin("show", url, "hourly")
    assert result.exit_code == 1
    assert "\\x1b[31mred" in result.stdout
    assert "\x1b" not in result.stdout
    result = tocsin("show", url, "hourly", "--json")
    assert json.loads(result.stdout)["stored"].endswith('[31mred"')
    # It can be taken out, but nothing else; and what goes with it is done.
    for name in ("pause", "run-now"):
        result = tocsin(name, url, "hourly", "nightly")
        assert result.exit_code == 1
        assert "hourly: the record is no JSON" in result.stderr
        assert "nightly: " in result.stdout
    assert "hourly: removed" in printed("remove", url, "hourly")


def test_a_job_that_was_set_aside(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    add(url)
    spoil(url, "nightly", json.dumps({**loaded("show", url, "nightly")["record"], "failure": "why"}
          | {"next_run": 0}).replace(', "next_run": 0', ""))  # fmt: skip
    assert loaded("list", url, "--status", "broken")[0]["reason"] == "why"
    assert "broken: why" in printed("show", url, "nightly")
    printed("pause", url, "nightly")
    printed("resume", url, "nightly")
    assert loaded("show", url, "nightly")["status"] == "scheduled"


def test_resume_has_nothing_to_do_or_no_time_left(url: str) -> None:
    store = make_store(read_address(url))
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start(paused=True)
    scheduler.add_job(
        "json:dumps", "interval", hours=1, args=[1], id="over", start_date="2020-01-01",
        end_date="2020-01-02", next_run_time=None,
    )  # fmt: skip
    scheduler.shutdown()
    assert "hourly: is not paused; it runs next at 2031-03-30T" in printed("resume", url, "hourly")
    assert "over: its schedule has ended" in refused(1, "resume", url, "over")
    assert loaded("show", url, "over")["status"] == "paused"


def test_changes_as_json(url: str) -> None:
    result = tocsin("pause", url, "hourly", "none", "--json")
    assert result.exit_code == 1
    done, failed = json.loads(result.stdout)
    assert done == {"id": "hourly", "ok": True, "result": "paused"}
    assert (failed["id"], failed["ok"]) == ("none", False)


# What it leaves alone


def test_it_never_becomes_one_of_those_that_run_jobs(url: str) -> None:
    for arguments in (
        ("list", url), ("show", url, "hourly"), ("run-now", url, "hourly"),
        ("pause", url, "hourly"), ("resume", url, "hourly"), ("remove", url, "hourly"),
    ):  # fmt: skip
        printed(*arguments)
        assert members(url) == 0


def test_it_imports_nothing_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "watched.py").write_text("def work():\n    pass\n")
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    scheduler = BackgroundScheduler(
        timezone="UTC", jobstores={"default": make_store(read_address(url))}
    )
    scheduler.start(paused=True)
    scheduler.add_job("watched:work", "interval", hours=1, id="job")
    scheduler.shutdown()
    del sys.modules["watched"]
    (tmp_path / "watched.py").write_text("raise AssertionError('imported')\n")
    for name in ("show", "pause", "resume", "run-now"):
        printed(name, url, "job")
    new = f"sqlite:///{tmp_path / 'new.sqlite'}"
    printed("migrate", url, new, "--from", "tocsin")
    assert loaded("list", new)[0]["func"] == "watched:work"
    assert "watched" not in sys.modules


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    assert "there is no file" in refused(1, "list", f"sqlite:///{path}")
    assert "there is no file" in refused(1, "remove", f"sqlite:///{path}", "job")
    assert not path.exists()


# Where the store is


def test_a_url_from_the_environment_or_a_file(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE", url)
    (tmp_path / "url").write_text(f"{url}\n")
    for where in ("env:STORE", f"file:{tmp_path / 'url'}"):
        assert len(loaded("list", where)) == 3
    assert "'NONE' is not set" in refused(2, "list", "env:NONE")
    assert "can't be read: No such file" in refused(2, "list", f"file:{tmp_path / 'none'}")


def test_a_file_that_is_run_stands_for_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "tocsin").mkdir()
    schedule = tmp_path / "a schedule?.toml"
    schedule.write_text("")
    assert "there is no file" in refused(1, "list", str(schedule))
    add(url_of_file(schedule))
    assert len(loaded("list", str(schedule))) == 3


def test_options_in_the_url_and_beside_it(url: str) -> None:
    add(f"{url}?tablename=other")
    printed("remove", url, "hourly")
    assert len(loaded("list", url)) == 2
    assert len(loaded("list", f"{url}?tablename=other")) == 3
    assert len(loaded("list", url, "--option", "tablename=other")) == 3
    assert 'tablenam: unknown (did you mean "tablename"?)' in refused(
        1, "list", url, "-o", "tablenam=x"
    )
    assert "write name=value" in refused(2, "list", url, "-o", "tablename")


PASSWORDS = [
    "postgresql+psycopg://me:hu%40sh@127.0.0.1:1/db?connect_timeout=2",
    "mysql+pymysql://me:hu%40sh@127.0.0.1:1/db?connect_timeout=2",
    "redis://me:hu%40sh@127.0.0.1:1/0?socket_connect_timeout=1",
    "redis://127.0.0.1:1/0?password=hu%40sh&socket_connect_timeout=1",
    "mongodb://me:hu%40sh@127.0.0.1:1/db?serverSelectionTimeoutMS=500",
]


@pytest.mark.parametrize("address", PASSWORDS)
def test_passwords_are_not_shown(address: str) -> None:
    commands = [("list", address), ("migrate", address, address)]
    for arguments in commands if address.startswith("redis") else commands[:1]:
        result = tocsin(*arguments)
        assert result.exit_code == 1, result.output
        assert "Error: " in result.stderr
        assert "***" in result.stderr
        for secret in ("hu%40sh", "hu@sh"):
            assert secret not in result.output
            assert secret not in repr(result.exception)


def test_an_option_that_is_a_secret(url: str) -> None:
    result = tocsin("list", url, "--option", "password=hush")
    assert result.exit_code == 1
    assert "hush" not in result.output
    assert "password" in result.stderr


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nowhere", "'nowhere' is no URL such as sqlite:///jobs.sqlite"),
        ("nosuch://host/db", "nosuch"),
        ("", "is no URL"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, words: str) -> None:
    result = tocsin("list", address)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_how_urls_become_options(tmp_path: Path) -> None:
    def names(kind: str) -> tuple[str, ...]:
        return ("tablename", "path", "collection", "database", "table", "shards")

    def read(text: str) -> tuple[str, dict[str, Any], str]:
        address = read_address(text, (), names)
        return address.kind, dict(address.options), address.shown

    assert read("sqlite:////tmp/a.db?tablename=x&timeout=3") == (
        "sqlalchemy",
        {"url": "sqlite:////tmp/a.db?timeout=3", "tablename": "x"},
        "sqlite:////tmp/a.db?tablename=x&timeout=3",
    )
    assert read("mongodb+srv://u:p@h/db?replicaSet=r&collection=c") == (
        "mongodb",
        {"host": "mongodb+srv://u:p@h/db?replicaSet=r", "database": "db", "collection": "c"},
        "mongodb+srv://u:***@h/db?replicaSet=r&collection=c",
    )
    assert read("rethinkdb://u:p%20q@h:28015/db?table=t")[:2] == (
        "rethinkdb",
        {
            "host": "h",
            "port": 28015,
            "user": "u",
            "password": "p q",
            "database": "db",
            "table": "t",
        },
    )
    assert read("zookeeper://u:p@a:1,b:2/x/y?shards=8") == (
        "zookeeper",
        {"hosts": "a:1,b:2", "auth_data": [("digest", "u:p")], "path": "/x/y", "shards": "8"},
        "zookeeper://u:***@a:1,b:2/x/y?shards=8",
    )
    assert read("etcds://h:2379/x")[:2] == (
        "etcd",
        {"host": "h", "port": 2379, "protocol": "https", "path": "/x"},
    )


@pytest.mark.parametrize("scheme", ["mongodb", "redis", "etcd", "zookeeper", "postgresql+psycopg"])
@pytest.mark.parametrize("password", ["xyzzy/plugh", "xyzzy?plugh", "xyzzy#plugh", "/plugh"])
def test_a_password_that_ends_early_is_refused_and_not_shown(scheme: str, password: str) -> None:
    result = tocsin("list", f"{scheme}://user:{password}@localhost/1")
    assert result.exit_code == 2
    words = " ".join(result.stderr.replace("│", " ").split())
    assert "the password in the URL ends early" in words
    assert "plugh" not in result.output
    assert "xyzzy" not in result.output


@pytest.mark.parametrize(
    "address",
    [
        "zookeeper://h:2181,i/a@b",
        "etcd://[::1]/a@b",
        "etcd://h/a:b@c",
        "sqlite:////home/a@b.c/d:e.sqlite",
        "mongodb://u:p%2Fq@h:1/db",
        "mongodb://u:p@h/db?appname=a@b",
    ],
)
def test_addresses_with_an_at_sign_elsewhere(address: str) -> None:
    assert read_address(address).shown == address.replace(":p%2Fq@", ":***@").replace(
        ":p@", ":***@"
    )


@pytest.mark.parametrize("arguments", [("list",), ("pause", "sqlite:///x"), ("nosuch",), ()])
def test_wrong_command_line(arguments: tuple[str, ...]) -> None:
    assert refused(2, *arguments)
