"""The comparison of two versions: what is measured on both, and what counts as worse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tocsin

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not tocsin.COMPILED, reason="compares compiled engines")


def compare(tolerance: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Compare this version with itself, so roughly that it takes no time."""
    options = ["--python", python, "--rounds", "3", "--jobs", "100", "--tolerance", tolerance]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", *options, "itself"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_worse_than_what_is_tolerated() -> None:
    done = compare("1e9")
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.startswith("this version / itself: median and quartiles")
    steps = [re.match(r"(.*?)\s{2,}[\d.e+-]+ +[\d.e+-]+ to [\d.e+-]+$", each) for each in lines]
    assert [step and step[1] for step in steps] == [
        "engine: next fire time",
        "engine: fill",
        "heap 100: rearm",
        "heap 100: rekey",
        "heap 100: remove",
        "scheduler 100: dispatch",
        "scheduler 100: add",
        "scheduler 100: add in bulk",
        "scheduler 100: remove",
        "scheduler 100: memory of a job",
    ]


def test_what_is_worse_fails() -> None:
    done = compare("-1")  # a ratio of 0 at most
    assert done.returncode == 1
    assert done.stdout.count("WORSE") == 10
    assert done.stderr == "10 worse than is tolerated\n"


def test_what_the_other_version_cannot_do_is_left_out(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$2" in heap) echo no heap >&2; exit 1;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    done = compare("1e9", str(python))
    assert done.returncode == 0, done.stderr
    assert "heap" not in done.stdout
    assert done.stdout.count("scheduler 100") == 5
    assert done.stderr.startswith("not compared: ")
    assert "no heap" in done.stderr
