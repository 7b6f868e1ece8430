"""Everything that the README tells people to type is typed here."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

import tocsin

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [block for language, block in BLOCKS if language == "python"]
CONSOLE = [block for language, block in BLOCKS if language == "console"]
#: Commands that tests/packaging runs on fresh copies of the project, for they take minutes.
INSTALLING = {"pip install ."}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the stores of `tocsin run` in a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_blocks_have_a_known_language() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "console"}
    assert TEXT.count("```") == 2 * len(BLOCKS)


def test_python_sessions() -> None:
    """The sessions follow each other, as for one who types them all."""
    sessions = "\n".join(block for block in PYTHON if block.startswith(">>>"))
    flags = doctest.ELLIPSIS
    test = doctest.DocTestParser().get_doctest(sessions, {}, "README.md", "README.md", 0)
    assert len(test.examples) >= 5
    printed: list[str] = []
    results = doctest.DocTestRunner(optionflags=flags).run(test, out=printed.append)
    assert results.failed == 0, "".join(printed)


@pytest.mark.parametrize("block", [block for block in PYTHON if not block.startswith(">>>")])
def test_python_program(block: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(block)
    python = Path(sysconfig.get_path("scripts")) / "python"
    done = subprocess.run(
        [python, program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("block", CONSOLE)
def test_console(block: str) -> None:
    prompt, _, expected = block.partition("\n")
    assert prompt.startswith("$ ")
    command = prompt.removeprefix("$ ")
    if command.startswith("make "):
        check_make(command)
    elif command not in INSTALLING:
        done = shell(command)
        assert done.returncode == 0, done.stderr
        checker = doctest.OutputChecker()
        assert expected
        assert checker.check_output(expected, done.stdout, doctest.ELLIPSIS), done.stdout


def check_make(command: str) -> None:
    """Ask make for its plan; tests/packaging carries it out."""
    done = shell(f"{command} --dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_commands_in_the_prose() -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    commands = set(re.findall(r"`((?:make|tocsin) [^`]+)`", prose))
    assert commands == {
        "make help",
        "make run FILE=path FOR=1h",
        "make run PYTHON=python3.12",
        "make services",
        "make test SERVER_PYTHON=python3.12",
        "tocsin --version",
        "tocsin next",
        "tocsin run",
    }
    check_make("make help")
    check_make("make run FILE=examples/crontab FOR=1h")
    check_make("make services")
    check_make("make test SERVER_PYTHON=python3.12")
    assert shell("tocsin --version").stdout.startswith(f"tocsin {tocsin.__version__}, ")
    assert shell("tocsin next --help").returncode == 0
    assert shell("tocsin run --help").returncode == 0


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def shell(command: str) -> subprocess.CompletedProcess[str]:
    scripts = sysconfig.get_path("scripts")
    return subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
