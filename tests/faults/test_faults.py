"""Schedulers that share a store, killed, stopped and cut off: what their ledger must say.

``TOCSIN_FAULTS=long`` has the long form run, as ``make test-faults`` does. It bounds how late runs
begin, and wants a machine that has nothing else to do.
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
from support import servers

from tocsin.adapters.background import BackgroundScheduler
from tocsin.triggers.interval import IntervalTrigger

pytestmark = pytest.mark.faults
_LEASE = 3.0
_PERIOD = 1_000_000
_PARTS = 10
_JOBS = 1000 if long_form() else 200
_KILLS = 100 if long_form() else 4
#: How late a run may start besides what is left of a dead scheduler's lease, in seconds. The gate
#: has other things to do meanwhile; there only a take-over that does not come is found.
_TAKE_OVER = 2.0 if long_form() else 15.0
#: Up to so many seconds between two kills: in half of the cases the scheduler that has taken over
#: may be killed before it has caught up, in the others it mostly has the time.
_PAUSES = (1.0, 10.0) if long_form() else (1.0,)
STORES = ("sqlite", "postgresql", "redis", "zookeeper")


def modes(*short: bool) -> pytest.MarkDecorator:
    """Have a test run in some modes, in the long form in both."""
    chosen = (False, True) if long_form() else short
    ids = ["at-least-once" if repeat else "at-most-once" for repeat in chosen]
    return pytest.mark.parametrize("repeat", chosen, ids=ids)


both, at_most_once, at_least_once = modes(False, True), modes(False), modes(True)


def configured(kind: str, url: str, name: str) -> dict[str, Any]:
    """Give the configuration of a store."""
    own = {
        "sqlite": {"type": "sqlalchemy", "url": url},
        "postgresql": {"type": "sqlalchemy", "url": url, "tablename": name},
        "redis": {"type": "redis", "url": url, "jobs_key": name},
        "zookeeper": {"type": "zookeeper", "hosts": url, "path": f"/{name}"},
    }
    return {**own[kind], "lease": _LEASE, "poll_interval": 1.0}


@pytest.fixture(params=STORES)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Give the configuration of a store that is empty."""
    kind = request.param
    if kind == "sqlite":
        return configured(kind, f"sqlite:///{tmp_path}/jobs.sqlite", "")
    server: Any = request.getfixturevalue("redis_server" if kind == "redis" else kind)
    return configured(kind, server.url, f"faults_{time.time_ns()}")


@pytest.fixture
def cluster(options: dict[str, Any], tmp_path: Path) -> Iterator[Cluster]:
    """Give processes that share a store."""
    made = Cluster(tmp_path, options)
    yield made
    made.close()


def add_jobs(options: dict[str, Any], count: int = _JOBS, seconds: int = 1, **rules: Any) -> None:
    """Store jobs that run each second, or more seldom, and lose no run by coalescing.

    They are due in `_PARTS` parts of a second, so that no member has them all for a while.
    """
    scheduler = BackgroundScheduler(jobstores={"default": options}, timezone="UTC")
    scheduler.start(paused=True)
    start = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=3)
    triggers = [
        IntervalTrigger(
            seconds=seconds, start_date=start + timedelta(seconds=part / _PARTS), timezone="UTC"
        )
        for part in range(_PARTS)
    ]
    scheduler.add_jobs(
        [
            {"id": f"job-{number:04}", "trigger": triggers[number % _PARTS]}
            for number in range(count)
        ],
        func=work,
        coalesce=False,
        max_instances=1000,
        **rules,
    )
    scheduler.shutdown()


def settle_down(cluster: Cluster) -> Account:
    """Let the members take over what is left, stop them, and read the ledger."""
    end = time.monotonic() + _LEASE + 3
    while time.monotonic() < end:
        cluster.wait_for_runs(cluster.members[0], 30)
    cluster.stop()
    return cluster.account()


def tell(account: Account) -> None:
    """Print what the figures of a test are, which pytest shows with ``-rP``."""
    print(
        f"{len(account.started)} runs, {len(account.doubled())} doubled, {len(account.lost)} lost,"
        f" {sum(count > 1 for count in account.lost.values())} of them told of again,"
        f" {len(account.kills)} kills; began late by"
        + "".join(f" {account.late(share):.2f} s ({share:.0%})" for share in (0.5, 0.9, 0.99, 1.0))
    )


def check_nothing_else(account: Account) -> None:
    """No run was skipped, coalesced or failed."""
    assert set(account.others) <= {"READY", "DONE"}


def check_at_most_once(account: Account) -> None:
    """Nothing ran twice, and what did not run was reported: by one process, or by several."""
    assert account.doubled() == []
    check_nothing_else(account)
    missing = account.expected(_PERIOD) - set(account.started)
    assert missing <= set(account.lost), sorted(missing - set(account.lost))[:10]
    assert max(account.told.values(), default=1) == 1


def check_at_least_once(account: Account) -> None:
    """Every run was finished by somebody."""
    check_nothing_else(account)
    missing = account.expected(_PERIOD) - set(account.executed)
    assert missing == set(), sorted(missing)[:10]
    assert account.lost == {}


CHECKS: dict[bool, Callable[[Account], None]] = {
    False: check_at_most_once,
    True: check_at_least_once,
}


@pytest.mark.timeout(3600 if long_form() else 180)
@both
def test_members_are_killed(cluster: Cluster, options: dict[str, Any], repeat: bool) -> None:
    add_jobs(options, at_least_once=repeat)
    chance = random.Random(20261125)
    for _ in range(3):
        cluster.spawn()
    for _ in range(_KILLS):
        victim = chance.choice(cluster.members)
        cluster.wait_for_runs(victim, 30)
        time.sleep(chance.random() * chance.choice(_PAUSES))
        cluster.kill(victim)
        cluster.spawn()
    account = settle_down(cluster)
    assert len(account.by_process) >= 3
    tell(account)
    CHECKS[repeat](account)
    assert account.overdue(_LEASE, _TAKE_OVER) <= 0
    assert account.late(0.99) <= _LEASE + _TAKE_OVER


@pytest.mark.timeout(600)
def test_who_tells_of_losses_is_killed(cluster: Cluster, options: dict[str, Any]) -> None:
    """The next one tells of the loss that it was at, and of those that it had not come to."""
    add_jobs(options, 40, args=[1.0])  # more than they have threads for, so that some wait
    for member in [cluster.spawn(hesitates=3) for _ in range(3)]:
        cluster.wait_for_runs(member, 30)
    time.sleep(3)
    victim = cluster.members[0]
    for _ in range(10 if long_form() else 2):
        offset = cluster.path.stat().st_size
        cluster.kill(victim)
        cluster.spawn(hesitates=3)
        victim = cluster.wait_for_a_loss(offset, 60)
    cluster.kill(victim)
    account = settle_down(cluster)
    tell(account)
    check_at_most_once(account)
    assert max(account.lost.values()) > 1


@pytest.mark.timeout(600)
@at_most_once
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


@at_most_once
def test_the_clocks_of_members_differ(
    cluster: Cluster, options: dict[str, Any], repeat: bool
) -> None:
    add_jobs(options, at_least_once=repeat)
    members = [cluster.spawn(skew=skew) for skew in (-300, 0, 300)]
    for member in members:
        cluster.wait_for_runs(member, 30)
    account = settle_down(cluster)
    CHECKS[repeat](account)
    assert account.lost == {}
    # In time by the true clock, and not by the wrong one.
    assert min(account.lateness.values()) > -1
    assert account.late() <= _TAKE_OVER + _LEASE


@pytest.mark.timeout(1800)
def test_many_members_share_many_jobs(cluster: Cluster, options: dict[str, Any]) -> None:
    """All jobs become due at once, and each is had by one of many."""
    members, jobs = (10, 100_000) if long_form() else (4, 2000)
    for _ in range(members):
        cluster.spawn()
    add_jobs(options, jobs, seconds=86_400)
    cluster.wait(lambda text: text.count(" JOB_EXECUTED ") >= jobs, 1200, every=0.5)
    cluster.stop()
    account = cluster.account()
    check_nothing_else(account)
    assert sorted(account.started.values()) == sorted(account.executed.values()) == [1] * jobs
    assert len(account.by_process) > 1
    print(f"{jobs} jobs: the last began {max(account.lateness.values()):.1f} s after it was due")


SERVERS: dict[str, type[servers.Server]] = {
    "postgresql": servers.PostgreSQL,
    "redis": servers.Redis,
    "zookeeper": servers.ZooKeeper,
}


@pytest.mark.timeout(600)
@at_least_once
@pytest.mark.parametrize("kind", SERVERS)
def test_the_server_fails(
    kind: str, repeat: bool, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    """It is killed and restarted, stopped for a while, silent, and cut off, in turn."""
    server = start_server(SERVERS[kind], durable=True)
    with servers.Proxy(server.port) as proxy:
        url = server.url.replace(f":{server.port}", f":{proxy.port}")
        cluster = Cluster(tmp_path, configured(kind, url, "faults"))
        try:
            add_jobs(cluster.options, at_least_once=repeat)
            members = [cluster.spawn() for _ in range(2)]

            def works() -> None:
                for member in members:
                    cluster.wait_for_runs(member, 60)

            for _ in range(5 if long_form() else 1):
                works()
                server.kill()
                server.restart()
                works()
                server.pause()
                time.sleep(_LEASE + 2)
                server.resume()
                works()
                proxy.hold()
                time.sleep(_LEASE + 2)
                proxy.resume()
                works()
                proxy.cut()
                time.sleep(1)
                proxy.resume()
            works()
            account = settle_down(cluster)
        finally:
            cluster.close()
    CHECKS[repeat](account)


@pytest.mark.timeout(600)
@at_most_once
def test_the_leader_of_the_ensemble_is_killed(
    repeat: bool, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    ensemble = start_server(servers.ZooKeeperEnsemble, durable=True)
    cluster = Cluster(tmp_path, configured("zookeeper", ensemble.url, "faults"))
    try:
        add_jobs(cluster.options, at_least_once=repeat)
        members = [cluster.spawn() for _ in range(2)]
        for _ in range(10 if long_form() else 2):
            for member in members:
                cluster.wait_for_runs(member, 60)
            leader = ensemble.leader()
            leader.kill()
            time.sleep(3)
            leader.restart()
        account = settle_down(cluster)
    finally:
        cluster.close()
    CHECKS[repeat](account)
