"""The etcd store against the raw writes of the server.

APScheduler's store needs a client that no longer installs: there is nothing to race.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from etcd3gw.client import Etcd3Client
from support.servers import HOST, Etcd

from benchmarks import stores
from benchmarks.races import Race, Report
from benchmarks.stores import Contest
from tocsin.stores.etcd import EtcdJobStore

#: As long as the record of one of the jobs.
RECORD = b64encode(b"x" * 300).decode()
WRITERS = 32


@pytest.fixture(scope="module")
def contest(tmp_path_factory: Any) -> Iterator[Contest]:
    """Start a server, durable as in production."""
    with Etcd(tmp_path_factory.mktemp("etcd"), durable=True) as server:
        clients = [Etcd3Client(HOST, server.port) for _ in range(WRITERS)]
        pool = ThreadPoolExecutor(WRITERS)

        def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
            def put(client: Any, some: Sequence[str]) -> None:
                for each in some:
                    key = b64encode(f"/raw/{each}".encode()).decode()
                    client.post(client.get_url("/kv/put"), json={"key": key, "value": RECORD})

            def write(ids: Sequence[str], instant: int) -> None:
                parts = [ids[first::WRITERS] for first in range(WRITERS)]
                list(pool.map(put, clients, parts))

            return write

        def theirs() -> Any:
            raise NotImplementedError("APScheduler's store of etcd can't be installed")

        yield Contest("etcd", lambda: EtcdJobStore(port=server.port), theirs, raw, 3.0)
        pool.shutdown()
        for client in clients:
            client.session.close()


def test_against_raw_writes(contest: Contest, race: Race, report: Report) -> None:
    stores.against_raw_writes(contest, race, report)
