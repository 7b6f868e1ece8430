"""The ZooKeeper store, on one server and on an ensemble, against APScheduler's and the servers.

APScheduler's store reads every node twice at a wake-up: it gets a twentieth of the jobs there, and
so the figure is a twentieth of what it is.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore as PeerStore
from apscheduler.util import datetime_to_utc_timestamp
from kazoo.client import KazooClient
from support.servers import ZooKeeper, ZooKeeperEnsemble

from benchmarks import stores
from benchmarks.races import Race, Report
from benchmarks.stores import Contest, Theirs
from tocsin.stores.zookeeper import ZooKeeperJobStore

KINDS: dict[str, tuple[Any, float]] = {
    "ZooKeeper": (ZooKeeper, 4.0),
    "ZooKeeper, an ensemble of three": (ZooKeeperEnsemble, 3.0),
}
#: As long as the record of one of the jobs.
RECORD = b"x" * 300


def fill(theirs: Theirs, jobs: Sequence[Any]) -> None:
    """Write APScheduler's nodes without waiting for each."""
    client = theirs.store.client
    client.ensure_path(theirs.store.path)
    for first in range(0, len(jobs), 1000):
        asked = []
        for job in jobs[first : first + 1000]:
            value = {
                "next_run_time": datetime_to_utc_timestamp(job.next_run_time),
                "job_state": job.__getstate__(),
            }
            data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            asked.append(client.create_async(f"{theirs.store.path}/{job.id}", data))
        for each in asked:
            each.get()


@pytest.fixture(params=KINDS, scope="module")
def contest(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Contest]:
    """Start a server, durable as in production."""
    kind, ratio = KINDS[request.param]
    with kind(tmp_path_factory.mktemp("zookeeper"), durable=True) as server:
        client = KazooClient(hosts=server.url, timeout=30)
        client.start()

        def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
            client.ensure_path("/raw")
            for each in ids:
                client.create(f"/raw/{each}", RECORD)

            def write(ids: Sequence[str], instant: int) -> None:
                asked = [client.set_async(f"/raw/{each}", RECORD) for each in ids]
                for each in asked:
                    each.get()

            return write

        yield Contest(
            request.param,
            lambda: ZooKeeperJobStore("/tocsin", hosts=server.url),
            lambda: PeerStore("/apscheduler", hosts=server.url, timeout=30),
            raw,
            ratio,
            fill,
            peer_part=20,
        )
        client.stop()
        client.close()


def test_adding(contest: Contest, race: Race, report: Report) -> None:
    stores.adding(contest, race, report)


def test_claiming(contest: Contest, race: Race, report: Report) -> None:
    stores.claiming(contest, race, report)


@pytest.mark.parametrize("part", stores.PARTS)
def test_waking_up(contest: Contest, part: int, race: Race, report: Report) -> None:
    stores.waking_up(contest, part, race, report)


def test_against_raw_writes(contest: Contest, race: Race, report: Report) -> None:
    stores.against_raw_writes(contest, race, report)
