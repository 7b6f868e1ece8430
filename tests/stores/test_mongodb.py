"""The job store of MongoDB, on servers that speak its protocol."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError
from support import servers
from support.schedulers import PATIENCE, Recorder

from tocsin import plugins
from tocsin.adapters.background import BackgroundScheduler
from tocsin.events import EVENT_JOB_EXECUTED, EVENT_JOBSTORE_ERROR
from tocsin.job import Job
from tocsin.stores.mongodb import MongoDBJobStore
from tocsin.testing import FakeScheduler, JobStoreCompliance, SharedStoreCompliance
from tocsin.triggers.interval import IntervalTrigger

Make = Callable[..., MongoDBJobStore]
_SECOND = 1_000_000


def emptied(url: str, database: str) -> None:
    with MongoClient(url) as client:
        client.drop_database(database)


class TestMongoDBJobStore(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, mongodb: servers.SecantusDB) -> None:
        self.url = mongodb.url
        emptied(self.url, "compliance")

    def make_store(self) -> MongoDBJobStore:
        return MongoDBJobStore(
            "compliance", url=self.url, clock="scheduler", socketTimeoutMS=60_000
        )


class TestMongoDBJobStoreShared(SharedStoreCompliance):
    @pytest.fixture(autouse=True)
    def server(self, mongodb: servers.SecantusDB) -> None:
        self.url = mongodb.url
        emptied(self.url, "shared")

    def make_store(self, **options: Any) -> MongoDBJobStore:
        return MongoDBJobStore("shared", url=self.url, **options)

    def write_record(self, job_id: str, text: str) -> None:
        with MongoClient(self.url) as client:
            client["shared"]["tocsin_jobs"].update_one({"_id": job_id}, {"$set": {"record": text}})
