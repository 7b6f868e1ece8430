"""The job store of ZooKeeper, on real servers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from support import servers
from support.shardstores import ShardStoreCompliance

from tocsin.stores.shards import Shard
from tocsin.stores.zookeeper import ZooKeeperJobStore
from tocsin.testing import JobStoreCompliance


@pytest.fixture
def client(zookeeper: servers.ZooKeeper) -> Iterator[KazooClient]:
    """Give a client whose tree is empty."""
    made = KazooClient(hosts=zookeeper.url)
    made.start()
    for name in made.get_children("/"):
        if name != "zookeeper":
            made.delete(f"/{name}", recursive=True)
    yield made
    made.stop()
    made.close()


class TestZooKeeperJobStore(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, zookeeper: servers.ZooKeeper, client: KazooClient) -> None:
        self.hosts = zookeeper.url

    def make_store(self) -> ZooKeeperJobStore:
        return ZooKeeperJobStore("/compliance", hosts=self.hosts, shards=16, clock="scheduler")


class TestZooKeeperJobStoreShared(ShardStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, zookeeper: servers.ZooKeeper, client: KazooClient) -> None:
        self.hosts = zookeeper.url
        self.client = client

    def make_store(self, **options: Any) -> ZooKeeperJobStore:
        return ZooKeeperJobStore("/shared/deep", hosts=self.hosts, shards=8, **options)

    def write_record(self, job_id: str, text: str) -> None:
        store: Any = self._stores[0]
        path = Shard(store._number(job_id)).definition(job_id)
        self.client.set(f"/shared/deep/{path}", text.encode())
        for each in self._stores:
            each._fresh.clear()  # type: ignore[attr-defined]

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
