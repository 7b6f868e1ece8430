"""``tocsin run`` as a process, for the tests of it."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from support.programs import ended

COMMAND = str(Path(sysconfig.get_path("scripts")) / "tocsin")
#: The longest that anything in these tests may take, in seconds, be it traced on a busy machine.
PATIENCE = 120.0
EVERY_SECOND = 'trigger = "interval"\nseconds = 1\n'


def environment(folder: Path) -> dict[str, str]:
    """Have the default store of a test's schedules be in the test's own folder."""
    return {"XDG_STATE_HOME": str(folder / "state")}


class Running:
    """A process whose lines of JSON are read as they come."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "run", "--json", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment(folder)},
        )
        self.records: list[dict[str, Any]] = []
        self.errors = ""
        self._changed = threading.Condition()
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._err)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.records.append(json.loads(line))
                self._changed.notify_all()

    def _err(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def of(self, event: str, job: str | None = None) -> list[dict[str, Any]]:
        return [
            record
            for record in list(self.records)
            if record["event"] == event and (job is None or record["job"] == job)
        ]

    def wait(self, event: str, job: str | None = None, count: int = 1) -> list[dict[str, Any]]:
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.of(event, job)) >= count, PATIENCE)
        assert came, f"{count} {event} of {job} did not come: {self.records}"
        return self.of(event, job)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end, and give the exit code."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def close(self) -> None:
        self.process.kill()
        self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def command(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return ended(COMMAND, "run", *arguments, cwd=cwd, env={**environment(cwd), **more})


def toml(job_id: str, what: str, *more: str, when: str = EVERY_SECOND) -> str:
    """Write a job."""
    return "\n".join(["[[job]]", f'id = "{job_id}"', what, *more, when])


def moment(record: dict[str, Any], key: str) -> datetime:
    return datetime.fromisoformat(record[key])


def run_times(running: Running, job_id: str) -> list[datetime]:
    return [moment(each, "scheduled_run_time") for each in running.of("job_started", job_id)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
