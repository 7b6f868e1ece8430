"""Races between processes: each prepares, then they take turns, so that noise hits all alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
PROGRAM = Path(__file__).with_name("turns_process.py")


class NoSuchStep(Exception):
    """A contestant ended instead of taking its turn; its error output says why."""


class Contestant:
    """A process that takes turns; see `turns_process.py`.

    ``python`` is the interpreter of the installation to measure. The environment is this one's,
    but with the engine that was asked for.
    """

    def __init__(self, *arguments: str, python: str = sys.executable, pure: bool = False) -> None:
        engine = {"TOCSIN_PURE": "1"} if pure else {"TOCSIN_REQUIRE_COMPILED": "1"}
        others = {
            name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")
        }
        self._process = subprocess.Popen(
            [python, str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**others, **engine},
        )
        if self._answer() != "ready":
            raise NoSuchStep(self._error())

    def turn(self, step: str) -> float:
        """Take a turn; give the nanoseconds of one of what is counted."""
        assert self._process.stdin is not None
        try:
            print(step, file=self._process.stdin, flush=True)
            return float(self._answer())
        except (BrokenPipeError, ValueError):
            raise NoSuchStep(self._error()) from None

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _error(self) -> str:
        _, error = self._process.communicate()
        return f"{' '.join(map(str, self._process.args[1:]))}:\n{error}"  # type: ignore[index]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def measure_memory(side: str, jobs: int, python: str = sys.executable) -> float:
    """Give the bytes of a job among so many, in a process of its own; the same in every one."""
    command = [python, str(PROGRAM), "memory", side, str(jobs)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def take_turns(
    contestants: Mapping[Name, Contestant], step: str, rounds: int
) -> dict[Name, list[float]]:
    """Have all take so many turns after one to warm up, each round in the other direction."""
    times: dict[Name, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(rounds + 1):
        for name in order:
            elapsed = contestants[name].turn(step)
            if number:
                times[name].append(elapsed)
        order.reverse()
    return times
