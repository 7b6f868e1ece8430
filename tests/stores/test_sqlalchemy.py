"""The store of SQL databases, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, update

from tocsin.stores.base import BaseJobStore
from tocsin.stores.shared import SharedJobStore
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore
from tocsin.testing import JobStoreCompliance, SharedStoreCompliance


class TestSQLite(JobStoreCompliance):
    @pytest.fixture(autouse=True)
    def address(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"

    def make_store(self) -> BaseJobStore:
        return SQLAlchemyJobStore(self.url, clock="scheduler")


class Shared(SharedStoreCompliance):
    url: str
    tablename = "tocsin_jobs"

    def make_store(self, **options: Any) -> SharedJobStore:
        return SQLAlchemyJobStore(self.url, tablename=self.tablename, **options)

    def write_record(self, job_id: str, text: str) -> None:
        engine = create_engine(self.url)
        jobs = self.make_store().tables.jobs
        with engine.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(record=text))
        engine.dispose()


class TestSQLiteShared(Shared):
    @pytest.fixture(autouse=True)
    def address(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"


_numbers = itertools.count()


class OnServer:
    """Tables of its own in a database that all tests share."""

    server = ""

    @pytest.fixture(autouse=True)
    def address(self, request: pytest.FixtureRequest) -> None:
        self.url = request.getfixturevalue(self.server).url
        self.tablename = f"jobs_{os.getpid()}_{next(_numbers)}"

    def make_store(self) -> BaseJobStore:
        return SQLAlchemyJobStore(self.url, tablename=self.tablename, clock="scheduler")


class TestPostgreSQL(OnServer, JobStoreCompliance):
    server = "postgresql"


class TestPostgreSQLShared(OnServer, Shared):
    server = "postgresql"
    make_store = Shared.make_store


class TestMariaDB(OnServer, JobStoreCompliance):
    server = "mariadb"


class TestMariaDBShared(OnServer, Shared):
    server = "mariadb"
    announces = False
    make_store = Shared.make_store
