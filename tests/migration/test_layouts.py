"""The stores of APScheduler 3, filled by APScheduler itself, and ``tocsin store migrate``."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.jobstores.rethinkdb import RethinkDBJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from click.testing import CliRunner, Result
from rethinkdb import RethinkDB
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from support import reql

from tocsin.cli.app import app
from tocsin.cli.store import _old_address
from tocsin.migration.layouts import open_layout

FIRST = datetime(2031, 3, 30, 2, 30, tzinfo=timezone.utc)


@dataclass
class Old:
    """A store of APScheduler's: its address for the command, and how its jobs get there."""

    url: str
    store: Callable[[], Any]
    #: The address of a place of the same kind where there is nothing.
    elsewhere: str

    def fill(self, count: int = 3) -> None:
        """Add jobs, and two that are not so plain."""
        scheduler = BackgroundScheduler(
            timezone="Europe/Berlin", jobstores={"default": self.store()}
        )
        scheduler.start(paused=True)
        for number in range(count):
            scheduler.add_job(
                "json:dumps",
                "interval",
                hours=1,
                args=[number],
                id=f"job {number}",
                next_run_time=FIRST,
            )
        scheduler.add_job(
            "json:dumps", "cron", hour=2, args=[0], id="grüße, 100 %", next_run_time=None
        )
        scheduler.add_job("json:dumps", "date", run_date=FIRST, args=[Unknown()], id="odd")
        scheduler.shutdown()

    def rows(self) -> dict[str, bytes]:
        address = _old_address(self.url, ())
        with open_layout(address.kind, address.options) as (count, rows):
            found = dict(rows)
        assert len(found) == count
        return found


class Unknown:
    """What migration does not look up."""


def sql_store(url: str, **options: Any) -> Any:
    """Make a store that leaves no connection open, as APScheduler's own pool does."""
    return SQLAlchemyJobStore(url, engine_options={"poolclass": NullPool}, **options)


def _sqlite(request: pytest.FixtureRequest) -> Old:
    url = f"sqlite:///{request.getfixturevalue('tmp_path') / 'old.sqlite'}"
    return Old(url, lambda: sql_store(url), f"{url}?tablename=nothing")


def _sql(request: pytest.FixtureRequest, server: str) -> Old:
    url = request.getfixturevalue(server).url
    table = f"old_{uuid4().hex}"
    mark = "&" if "?" in url else "?"
    return Old(
        f"{url}{mark}tablename={table}",
        lambda: sql_store(url, tablename=table),
        f"{url}{mark}tablename=nothing",
    )


def _redis(request: pytest.FixtureRequest) -> Old:
    server = request.getfixturevalue("redis_server")
    key = f"old {uuid4().hex}"
    return Old(
        f"{server.url}?jobs_key={key}&run_times_key={key}.times",
        lambda: RedisJobStore(port=server.port, jobs_key=key, run_times_key=f"{key}.times"),
        server.url + "?jobs_key=nothing",
    )


def _mongodb(request: pytest.FixtureRequest) -> Old:
    url = request.getfixturevalue("mongodb").url
    name = f"old_{uuid4().hex}"
    return Old(
        f"{url}{name}?collection=them",
        lambda: MongoDBJobStore(database=name, collection="them", host=url),
        f"{url}{name}?collection=nothing",
    )


def _zookeeper(request: pytest.FixtureRequest) -> Old:
    hosts = request.getfixturevalue("zookeeper").url
    path = f"/old/{uuid4().hex}"
    return Old(
        f"zookeeper://{hosts}{path}",
        lambda: ZooKeeperJobStore(path=path, hosts=hosts, close_connection_on_exit=True),
        f"zookeeper://{hosts}/nothing",
    )


class _EtcdJobStore(MemoryJobStore):  # type: ignore[misc]
    """Write what APScheduler's store writes, whose own client is not to be had any more."""

    def __init__(self, path: str, client: Any) -> None:
        super().__init__()
        self.path = path
        self.etcd = client

    def add_job(self, job: Any) -> None:
        super().add_job(job)
        due = job.next_run_time
        value = {
            "next_run_time": None if due is None else due.timestamp(),
            "job_state": job.__getstate__(),
        }
        self.etcd.put(
            f"{self.path}/{job.id}".encode(), pickle.dumps(value, pickle.DEFAULT_PROTOCOL)
        )


def _etcd(request: pytest.FixtureRequest) -> Old:
    import etcd3gw

    address = request.getfixturevalue("etcd").address
    host, _, port = address.partition(":")
    path = f"/old/{uuid4().hex}"
    client = etcd3gw.client(host=host, port=int(port))
    client.put(f"{path}_other/job", b"of somebody else")
    return Old(
        f"etcd://{address}{path}",
        lambda: _EtcdJobStore(path, client),
        f"etcd://{address}/nothing",
    )


def _rethinkdb(request: pytest.FixtureRequest) -> Old:
    url = os.environ["RETHINKDB_URL"]
    host, _, port = url.partition("://")[2].strip("/").partition(":")
    name = f"old_{uuid4().hex}"
    return Old(
        f"rethinkdb://{host}:{port or 28015}/{name}?table=them",
        lambda: RethinkDBJobStore(database=name, table="them", host=host, port=int(port or 28015)),
        f"rethinkdb://{host}:{port or 28015}/nothing",
    )


KINDS: dict[str, Callable[[pytest.FixtureRequest], Old]] = {
    "sqlite": _sqlite,
    "postgresql": lambda request: _sql(request, "postgresql"),
    "mariadb": lambda request: _sql(request, "mariadb"),
    "redis": _redis,
    "mongodb": _mongodb,
    "zookeeper": _zookeeper,
    "etcd": _etcd,
}
if "RETHINKDB_URL" in os.environ:  # no registry has a server
    KINDS["rethinkdb"] = _rethinkdb


@pytest.fixture(params=KINDS)
def old(request: pytest.FixtureRequest) -> Old:
    return KINDS[request.param](request)


@pytest.fixture
def new(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new.sqlite'}"


def tocsin(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["store", *arguments])


def migrated(code: int, *arguments: str) -> Any:
    result = tocsin("migrate", *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def jobs_of(url: str) -> dict[str, Any]:
    result = tocsin("list", url, "--json", "--limit", "0")
    assert result.exit_code == 0, result.output
    return {job["id"]: job for job in json.loads(result.stdout)}


def test_all_is_moved_and_nothing_changed(old: Old, new: str) -> None:
    old.fill()
    before = old.rows()
    assert len(before) == 5
    result = migrated(1, old.url, new)
    assert (result["written"], result["there_already"]) == (4, 0)
    ((odd),) = result["left"]
    assert odd["id"] == "odd"
    assert f"{__name__}:Unknown is not looked up" in odd["reason"].replace(" makes", "")
    assert old.rows() == before
    jobs = jobs_of(new)
    assert sorted(jobs) == ["grüße, 100 %", "job 0", "job 1", "job 2"]
    for number in range(3):
        job = jobs[f"job {number}"]
        assert datetime.fromisoformat(job["next_run_time"]) == FIRST
        assert (job["func"], job["trigger"]) == ("json:dumps", "interval[1:00:00]")
    assert jobs["grüße, 100 %"]["status"] == "paused"
    again = migrated(1, old.url, new)
    assert (again["written"], again["there_already"], again["left"]) == (0, 4, result["left"])
    assert jobs_of(new) == jobs


def test_where_there_is_nothing(old: Old, new: str) -> None:
    old.fill(0)
    result = tocsin("migrate", old.elsewhere, new)
    assert result.exit_code == 1
    assert "nothing of APScheduler's is there" in result.stderr
    assert not Path(new.removeprefix("sqlite:///")).exists()


def fill_much(path: Path, count: int) -> None:
    """Fill a file with so many jobs at once, four of them by APScheduler."""
    Old("", lambda: sql_store(f"sqlite:///{path}"), "").fill()
    database = sqlite3.connect(path)
    with database:
        ((state,),) = database.execute("SELECT job_state FROM apscheduler_jobs WHERE id = 'job 0'")
        rows = [
            (f"more {number}", 0.0, pickle.dumps({**pickle.loads(state), "id": f"more {number}"}))
            for number in range(count - 4)
        ]
        database.executemany("INSERT INTO apscheduler_jobs VALUES (?, ?, ?)", rows)
    database.close()


def test_more_than_one_page(tmp_path: Path, new: str) -> None:
    fill_much(tmp_path / "old.sqlite", 1204)
    assert migrated(1, f"sqlite:///{tmp_path / 'old.sqlite'}", new)["written"] == 1204
    assert len(jobs_of(new)) == 1204


@pytest.mark.parametrize("kind", ["redis", "zookeeper"])
def test_more_than_one_page_of_a_server(kind: str, request: pytest.FixtureRequest) -> None:
    old = KINDS[kind](request)
    old.fill(600)
    assert set(old.rows()) == {*(f"job {n}" for n in range(600)), "grüße, 100 %", "odd"}


def test_what_there_is_instead_is_listed(tmp_path: Path, new: str) -> None:
    database = sqlite3.connect(tmp_path / "old.sqlite")
    with database:
        for number in range(12):
            database.execute(f"CREATE TABLE t{number:02} (id TEXT)")
    database.close()
    result = tocsin("migrate", f"sqlite:///{tmp_path / 'old.sqlite'}", new)
    assert result.exit_code == 1
    names = ", ".join(f"t{number:02}" for number in range(10))
    assert f"can be given as tablename; there are: {names}. A store" in result.stderr


def test_a_key_of_another_kind(redis_server: Any, new: str) -> None:
    key = f"old {uuid4().hex}"
    client = redis.Redis(port=redis_server.port)
    client.set(key, b"a text")
    client.close()
    result = tocsin("migrate", f"{redis_server.url}?jobs_key={key}", new)
    assert result.exit_code == 1
    assert f"it has no hash {key!r}; another can be given as jobs_key" in result.stderr


def test_a_table_in_a_schema(postgresql: Any) -> None:
    schema, table = f"schema_{uuid4().hex}", f"old_{uuid4().hex}"
    engine = create_engine(postgresql.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    where = {"tablename": table, "tableschema": schema}
    Old("", lambda: sql_store(postgresql.url, **where), "").fill()
    with open_layout("sqlalchemy", {"url": postgresql.url, **where}) as (count, rows):
        assert count == len(dict(rows)) == 5
    with (
        pytest.raises(LookupError, match=f"it has no table '{table}'"),
        open_layout("sqlalchemy", {"url": postgresql.url, "tablename": table}),
    ):
        pass


@pytest.mark.parametrize(
    ("kind", "module", "options"),
    [
        ("sqlalchemy", "sqlalchemy", {"url": "sqlite://"}),
        ("redis", "redis", {"url": "redis://nowhere"}),
        ("mongodb", "pymongo", {"host": "nowhere"}),
        ("rethinkdb", "rethinkdb", {}),
        ("zookeeper", "kazoo.client", {}),
        ("etcd", "etcd3gw", {}),
    ],
)
def test_a_driver_that_is_not_installed(
    kind: str, module: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    name = module.partition(".")[0]
    words = rf"^this needs {name}, which can't be imported .*: pip install tocsin\[{kind}\]$"
    with pytest.raises(ImportError, match=words), open_layout(kind, options):
        pass


class Rethought(reql.Interpreter):
    """What a connection to a server of RethinkDB is, with what APScheduler keeps there."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0
        self.databases = {"theirs": {"jobs": reql.Table(), "none": reql.Table()}}
        self.databases["theirs"]["jobs"].rows = {
            f"job {n}": {"id": f"job {n}", "next_run_time": n, "job_state": b"%d" % n}
            for n in range(3)
        }
        self.databases["theirs"]["jobs"].rows["odd"] = {"id": "odd"}

    def close(self) -> None:
        self.closed += 1


def test_rethinkdb_as_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Rethought()
    asked: list[dict[str, Any]] = []

    def connect(_: Any, **options: Any) -> Rethought:
        asked.append(options)
        return server

    monkeypatch.setattr(RethinkDB, "connect", connect)
    address = _old_address("rethinkdb://me:secret@db:1234/theirs?table=jobs", ())
    with open_layout(address.kind, address.options) as (count, rows):
        assert count == 4
        assert dict(rows) == {"job 0": b"0", "job 1": b"1", "job 2": b"2", "odd": None}
        assert server.closed == 0
    assert server.closed == 1
    (options,) = asked
    given = {"db": "theirs", "host": "db", "port": 1234, "user": "me", "password": "secret"}
    assert given.items() <= options.items()
    for where, words in (
        ({"database": "mine"}, "no database 'mine'; another can be given as database; .*: theirs"),
        ({"database": "theirs", "table": "x"}, "no table 'x'; .* table; there are: jobs, none"),
    ):
        with pytest.raises(LookupError, match=words), open_layout("rethinkdb", where):
            pass
    assert server.closed == 3


def test_into_the_same_file(tmp_path: Path) -> None:
    fill_much(tmp_path / "jobs.sqlite", 701)
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    assert migrated(1, url, url)["written"] == 701
    assert len(jobs_of(url)) == 701


def test_a_dry_run_writes_nothing(tmp_path: Path, new: str) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    Old(url, lambda: sql_store(url), "").fill()
    digest = sha256((tmp_path / "old.sqlite").read_bytes()).digest()
    result = migrated(1, url, new, "--dry-run")
    assert (result["written"], len(result["left"])) == (4, 1)
    assert not Path(new.removeprefix("sqlite:///")).exists()
    migrated(1, url, new)
    assert sha256((tmp_path / "old.sqlite").read_bytes()).digest() == digest


def test_what_the_new_store_has_already(tmp_path: Path, new: str) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    Old(url, lambda: sql_store(url), "").fill()
    migrated(1, url, new)
    # One has run meanwhile, one is another by now, one is gone.
    assert tocsin("run-now", new, "job 0").exit_code == 0
    assert tocsin("remove", new, "job 2").exit_code == 0
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    Old(other, lambda: sql_store(other), "").fill(0)
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": sql_store(other)})
    scheduler.start(paused=True)
    scheduler.remove_job("odd")
    scheduler.add_job("json:loads", "cron", hour=5, args=["1"], id="job 1")
    scheduler.shutdown()
    assert migrated(0, other, new, "--replace")["written"] == 2
    before = jobs_of(new)
    result = migrated(1, url, new)
    assert (result["written"], result["there_already"]) == (1, 2)
    assert [each["id"] for each in result["left"]] == ["odd", "job 1"]
    assert "has another one of this id" in result["left"][1]["reason"]
    after = jobs_of(new)
    assert after.pop("job 2")["status"] == "scheduled"
    assert after == before
    assert migrated(1, url, new, "--replace")["written"] == 4
    assert jobs_of(new)["job 1"]["func"] == "json:dumps"


def test_pickled_where_a_key_is_given(
    tmp_path: Path, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": sql_store(url)})
    scheduler.start(paused=True)
    scheduler.add_job("json:dumps", "cron", hour=5, args=[1 + 2j], id="complex")
    scheduler.shutdown()
    (left,) = migrated(1, url, new)["left"]
    assert "args[0]" in left["reason"]
    assert "pickle_key" in left["reason"]
    monkeypatch.setenv("KEY", "0123456789abcdef")
    option = ("--new-option", "pickle_key=env:KEY")
    assert migrated(0, url, new, *option)["written"] == 1
    assert jobs_of(f"{new}?pickle_key=env:KEY")["complex"]["status"] == "scheduled"
    assert jobs_of(new)["complex"]["status"] == "broken"


def test_from_another_store_of_tocsins(tmp_path: Path, new: str) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    Old(url, lambda: sql_store(url), "").fill()
    migrated(1, url, new)
    third = f"sqlite:///{tmp_path / 'third.sqlite'}?tablename=theirs"
    assert migrated(0, new, third, "--from", "tocsin")["written"] == 4
    assert jobs_of(third) == jobs_of(new)
    result = tocsin("migrate", new, third)
    assert result.exit_code == 1
    assert "no table 'apscheduler_jobs'" in result.stderr
    assert "--from tocsin" in result.stderr


def test_a_table_of_another_form(new: str) -> None:
    result = tocsin("migrate", new, new, "--old-option", "tablename=tocsin_jobs")
    assert result.exit_code == 1
    assert "there is no file" in result.stderr
    assert tocsin("init", new).exit_code == 0
    result = tocsin("migrate", new, new, "--old-option", "tablename=tocsin_jobs")
    assert result.exit_code == 1
    assert "none of APScheduler's: it lacks the columns" in result.stderr
    result = tocsin("migrate", new, new, "--old-option", "tablenam=x")
    assert result.exit_code == 1
    assert 'tablenam: unknown (did you mean "tablename"?)' in result.stderr


def test_a_migration_that_was_killed_is_finished_by_the_next(tmp_path: Path, new: str) -> None:
    fill_much(tmp_path / "old.sqlite", 4000)
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    command = Path(sysconfig.get_path("scripts")) / "tocsin"
    process = subprocess.Popen([command, "store", "migrate", url, new], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (before := count_of(new)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert 0 < before <= count_of(new) < 4000
    result = migrated(1, url, new)
    assert result["written"] + result["there_already"] == 4000
    assert result["there_already"] >= before
    assert len(jobs_of(new)) == 4000


def count_of(url: str) -> int:
    """Count the jobs that a file of SQLite has, from outside."""
    path = url.removeprefix("sqlite:///")
    if not os.path.exists(path):
        return 0
    database = sqlite3.connect(path)
    try:
        ((count,),) = database.execute("SELECT count(*) FROM tocsin_jobs")
    except sqlite3.OperationalError:  # its table is not there as yet
        return 0
    finally:
        database.close()
    return int(count)


def test_a_store_that_is_opened_on_what_is_apschedulers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    Old(url, lambda: sql_store(url), "").fill()
    result = tocsin("init", url, "--option", "tablename=apscheduler_jobs")
    assert result.exit_code == 1
    assert "tocsin store migrate" in result.stderr


def test_hostile_rows_are_told_and_the_others_moved(tmp_path: Path, new: str) -> None:
    mark = tmp_path / "mark"

    class Harm:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark}",)

    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    Old(url, lambda: sql_store(url), "").fill()
    database = sqlite3.connect(tmp_path / "old.sqlite")
    with database:
        for job_id, state in [("a", pickle.dumps(Harm())), ("b", b"\x80"), ("\x1b[31m", b"")]:
            database.execute("INSERT INTO apscheduler_jobs VALUES (?, NULL, ?)", (job_id, state))
    database.close()
    result = tocsin("migrate", url, new)
    assert result.exit_code == 1
    assert "4 jobs written, 0 were there already, 4 can't be moved" in result.stdout
    assert "\x1b" not in result.stdout
    assert not mark.exists()
    assert len(jobs_of(new)) == 4
