"""Examples that belong to no framework; all others are run by the tests of theirs."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys

from support.programs import ROOT

EXAMPLES = ROOT / "examples"
PATIENCE = 30.0


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_example_is_run_by_a_test() -> None:
    texts = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    run = set(re.findall(r'"examples" / "([^"]+)"|\bstart\("([^"]+)"', texts))
    names = {one or other for one, other in run} | {
        f"{module}.py" for module in re.findall(r"^import (qt_window)$", texts, re.MULTILINE)
    }
    examples = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith("__")}
    assert examples <= names


def test_the_service_tells_everybody_and_stops() -> None:
    with start("asyncio_service.py", "0") as process:
        try:
            assert process.stdout is not None
            host, _, port = process.stdout.readline().strip().partition(":")
            with (
                socket.create_connection((host, int(port)), PATIENCE) as one,
                socket.create_connection((host, int(port)), PATIENCE) as other,
                one.makefile() as first,
                other.makefile() as second,
            ):
                for file in (first, second):
                    assert set(json.loads(file.readline())) == {"at", "load"}
                process.send_signal(signal.SIGTERM)
                first.read()  # returns when the service hangs up
                second.read()
            assert process.communicate(timeout=PATIENCE) == ("", "")
        finally:
            process.kill()
    assert process.returncode == 0


def test_reminders_come_while_lines_are_read() -> None:
    with start("reminders.py") as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("0.1 tea\n1000 dinner\nsoon sleep\n*/0 nothing\n*/0.1 stretch\n")
            process.stdin.flush()
            said = [process.stdout.readline() for _ in range(4)]
            assert sorted(set(said)) == ["stretch!\n", "tea!\n"]
            rest, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0
    assert set(rest.splitlines()) <= {"stretch!"}
    first, second = errors.splitlines()
    assert first == "no reminder: could not convert string to float: 'soon'"
    assert second.startswith("no reminder: interval: 0 is not positive")


def test_ctrl_c_ends_the_reminders() -> None:
    with start("reminders.py") as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("1000 dinner\n0.1 tea\n")
            process.stdin.flush()
            assert process.stdout.readline() == "tea!\n"
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)  # by the signal alone: the input is still open
            assert (process.stdout.read(), process.stderr.read()) == ("\n", "")
        finally:
            process.kill()
    assert process.returncode == 0
