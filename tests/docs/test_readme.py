"""Everything that the README tells people to type is typed here."""

from __future__ import annotations

import doctest
import re
import signal
import sysconfig
from importlib.metadata import metadata
from pathlib import Path

import pytest
from support import programs
from support.pages import blocks, check_make, commands_in_prose, lost_links, shell
from support.programs import ended

import tocsin

README = programs.ROOT / "README.md"
TEXT = README.read_text()
BLOCKS = blocks(TEXT)
PYTHON = [block for language, block in BLOCKS if language == "python"]
#: The starts of all frameworks: the name of each, and its program.
STARTS = dict(
    re.findall(
        r"^### ([^\n]+)\n\n```python\n(.*?)^```$",
        TEXT.partition("\n## Start\n")[2].partition("\n## ")[0],
        re.MULTILINE | re.DOTALL,
    )
)
PROGRAMS = [
    block for block in PYTHON if not block.startswith(">>>") and block not in STARTS.values()
]
#: Close the window when the label has been set.
CLOSE = """
from tocsin.events import EVENT_JOB_EXECUTED
scheduler.happened.connect(lambda event: event.code == EVENT_JOB_EXECUTED and app.quit())
app.exec()
print(label.text())
"""
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


def test_every_framework_has_a_start() -> None:
    assert list(STARTS) == [
        "asyncio", "A background thread", "The main thread", "gevent", "Twisted", "Tornado", "Qt",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in STARTS if name != "Qt"])
def test_a_start_ticks_until_ctrl_c(name: str, tmp_path: Path) -> None:
    program = tmp_path / "start.py"
    program.write_text(STARTS[name])
    after = programs.run(program, stop=signal.SIGINT, ready="tick")
    # It may strike within the job, which has printed its line but not ended: that is reported.
    errors = re.findall(r"^\w*(?:Error|Exception|Interrupt|Exit)\b.*", after, re.MULTILINE)
    assert set(errors) <= {"KeyboardInterrupt"}
    assert errors or set(after.split()) <= {"tick"}


def test_the_start_of_qt_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    program = tmp_path / "start.py"
    program.write_text(STARTS["Qt"].replace("app.exec()", CLOSE))
    assert programs.run(program) == "tick\n"


@pytest.mark.parametrize("block", PROGRAMS)
def test_python_program(block: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(block)
    python = Path(sysconfig.get_path("scripts")) / "python"
    done = ended(python, program, cwd=tmp_path)
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


def test_commands_in_the_prose() -> None:
    assert commands_in_prose(TEXT) == {
        "make help",
        "make run FILE=path FOR=1h",
        "make run PYTHON=python3.12",
        "make services",
        "make test SERVER_PYTHON=python3.12",
        "make bench",
        "tocsin --version",
        "tocsin as-apscheduler app.py",
        "tocsin next",
        "tocsin run",
    }
    check_make("make help")
    check_make("make run FILE=examples/crontab FOR=1h")
    check_make("make services")
    check_make("make bench")
    check_make("make test SERVER_PYTHON=python3.12")
    assert shell("tocsin --version").stdout.startswith(f"tocsin {tocsin.__version__}, ")
    assert shell("tocsin as-apscheduler --help").returncode == 0
    assert shell("tocsin next --help").returncode == 0
    assert shell("tocsin run --help").returncode == 0


def test_all_extras_are_named() -> None:
    installation = TEXT.partition("\n## Installation\n")[2].partition("\n## ")[0]
    extras = metadata("tocsin").get_all("Provides-Extra")
    assert extras
    assert [each for each in extras if not re.search(rf"[`\[]{each}[`\]]", installation)] == []


def test_links_lead_somewhere() -> None:
    assert lost_links(README) == []
