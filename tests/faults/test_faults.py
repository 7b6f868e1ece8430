"""Schedulers that share a store, killed, stopped and cut off: what their ledger must say.

``TOCSIN_FAULTS=long`` has the long form run, as ``make test-faults`` does.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from faults.ledger import Account, Cluster, long_form
from faults.member import work

from tocsin.adapters.background import BackgroundScheduler
from tocsin.triggers.interval import IntervalTrigger

_LEASE = 3.0
_PERIOD = 1_000_000
_JOBS = 1000 if long_form() else 200
_KILLS = 100 if long_form() else 4
#: How late a run may start whose scheduler has died: the lease plus this, in seconds.
_TAKE_OVER = 2.0
STORES = ("sqlite", "postgresql", "redis", "zookeeper")


@pytest.fixture(params=STORES)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Give the configuration of a store that is empty."""
    name = f"faults_{request.node.name.encode().hex()[-24:]}_{time.time_ns()}"
    common = {"lease": _LEASE, "poll_interval": 1.0}
    if request.param == "sqlite":
        return {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/jobs.sqlite", **common}
    server: Any = request.getfixturevalue(
        {"postgresql": "postgresql", "redis": "redis_server", "zookeeper": "zookeeper"}[
            request.param
        ]
    )
    if request.param == "postgresql":
        return {"type": "sqlalchemy", "url": server.url, "tablename": name, **common}
    if request.param == "redis":
        return {"type": "redis", "url": server.url, "jobs_key": name, **common}
    return {"type": "zookeeper", "hosts": server.url, "path": f"/{name}", **common}


@pytest.fixture
def cluster(options: dict[str, Any], tmp_path: Path) -> Iterator[Cluster]:
    """Give processes that share a store."""
    made = Cluster(tmp_path, options)
    yield made
    made.close()


def add_jobs(options: dict[str, Any], **rules: Any) -> None:
    """Store jobs that run each second and lose no run by coalescing."""
    scheduler = BackgroundScheduler(jobstores={"default": options}, timezone="UTC")
    scheduler.start(paused=True)
    start = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=3)
    scheduler.add_jobs(
        [{"id": f"job-{number:04}"} for number in range(_JOBS)],
        func=work,
        trigger=IntervalTrigger(seconds=1, start_date=start, timezone="UTC"),
        coalesce=False,
        max_instances=1000,
        **rules,
    )
    scheduler.shutdown()


def settle_down(cluster: Cluster) -> Account:
    """Let the members take over what is left, stop them, and read the ledger."""
    end = time.monotonic() + _LEASE + _TAKE_OVER + 1
    while time.monotonic() < end:
        cluster.wait_for_runs(cluster.members[0], 30)
    cluster.stop()
    return cluster.account()


def check_at_most_once(account: Account) -> None:
    """Nothing ran twice, and what did not run was reported."""
    assert account.doubled() == []
    missing = account.expected(_PERIOD) - set(account.started)
    assert missing <= set(account.lost), sorted(missing - set(account.lost))[:10]
    assert max(account.lost.values(), default=1) == 1


def check_at_least_once(account: Account) -> None:
    """Every run was finished by somebody."""
    missing = account.expected(_PERIOD) - set(account.executed)
    assert missing == set(), sorted(missing)[:10]
    assert account.lost == {}


CHECKS: dict[bool, Callable[[Account], None]] = {
    False: check_at_most_once,
    True: check_at_least_once,
}


@pytest.mark.timeout(3600 if long_form() else 180)
@pytest.mark.parametrize("repeat", [False, True], ids=["at-most-once", "at-least-once"])
def test_members_are_killed(cluster: Cluster, options: dict[str, Any], repeat: bool) -> None:
    add_jobs(options, at_least_once=repeat)
    chance = random.Random(20261125)
    for _ in range(3):
        cluster.spawn()
    for _ in range(_KILLS):
        victim = chance.choice(cluster.members)
        cluster.wait_for_runs(victim, 30)
        time.sleep(chance.random())
        cluster.kill(victim)
        cluster.spawn()
    account = settle_down(cluster)
    assert len(account.by_process) >= 3
    CHECKS[repeat](account)
    assert max(account.lateness.values()) <= _LEASE + _TAKE_OVER


@pytest.mark.timeout(600)
@pytest.mark.parametrize("repeat", [False, True], ids=["at-most-once", "at-least-once"])
def test_a_member_sleeps_longer_than_its_lease(
    cluster: Cluster, options: dict[str, Any], repeat: bool
) -> None:
    add_jobs(options, at_least_once=repeat)
    sleeper, *_ = [cluster.spawn() for _ in range(3)]
    for _ in range(10 if long_form() else 1):
        cluster.wait_for_runs(sleeper, 30)
        sleeper.send_signal(signal.SIGSTOP)
        time.sleep(_LEASE + 2)
        sleeper.send_signal(signal.SIGCONT)
        cluster.wait_for_runs(sleeper, 30)
    account = settle_down(cluster)
    CHECKS[repeat](account)
