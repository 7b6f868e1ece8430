"""Distributions and environments, each made once for all workers of a test run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from support.packages import Environment, copy_sources, run

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder once for all workers: the first one works, the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, work: Callable[[Path], None]) -> Path:
        folder = shared / name
        done = shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                work(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def built(once: Once) -> Path:
    """Give the folder with the sources, ``dist/`` and the translation to C in ``build/``."""

    def work(folder: Path) -> None:
        copy_sources(folder)
        build = (sys.executable, "-m", "build", "--no-isolation")
        run(*build, "--sdist", cwd=folder)
        run(*build, "--wheel", cwd=folder, TOCSIN_REQUIRE_COMPILED="1")

    return once("built", work)


@pytest.fixture(scope="session")
def sdist(built: Path) -> Path:
    (path,) = (built / "dist").glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    """Give the compiled wheel for the running Python."""
    (path,) = (built / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def pure_wheel(once: Once, sdist: Path) -> Path:
    """Give the wheel of the source distribution, built without extensions."""

    def work(folder: Path) -> None:
        command = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
        run(*command, "--wheel-dir", folder, sdist, TOCSIN_PURE="1")

    (path,) = once("pure", work).glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(once: Once, wheel: Path) -> Environment:
    """Give an environment with the compiled wheel and no extra."""

    def work(folder: Path) -> None:
        Environment.create(folder, Path(sys.executable), wheel)

    return Environment(once("installed", work))
