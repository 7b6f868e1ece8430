"""Pages of prose, and what they tell people to type."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

from support.programs import ROOT

__all__ = ["blocks", "check_make", "commands_in_prose", "lost_links", "shell"]


def blocks(text: str) -> list[tuple[str, str]]:
    """Give the blocks of a page, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands_in_prose(text: str) -> set[str]:
    """Give the commands of make and tocsin that stand between the blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`((?:make|tocsin) [^`]+)`", prose))


def lost_links(page: Path) -> list[str]:
    """List the links of a page that lead to no file, or to no heading of it."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [link for link in links if "://" not in link and not _leads(page, link)]


def _leads(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def check_make(command: str) -> None:
    """Ask make for its plan; tests/packaging carries it out."""
    done = shell(f"{command} --dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder, with the environment's programs."""
    scripts = sysconfig.get_path("scripts")
    return subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env={
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("MAKE", "PYTEST_"))
            },
            # Two that write the cache of the project at once get in each other's way.
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
