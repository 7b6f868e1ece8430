"""Hold the tocsin of this environment against that of another commit, and tell what became slower.

    python -m benchmarks.compare [--tolerance 0.1] [--rounds 51] [--jobs 10000] BASE

The commit is built in a worktree and an environment of their own, both temporary. Then the same
programs take turns on both; see `turns_process.py`. A ratio is this version's time, or memory, over
that of the base. It counts as worse when its lower quartile, and with it the median and the upper
one, is above 1 plus the tolerance: noise alone rarely moves all three. Fails if any is worse.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.races import Figure, Report, divide
from benchmarks.sides import OURS, STEPS
from benchmarks.turns import Contestant, NoSuchStep, measure_memory, take_turns

ROOT = Path(__file__).parents[1]


def works(jobs: int) -> dict[tuple[str, ...], Sequence[str]]:
    """Give the steps of each program that are compared."""
    return {
        ("engine",): ("next fire time", "fill"),
        ("heap", str(jobs)): ("rearm", "rekey", "remove"),
        ("scheduler", OURS, str(jobs)): STEPS,
    }


@contextmanager
def installed(commit: str) -> Iterator[str]:
    """Build a commit; give the interpreter of its environment.

    Raises CalledProcessError if there is no such commit, or it can't be built.
    """
    with tempfile.TemporaryDirectory(prefix="tocsin-base-") as folder:
        tree, environment = Path(folder, "tree"), Path(folder, "environment")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
            python = str(environment / "bin" / "python")
            pip = [python, "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
            subprocess.run([*pip, "--editable", str(tree)], check=True)
            yield python
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def race(python: str, jobs: int, rounds: int) -> Report:
    """Have both take turns in all works; what the base can't do is left out, with a message."""
    report = Report()
    for work, steps in works(jobs).items():
        name = " ".join(part for part in work if part != OURS)
        try:
            with Contestant(*work, python=python) as base, Contestant(*work) as ours:
                for step in steps:
                    times = take_turns({"base": base, "ours": ours}, step, rounds)
                    report.figure(f"{name}: {step}", divide(times["ours"], times["base"]))
        except NoSuchStep as error:
            print(f"not compared: {error}", file=sys.stderr)
    ratio = measure_memory(OURS, jobs) / measure_memory(OURS, jobs, python=python)
    report.figure(f"scheduler {jobs}: memory of a job", [ratio])
    return report


def worse(figure: Figure, tolerance: float) -> bool:
    """Tell whether a ratio is above what is tolerated, with both quartiles."""
    return figure.low > 1 + tolerance


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the speed with that of another commit.")
    parser.add_argument("base", metavar="BASE", help="the commit to compare with")
    parser.add_argument("--tolerance", type=float, default=0.1, help="how much slower is tolerated")
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--python", help="an interpreter that has BASE installed already")
    options = parser.parse_args()
    ready = nullcontext(options.python) if options.python else installed(options.base)
    try:
        with ready as python:
            report = race(python, options.jobs, options.rounds)
    except subprocess.CalledProcessError as error:
        parser.exit(2, f"could not build {options.base}: {error}\n")
    found = [each for each in report.figures if worse(each, options.tolerance)]
    print(
        f"this version / {options.base}: median and quartiles, of at most 1 + {options.tolerance:g}"
    )
    for figure, line in zip(report.figures, report.lines(), strict=True):
        print(f"{line}  WORSE" if figure in found else line)
    if found:
        print(f"{len(found)} worse than is tolerated", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
