"""The comparison of two versions: what is measured on both, and what counts as worse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import ended

import tocsin

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not tocsin.COMPILED, reason="compares compiled engines")


def compare(
    tolerance: str, *base: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Compare this version with another, so roughly that it takes no time."""
    options = ["--rounds", "3", "--jobs", "100", "--tolerance", tolerance]
    command = (sys.executable, "-m", "benchmarks.compare", *options, *base)
    env = {"TMPDIR": str(folder)} if folder else None
    return ended(*command, cwd=ROOT, env=env, patience=280)


def installed(python: str | Path) -> list[str]:
    """Give the arguments for an installation that is there already."""
    return ["--python", str(python), "another"]


def test_nothing_is_worse_than_what_is_tolerated() -> None:
    done = compare("1e9", *installed(sys.executable))
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.startswith("this version / another: median and quartiles")
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
    done = compare("-1", *installed(sys.executable))  # a ratio of 0 at most
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
    done = compare("1e9", *installed(python))
    assert done.returncode == 0, done.stderr
    assert "heap" not in done.stdout
    assert done.stdout.count("scheduler 100") == 5
    assert done.stderr.startswith("not compared: ")
    assert "no heap" in done.stderr


@pytest.mark.packaging
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_a_commit_is_built_and_put_away(tmp_path: Path) -> None:
    done = compare("1e9", "HEAD", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("this version / HEAD: ")
    assert "scheduler 100: memory of a job" in done.stdout
    assert list(tmp_path.iterdir()) == []
    trees = subprocess.check_output(["git", "-C", str(ROOT), "worktree", "list"], text=True)
    assert str(tmp_path) not in trees


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_there_is_no_such_commit() -> None:
    done = compare("1e9", "no-such-commit")
    assert done.returncode == 2
    assert "invalid reference: no-such-commit" in done.stderr
    assert "Traceback" not in done.stderr
