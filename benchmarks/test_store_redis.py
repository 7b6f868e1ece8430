"""The Redis store, against APScheduler's, and against pipelined SET."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from apscheduler.jobstores.redis import RedisJobStore as PeerStore
from apscheduler.util import datetime_to_utc_timestamp
from redis import Redis
from support import servers

from benchmarks import stores
from benchmarks.races import Race, Report
from benchmarks.stores import Contest, Theirs
from tocsin.stores.redis import RedisJobStore

#: As long as the record of one of the jobs.
RECORD = "x" * 300


def fill(theirs: Theirs, jobs: Sequence[Any]) -> None:
    """Write APScheduler's jobs by many."""
    store = theirs.store
    for first in range(0, len(jobs), 5000):
        some = jobs[first : first + 5000]
        records = {job.id: pickle.dumps(job.__getstate__(), store.pickle_protocol) for job in some}
        scores = {job.id: datetime_to_utc_timestamp(job.next_run_time) for job in some}
        store.redis.hset(store.jobs_key, mapping=records)
        store.redis.zadd(store.run_times_key, scores)


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    with (
        servers.Redis(tmp_path_factory.mktemp("redis")) as server,
        Redis.from_url(server.url) as client,
    ):

        def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
            def write(ids: Sequence[str], instant: int) -> None:
                with client.pipeline(transaction=False) as pipeline:
                    for each in ids:
                        pipeline.set(each, RECORD)
                    pipeline.execute()

            return write

        yield Contest(
            "Redis",
            lambda: RedisJobStore(url=server.url),
            lambda: PeerStore(port=server.port),
            raw,
            0.8,
            fill,
        )


def test_adding(contest: Contest, race: Race, report: Report) -> None:
    stores.adding(contest, race, report)


def test_claiming(contest: Contest, race: Race, report: Report) -> None:
    stores.claiming(contest, race, report)


@pytest.mark.parametrize("part", stores.PARTS)
def test_waking_up(contest: Contest, part: int, race: Race, report: Report) -> None:
    stores.waking_up(contest, part, race, report)


def test_against_raw_writes(contest: Contest, race: Race, report: Report) -> None:
    stores.against_raw_writes(contest, race, report)
