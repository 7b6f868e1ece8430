"""Commands as jobs: what they are given, what becomes of their output, and how they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tocsin.cli import shell
from tocsin.cli.shell import Shell
from tocsin.schedulefile import CommandFailed

NO_USER = "nobody-of-this-name"


def output_of(command: str | list[str], **options: Any) -> list[str]:
    told: list[tuple[str, str]] = []
    Shell(lambda job_id, line: told.append((job_id, line))).run("a job", command, **options)
    assert {job_id for job_id, _ in told} <= {"a job"}
    return [line for _, line in told]


class Running:
    """A command that runs in a thread, its lines as they come."""

    def __init__(self, command: str) -> None:
        self.lines: Queue[str] = Queue()
        self.shell = Shell(lambda _, line: self.lines.put(line))
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(command,))
        self._thread.start()

    def _run(self, command: str) -> None:
        try:
            self.shell.run("a job", command)
        except Exception as error:
            self.error = error

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_a_text_is_for_the_shell_and_a_list_for_the_program() -> None:
    assert output_of("echo a  b; echo $0 >&2; exit 0") == ["a b", "/bin/sh"]
    assert output_of(["echo", "a  b;", "$HOME"]) == ["a  b; $HOME"]
    assert output_of("exec true") == []


def test_another_shell_can_be_named(tmp_path: Path) -> None:
    own = tmp_path / "own shell"
    own.write_text('#!/bin/sh\necho "own $1 $2, $SHELL"\n')
    own.chmod(0o755)
    assert output_of("a  b", environment={"SHELL": str(own)}) == [f"own -c a  b, {own}"]
    # A program needs none.
    assert output_of(["echo", "a"], environment={"SHELL": str(own)}) == ["a"]


def test_the_environment_is_added_to_that_of_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("CHANGED", "old")
    given = {"CHANGED": "new", "ADDED": "added"}
    assert output_of("echo $KEPT $CHANGED $ADDED", environment=given) == ["kept new added"]
    assert os.environ["CHANGED"] == "old"


@pytest.mark.parametrize("stdin", [None, "", "one\n\n  two", "grüße\n", "x" * 1_000_000])
def test_the_input_is_there_in_full(stdin: str | None) -> None:
    assert output_of("cat", stdin=stdin) == (stdin or "").splitlines()
    assert output_of("true", stdin=stdin) == []  # nobody reads it


def test_what_is_no_text_is_told_as_well_as_it_goes() -> None:
    assert output_of(r"printf 'a\377b\r\n\n'; printf end") == ["a\ufffdb", "", "end"]


def test_a_line_is_told_when_it_is_written(tmp_path: Path) -> None:
    running = Running(f"echo first; until [ -e '{tmp_path}/go' ]; do sleep 0.02; done; echo last")
    assert running.lines.get(timeout=60) == "first"
    (tmp_path / "go").touch()
    assert running.lines.get(timeout=60) == "last"
    running.end()
    assert running.error is None


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("echo gone; exit 7", 7, "exit code 7"),
        ("kill -TERM $$", -signal.SIGTERM, "signal 15"),
        (["false"], 1, "exit code 1"),
        ("/no/such/program", 127, "exit code 127"),
    ],
)
def test_a_command_that_fails(command: str | list[str], code: int, words: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        output_of(command)
    assert caught.value.returncode == code
    assert str(caught.value) == f"{command!r} ended with {words}"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        output_of(["/no/such/program"])


def test_a_user_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=f"^there is no user '{NO_USER}' here$"):
        output_of(["touch", str(tmp_path / "made")], user=NO_USER)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can be another user"
)
def test_a_command_of_another_user() -> None:
    import pwd

    account = pwd.getpwnam("nobody")
    tell = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME"
    groups = os.getgrouplist("nobody", account.pw_gid)
    found = output_of(tell, user="nobody")
    assert found[:2] == [str(account.pw_uid), str(account.pw_gid)]
    assert sorted(map(int, found[2].split())) == sorted(groups)  # and none of root's
    assert found[3] == f"{account.pw_dir} nobody nobody"
    assert output_of("echo $HOME $USER", user="nobody", environment={"HOME": "/here"}) == [
        "/here nobody"
    ]


def test_what_runs_is_killed_with_its_children_and_nothing_starts_any_more(tmp_path: Path) -> None:
    running = Running("sleep 1000 & echo $$ $!; wait")
    process, child = map(int, running.lines.get(timeout=60).split())
    assert os.getpgid(process) == os.getpgid(child) == process != os.getpgid(0)
    running.shell.kill()
    running.end()  # when both have closed the pipe
    assert isinstance(running.error, CommandFailed)
    assert running.error.returncode == -signal.SIGKILL
    with pytest.raises(RuntimeError, match=r"^the scheduler is being stopped at once$"):
        running.shell.run("another", ["touch", str(tmp_path / "made")])
    assert list(tmp_path.iterdir()) == []
    running.shell.kill()  # of nothing


@pytest.fixture
def of_this_process() -> Iterator[Shell]:
    """Give the shell of a process that has named none; have it be that again afterwards."""
    (before,) = shell._shells
    own = Shell(shell._print)
    shell.use(own)
    yield own
    shell.use(before)


def test_a_job_runs_in_the_shell_of_its_process(
    of_this_process: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run("a job", "cat; echo $A", "in\n", {"A": "b"})
    assert capsys.readouterr().out == "a job: in\na job: b\n"
    told: list[tuple[str, str]] = []
    shell.use(Shell(lambda job_id, line: told.append((job_id, line))))
    of_this_process.kill()
    shell.run("other", "echo here")
    assert told == [("other", "here")]
    with pytest.raises(LookupError, match=NO_USER):
        shell.run("a job", "true", user=NO_USER)
