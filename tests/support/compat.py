"""Programs written for APScheduler, run on it and on tocsin, each in a process of its own."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

from support.programs import printed

PROGRAMS = Path(__file__).parents[1] / "compat" / "programs"
SIDES = ("apscheduler", "tocsin")


def python(*arguments: str) -> str:
    """Run Python, which must end well; give what it prints."""
    env = {"PYTHONHASHSEED": "0", "QT_QPA_PLATFORM": "offscreen"}
    return printed(sys.executable, *arguments, cwd=PROGRAMS, env=env, patience=120)


@functools.cache
def run(side: str, program: str, *arguments: str) -> dict[str, Any]:
    """Run the scenarios of a program; give what each gave, by its name."""
    output = json.loads(python("run.py", side, program, *arguments).splitlines()[-1])
    files = output["files"]
    assert files, f"{program} imports nothing of apscheduler"
    if side == "tocsin":
        assert set(files.values()) == {None}, "APScheduler itself is loaded"
    else:
        assert None not in files.values(), "tocsin stands in for APScheduler"
    results: dict[str, Any] = output["results"]
    return results


def given(side: str, program: str, name: str, *arguments: str) -> Any:
    """Give what one scenario of a program gave, which must not be an exception."""
    result = run(side, program, *arguments)[name]
    assert not (isinstance(result, dict) and "failed" in result), result["failed"]
    return result
