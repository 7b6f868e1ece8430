"""The page on Twisted: each block is a program, run as the page says."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest
from support.programs import python

PAGE = (Path(__file__).parents[2] / "docs" / "twisted.md").read_text()
SCRIPTS = Path(sysconfig.get_path("scripts"))
PATIENCE = 30.0

#: For each Python block under its heading what it prints, in any order, before it is stopped.
PRINTED = [
    ("Start", ["hello"]),
    (
        "Where jobs run",
        ["crunched 499500", "fetched", "fetched as before", "fetched typed", "touched True"],
    ),
    ("As a service", ["from a service"]),
    ("Shutdown", ["stopped", "stopped again"]),
    ("Testing", []),
    ("Testing", []),
    (
        "Logging",
        [
            "[tocsin.scheduler#info] Scheduler started",
            "[tocsin.executors.default#error]",
            "builtins.ValueError: invalid literal for int()",
        ],
    ),
    (
        "Logging",
        ["tocsin.executors.default: Job", "tocsin.scheduler: Scheduler started"],
    ),
]


def blocks(language: str) -> list[tuple[str, str]]:
    """Give the blocks of a language, each with the heading that it is under."""
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        code = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        found += [(heading, block) for block in code]
    return found


def test_every_block_is_known() -> None:
    assert [heading for heading, _ in blocks("python")] == [heading for heading, _ in PRINTED]


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_a_block_runs(number: int, tmp_path: Path) -> None:
    _, block = blocks("python")[number]
    _, printed = PRINTED[number]
    if "Application(" in block:
        (tmp_path / "jobs.tac").write_text(block)
        run_until(tmp_path, printed, -signal.SIGTERM, SCRIPTS / "twistd", "-n", "-y", "jobs.tac")
    elif "reactor.run()" in block:
        (tmp_path / "page.py").write_text(block)
        run_until(tmp_path, printed, 0, sys.executable, "-W", "error", "page.py")
    else:
        (tmp_path / "page.py").write_text(block)
        program = ["-m", "twisted.trial", "page"] if "trial" in block else ["page.py"]
        done = python(*program, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "trial" not in block or "PASSED (successes=2)" in done.stdout


def test_the_schedule_runs(tmp_path: Path) -> None:
    ((_, schedule),) = blocks("toml")
    (tmp_path / "schedule.toml").write_text(schedule)
    command = (SCRIPTS / "twistd", "-n", "tocsin", "--file", "schedule.toml")
    run_until(tmp_path, ["hello from a file"], -signal.SIGTERM, *command)


def run_until(folder: Path, printed: list[str], code: int, *command: str | Path) -> None:
    """Run a program until it has printed some texts, then stop it; check how it ends."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    output = ""
    missing = list(printed)
    while missing:
        line = process.stdout.readline()
        assert line, f"{missing} did not come: {output}"
        output += line
        # Lines of several threads may run into each other, but not their texts.
        missing = [text for text in missing if text not in output]
    process.send_signal(signal.SIGTERM if code else signal.SIGINT)
    output += process.communicate()[0]
    watchdog.cancel()
    assert process.returncode == code, output
