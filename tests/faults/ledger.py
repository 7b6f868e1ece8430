"""What the members of a store wrote down, and what is to be said about it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_MEMBER = Path(__file__).with_name("member.py")
_SECOND = 1_000_000
Run = tuple[str, int]


@dataclass
class Account:
    """All runs by what became of them, and how late each was started first, in seconds.

    ``told`` counts the reports of a loss by process: another one tells again of what it can't know
    to have been told, as when the first was killed at that moment.
    """

    started: Counter[Run] = field(default_factory=Counter)
    executed: Counter[Run] = field(default_factory=Counter)
    lost: Counter[Run] = field(default_factory=Counter)
    told: Counter[tuple[int, Run]] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    lateness: dict[Run, float] = field(default_factory=dict)
    by_process: Counter[int] = field(default_factory=Counter)
    ready: float = float("inf")
    kills: list[float] = field(default_factory=list)

    def late(self, share: float = 1.0) -> float:
        """Say how late runs began, of those that were due when a member was there.

        So late began, at most, that share of them: all, or 0.99 for what one of a hundred exceeds.
        """
        found = sorted(
            late for run, late in self.lateness.items() if run[1] / _SECOND >= self.ready
        )
        return found[min(int(share * len(found)), len(found) - 1)]

    def overdue(self, lease: float, patience: float) -> float:
        """Say how many seconds a run began too late, at the worst; negative if none did.

        A run begins within ``patience`` seconds from when it is due; or, when a member is killed
        before that, from when its lease has ended; and so on, when the next one, that may have
        taken over by then, is killed as well.
        """
        worst = -float("inf")
        kills = sorted(self.kills)
        for (_, instant), late in self.lateness.items():
            due = instant / _SECOND
            if due < self.ready:
                continue
            latest = due + patience
            for kill in kills[bisect_left(kills, due - lease - patience) :]:
                if kill > min(latest, due + late):
                    break
                latest = max(latest, kill + lease + patience)
            worst = max(worst, due + late - latest)
        return worst

    def doubled(self) -> list[Run]:
        """List the runs that were started more than once."""
        return [run for run, count in self.started.items() if count > 1]

    def expected(self, period: int) -> set[Run]:
        """Give all runs that each job must have had, from its first to the last of any job.

        The last two periods do not count: they may have been cut off by the end.
        """
        times = defaultdict(list)
        for job, instant in (*self.started, *self.lost):
            times[job].append(instant)
        end = max(max(each) for each in times.values()) - 2 * period
        return {
            (job, instant)
            for job, each in times.items()
            for instant in range(min(each), end + 1, period)
        }


class Cluster:
    """Processes that share a store, and their ledger."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.path = folder / "ledger"
        self.path.touch()
        self.options = dict(options)
        self.members: list[subprocess.Popen[bytes]] = []
        self._errors = (folder / "errors").open("ab")

    def spawn(self, **options: Any) -> subprocess.Popen[bytes]:
        """Start another member, and wait until it is ready."""
        options = {**self.options, **options}
        offset = self.path.stat().st_size
        process = subprocess.Popen(
            [sys.executable, str(_MEMBER), str(self.path), json.dumps(options)],
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": str(_MEMBER.parent.parent)},
        )
        self.members.append(process)
        self._wait_for(process, "READY", offset, 60)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a member without a warning."""
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.members.remove(process)
        with self.path.open("a") as file:
            file.write(f"{time.time()} {process.pid} KILLED - 0\n")

    def stop(self) -> None:
        """Have all members stop in an orderly way."""
        for process in self.members:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self.members:
            assert process.wait(60) == 0, self.errors()
        self.members.clear()

    def close(self) -> None:
        """Leave nothing behind, whatever has failed."""
        for process in self.members:
            process.kill()
            process.wait()
        self._errors.close()

    def wait(self, done: Callable[[str], bool], seconds: float, every: float = 0.05) -> None:
        """Wait until the ledger says so; it is read ``every`` so many seconds."""
        end = time.monotonic() + seconds
        while not done(self.path.read_text()):
            if time.monotonic() > end:
                pytest.fail(f"not seen in the ledger within {seconds} s\n{self.errors()}")
            time.sleep(every)

    def wait_for_runs(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait until a member has started a run from now on."""
        self._wait_for(process, "JOB_STARTED", self.path.stat().st_size, seconds)

    def wait_for_a_loss(self, offset: int, seconds: float) -> subprocess.Popen[bytes]:
        """Wait until the ledger has a loss beyond an offset; give the member that tells of it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self.path.open() as file:
                file.seek(offset)
                text = file.read()
            for process in self.members:
                if f" {process.pid} JOB_LOST " in text:
                    return process
            time.sleep(0.05)
        pytest.fail(f"no loss was told of within {seconds} s\n{self.errors()}")

    def _wait_for(
        self, process: subprocess.Popen[bytes], event: str, offset: int, seconds: float
    ) -> None:
        """Wait until the ledger, of many megabytes, has an event of a member beyond an offset."""
        told = f" {process.pid} {event} "
        end = time.monotonic() + seconds
        with self.path.open() as file:
            while True:
                file.seek(offset)
                if told in file.read():
                    return
                if time.monotonic() > end or process.poll() is not None:
                    pytest.fail(f"no{told}within {seconds} s, or it ended\n{self.errors()}")
                time.sleep(0.05)

    def errors(self) -> str:
        """Give the last that members have logged."""
        self._errors.flush()
        return Path(self._errors.name).read_text()[-4000:]

    def account(self) -> Account:
        """Read the ledger."""
        account = Account()
        for line in self.path.read_text().splitlines():
            at, pid, event, job, instant = line.split(" ")
            run = (job, int(instant))
            if event == "JOB_STARTED":
                account.started[run] += 1
                account.by_process[int(pid)] += 1
                account.lateness.setdefault(run, float(at) - run[1] / _SECOND)
            elif event == "JOB_EXECUTED":
                account.executed[run] += 1
            elif event == "JOB_LOST":
                account.lost[run] += 1
                account.told[int(pid), run] += 1
            elif event == "KILLED":
                account.kills.append(float(at))
            else:
                account.others[event] += 1
                if event == "READY":
                    account.ready = min(account.ready, float(at))
        return account


def long_form() -> bool:
    """Tell whether the long form of the tests was asked for."""
    return os.environ.get("TOCSIN_FAULTS") == "long"
