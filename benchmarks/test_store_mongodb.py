"""The MongoDB store on SecantusDB, against APScheduler's, and against bulk writes.

SecantusDB makes some hundred writes a second, and reads all documents to find the earliest: the
numbers of jobs are smaller here than those of the other stores.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from apscheduler.jobstores.mongodb import MongoDBJobStore as PeerStore
from apscheduler.util import datetime_to_utc_timestamp
from bson.binary import Binary
from pymongo import MongoClient, UpdateOne, WriteConcern
from support import servers

from benchmarks import stores
from benchmarks.races import Race, Report
from benchmarks.stores import Contest, Theirs
from tocsin.stores.mongodb import MongoDBJobStore

#: As long as the record of one of the jobs.
RECORD = "x" * 300


def fill(theirs: Theirs, jobs: Sequence[Any]) -> None:
    """Write APScheduler's jobs by many."""
    theirs.store.collection.insert_many(
        [
            {
                "_id": job.id,
                "next_run_time": datetime_to_utc_timestamp(job.next_run_time),
                "job_state": Binary(pickle.dumps(job.__getstate__(), pickle.HIGHEST_PROTOCOL)),
            }
            for job in jobs
        ],
        ordered=False,
    )


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    folder = tmp_path_factory.mktemp("secantusdb")
    with (
        pytest.MonkeyPatch.context() as patch,
        servers.SecantusDB(folder) as server,
        MongoClient[Any](server.url) as client,
    ):
        for name, number in (("JOBS", 500), ("STORED", 3000), ("PEER_JOBS", 100)):
            patch.setattr(stores, name, number)

        def raw(ids: Sequence[str]) -> Callable[[Sequence[str], int], object]:
            table = client["raw"].get_collection("raw", write_concern=WriteConcern("majority"))
            table.create_index("due", sparse=True)
            table.insert_many(
                [{"_id": each, "due": 0, "record": RECORD} for each in ids], ordered=False
            )

            def write(ids: Sequence[str], instant: int) -> None:
                table.bulk_write(
                    [UpdateOne({"_id": each}, {"$set": {"due": instant}}) for each in ids],
                    ordered=False,
                )

            return write

        yield Contest(
            "MongoDB (SecantusDB)",
            lambda: MongoDBJobStore(url=server.url, lease=600, socketTimeoutMS=600_000),
            lambda: PeerStore(host=server.url),
            raw,
            0.4,
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
    stores.against_raw_writes(contest, race, report, rounds=9)
