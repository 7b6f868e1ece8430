"""Jobs for a pool of processes, in a module that its processes can import."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any


def kill_when(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once(path: str) -> None:
    if not os.path.exists(path):
        with open(path, "x"):
            os.kill(os.getpid(), signal.SIGKILL)


def lock() -> Any:
    return threading.Lock()


class Puzzle:
    """What is pickled well and can't be read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def puzzle() -> Any:
    return Puzzle()
