"""Every job store, and one of the user's own."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy

from tocsin.adapters import BackgroundScheduler
from tocsin.codecs import Codec
from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores import BaseJobStore, MemoryJobStore
from tocsin.stores.etcd import EtcdJobStore
from tocsin.stores.mongodb import MongoDBJobStore
from tocsin.stores.redis import RedisJobStore
from tocsin.stores.rethinkdb import RethinkDBJobStore
from tocsin.stores.shared import SharedJobStore
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore
from tocsin.stores.zookeeper import ZooKeeperJobStore

codec = Codec(
    allowed_modules=["shop"],
    value_codecs={Decimal: ("price", str, Decimal)},
    pickle_key="env:TOCSIN_KEY",
    max_bytes=4096,
)
shared: list[SharedJobStore] = [
    SQLAlchemyJobStore("sqlite:///jobs.sqlite", tablename="jobs", lease=30, codec=codec),
    SQLAlchemyJobStore(engine=sqlalchemy.create_engine("sqlite://"), allowed_modules="shop"),
    RedisJobStore(host="localhost", jobs_key="jobs", replicas=1, replica_timeout=0.5),
    MongoDBJobStore("tocsin", "jobs", url="mongodb://localhost", clock="scheduler"),
    RethinkDBJobStore(database="tocsin", table="jobs", poll_interval=2.5),
    ZooKeeperJobStore("/jobs", hosts="localhost:2181", shards=8),
    EtcdJobStore("/jobs", host="localhost", create=False),
]


class DictJobStore(BaseJobStore):
    """A store of the user's own, by the contract of APScheduler 3."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def lookup_job(self, job_id: str) -> Job | None:
        """Give the job of an id, or None."""
        return self.jobs.get(job_id)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """List the jobs that are due."""
        return [
            job for job in self.get_all_jobs() if job.next_run_time and job.next_run_time <= now
        ]

    def get_next_run_time(self) -> datetime | None:
        """Give the earliest run time."""
        return min(
            (job.next_run_time for job in self.jobs.values() if job.next_run_time), default=None
        )

    def get_all_jobs(self) -> list[Job]:
        """List all jobs."""
        return list(self.jobs.values())

    def add_job(self, job: Job) -> None:
        """Add a job."""
        if job.id in self.jobs:
            raise ConflictingIdError(job.id)
        self.jobs[job.id] = job

    def update_job(self, job: Job) -> None:
        """Write a job anew."""
        if job.id not in self.jobs:
            raise JobLookupError(job.id)
        self.jobs[job.id] = job

    def remove_job(self, job_id: str) -> None:
        """Take a job out."""
        if self.jobs.pop(job_id, None) is None:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        """Take all jobs out."""
        self.jobs.clear()


options: dict[str, Any] = {"url": "sqlite://"}
scheduler = BackgroundScheduler(jobstores={"default": MemoryJobStore(), "own": DictJobStore()})
scheduler.add_jobstore("sqlalchemy", "kept", **options)
scheduler.add_jobstore(shared[0], alias="shared")
scheduler.remove_jobstore("kept", shutdown=False)
