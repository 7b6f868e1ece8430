"""The job store of Redis, on real servers."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis, RedisCluster, exceptions
from support import servers
from support.rowstores import RowStoreCases, Ticking, claim, ids, job, started
from support.schedulers import PATIENCE

from tocsin import plugins
from tocsin.errors import ConflictingIdError
from tocsin.stores.redis import RedisJobStore
from tocsin.testing import FakeScheduler, JobStoreCompliance, SharedStoreCompliance

Make = Callable[..., RedisJobStore]
_SECOND = 1_000_000
_KEYS = ["", ":again", ":members", ":meta", ":run_times", ":runs", ":state"]


class TestRedisJobStore(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, redis_server: servers.Redis, request: pytest.FixtureRequest) -> None:
        self.url = redis_server.url
        self.key = f"compliance.{request.node.name}"

    def make_store(self) -> RedisJobStore:
        return RedisJobStore(url=self.url, jobs_key=self.key, clock="scheduler")


class TestRedisJobStoreShared(SharedStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, redis_server: servers.Redis, request: pytest.FixtureRequest) -> None:
        self.url = redis_server.url
        self.key = f"shared.{request.node.name}"

    def make_store(self, **options: Any) -> RedisJobStore:
        return RedisJobStore(url=self.url, jobs_key=self.key, **options)

    def write_record(self, job_id: str, text: str) -> None:
        with Redis.from_url(self.url) as client:
            client.hset(self.key, job_id, text)


@pytest.fixture
def make() -> Iterator[Make]:
    """Make stores, started by a scheduler on a fake clock."""
    with started() as start:

        def open_store(
            server: servers.Redis | None, kind: type[RedisJobStore] = RedisJobStore, **options: Any
        ) -> Any:
            if server is not None:
                options["url"] = server.url
            return start(kind(**options))

        yield open_store


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """Give a key that no other test uses on the server that they share."""
    return f"only.{request.node.name}"


# Names and options


def test_the_keys_are_named_after_the_key_of_the_jobs(
    redis_server: servers.Redis, make: Make, key: str
) -> None:
    store = make(redis_server, jobs_key=key)
    store.add_jobs([job("one", at_least_once=True)], False)
    store.recover(0)
    (claimed,) = claim(store)
    assert store.advance([(claimed, 0, 1)]) == [True]
    with Redis.from_url(redis_server.url, decode_responses=True) as client:
        found = sorted(client.scan_iter(f"*{key}*"))
        assert found == sorted([key, *(f"{{{key}}}{each}" for each in _KEYS if each)])
        assert json.loads(client.hget(key, "one") or "")["args"] == ["one"]
        assert client.zrange(f"{{{key}}}:run_times", 0, -1, withscores=True) == [("one", 1.0)]


def test_the_keys_of_a_tag_share_it(redis_server: servers.Redis, make: Make, key: str) -> None:
    tagged = f"{{{key}}}.jobs"
    store = make(redis_server, jobs_key=tagged)
    store.add_jobs([job("one")], False)
    with Redis.from_url(redis_server.url, decode_responses=True) as client:
        assert set(client.scan_iter(f"{{{key}}}*")) == {
            tagged,
            *(f"{tagged}{each}" for each in (":members", ":meta", ":run_times", ":state")),
        } - {f"{tagged}:members"}


def test_the_key_of_the_run_times(redis_server: servers.Redis, make: Make, key: str) -> None:
    names = {"jobs_key": key, "run_times_key": f"{key}.times"}
    store = make(redis_server, **names)
    store.add_jobs([job("one", 7)], False)
    with Redis.from_url(redis_server.url) as client:
        assert client.zscore(names["run_times_key"], "one") == 7
    assert ids(make(redis_server, **names)) == ["one"]
    with pytest.raises(ValueError, match=r"run_times_key: .*are kept with 'only\..*\.times'"):
        make(redis_server, jobs_key=key)


@pytest.mark.parametrize("name", ["a{}b", "a}b", "a{b", "a}{b}", "", None])
def test_a_key_that_has_no_place(name: Any) -> None:
    with pytest.raises(ValueError, match="jobs_key"):
        RedisJobStore(jobs_key=name)


def test_texts_of_a_configuration(redis_server: servers.Redis, key: str) -> None:
    store = plugins.make(
        plugins.load("stores", "redis"),
        {
            "host": "127.0.0.1",
            "port": str(redis_server.port),
            "db": "3",
            "jobs_key": key,
            "lease": "9",
            "replicas": "0",
            "socket_timeout": "4.5",
            "socket_keepalive": "no",
            "max_connections": "9",
            "pickle_protocol": "4",
        },
    )
    store.start(FakeScheduler(), "default")
    store.add_jobs([job("one")], False)
    store.shutdown()
    with Redis(port=redis_server.port, db=3) as client:
        assert client.hkeys(key) == [b"one"]
    options = store._client.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_keepalive"]) == (4.5, False)
    assert store.lease == 9
    assert repr(store) == f"<RedisJobStore 127.0.0.1:{redis_server.port}/3 {key}>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passwort": "x"}, 'passwort: unknown (did you mean "password"?)'),
        ({"leases": 3}, 'leases: unknown (did you mean "lease"?)'),
        ({"db": "x"}, "db: 'x' is not a number"),
        ({"db": None}, "db: None is not a number"),
        ({"db": -1}, "db: -1 is negative"),
        ({"port": "x"}, "port: 'x' is not a number"),
        ({"ssl": "maybe"}, "ssl: 'maybe' is neither true"),
        ({"socket_timeout": "soon"}, "socket_timeout: 'soon' is not a number of seconds"),
        ({"replicas": "many"}, "replicas: 'many' is not a number"),
        ({"run_times_key": ""}, "run_times_key: it must not be empty"),
        ({"url": "localhost:6379"}, "url: it must begin with redis://"),
        ({"client": Redis(), "db": 1, "host": "x"}, "give it without db, host"),
        ({"lease": 0}, "lease: 0 is not a positive number"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        RedisJobStore(**options)
    assert message in str(caught.value)


def test_a_client_is_used_and_not_closed(redis_server: servers.Redis, make: Make, key: str) -> None:
    with Redis(port=redis_server.port, db=2, decode_responses=True) as client:
        store = make(None, client=client, jobs_key=key)
        store.add_jobs([job("one", args=("Zoë",))], False)
        with pytest.raises(ConflictingIdError, match="one"):
            store.add_jobs([job("one")], False)
        assert [each.args for each in claim(store)] == [("Zoë",)]
        store.shutdown()
        assert client.connection_pool._available_connections
        assert client.hkeys(key) == ["one"]
        assert client.pubsub_numsub(store._channel) == [(store._channel, 0)]


def test_databases_and_keys_side_by_side(redis_server: servers.Redis, make: Make, key: str) -> None:
    stores = [
        make(redis_server, jobs_key=key),
        make(redis_server, jobs_key=f"{key}.too"),
        make(None, port=redis_server.port, db=4, jobs_key=key),
    ]
    woken: list[int] = []
    heard = threading.Event()
    for number, store in enumerate(stores):
        store._woken = lambda number=number: (woken.append(number), heard.set())  # type: ignore[assignment,misc]
        store.remove_all_jobs()
        store.add_jobs([job("same", args=(number,))], False)
    assert [[each.args for each in store.get_all_jobs()] for store in stores] == [
        [(0,)], [(1,)], [(2,)],
    ]  # fmt: skip
    assert [len(claim(store)) for store in stores] == [1, 1, 1]
    stores[0].remove_all_jobs()
    assert [ids(store) for store in stores] == [[], ["same"], ["same"]]
    other = make(redis_server, jobs_key=key)
    until(lambda: len(listeners(redis_server, key)) == 3)
    woken.clear()
    heard.clear()
    other.add_jobs([job("new", -5)], False)
    assert heard.wait(PATIENCE)
    assert woken == [0]


def listeners(server: servers.Redis, key: str) -> list[Any]:
    """List what has subscribed to the changes of stores whose key begins so."""
    with Redis.from_url(server.url) as client:
        found = client.pubsub_numsub(*client.pubsub_channels(f"{{{key}*"))
        return [name for name, count in found if count]


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, for the server has no event that says so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.005)


# What is stored


def test_instants_beyond_what_a_score_can_hold(
    redis_server: servers.Redis, make: Make, key: str
) -> None:
    store = make(redis_server, jobs_key=key)
    far = [253402300799_999999 - number for number in range(3)]
    store.add_jobs([job(f"far {number}", due) for number, due in enumerate(far)], False)
    assert [each._next_run for each in store.get_all_jobs()] == sorted(far)
    early = -62135596800_000000
    store.add_jobs([job("early", early)], False)
    (claimed,) = claim(store)
    assert claimed._next_run == early
    assert store.advance([(claimed, early, far[0] - 1)]) == [True]
    found = store.lookup_job("early")
    assert found is not None
    assert found._next_run == far[0] - 1


def test_a_thousand_pages_are_one_list(redis_server: servers.Redis, make: Make, key: str) -> None:
    store = make(redis_server, jobs_key=key)
    names = [f"{number:05}" for number in range(3000)]
    store.add_jobs([job(name, number) for number, name in enumerate(names)], False)
    assert ids(store) == names


def test_jobs_of_apscheduler_are_refused(redis_server: servers.Redis, make: Make, key: str) -> None:
    from apscheduler.jobstores.redis import RedisJobStore as Theirs
    from apscheduler.schedulers.background import BackgroundScheduler as TheirScheduler

    theirs = Theirs(port=redis_server.port, jobs_key=key, run_times_key=f"{key}.times")
    scheduler = TheirScheduler(jobstores={"default": theirs}, timezone="UTC")
    scheduler.start(paused=True)
    scheduler.add_job("json:dumps", "interval", hours=1, args=[1], id="theirs")
    scheduler.shutdown()
    with Redis.from_url(redis_server.url) as client:
        before = client.hgetall(key)
        assert list(before) == [b"theirs"]
        with pytest.raises(RuntimeError, match=r"holds a hash .*tocsin store migrate"):
            make(redis_server, jobs_key=key)
        with pytest.raises(RuntimeError, match=r"times' holds a zset .*tocsin store migrate"):
            make(redis_server, jobs_key=f"{key}.new", run_times_key=f"{key}.times")
        assert client.hgetall(key) == before


def test_a_layout_of_later_days_is_refused(
    redis_server: servers.Redis, make: Make, key: str
) -> None:
    make(redis_server, jobs_key=key)
    with Redis.from_url(redis_server.url) as client:
        client.hset(f"{{{key}}}:meta", "version", 99)
    with pytest.raises(RuntimeError, match=r"version 99.* up to 1; use a later tocsin"):
        make(redis_server, jobs_key=key)


def test_what_was_spoilt_by_hand_stops_nobody(
    redis_server: servers.Redis, make: Make, key: str
) -> None:
    store = make(redis_server, jobs_key=key)
    names = ["good", "no record", "no state", "bad state", "bytes"]
    store.add_jobs([job(name) for name in names], False)
    with Redis.from_url(redis_server.url) as client:
        client.hdel(key, "no record")
        client.hdel(f"{{{key}}}:state", "no state")
        client.hset(f"{{{key}}}:state", "bad state", "\x00 7 x")
        client.hset(key, "bytes", b"\xff\xfe\x00")
        # Never in a state, though there is nothing to be had.
        client.zadd(f"{{{key}}}:run_times", {"ghost": 0})
    assert sorted(each.id for each in claim(store)) == ["bad state", "good", "no state"]
    assert claim(store) == []
    assert "good" in ids(store)


# Connections and servers


class HardOfHearing(RedisJobStore):
    """A store whose connection breaks before an answer comes, as often as is asked for."""

    lost = 0

    def _exchange(self, connection: Any, *arguments: Any) -> Any:
        answer = super()._exchange(connection, *arguments)
        if self.lost > 0:
            self.lost -= 1
            connection.disconnect()
            raise exceptions.ConnectionError("the answer was lost")
        return answer


class TestRedisInTrouble(RowStoreCases):
    lost = exceptions.ConnectionError

    @pytest.fixture(autouse=True)
    def server(self, redis_server: servers.Redis, key: str) -> None:
        self.url = redis_server.url
        self.key = key

    def make(self, **options: Any) -> HardOfHearing:
        return HardOfHearing(url=self.url, jobs_key=self.key, **options)

    def lose(self, store: Any, count: int) -> None:
        store.lost = count

    def stored(self, store: Any) -> set[str]:
        with Redis.from_url(self.url, decode_responses=True) as client:
            found = {*client.hkeys(self.key)}
            for name in ("state", "runs"):
                found.update(client.hkeys(f"{{{self.key}}}:{name}"))
            again = client.hkeys(f"{{{self.key}}}:again")
            return found | {each.partition(" ")[2] for each in again}


def test_what_may_have_been_added_is_not_added_again(
    redis_server: servers.Redis, make: Make, key: str
) -> None:
    store: Any = make(redis_server, HardOfHearing, jobs_key=key)
    store.lost = 1
    with pytest.raises(exceptions.ConnectionError):
        store.add_jobs([job("one")], False)
    assert ids(store) == ["one"]


def test_scripts_are_loaded_anew(redis_server: servers.Redis, make: Make, key: str) -> None:
    store = make(redis_server, jobs_key=key)
    with Redis.from_url(redis_server.url) as client:
        client.script_flush()
        store.add_jobs([job("one")], False)
        client.script_flush()
        (claimed,) = claim(store)
        client.script_flush()
        assert store.advance([(claimed, 0, 1)]) == [True]


def ticking(url: str, key: str, **options: Any) -> Ticking:
    return Ticking(RedisJobStore(url=url, jobs_key=key, poll_interval=0.5, lease=6, **options))


def test_a_restart_of_the_server(start_server: Any) -> None:
    server = start_server(servers.Redis, durable=True)
    scheduler = ticking(server.url, "restarted")
    scheduler.survives_a_restart(server, lambda: until(lambda: listeners(server, "restarted")))


def test_a_connection_is_cut(redis_server: servers.Redis, key: str) -> None:
    with servers.Proxy(redis_server.port) as proxy:
        scheduler = ticking(f"redis://{proxy.address}/0", key)
        scheduler.survives_cuts(proxy, 5, lambda: until(lambda: listeners(redis_server, key)))


def test_a_connection_that_is_silent(redis_server: servers.Redis, key: str) -> None:
    with servers.Proxy(redis_server.port) as proxy:
        scheduler = ticking(f"redis://{proxy.address}/0", key, socket_timeout=0.5)
        with scheduler:
            proxy.hold()
            scheduler.wait_for_trouble()
            proxy.resume()
            scheduler.wait_for_more(4)
        scheduler.check_rhythm()


def test_nobody_is_there() -> None:
    port, secret = servers.Port(), "open sesame"
    store = RedisJobStore(host="127.0.0.1", port=port.number, password=secret)
    with pytest.raises(exceptions.ConnectionError, match=str(port.number)) as caught:
        store.start(FakeScheduler(), "default")
    assert secret not in str(caught.value)
    port.release()


# Passwords


def test_a_password_is_never_shown(
    start_server: Any, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_server(servers.Redis)
    with Redis(port=server.port) as client:
        client.config_set("requirepass", "xyzzyplugh")
    shown = []
    store = make(None, url=f"redis://:xyzzyplugh@{server.address}/0")
    shown += [repr(store), str(store)]
    store.add_jobs([job("one")], False)
    assert ids(store) == ["one"]
    refused = RedisJobStore(url=f"redis://user:trout-pass@{server.address}/0")
    with pytest.raises(exceptions.AuthenticationError) as caught:
        refused.start(FakeScheduler(), "default")
    shown.append(str(caught.value))
    for url in (
        "redis://:xyzzy/plugh@localhost/0",
        "redis://:xyzzyplugh@localhost:port/0",
        "http://:xyzzyplugh@localhost/0",
        "redis://:xyzzy@plugh@localhost:x/0",
    ):
        with pytest.raises(ValueError, match=r"url: '\w+://\*\*\*@localhost") as wrong:
            RedisJobStore(url=url)
        shown.append("".join(map(str, (wrong.value, wrong.value.__cause__))))
        assert wrong.value.__suppress_context__
    shown.append(caplog.text)
    assert not [text for text in shown for word in ("xyzzy", "plugh", "trout") if word in text]


# What the server is asked to promise


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_warnings_of_a_server_that_forgets(
    start_server: Any, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(servers.Redis)
    make(server)
    assert warnings(caplog) == []
    with Redis(port=server.port) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        make(server)
        evicting, forgetful = warnings(caplog)
        assert "maxmemory-policy allkeys-lru" in evicting
        assert "appendonly no" in forgetful
        # Who may neither ask nor listen goes without.
        caplog.clear()
        client.acl_setuser(
            "worker", enabled=True, passwords=["+plain"], keys=["*"],
            categories=["+@all"], commands=["-info", "-subscribe"], reset=True,
        )  # fmt: skip
        store = make(None, url=f"redis://worker:plain@{server.address}/0")
        store.add_jobs([job("one")], False)
        until(lambda: warnings(caplog))
        (unheard,) = warnings(caplog)
        assert "can't be listened to" in unheard
        assert "plain" not in unheard


def test_replicas_are_waited_for(start_server: Any, make: Make) -> None:
    primary, replica = start_server(servers.Redis), start_server(servers.Redis)
    with Redis(port=replica.port, decode_responses=True) as client:
        client.replicaof("127.0.0.1", primary.port)
        until(lambda: client.info("replication")["master_link_status"] == "up")
        store = make(primary, replicas=1, replica_timeout=10)
        store.add_jobs([job("one", at_least_once=True)], False)
        assert client.hkeys("tocsin.jobs") == ["one"]
        (claimed,) = claim(store)
        assert store.advance([(claimed, 0, 1)]) == [True]
        assert client.hlen("{tocsin.jobs}:runs") == 1
        lonely = make(primary, replicas=2, replica_timeout=0.05)
        with pytest.raises(exceptions.RedisError, match="1 of 2 replicas have confirmed"):
            lonely.add_jobs([job("two")], False)
        client.replicaof("NO", "ONE")
    store.shutdown()


class Node(servers.Redis):
    """A cluster of one node."""

    ports_needed = 2

    def command(self) -> list[str]:
        cluster = ["--cluster-enabled", "yes", "--cluster-port", str(self.ports[1])]
        return [*super().command(), *cluster]


def test_a_cluster(start_server: Any, make: Make) -> None:
    node = start_server(Node)
    with Redis(port=node.port, decode_responses=True) as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(16384))
        until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
    cluster = RedisCluster(host="127.0.0.1", port=node.port)
    store = make(None, client=cluster)
    other = make(None, client=cluster)
    woken = threading.Event()
    other._woken = woken.set  # type: ignore[method-assign]
    store.add_jobs([job("one", at_least_once=True)], False)
    assert woken.wait(PATIENCE)
    (claimed,) = claim(store)
    assert claim(other) == []
    assert store.advance([(claimed, 0, 1)]) == [True]
    assert store._settle(store._member or "", [claimed._handle]) == [True]
    assert other.next_due() is not None
    assert repr(store) == f"<RedisJobStore 127.0.0.1:{node.port} tocsin.jobs>"
    with pytest.raises(ValueError, match="in different slots"):
        make(None, client=cluster, jobs_key="jobs", run_times_key="times")
    store.shutdown()
    other.shutdown()
    cluster.close()
