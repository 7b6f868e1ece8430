"""The job store of etcd, on a real server."""

from __future__ import annotations

import json
import logging
import pickle
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from etcd3gw.client import Etcd3Client
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

from tocsin.cli.addresses import make_store, read_address
from tocsin.stores.etcd import EtcdJobStore
from tocsin.stores.tree import Unavailable
from tocsin.testing import FakeScheduler, JobStoreCompliance

Make = Callable[..., EtcdJobStore]


@pytest.fixture
def client(etcd: servers.Etcd) -> Iterator[Etcd3Client]:
    """Give a client."""
    made = Etcd3Client("127.0.0.1", etcd.port, timeout=10)
    yield made
    made.session.close()


@pytest.fixture
def root(client: Etcd3Client, worker_id: str) -> str:
    """Give a prefix without keys, this process's own."""
    client.delete_prefix(f"/{worker_id}/")
    return f"/{worker_id}"


class TestEtcdJobStore(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, etcd: servers.Etcd, root: str) -> None:
        self.port = etcd.port
        self.path = f"{root}/compliance"

    def make_store(self) -> EtcdJobStore:
        return EtcdJobStore(self.path, port=self.port, clock="scheduler")


class TestEtcdJobStoreShared(ShardStoreCompliance):
    has_clock = False

    @pytest.fixture(autouse=True)
    def server(self, etcd: servers.Etcd, client: Etcd3Client, root: str) -> None:
        self.port = etcd.port
        self.client = client
        self.path = f"{root}/shared/deep"

    def make_store(self, **options: Any) -> EtcdJobStore:
        return EtcdJobStore(self.path, port=self.port, shards=8, **options)

    def write(self, path: str, data: bytes) -> None:
        self.client.put(f"{self.path}/{path}", data)

    def end(self, store: Any) -> None:
        """Take its lease from it, as the server does when it runs out."""
        self.client.post(self.client.get_url("/lease/revoke"), json={"ID": store._tree._lease})

    def cut(self, store: Any) -> Callable[[], None]:
        lease, store._tree._lease = store._tree._lease, None
        store._close()
        body = {"ID": lease}
        return lambda: self.client.post(self.client.get_url("/lease/revoke"), json=body)


SHOP = {"user": "shop", "password": servers.EtcdWithUsers.passwords["shop"]}


class TestEtcdJobStoreOfAUser(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, etcd_with_users: servers.EtcdWithUsers) -> None:
        self.port = etcd_with_users.port
        self.path = f"/shop/{uuid4().hex}"

    def make_store(self) -> EtcdJobStore:
        return EtcdJobStore(self.path, port=self.port, clock="scheduler", **SHOP)


@pytest.fixture
def make(etcd: servers.Etcd, root: str) -> Iterator[Make]:
    """Make stores of one path, started by schedulers on the system's clock."""
    with started() as start:

        def open_store(**options: Any) -> Any:
            if "client" not in options:
                options.setdefault("port", etcd.port)
            return start(EtcdJobStore(**{"path": root, "shards": 8, **options}))

        yield open_store


class TestEtcdShards(ShardStoreCases):
    @contextmanager
    def breakable(self, make: Any) -> Iterator[tuple[Any, Callable[[], None]]]:
        with servers.Proxy(self.port) as proxy:

            def cut() -> None:
                proxy.cut()
                proxy.resume()

            yield make(port=proxy.port, timeout=2), cut

    @pytest.fixture(autouse=True)
    def server(self, etcd: servers.Etcd) -> None:
        self.port = etcd.port


def test_options_of_apscheduler(make: Make, client: Etcd3Client, root: str) -> None:
    store = make(client=client, path=f"{root}/jobs/", pickle_protocol=4)
    store.add_jobs([job("one")], False)
    assert client.get(f"{root}/jobs/meta")
    assert store.lookup_job("one") is not None
    # Those of a path that begins alike are another store's.
    make(path=f"{root}/jobs2").add_jobs([job("two")], False)
    assert [each.id for each in store.get_all_jobs()] == ["one"]
    store.remove_all_jobs()
    assert [each.id for each in make(path=f"{root}/jobs2").get_all_jobs()] == ["two"]


def test_a_scheduler_is_configured_by_text(etcd: servers.Etcd, root: str) -> None:
    scheduler = FakeScheduler(
        {
            "tocsin.jobstores.default.type": "etcd",
            "tocsin.jobstores.default.host": "127.0.0.1",
            "tocsin.jobstores.default.port": str(etcd.port),
            "tocsin.jobstores.default.path": root,
            "tocsin.jobstores.default.lease": "5.5",
        }
    )
    scheduler.start()
    store: Any = scheduler._jobstores["default"]
    assert (store.lease, store._tree.ttl, store.client.port) == (5.5, 6, etcd.port)
    scheduler.shutdown()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"hosts": "x"}, 'hosts: unknown (did you mean "host"?)'),
        ({"path": ""}, "path"),
        ({"client": object(), "port": 1}, "port: not with client"),
        ({"client": object(), "user": "a", "password": "b"}, "user, password: not with client"),
        ({"user": "a"}, "user, password: give both, or neither"),
    ],
)
def test_bad_options(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        EtcdJobStore(**options)


def test_jobs_of_apscheduler_are_refused(make: Make, client: Etcd3Client, root: str) -> None:
    client.put(f"{root}/old/job", pickle.dumps({"next_run_time": None, "job_state": {}}))
    for create in (True, False):
        with pytest.raises(ValueError, match="tocsin store migrate"):
            make(path=f"{root}/old", create=create)


def test_what_a_newer_tocsin_wrote_is_refused(make: Make, client: Etcd3Client, root: str) -> None:
    client.put(f"{root}/meta", json.dumps({"version": 2, "shards": 4}))
    with pytest.raises(ValueError, match="newer tocsin"):
        make()


# Users


def test_tokens_that_the_server_has_forgotten_are_had_anew(make: Make, start_server: Any) -> None:
    server = start_server(servers.EtcdWithUsers, durable=True)
    stores: list[Any] = [make(port=server.port, path="/shop", **SHOP) for _ in range(2)]
    wait_until(lambda: leads(stores) == [4, 4])
    tokens = {store._tree.login.token for store in stores}
    server.restart()
    assert all(store._tree.wait(20) for store in stores)
    # What one changes the other hears of: both watch again, each with a new token.
    stores[0].add_jobs([job(f"{number}", -1) for number in range(50)], False)
    had: list[str] = []
    wait_until(lambda: had.extend(advanced(stores[1])) or len(had) > 0)
    wait_until(lambda: had.extend(advanced(stores[0])) or len(had) == 50)
    assert sorted(had) == sorted(f"{number}" for number in range(50))
    assert tokens.isdisjoint({store._tree.login.token for store in stores})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "user name is empty"),
        ({**SHOP, "password": "plugh"}, "authentication failed, invalid user ID or password"),
        ({**SHOP, "path": "/other"}, "permission denied"),
    ],
)
def test_who_may_not(
    options: dict[str, Any], reason: str, etcd_with_users: servers.EtcdWithUsers
) -> None:
    store = EtcdJobStore(**{"path": "/shop/them", "port": etcd_with_users.port, **options})
    with pytest.raises(Unavailable, match=reason) as caught:
        store.start(FakeScheduler(), "default")
    assert "plugh" not in str(caught.value)


def test_a_password_is_never_shown(
    etcd_with_users: servers.EtcdWithUsers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"etcd://shop:{SHOP['password']}@{etcd_with_users.address}/shop/{uuid4().hex}"
    address = read_address(url)
    store: Any = make_store(address)
    scheduler = FakeScheduler(jobstores={"default": store})
    scheduler.start()
    scheduler.add_job("json:dumps", "interval", hours=1, args=[1], id="one")
    shown = [repr(store), str(store._tree), repr(store._tree.login), address.shown]
    shown.append(repr(scheduler.health()))
    scheduler.shutdown()
    assert caplog.text.count("auth/authenticate") == 1
    secrets = (SHOP["password"], store._tree.login.token)
    assert not [text for text in (*shown, caplog.text) for word in secrets if word in text]


def test_a_lease_runs_out(make: Make) -> None:
    dead: Any = make(lease=2)
    other: Any = make(lease=2)
    dead.add_jobs([job("one", -1)], False)
    assert leads([dead]) == [8]
    dead._stop_keeping()
    started = time.monotonic()
    wait_until(lambda: leads([other]) == [8])
    assert time.monotonic() - started > 1
    assert advanced(other) == ["one"]
