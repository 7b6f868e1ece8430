"""Shell commands as jobs: each in a process group of its own, its output told line by line.

The callable of such a job is `run`, which stores can write down; it finds the `Shell` that
`use` has named for this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any

from tocsin.schedulefile import CommandFailed


class Shell:
    """Runs commands; ``tell`` gets the job's id and each line of output, from any thread."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(
        self,
        job_id: str,
        command: str | Sequence[str],
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        """Run a command to its end: a text by /bin/sh, a list without a shell.

        ``SHELL`` in ``environment`` is another shell. Raises CommandFailed when the exit code
        is not 0, OSError for a program that can't be started, LookupError for an unknown user.
        """
        given = dict(environment or {})
        if isinstance(command, str):
            arguments = [given.get("SHELL", "/bin/sh"), "-c", command]
        else:
            arguments = list(command)
        identity, account = _identity(user)
        with TemporaryFile("w+") as feed:  # a pipe could fill up while nobody reads the output
            feed.write(stdin or "")
            feed.seek(0)
            with self._lock:
                if self._closed:
                    raise RuntimeError("the scheduler is being stopped at once")
                process = subprocess.Popen(  # noqa: S603  # what a crontab is for
                    arguments,
                    stdin=feed,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **account, **given},
                    text=True,
                    errors="replace",
                    start_new_session=True,
                    **identity,
                )
                self._running.add(process)
        try:
            with process:
                assert process.stdout is not None  # noqa: S101  # it is a pipe
                for line in process.stdout:
                    self._tell(job_id, line.rstrip("\r\n"))
        finally:
            with self._lock:
                self._running.discard(process)
        if process.returncode != 0:
            raise CommandFailed(command, process.returncode)

    def kill(self) -> None:
        """Kill all commands that run, with their children, and start no more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def run(
    job_id: str,
    command: str | Sequence[str],
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> None:
    """Run a command by the shell of this process; see `Shell.run`."""
    _shells[-1].run(job_id, command, stdin, environment, user)


def use(shell: Shell) -> None:
    """Have `run` use a shell from now on, in this process."""
    _shells[:] = [shell]


def _print(job_id: str, line: str) -> None:
    print(f"{job_id}: {line}", flush=True)  # noqa: T201  # of a program that names no shell


_shells = [Shell(_print)]


def _identity(user: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Give what makes a process that of a user, and the variables that tell it so."""
    if user is None:
        return {}, {}
    import pwd  # not on Windows

    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise LookupError(f"there is no user {user!r} here") from None
    groups = os.getgrouplist(user, account.pw_gid)
    return (
        {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups},
        {"HOME": account.pw_dir, "LOGNAME": user, "USER": user},
    )
