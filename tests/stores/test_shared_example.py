"""The example of two processes that share a store."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support import servers

EXAMPLE = Path(__file__).parents[2] / "examples" / "shared_store.py"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_each_run_is_had_by_one(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    if kind == "redis":
        server: servers.Redis = request.getfixturevalue("redis_server")
        url = f"redis://{server.address}/9"
        with Redis.from_url(url) as client:
            client.flushdb()
    command: list[Any] = [sys.executable, "-W", "error", EXAMPLE, url, "5"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = "".join(out for out, _ in outputs).splitlines()
    runs = [re.sub(r"^process \d+: ", "", line) for line in lines]
    assert len(runs) >= 6, outputs
    assert all(re.fullmatch(r"ran (bread|cake) of \d\d:\d\d:\d\d", run) for run in runs), outputs
    assert len(set(runs)) == len(runs)
