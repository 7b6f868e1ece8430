"""The job store of ZooKeeper, on real servers."""

from __future__ import annotations

import pickle
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry
from support import servers
from support.shardstores import (
    ShardStoreCases,
    ShardStoreCompliance,
    advanced,
    job,
    leads,
    started,
    wait_until,
)

from tocsin.clock import SystemClock
from tocsin.stores.leading import divided
from tocsin.stores.shardstate import Shard
from tocsin.stores.zookeeper import ZooKeeperJobStore
from tocsin.testing import FakeScheduler, JobStoreCompliance


@pytest.fixture
def hosts(zookeeper: servers.ZooKeeper, worker_id: str) -> str:
    """Give the address of a tree that is empty, and this process's own."""
    root = KazooClient(hosts=zookeeper.url)
    root.start()
    root.delete(f"/{worker_id}", recursive=True)
    root.create(f"/{worker_id}")
    root.stop()
    root.close()
    return f"{zookeeper.url}/{worker_id}"


@pytest.fixture
def client(hosts: str) -> Iterator[KazooClient]:
    """Give a client of that tree."""
    made = KazooClient(hosts=hosts)
    made.start()
    yield made
    made.stop()
    made.close()


def test_a_store_opens_before_its_client_has_told_of_the_connection(
    zookeeper: servers.ZooKeeper, hosts: str, worker_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = KazooClient._make_state_change

    def tell_late(self: KazooClient, state: str) -> None:
        time.sleep(0.3)
        tell(self, state)

    monkeypatch.setattr(KazooClient, "_make_state_change", tell_late)
    # With the tree in the address, kazoo's start would ask something first.
    assert hosts == f"{zookeeper.url}/{worker_id}"
    store = ZooKeeperJobStore(f"/{worker_id}/late", hosts=zookeeper.url)
    store.start(FakeScheduler(), "default")
    assert store.get_all_jobs() == []
    store.shutdown()


class TestZooKeeperJobStore(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, hosts: str) -> None:
        self.hosts = hosts

    def make_store(self) -> ZooKeeperJobStore:
        return ZooKeeperJobStore("/compliance", hosts=self.hosts, shards=16, clock="scheduler")


class TestZooKeeperJobStoreShared(ShardStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, hosts: str, client: KazooClient) -> None:
        self.hosts = hosts
        self.client = client

    def make_store(self, **options: Any) -> ZooKeeperJobStore:
        return ZooKeeperJobStore("/shared/deep", hosts=self.hosts, shards=8, **options)

    def write(self, path: str, data: bytes) -> None:
        self.client.set(f"/shared/deep/{path}", data)

    def end(self, store: Any) -> None:
        """End its session, as the server does: by another client that has its password."""
        self.ender(store)()

    def ender(self, store: Any) -> Callable[[], None]:
        identity = store._tree._client.client_id

        def end() -> None:
            other = KazooClient(hosts=self.hosts, client_id=identity)
            other.start()
            other.stop()
            other.close()

        return end

    def cut(self, store: Any) -> Callable[[], None]:
        end = self.ender(store)
        client = store._tree._client
        client._stopped.set()
        client._connection._socket.shutdown(socket.SHUT_RDWR)
        client._connection.stop(5)
        client.close()
        return end


Make = Callable[..., ZooKeeperJobStore]


@pytest.fixture
def make(hosts: str) -> Iterator[Make]:
    """Make stores of one path, started by schedulers on the system's clock."""
    with started() as start:

        def open_store(**options: Any) -> Any:
            if "client" not in options:
                options.setdefault("hosts", hosts)
            return start(ZooKeeperJobStore(**{"shards": 8, **options}))

        yield open_store


class TestZooKeeperShards(ShardStoreCases):
    many, large = 2000, 4

    @contextmanager
    def breakable(self, make: Any) -> Iterator[tuple[Any, Callable[[], None]]]:
        store = make()
        yield store, lambda: store._tree._client._connection._socket.shutdown(socket.SHUT_RDWR)


# Options


def test_options_of_apscheduler(make: Make, client: KazooClient) -> None:
    store = make(client=client, path="jobs/", pickle_protocol=4)
    store.add_jobs([job("one")], False)
    assert client.exists("/jobs/meta")
    assert store.lookup_job("one") is not None
    store.shutdown()
    assert client.connected
    store = make(path="/jobs", close_connection_on_exit="true")
    assert [each.id for each in store.get_all_jobs()] == ["one"]


def test_a_client_is_closed_when_asked(make: Make, hosts: str) -> None:
    other = KazooClient(hosts=hosts, timeout=7)
    store = make(client=other, close_connection_on_exit=True)
    assert store.lease == 7
    store.shutdown()
    assert not other.connected


def test_a_scheduler_is_configured_by_text(hosts: str) -> None:
    scheduler = FakeScheduler(
        {
            "tocsin.jobstores.default.type": "zookeeper",
            "tocsin.jobstores.default.hosts": hosts,
            "tocsin.jobstores.default.path": "/text",
            "tocsin.jobstores.default.lease": "5",
            "tocsin.jobstores.default.shards": "4",
            "tocsin.jobstores.default.timeout": "6.5",
        }
    )
    scheduler.start()
    store: Any = scheduler._jobstores["default"]
    assert (store.lease, store.shards) == (6.5, 4)
    scheduler.shutdown()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"host": "x"}, 'host: unknown (did you mean "hosts"?)'),
        ({"path": ""}, "path"),
        ({"shards": 0}, "shards: 0"),
        ({"lease": -1}, "lease: -1"),
        ({"client": object(), "hosts": "x"}, "hosts: not with client"),
    ],
)
def test_bad_options(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        ZooKeeperJobStore(**options)


def test_credentials_are_not_shown() -> None:
    store = ZooKeeperJobStore(hosts="zk1:2181", auth_data=[("digest", "user:hunter2")])
    assert repr(store) == "<ZooKeeperJobStore zk1:2181 /tocsin>"


# What is there already


def test_jobs_of_apscheduler_are_refused(make: Make, client: KazooClient) -> None:
    peers = pytest.importorskip("apscheduler.jobstores.zookeeper")
    peer = peers.ZooKeeperJobStore("/old", client=client)
    peer._ensure_paths()
    client.create("/old/job", pickle.dumps({"next_run_time": None, "job_state": {}}))
    for create in (True, False):
        with pytest.raises(ValueError, match="tocsin store migrate"):
            make(path="/old", create=create)


@pytest.mark.parametrize(
    ("meta", "error"),
    [(b'{"version": 2, "shards": 4}', "newer tocsin"), (b"something else", "is not tocsin's")],
)
def test_what_others_wrote_is_refused(
    make: Make, client: KazooClient, meta: bytes, error: str
) -> None:
    client.create("/tocsin/meta", meta, makepath=True)
    with pytest.raises(ValueError, match=error):
        make()


def test_the_number_of_shards_is_that_of_the_store(make: Make) -> None:
    make(shards=8)
    assert make(shards=16).shards == 8


# Sharing


def test_few_shards_move_when_one_comes() -> None:
    before = divided(64, ["a", "b", "c"])
    after = divided(64, ["a", "b", "c", "d"])
    assert sorted(Counter(before).values()) == [21, 21, 22]
    assert set(Counter(after).values()) == {16}
    assert sum(old != new for old, new in zip(before, after, strict=True)) <= 32
    assert divided(2, ["a", "b", "c"]) in [list(pair) for pair in permutations("abc", 2)]


def test_whoever_is_paused_leads_nothing(make: Make) -> None:
    paused, other = make(lease=1, poll_interval=0.2), make(poll_interval=0.2)
    paused.add_jobs([job("one", -1)], False)
    assert leads([paused]) == [8]
    other.next_due()
    wait_until(lambda: len(other._led) == 8 or other.next_due() == 0)
    assert advanced(other) == ["one"]
    # It still is a member, and leads again as soon as it looks.
    wait_until(lambda: leads([paused, other]) == [4, 4])


class Dead:
    """Candidates that have died, and whose sessions have not ended yet."""

    def __init__(self, client: KazooClient, store: ZooKeeperJobStore) -> None:
        self._client = client
        self._store = store

    def appear(self, *names: str, leading: str = "") -> list[int]:
        """Enter candidates; give the shards that one of them leads, which are all of its own."""
        for name in names:
            self._client.create(f"/tocsin/news/leaders/{name}")
        everybody = [*names, self._store._member or ""]
        owners = divided(self._store.shards, sorted(everybody))
        led = [number for number, owner in enumerate(owners) if owner == leading]
        for number in led:
            self._client.create(f"/tocsin/{Shard(number).owner}", leading.encode())
        return led

    def disappear(self, name: str) -> None:
        self._client.delete(f"/tocsin/news/leaders/{name}")


@pytest.fixture
def dead(make: Make, client: KazooClient) -> tuple[ZooKeeperJobStore, Dead]:
    """Give a store that leads as yet nothing, and what enters the dead beside it."""
    store = make(shards=32, lease=2, poll_interval=0.2)
    store._join(SystemClock().now())
    return store, Dead(client, store)


def test_a_stand_in_may_be_dead_as_well(dead: tuple[ZooKeeperJobStore, Dead]) -> None:
    store, others = dead
    led = others.appear("dead-1", "dead-2", leading="dead-2")
    assert 0 < len(led) < 16
    wait_until(lambda: leads([store]) == [32 - len(led)])


def test_a_division_takes_no_shard_from_who_stands_in(dead: tuple[ZooKeeperJobStore, Dead]) -> None:
    store, others = dead
    others.appear("dead-1", "dead-2")
    wait_until(lambda: leads([store]) == [32])
    lent = {number for number, shard in store._led.items() if shard.lent_until is not None}
    others.disappear("dead-2")
    kept = set(store._led)
    candidates = store._candidates
    while store._candidates == candidates or store._divide:
        store.next_due()
        kept &= set(store._led)
    store.next_due()
    assert lent
    assert lent <= kept & set(store._led)


def test_who_stands_in_gives_a_shard_back_and_sees_whether_it_is_led(
    dead: tuple[ZooKeeperJobStore, Dead],
) -> None:
    store, others = dead
    others.appear("dead")
    wait_until(lambda: leads([store]) == [32])
    lent = {n: shard.lent_until for n, shard in store._led.items() if shard.lent_until is not None}
    assert lent

    def lent_again() -> bool:
        store.next_due()
        shards = [store._led.get(number) for number in lent]
        return all(
            shard is not None and (shard.lent_until or 0.0) > before
            for shard, before in zip(shards, lent.values(), strict=True)
        )

    wait_until(lent_again)


def test_the_lease_does_not_wait_for_who_is_at_work(make: Make) -> None:
    store = make(lease=1)
    store.next_due()
    with store._lock:
        due = store._renew_at
        wait_until(lambda: store._renew_at > due)


def test_what_is_acknowledged_prolongs_the_lease(make: Make) -> None:
    store = make()
    store.add_jobs([job("one", -1)], False)
    store.next_due()
    store._member_until = 0.0  # as if it could not have been renewed for long
    assert advanced(store) == ["one"]


def test_pauses_between_attempts_to_connect_are_bounded(make: Make) -> None:
    """Or a server that was gone for an hour would be looked for again after another one."""
    assert make(lease=6)._tree._client._conn_retry.max_delay == 2
    mine = KazooRetry(max_tries=-1, max_delay=30)
    assert make(connection_retry=mine)._tree._client._conn_retry is mine


def test_a_late_leader_is_refused(make: Make) -> None:
    late, other = make(), make()
    late.add_jobs([job("one", -1)], False)
    claims = late.claim(SystemClock().now(), 10)
    kept = dict(late._led)
    late._stand_back(late._member or "")
    wait_until(lambda: len(other._led) == 8 or other.next_due() == 0)
    # As if it had not heard of it: what it had in memory is there again.
    late._led.update(kept)
    entry = late._led[late._number("one")].entries["one"]
    entry.claim = claims[0]._handle.fence
    late._claims[entry] = float("inf")
    entry.shard.claims += 1
    due = claims[0]._next_run or 0
    assert late.advance([(claims[0], due, due + 1)]) == [False]
    assert advanced(other) == ["one"]


def test_a_session_that_ends_is_followed_by_another(make: Make, hosts: str) -> None:
    store: Any = make()
    store.add_jobs([job("one", -1)], False)
    assert advanced(store) == ["one"]
    session = store._tree.session
    other = KazooClient(hosts=hosts, client_id=store._tree._client.client_id)
    other.start()
    other.stop()
    other.close()
    wait_until(lambda: store._tree.session > session and store._tree.connected)
    store.add_jobs([job("two", -1)], False)
    assert advanced(store) == ["two"]
    assert leads([store]) == [8]


# Sizes


def test_many_states_are_kept_in_pages(make: Make, client: KazooClient) -> None:
    store: Any = make(shards=1)
    ids = [f"{number:05}" + "x" * 90 for number in range(6000)]
    store.add_jobs([job(each, -1) for each in ids], False)
    for _ in range(3):
        assert len(advanced(store, 700)) == 700
    assert len(client.get_children("/tocsin/shards/00/pages")) > 2
    store.shutdown()
    other = make()
    due = [each for each in other.get_all_jobs() if (each._next_run or 0) < SystemClock().now()]
    assert len(due) == 6000 - 2100
    left = 0
    while some := advanced(other):
        left += len(some)
    assert left == 6000 - 2100


def test_pages_do_not_grow_with_the_number_of_leaders(make: Make, client: KazooClient) -> None:
    store: Any = make(shards=1)
    store.add_jobs([job(f"{number}", -1) for number in range(30)], False)

    def stored() -> int:
        folder = "/tocsin/shards/00/pages"
        return sum(len(client.get(f"{folder}/{name}")[0]) for name in client.get_children(folder))

    sizes = []
    for _ in range(40):
        store._doubt(list(store._led.values()))  # as if another one led it from now on
        for _ in range(3):
            jobs = store.claim(SystemClock().now(), 1000)
            held = store.advance([(each, each._next_run, each._next_run + 1) for each in jobs])
            assert held == [True] * 30
            assert all(store._settle(store._member, [each._handle for each in jobs]))
        sizes.append(stored())
    assert max(sizes) < 50_000


def test_servers_that_read_one_node_at_a_time(make: Make) -> None:
    store: Any = make()
    store._tree._asks_many = False
    store.add_jobs([job("one", -1), job("two", None)], False)
    assert sorted(each.id for each in store.get_all_jobs()) == ["one", "two"]
    assert advanced(store) == ["one"]
