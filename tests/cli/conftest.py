"""Processes of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.running import Running


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start it on a file of some text."""
    started = []

    def run(text: str, *arguments: str, name: str = "schedule.toml") -> Running:
        (tmp_path / name).write_text(text)
        running = Running(tmp_path, name, *arguments)
        started.append(running)
        return running

    yield run
    for running in started:
        running.close()
