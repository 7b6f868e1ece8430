"""The fake clock, the fake scheduler, and a compliance suite for each kind of plug-in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tocsin import BaseTrigger
from tocsin.adapters import ThreadPoolExecutor
from tocsin.executors import BaseExecutor
from tocsin.stores import BaseJobStore
from tocsin.stores.shared import SharedJobStore
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore
from tocsin.testing import (
    ExecutorCompliance,
    FakeClock,
    FakeScheduler,
    JobStoreCompliance,
    PoolCompliance,
    SharedStoreCompliance,
    TriggerCompliance,
)

from .executors import AtOnceExecutor
from .stores import DictJobStore
from .triggers import NextFullHour


def a_month() -> list[str]:
    """Live through a month."""
    clock = FakeClock("2026-03-01")
    scheduler = FakeScheduler(clock=clock, timezone="Europe/Berlin")
    log: list[str] = []
    scheduler.add_job(log.append, "cron", hour=2, args=["backup"])
    scheduler.start()
    clock.advance(timedelta(days=31))
    clock.advance_to("2026-05-01")
    clock.set_time(datetime(2026, 6, 1))
    same: FakeClock = scheduler.clock
    time: datetime = same.time
    instant: int = same.now()
    clock.cancel(clock.call_at(instant, scheduler.shutdown))
    return [*log, time.isoformat()]


class TestTrigger(TriggerCompliance):
    """The trigger of the user's own."""

    def make_trigger(self) -> BaseTrigger:
        """Make it."""
        return NextFullHour()


class TestStore(JobStoreCompliance):
    """The store of the user's own."""

    def make_store(self) -> BaseJobStore:
        """Make it."""
        return DictJobStore()


class TestSharedStore(SharedStoreCompliance):
    """A store that schedulers share."""

    def make_store(self, **options: Any) -> SharedJobStore:
        """Make it."""
        return SQLAlchemyJobStore("sqlite:///jobs.sqlite", **options)

    def write_record(self, job_id: str, text: str) -> None:
        """Spoil a record."""
        raise NotImplementedError


class TestExecutor(ExecutorCompliance):
    """The executor of the user's own."""

    def make_executor(self) -> BaseExecutor:
        """Make it."""
        return AtOnceExecutor()


class TestPool(PoolCompliance):
    """An executor that runs jobs beside each other."""

    def make_executor(self) -> BaseExecutor:
        """Make it."""
        return ThreadPoolExecutor(3)
