"""One suite for both builds of the engine.

The whole suite runs twice: as installed, and with ``TOCSIN_PURE=1`` on the interpreted engine.
Tests marked ``compiled`` compare the two builds and belong to the compiled run alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, Phase, settings
from support import servers

import tocsin

# Suites that tests derive from: what is wrong is to be shown as in a test.
pytest.register_assert_rewrite("support.rowstores", "support.shardstores")

PURE = os.environ.get("TOCSIN_PURE", "0") not in ("", "0")

# The size of a run is bounded by its number of examples, never by the clock: a busy machine
# must not turn a right answer into a failure. HYPOTHESIS_PROFILE=thorough looks harder; mutation
# looks less, and does not make a failure small, for it is asked of thousands of mutants.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", max_examples=100, derandomize=True, database=None, **_COMMON)
settings.register_profile("thorough", max_examples=3000, **_COMMON)
settings.register_profile(
    "mutation",
    max_examples=25,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
    **_COMMON,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_report_header() -> str:
    return f"tocsin engine: {'compiled' if tocsin.COMPILED else 'interpreted'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not PURE:
        return
    dropped = [item for item in items if item.get_closest_marker("compiled")]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in dropped]


def pytest_sessionfinish() -> None:
    """Write down what a worker has covered before it says that it has finished.

    Ten seconds later it is killed, and coverage.py writes only as the process ends.
    """
    if "PYTEST_XDIST_WORKER" in os.environ and "coverage" in sys.modules:
        measured = sys.modules["coverage"].Coverage.current()
        if measured is not None:
            measured.save()


Kind = TypeVar("Kind", bound="servers.Server | servers.ZooKeeperEnsemble")
Start = Callable[..., Any]


def installed(kind: type[Kind]) -> type[Kind]:
    """Skip the test when a server is not installed, but fail where all of them have to be."""
    try:
        kind.find()
    except servers.ServerMissing as missing:
        if os.environ.get("CI") or os.environ.get("TOCSIN_REQUIRE_SERVERS"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    return kind


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Start]:
    """Start a server for this test alone: ``start_server(Redis, durable=True)``."""
    with ExitStack() as stack:

        def start(kind: type[Kind], **options: Any) -> Kind:
            folder = tmp_path / f"{kind.__name__}-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(installed(kind)(folder, **options))

        yield start


def shared(kind: type[Kind]) -> Callable[[pytest.TempPathFactory], Kind]:
    """Make a fixture that gives the one server of a kind that all workers of a run share.

    The first test that needs it starts it. It ends with pytest's first process.
    """

    def share(tmp_path_factory: pytest.TempPathFactory) -> Kind:
        folder = tmp_path_factory.getbasetemp()
        owner = os.getpid()
        if "PYTEST_XDIST_WORKER" in os.environ:
            folder = folder.parent
            owner = os.getppid()
        folder = folder / "servers" / kind.__name__
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            server = installed(kind)(folder, owner=owner)
            if (folder / "ready").exists():
                server.attach()
            else:
                server.start()
                server.detach()
                (folder / "ready").touch()
        return server

    return share


_shared = pytest.fixture(scope="session")
postgresql = _shared(shared(servers.PostgreSQL))
mariadb = _shared(shared(servers.MariaDB))
redis_server = _shared(shared(servers.Redis))
zookeeper = _shared(shared(servers.ZooKeeper))
zookeeper_ensemble = _shared(shared(servers.ZooKeeperEnsemble))
etcd = _shared(shared(servers.Etcd))
etcd_with_users = _shared(shared(servers.EtcdWithUsers))
mongodb = _shared(shared(servers.SecantusDB))
mongodb_nx = _shared(shared(servers.NX27017))
