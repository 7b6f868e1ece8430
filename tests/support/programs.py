"""Programs in processes of their own: scripts, examples and the snippets of a page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def ended(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    patience: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, however that is, within so many seconds.

    It has the environment of the tests, but for what ``env`` has.
    """
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )


def printed(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    patience: float = 60,
) -> str:
    """Run a command, which must end with 0, and give what it prints; see `ended`."""
    done = ended(*command, cwd=cwd, env=env, patience=patience)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    patience: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run Python with all warnings as errors to its end; see `ended`."""
    command = (sys.executable, "-W", "error", *arguments)
    return ended(*command, cwd=cwd, env=env, patience=patience)


def run(
    *arguments: str | Path,
    stop: signal.Signals | None = None,
    ready: str = "ready",
    cwd: Path | None = None,
) -> str:
    """Run Python with all warnings as errors and give what it prints; it must end with 0.

    With ``stop`` it is sent that signal when it has printed the line ``ready``, and what it
    prints after that is given.
    """
    with subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            if stop is not None:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.strip() == ready:
                        break
                process.send_signal(stop)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, output
    return output


def run_script(text: str, *arguments: str, stop: signal.Signals | None = None) -> str:
    """Run the text of a program, which may be indented; see `run`."""
    return run("-c", textwrap.dedent(text), *arguments, stop=stop)


def snippets(page: str) -> list[str]:
    """Give the Python snippets of a page of the documentation."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Server:
    """A program that prints its address and serves JSON there; SIGTERM must end it with 0."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", program, "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Server:
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.address
        return self

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a request, and give the status and the JSON of the answer, None without any."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, method=method)  # noqa: S310
        try:
            answer = urllib.request.urlopen(request, timeout=20)  # noqa: S310
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(text) if text and is_json else None

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            output, _error = self.process.communicate(timeout=30)
        finally:
            self.process.kill()
            self.process.wait()
        assert self.process.returncode == 0, output
