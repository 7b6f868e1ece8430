"""The store of SQL databases, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert, select, update

from tocsin.stores.base import BaseJobStore
from tocsin.stores.shared import SharedJobStore
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore
from tocsin.testing import FakeScheduler, JobStoreCompliance, SharedStoreCompliance


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

    def test_a_late_holder_is_refused_when_its_run_is_had_again(self) -> None:
        one, other = self.open(), self.open()
        one.add_jobs([self.job("again", at_least_once=True)], False)
        late = [job._handle for job in self.started(one)]
        for taker in (other, one, other):
            self.clock.advance(self.lease + 1)
            (found,) = self.recovered(taker)
            assert found.job is not None
            late.append(found.job._handle)
        assert other._settle(other._member or "", late) == [False, False, False, True]
        one._renew_lease(self.clock.now())
        for _ in range(4):  # the same run once more, with the fences that follow
            one.modify_job("again", {"_next_run": self.at(0)})
            (job,) = self.claimed(one)
            assert one.advance([(job, self.at(0), self.at(3600))]) == [True]
            assert one._settle(one._member or "", late) == [False] * 4
            assert self.settled(one, job) == [True]


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


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_two_threads_begin_the_lease_of_one_member(
    server: str, request: pytest.FixtureRequest
) -> None:
    """As when its scheduler and the thread that keeps the lease find at once that it is gone."""
    tablename = f"jobs_{os.getpid()}_{next(_numbers)}"
    store = SQLAlchemyJobStore(request.getfixturevalue(server).url, tablename=tablename)
    engine = create_engine(request.getfixturevalue(server).url)
    store.start(FakeScheduler(), "default")
    members = store.tables.members
    others = []

    def be_first(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(f"INSERT INTO {members.name}") and not others:
            others.append(statement)
            with engine.begin() as other:
                other.execute(insert(members).values(name="me", expires_at=1))

    with store._engine.connect() as connection:
        event.listen(store._engine, "before_cursor_execute", be_first)
        _, known = store._database.renew(connection, "me", None, 1_000_000)
        rows = connection.execute(select(members).where(members.c.name == "me")).all()
    assert (known, len(others), len(rows)) == (True, 1, 1)
    assert rows[0].expires_at > 1
    store.shutdown()
    engine.dispose()
