"""The stores of tocsin, and one as third parties write them, under the suite that tocsin ships."""

from __future__ import annotations

import pickle
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from threading import RLock
from typing import Any

import pytest

from tocsin.errors import ConflictingIdError, JobLookupError
from tocsin.job import Job
from tocsin.stores.base import BaseJobStore
from tocsin.stores.memory import MemoryJobStore
from tocsin.testing import JobStoreCompliance


class SQLiteStore(BaseJobStore):
    """A store of the one-job contract, as the documentation of APScheduler 3 teaches it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.lock = RLock()
        self.database: Any = None

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)
        self.shutdown()  # it may be open
        self.database = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self.execute("PRAGMA synchronous = OFF")
        self.execute(
            "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, next_run REAL, state BLOB)"
        )

    def shutdown(self) -> None:
        if self.database is not None:
            self.database.close()

    def execute(self, statement: str, *values: Any) -> Any:
        with self.lock:
            cursor = self.database.execute(statement, values)
            return cursor.fetchall() if cursor.description else cursor.rowcount

    def lookup_job(self, job_id: str) -> Job | None:
        rows = self.execute("SELECT state FROM jobs WHERE id = ?", job_id)
        return self.restored(rows[0][0]) if rows else None

    def get_due_jobs(self, now: datetime) -> list[Job]:
        rows = self.execute(
            "SELECT state FROM jobs WHERE next_run <= ? ORDER BY next_run", now.timestamp()
        )
        return [self.restored(state) for (state,) in rows]

    def get_next_run_time(self) -> datetime | None:
        ((earliest,),) = self.execute("SELECT min(next_run) FROM jobs")
        return None if earliest is None else datetime.fromtimestamp(earliest, timezone.utc)

    def get_all_jobs(self) -> list[Job]:
        jobs = [
            self.restored(state)
            for (state,) in self.execute("SELECT state FROM jobs ORDER BY next_run")
        ]
        self._fix_paused_jobs_sorting(jobs)
        return jobs

    def add_job(self, job: Job) -> None:
        try:
            self.execute("INSERT INTO jobs VALUES (?, ?, ?)", job.id, *self.written(job))
        except sqlite3.IntegrityError:
            raise ConflictingIdError(job.id) from None

    def update_job(self, job: Job) -> None:
        next_run, state = self.written(job)
        if not self.execute(
            "UPDATE jobs SET next_run = ?, state = ? WHERE id = ?", next_run, state, job.id
        ):
            raise JobLookupError(job.id)

    def remove_job(self, job_id: str) -> None:
        if not self.execute("DELETE FROM jobs WHERE id = ?", job_id):
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        self.execute("DELETE FROM jobs")

    def written(self, job: Job) -> tuple[float | None, bytes]:
        due = job.next_run_time
        return None if due is None else due.timestamp(), pickle.dumps(job.__getstate__())

    def restored(self, state: bytes) -> Job:
        job: Job = Job.__new__(Job)
        job.__setstate__(pickle.loads(state))
        job._scheduler = self._scheduler
        job._jobstore_alias = self._alias
        return job


class TestMemoryJobStore(JobStoreCompliance):
    def make_store(self) -> BaseJobStore:
        return MemoryJobStore()


class TestStoreOfTheOneJobContract(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "jobs.sqlite")

    def make_store(self) -> BaseJobStore:
        return SQLiteStore(self.path)
