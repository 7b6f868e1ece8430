"""The job store of Redis, on real servers."""

from __future__ import annotations

import pytest
from redis import Redis
from support import servers

from tocsin.stores.redis import RedisJobStore
from tocsin.testing import JobStoreCompliance, SharedStoreCompliance


def emptied(server: servers.Redis, key: str) -> None:
    with Redis.from_url(server.url) as client:
        for each in client.scan_iter(f"*{key}*"):
            client.delete(each)


class TestRedisJobStore(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, redis_server: servers.Redis) -> None:
        self.url = redis_server.url
        emptied(redis_server, "compliance")

    def make_store(self) -> RedisJobStore:
        return RedisJobStore(url=self.url, jobs_key="compliance", clock="scheduler")


class TestRedisJobStoreShared(SharedStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, redis_server: servers.Redis) -> None:
        self.url = redis_server.url
        emptied(redis_server, "shared")

    def make_store(self, **options: object) -> RedisJobStore:
        return RedisJobStore(url=self.url, jobs_key="shared", **options)

    def write_record(self, job_id: str, text: str) -> None:
        with Redis.from_url(self.url) as client:
            client.hset("shared", job_id, text)
