"""Build the project and install it into environments of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINORS = range(10, 15)
#: What belongs to a checkout, and not to its sources.
_LEFT_OUT = shutil.ignore_patterns(
    "*.so", "*.pyd", "*.egg-info", "__pycache__", "dist", "build", ".*_cache", ".hypothesis",
    ".git", ".venv*", ".benchmarks",
)  # fmt: skip


def run(
    *command: str | Path,
    cwd: Path | None = None,
    check: bool = True,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command, with the errors in its output.

    Tocsin's switches are unset unless given. What is compiled is not optimised: these tests
    ask whether an engine is there, and compile it many times.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TOCSIN_")}
    for key in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VIRTUAL_ENV", "PYTHONPATH"):
        inherited.pop(key, None)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "CFLAGS": "-O0", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=280,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done


@cache
def interpreters() -> Mapping[str, Path]:
    """Find a CPython for each supported version that this machine has; the running one first."""
    found = {f"3.{sys.version_info.minor}": Path(sys.executable)}
    for minor in MINORS:
        name = f"3.{minor}"
        managed = sorted(Path.home().glob(f".pyenv/versions/{name}.*/bin/python3"))
        for candidate in (*managed, shutil.which(f"python{name}")):
            if name not in found and candidate is not None and _works(candidate, minor):
                found[name] = Path(candidate)
    return found


def _works(python: Path | str, minor: int) -> bool:
    """Tell whether it runs and can make environments; the shim of a version manager may not."""
    script = (
        "import sys, venv; assert sys.implementation.name == 'cpython';"
        f" assert sys.version_info[:2] == (3, {minor})"
    )
    return subprocess.run([python, "-c", script], capture_output=True, check=False).returncode == 0


def copy_sources(target: Path, sources: Path = ROOT) -> Path:
    """Copy the project without anything that was built."""
    return Path(shutil.copytree(sources, target, ignore=_LEFT_OUT))


class Environment:
    """A virtual environment outside the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"

    @classmethod
    def create(cls, folder: Path, python: Path, *installed: str | Path) -> Environment:
        run(python, "-m", "venv", "--without-pip", folder)
        environment = cls(folder)
        if installed:
            environment.pip("install", "-q", *installed)
        return environment

    def pip(self, *arguments: str | Path, **variables: str) -> str:
        """Run the pip of the test run on this environment; give what it printed."""
        command = (sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments)
        return run(*command, cwd=self.folder, check=True, **variables).stdout

    def python(self, script: str, **variables: str) -> str:
        """Run a script outside the project; give what it printed."""
        python = self.bin / "python"
        done = run(python, "-c", script, cwd=self.folder, check=True, **variables)
        return done.stdout.strip()

    def fails(self, script: str, **variables: str) -> str:
        """Run a script that has to fail; give what it printed."""
        done = run(self.bin / "python", "-c", script, cwd=self.folder, check=False, **variables)
        assert done.returncode != 0, done.stdout
        return done.stdout
