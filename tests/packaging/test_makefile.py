"""``make`` on a fresh copy: it does everything once, and nothing twice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.packages import copy_sources, run

pytestmark = pytest.mark.packaging


def make(folder: Path, *arguments: str, check: bool = True) -> tuple[int, str]:
    done = run(
        "make", f"PYTHON={sys.executable}", *arguments, cwd=folder, check=check, TOCSIN_PURE="1"
    )
    return done.returncode, done.stdout


def test_run_on_a_fresh_machine_and_again(tmp_path: Path) -> None:
    folder = copy_sources(tmp_path / "fresh")
    _, first = make(folder, "run", "FOR=3s")
    assert "pip" in first
    assert "pure Python engine" in first
    assert "  running 5 jobs of examples/schedule.toml for 3 s" in first
    assert "  greet  | Hello from the shell" in first
    assert first.endswith("stopped\n")

    _, second = make(folder, "run", "FOR=0")
    assert "  running 5 jobs" in second.splitlines()[0]
    assert "install" not in second

    mine = folder / "my crontab"
    mine.write_text("0 5 * * * /bin/mine\n")
    _, other = make(folder, "run", f"FILE={mine}", "FOR=0")
    assert f"  running 1 jobs of {mine} for 0 s\n" in other
    mine.write_text("0 25 * * * /bin/mine\n")
    code, refused = make(folder, "run", f"FILE={mine}", check=False)
    assert code != 0
    assert f"{mine}:1:3: hour: '25'" in refused

    # A new module is one that the links of the editable installation lack.
    (folder / "core" / "novel.py").write_text("ANSWER = 42\n")
    _, third = make(folder, "build")
    assert "install" in third
    python = folder / ".venv" / "bin" / "python"
    assert run(python, "-c", "import tocsin.novel as n; print(n.ANSWER)").stdout == "42\n"
    assert "install" not in make(folder, "build")[1]

    make(folder, "clean")
    assert not (folder / ".venv").exists()
    assert not (folder / "build").exists()
    assert not list((folder / "core").rglob("__pycache__"))


def test_help_is_complete() -> None:
    root = Path(__file__).parents[2]
    lines = iter((root / "Makefile").read_text().replace("\\\n", " ").splitlines())
    (phony,) = (line for line in lines if line.startswith(".PHONY:"))
    targets = set(phony.split()[1:]) - {"FORCE"}
    printed = run("make", "help", cwd=root).stdout
    assert {line.split()[1] for line in printed.splitlines() if line.startswith("  make ")} == (
        targets
    )


def test_too_old_a_python_is_refused(tmp_path: Path) -> None:
    folder = copy_sources(tmp_path / "fresh")
    old = folder / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run("make", f"PYTHON={old}", "build", cwd=folder, check=False)
    assert done.returncode != 0
    assert "tocsin needs Python 3.10 or later" in done.stdout
    assert not (folder / ".venv").exists()


def test_the_soak_takes_an_adapter_and_a_time() -> None:
    root = Path(__file__).parents[2]
    for given, command in (
        ((), "benchmarks/soak.py asyncio --for 10m"),
        (("ADAPTER=gevent", "FOR=90s"), "benchmarks/soak.py gevent --for 90s"),
    ):
        printed = run("make", "-n", "soak", *given, cwd=root).stdout
        assert printed.splitlines()[-1].endswith(command)
