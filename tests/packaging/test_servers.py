"""The servers of the tests: they answer, keep their data, and outlive nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import redis
import sqlalchemy
from etcd3gw.client import Etcd3Client
from kazoo.client import KazooClient
from redis.backoff import NoBackoff
from redis.retry import Retry
from support import servers
from support.programs import ROOT, printed

pytestmark = pytest.mark.packaging

Start = Callable[..., Any]


def ask_sql(url: str, write: bool) -> Any:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        if write:
            connection.execute(sqlalchemy.text("CREATE TABLE kept (value INT)"))
            connection.execute(sqlalchemy.text("INSERT INTO kept VALUES (42)"))
        value = connection.scalar(sqlalchemy.text("SELECT value FROM kept"))
    engine.dispose()
    return value


def ask_redis(url: str, write: bool) -> Any:
    with redis.Redis.from_url(url) as client:
        if write:
            client.set("kept", 42)
        return int(client.get("kept") or 0)


def ask_zookeeper(url: str, write: bool) -> Any:
    client = KazooClient(url)
    client.start(timeout=30)
    if write:
        client.create("/kept", b"42")
    value = int(client.get("/kept")[0])
    client.stop()
    client.close()
    return value


def ask_etcd(url: str, write: bool) -> Any:
    host, port = url.removeprefix("http://").split(":")
    client = Etcd3Client(host, int(port))
    if write:
        client.put("kept", "42")
    (value,) = client.get("kept")
    client.session.close()
    return int(value)


def ask_mongodb(url: str, write: bool) -> Any:
    with pymongo.MongoClient[Any](url) as client:
        if write:
            client.tests.kept.insert_one({"value": 42})
        (found,) = client.tests.kept.find()
        return found["value"]


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        (servers.PostgreSQL, ask_sql),
        (servers.MariaDB, ask_sql),
        (servers.Redis, ask_redis),
        (servers.ZooKeeper, ask_zookeeper),
        (servers.Etcd, ask_etcd),
        (servers.SecantusDB, ask_mongodb),
        (servers.NX27017, ask_mongodb),
    ],
    ids=lambda value: value.__name__,
)
def test_data_survive_the_server(kind: Any, ask: Any, start_server: Start) -> None:
    server = start_server(kind, durable=True)
    url = server.url
    assert ask(url, write=True) == 42
    for end in (server.kill, server.stop):
        end()
        assert not server.is_running()
        with pytest.raises(OSError):  # at once: nobody else listens there
            socket.create_connection((servers.HOST, server.port), timeout=5)
        server.start()
        assert server.url == url
        assert ask(url, write=False) == 42


def test_a_paused_server_is_silent(start_server: Start) -> None:
    server = start_server(servers.PostgreSQL)
    engine = sqlalchemy.create_engine(server.url)
    with engine.connect() as connection:
        (backend,) = connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).one()
        server.pause()
        try:
            states = {psutil.Process(pid).status() for pid in (server.pid, backend)}
        finally:
            server.resume()
        assert states == {psutil.STATUS_STOPPED}
        assert connection.scalar(sqlalchemy.text("SELECT 42")) == 42
    engine.dispose()


def test_an_ensemble_elects_another_leader(start_server: Start) -> None:
    ensemble = start_server(servers.ZooKeeperEnsemble)
    assert ask_zookeeper(ensemble.url, write=True) == 42
    old = ensemble.leader()
    old.kill()
    new = ensemble.leader()
    assert new is not old
    assert ask_zookeeper(ensemble.url, write=False) == 42
    ensemble.start()
    assert old.mode() == "follower"


def test_a_proxy_holds_cuts_and_resumes(start_server: Start) -> None:
    server = start_server(servers.Redis)
    once = Retry(NoBackoff(), 0)
    with (
        servers.Proxy(server.port) as proxy,
        redis.Redis(port=proxy.port, socket_timeout=0.2, retry=once) as client,
    ):
        assert client.set("kept", 42)
        proxy.hold()
        with pytest.raises(redis.TimeoutError):
            client.get("kept")
        with socket.create_connection((servers.HOST, proxy.port), timeout=30) as late:
            late.sendall(b"PING\r\n")
            proxy.resume()
            assert late.recv(100) == b"+PONG\r\n"
            assert client.get("kept") == b"42"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                late.recv(100)
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.get("kept")
        proxy.resume()
        assert client.get("kept") == b"42"


OWNER = """
from pathlib import Path
import sys
from support.servers import PostgreSQL
server = PostgreSQL(Path(sys.argv[1])).start()
server.pause()
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_ends_with_its_owner(tmp_path: Path) -> None:
    """Even when it is paused, and its owner has been killed."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    ) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        processes = [server, *server.children(), server.parent()]
        assert len(processes) > 4
        owner.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive
    assert not (tmp_path / "data").exists()


def test_workers_share_a_server_that_ends_with_the_run(tmp_path: Path) -> None:
    test = tmp_path / "test_shared.py"
    test.write_text(
        textwrap.dedent("""
        from pathlib import Path

        def test(redis_server, worker_id):
            (Path(__file__).parent / worker_id).write_text(redis_server.url)
        """)
    )
    printed(
        *(sys.executable, "-m", "pytest", "-q", "-p", "conftest", "--rootdir", tmp_path),
        *("--basetemp", tmp_path / "run", "--dist", "each", "--tx", "2*popen", test),
        env={"PYTHONPATH": str(ROOT / "tests")},
        cwd=tmp_path,
        patience=280,
    )
    (address,) = {(tmp_path / worker).read_text() for worker in ("gw0", "gw1")}
    data = tmp_path / "run" / "servers" / "Redis" / "data"
    deadline = time.monotonic() + 60
    while data.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not data.exists()
    with pytest.raises(redis.ConnectionError, match="refused"):
        redis.Redis.from_url(address).ping()


class Unknown(servers.Redis):
    programs = ("redis-server", "no-such-program")


def test_a_missing_server_skips_the_test_but_not_in_ci(
    start_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = (
        r"there is no no-such-program; run `make services`, or install .* packages redis-server"
    )
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("TOCSIN_REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=message):
        start_server(Unknown)
    for variable in ("CI", "TOCSIN_REQUIRE_SERVERS"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            with pytest.raises(pytest.fail.Exception, match=message):
                start_server(Unknown)
