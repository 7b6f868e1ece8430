"""What type checkers make of a user's project and the installed package.

The project is `typed_sample`. Its module ``wrong`` has one mistake in each line that says so: the
checkers must know the types, not take them for Any.
"""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from support.packages import Environment, run

pytestmark = pytest.mark.packaging

SAMPLE = Path(__file__).parent / "typed_sample"
WRONG = {
    number
    for number, line in enumerate((SAMPLE / "wrong.py").read_text().splitlines(), start=1)
    if line.endswith("# wrong")
}
#: The extras whose frameworks and drivers show in tocsin's own types.
EXTRAS = "etcd,gevent,mongodb,redis,rethinkdb,sqlalchemy,tornado,twisted,zookeeper"


@pytest.fixture(scope="module")
def equipped(once: Callable[[str, Callable[[Path], None]], Path], wheel: Path) -> Environment:
    """Give an environment with the compiled wheel and what its extras ask for."""

    def work(folder: Path) -> None:
        python = Path(sys.executable)
        Environment.create(folder, python, f"tocsin[{EXTRAS}] @ {wheel.as_uri()}")

    return Environment(once("equipped", work))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a folder with the user's project alone."""
    shutil.copytree(SAMPLE, tmp_path / "typed_sample")
    return tmp_path


def test_package_says_that_it_is_typed(installed: Environment) -> None:
    script = "import pathlib, tocsin; print(pathlib.Path(tocsin.__file__).with_name('py.typed'))"
    assert Path(installed.python(script)).is_file()


def test_mypy(equipped: Environment, project: Path) -> None:
    python = equipped.bin / "python"
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--python-executable", python)
    done = run(*mypy, "typed_sample", cwd=project, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [each for each in errors if "wrong.py" not in each] == []
    assert {int(each.split(":")[1]) for each in errors} == WRONG


def test_pyright(equipped: Environment, project: Path) -> None:
    pyright = Path(sysconfig.get_path("scripts")) / "basedpyright"
    (project / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    options = ("--pythonpath", equipped.bin / "python", "--outputjson")
    done = json.loads(run(pyright, *options, cwd=project, check=False).stdout)
    assert done["summary"]["filesAnalyzed"] == len(list(SAMPLE.glob("*.py")))
    found = done["generalDiagnostics"]
    assert [each for each in found if not each["file"].endswith("wrong.py")] == []
    errors = (each for each in found if each["severity"] == "error")
    assert {each["range"]["start"]["line"] + 1 for each in errors} == WRONG
