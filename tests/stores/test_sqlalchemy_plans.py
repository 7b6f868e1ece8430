"""The work of PostgreSQL for the steps of the store, as `auto_explain` tells it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, event

from tocsin.convert import edge_of
from tocsin.job import Job
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore
from tocsin.testing import FakeScheduler
from tocsin.triggers.interval import IntervalTrigger

_JOBS = 500
#: For each run: pages of tables and indexes that are touched, and rows that are looked at.
_MOST = 50
_SETTINGS = {
    "log_min_duration": "0",
    "log_analyze": "on",
    "log_buffers": "on",
    "log_timing": "off",
    "log_format": "json",
    "log_level": "notice",
}


def nothing() -> None:
    """Be a job."""


def work(plan: dict[str, Any]) -> float:
    """Count the pages that a plan has touched, and the rows that it has looked at."""
    pages = float(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    def rows(node: dict[str, Any]) -> float:
        each = sum(
            node.get(name, 0)
            for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
        )
        return float(each * node["Actual Loops"] + sum(map(rows, node.get("Plans", ()))))

    return pages + rows(plan)


@pytest.fixture(params=["psycopg", "psycopg2", "psycopg without memoize"])
def told(request: pytest.FixtureRequest, postgresql: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Give an engine, and the list that gets the plan of each statement that it executes."""
    driver, _, without = request.param.partition(" without ")
    engine = create_engine(postgresql.url.replace("+psycopg", f"+{driver}"))
    plans: list[Any] = []

    def tell(text: str) -> None:
        found = re.search(r"\bplan:\n(\{.*\})", text, re.DOTALL)
        if found:
            plan = json.loads(found[1])
            plans.append((work(plan["Plan"]), plan))

    class Notices(list[str]):
        def append(self, text: str) -> None:
            tell(text)

    @event.listens_for(engine, "connect")
    def ask(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("LOAD 'auto_explain'")
        for name, value in _SETTINGS.items():
            cursor.execute(f"SET auto_explain.{name} = {value}")
        if without:  # a way to join that PostgreSQL 13 and older do not have
            setting = "SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = %s"
            cursor.execute(setting, (f"enable_{without}",))
        connection.commit()
        if driver == "psycopg":
            connection.add_notice_handler(lambda diagnostic: tell(diagnostic.message_primary))
        else:
            connection.notices = Notices()

    yield engine, plans
    engine.dispose()


def test_a_run_costs_as_much_after_the_table_of_runs_was_empty(
    told: tuple[Any, list[Any]],
) -> None:
    """What the planner knew of an empty table must not be had for thousands of runs."""
    engine, plans = told
    scheduler = FakeScheduler()
    store = SQLAlchemyJobStore(engine=engine, tablename=f"jobs_plans_{uuid4().hex}")
    store.start(scheduler, "default")
    with engine.begin() as connection:  # only what the steps below do counts
        name = store.tables.runs.name
        connection.exec_driver_sql(f"ALTER TABLE {name} SET (autovacuum_enabled = off)")
    due = scheduler.clock.now() - 1_000_000_000
    start = edge_of(scheduler.timezone).moment(due)

    def add(first: int, end: int) -> None:
        store.add_jobs([job(number) for number in range(first, end)], False)

    def job(number: int) -> Job:
        return Job(
            scheduler,
            nothing,
            id=f"job {number:04}",
            trigger=IntervalTrigger(hours=1, start_date=start - timedelta(hours=1)),
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
            next_run=due,
            at_least_once=True,
        )

    def step() -> None:
        claimed = store.claim(scheduler.clock.now(), 1000)
        claims = [(each, each._next_run or 0, (each._next_run or 0) + 1) for each in claimed]
        assert all(store.advance(claims))
        member = store._member
        assert member is not None
        assert all(store._settle(member, [each._handle for each in claimed]))

    def vacuum(how: str) -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM {how} {store.tables.runs.name}")

    steps: list[Callable[[], None]] = [
        lambda: add(0, 5),
        # More often than psycopg and PostgreSQL wait until they keep a plan.
        *[step] * 12,
        # The table has no page.
        lambda: vacuum(""),
        *[step] * 2,
        lambda: add(5, _JOBS),
        *[step] * 3,
        # It has pages, and is thought to have no rows.
        lambda: vacuum("(TRUNCATE FALSE)"),
        *[step] * 3,
    ]
    for each in steps:
        each()
    store.shutdown()
    assert len(plans) > 3 * steps.count(step)
    worst, plan = max(plans, key=lambda found: found[0])
    assert worst < _MOST * _JOBS, json.dumps(plan, indent=1)
