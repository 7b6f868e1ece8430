"""URLs of stores that are not there yet, one on each kind of server."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest


def _sql(request: pytest.FixtureRequest, server: str) -> str:
    url: str = request.getfixturevalue(server).url
    return f"{url}{'&' if '?' in url else '?'}tablename=cli_{uuid4().hex[:12]}"


KINDS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "sqlite": lambda request: f"sqlite:///{request.getfixturevalue('tmp_path') / 'jobs.sqlite'}",
    "postgresql": lambda request: _sql(request, "postgresql"),
    "mariadb": lambda request: _sql(request, "mariadb"),
    "redis": lambda request: (
        f"{request.getfixturevalue('redis_server').url}?jobs_key=cli {uuid4().hex}"
    ),
    "mongodb": lambda request: (
        f"{request.getfixturevalue('mongodb').url}cli_{uuid4().hex}?collection=them"
    ),
    "zookeeper": lambda request: (
        f"zookeeper://{request.getfixturevalue('zookeeper').url}/cli/{uuid4().hex}"
    ),
    "etcd": lambda request: f"etcd://{request.getfixturevalue('etcd').address}/cli/{uuid4().hex}",
}
