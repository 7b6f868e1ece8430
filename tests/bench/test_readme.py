"""What the README of the benchmarks tells people to type, and where it and the report lead."""

from __future__ import annotations

import re

import pytest
from support.pages import check_make, commands_in_prose, lost_links, shell
from support.programs import ROOT

README = ROOT / "benchmarks" / "README.md"
TEXT = README.read_text()


@pytest.mark.parametrize("command", re.findall("^    (.+)", TEXT, re.MULTILINE))
def test_a_command_has_a_plan(command: str) -> None:
    assert command.startswith("make ")
    check_make(command)


def test_commands_in_the_prose() -> None:
    assert commands_in_prose(TEXT) == {"make bench SUITES=", 'make bench SUITES="engine heap"'}
    plan = shell('make bench SUITES="engine heap" RESULTS=folder --dry-run').stdout
    assert '-m benchmarks.suites --results "folder" engine heap' in plan
    plan = shell("make bench-compare BASE=HEAD~1 TOLERANCE=0.2 --dry-run").stdout
    assert '-m benchmarks.compare --tolerance 0.2 "HEAD~1"' in plan


def test_comparing_with_nothing_says_what_to_name() -> None:
    done = shell("python -m benchmarks.compare")
    assert done.returncode != 0
    assert "BASE" in done.stderr


def test_all_suites_are_in_the_table() -> None:
    done = shell("python -m benchmarks.suites --results nowhere unknown")
    assert done.returncode != 0
    _, _, suites = done.stderr.strip().partition("there are ")
    table = re.findall("^\\| (`.*?) \\|", TEXT, re.MULTILINE)
    assert re.findall("`([^`]+)`", " ".join(table[1:])) == suites.split(", ")


@pytest.mark.parametrize("command", re.findall("`(python [^`]+ --help)`", TEXT))
def test_help(command: str) -> None:
    assert shell(command).returncode == 0


@pytest.mark.parametrize("command", re.findall(r"`\.venv/bin/(pytest [^`]+)`", TEXT))
def test_a_selection_is_found(command: str) -> None:
    done = shell(f"python -m {command} --collect-only -q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_leap_day" in done.stdout


@pytest.mark.parametrize("page", ["README.md", "REPORT.md"])
def test_links_lead_somewhere(page: str) -> None:
    assert lost_links(README.with_name(page)) == []
