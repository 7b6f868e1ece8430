"""What CONTRIBUTING.md and SECURITY.md tell people to type, and where they lead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import blocks, check_make, commands_in_prose, lost_links, shell
from support.programs import ROOT

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [CONTRIBUTING, ROOT / "SECURITY.md"]
COMMANDS = [
    line.removeprefix("$ ")
    for language, block in blocks(CONTRIBUTING.read_text())
    for line in block.splitlines()
    if language == "console"
]
#: Names of files in the prose, which nothing else would miss.
FILE = re.compile(
    r"`((?:\.ci|\.github|adapters|benchmarks|core|docs|examples|stores|tests)/[^` ]+)`"
)


def test_all_commands_are_known() -> None:
    assert {command.split("=")[0].split()[0] for command in COMMANDS} == {
        "make", ".venv/bin/pytest", "TOCSIN_PURE",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(command: str) -> None:
    if command.startswith("make "):
        check_make(command)
    else:
        # As in a shell: the variable goes before. The virtual environment may have another name.
        _, _, arguments = command.partition(".venv/bin/pytest ")
        done = shell(f"python -m pytest --collect-only -q {arguments}")
        assert done.returncode == 0, done.stdout
        assert "test_" in done.stdout


def test_commands_in_the_prose() -> None:
    for command in commands_in_prose(CONTRIBUTING.read_text()):
        if command.startswith("make "):
            check_make(command)
        else:
            assert command == "tocsin --version"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert lost_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_are_named_are_there(page: Path) -> None:
    names = FILE.findall(page.read_text())
    assert len(names) >= 4
    assert [name for name in names if not (ROOT / name).exists()] == []
