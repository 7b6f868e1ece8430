"""Claims a second against the number of schedulers that share one store.

Each scheduler is a process; together they claim, advance and settle 8,000 jobs by batches of 100.
APScheduler's stores can't be shared: there is nothing to race but one scheduler alone, in turns.
More schedulers than there are processors share those.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from support.servers import MariaDB, PostgreSQL, Redis

from benchmarks.races import MOST_ROUNDS, SIZES, Report, divide

PROGRAM = Path(__file__).with_name("sharing_process.py")
SCHEDULERS = (1, 2, 4, 8)
JOBS = min(8_000, max(SIZES))
ROUNDS = 7
SQL = "tocsin.stores.sqlalchemy:SQLAlchemyJobStore"
SERVERS: dict[str, tuple[Any, str]] = {
    "SQLite": (None, SQL),
    "PostgreSQL": (PostgreSQL, SQL),
    "MariaDB": (MariaDB, SQL),
    "Redis": (Redis, "tocsin.stores.redis:RedisJobStore"),
}


class Member:
    """A process of `sharing_process.py`."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str) -> None:
        """Have it do something, and do not wait."""
        print(line, file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """Wait until it has done it."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(params=SERVERS)
def members(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, list[Member]]]:
    """Give the name of the server, and as many members as there are at most."""
    kind, store = SERVERS[request.param]
    with ExitStack() as stack:
        if kind is None:
            url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
        else:
            url = stack.enter_context(kind(tmp_path / "server", durable=True)).url
        made = []
        for _ in range(max(SCHEDULERS)):
            made.append(Member(store, json.dumps({"url": url})))
            stack.callback(made[-1].close)
        yield request.param, made


def all_of(members: list[Member], line: str) -> list[Any]:
    for each in members:
        each.ask(line)
    return [each.answer() for each in members]


def claims_a_second(members: list[Member]) -> float:
    """Have all claim their part at the same time."""
    all_of(members, "open")
    spans = all_of(members, f"claim {JOBS // len(members)}")
    all_of(members, "close")
    begins, ends = zip(*spans, strict=True)
    return float(JOBS / (max(ends) - min(begins)))


def test_sharing(
    members: tuple[str, list[Member]], benchmark: BenchmarkFixture, report: Report
) -> None:
    name, processes = members
    all_of(processes[:1], f"fill {JOBS}")
    rates: dict[int, list[float]] = {number: [] for number in SCHEDULERS}

    def race() -> None:
        claims_a_second(processes[:1])  # to warm up
        for _ in range(min(ROUNDS, MOST_ROUNDS)):
            for number, found in rates.items():
                found.append(claims_a_second(processes[:number]))

    benchmark.pedantic(race, rounds=1)
    benchmark.extra_info["claims a second"] = {
        str(number): round(median(found)) for number, found in rates.items()
    }
    for number, found in rates.items():
        ratio = divide(found, rates[1])
        report.point("claims", "rate", name, number, found)
        report.point("claims", "ratio", name, number, ratio)
        if number > 1:
            report.figure(f"{name}: claims a second of {number} schedulers / of one", ratio)
