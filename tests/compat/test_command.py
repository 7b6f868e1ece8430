"""``tocsin as-apscheduler`` runs a program as python would, but for what apscheduler is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import ended, printed

REPORT = """\
import json, sys
import apscheduler, beside
from apscheduler.util import ref_to_obj

def job():
    return __name__

print(json.dumps({
    "argv": sys.argv, "path": sys.path[0], "ran": ref_to_obj("__main__:job")(),
    "name": __name__, "file": __file__, "package": __package__,
    "spec": __spec__ and __spec__.name, "apscheduler": getattr(apscheduler, "__file__", None),
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").touch()
    (tmp_path / "app.py").write_text(REPORT)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(REPORT)
    (package / "tool.py").write_text(REPORT)
    return tmp_path


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ended(sys.executable, "-m", "tocsin", "as-apscheduler", *arguments, cwd=folder)


def python(folder: Path, *arguments: str) -> dict[str, object]:
    """Run the program by python itself, on APScheduler itself."""
    found: dict[str, object] = json.loads(printed(sys.executable, *arguments, cwd=folder))
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("app.py",),
        ("app.py", "-m", "--help", "--", "x y"),
        ("package/tool.py", "a"),
        ("-m", "package"),
        ("-m", "package", "-m", "--version", "--", "-h"),
        ("-m", "package.tool", "a"),
        ("-m", "app", "-v"),
    ],
)
def test_the_program_finds_what_it_would_find_under_python(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    if arguments[0] == "package/tool.py":
        (folder / "package" / "beside.py").touch()
    done = command(folder, *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = python(folder, *arguments)
    assert found.pop("apscheduler") is None
    assert expected.pop("apscheduler") is not None
    assert found["ran"] == "__main__"
    for each in (found, expected):  # pythons differ in whether a script's path is absolute
        each["file"] = os.path.abspath(os.path.join(folder, str(each["file"])))
    assert found == expected


def test_the_exit_code_is_the_programs(folder: Path) -> None:
    (folder / "app.py").write_text("import sys; sys.exit(7)")
    assert command(folder, "app.py").returncode == 7


@pytest.mark.parametrize("error", ["ZeroDivisionError('x')", "OSError(32, 'x')", "EOFError()"])
def test_an_exception_is_shown_with_the_programs_frames_only(folder: Path, error: str) -> None:
    (folder / "app.py").write_text(f"def f():\n    raise {error}\nf()\n")
    done = command(folder, "app.py")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line for line in lines if "File " in line and "app.py" not in line] == []
    assert lines[-1].startswith(("ZeroDivisionError", "BrokenPipeError", "EOFError"))


def test_a_scheduler_that_outlives_the_script_finds_its_functions(folder: Path) -> None:
    (folder / "app.py").write_text(
        "from apscheduler.schedulers.background import BackgroundScheduler\n"
        "import threading\n"
        "ended = threading.Event()\n"
        "scheduler = BackgroundScheduler(daemon=False)\n"
        "def first():\n    scheduler.add_job('__main__:second')\n"
        "def second():\n    print('second', flush=True)\n    scheduler.shutdown(wait=False)\n"
        "threading.main_thread()\n"
        "scheduler.add_job('__main__:first', 'interval', seconds=0.2)\n"
        "scheduler.start()\n"
    )
    done = command(folder, "app.py")
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["second"]), done.stderr


def test_ctrl_c_ends_it_as_it_ends_python(folder: Path) -> None:
    (folder / "app.py").write_text(
        "from apscheduler.schedulers.blocking import BlockingScheduler\n"
        "scheduler = BlockingScheduler()\n"
        "scheduler.add_job(lambda: print('runs', flush=True))\n"
        "try:\n    scheduler.start()\n"
        "except (KeyboardInterrupt, SystemExit):\n    print('stopped', flush=True)\n    raise\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "tocsin", "as-apscheduler", "app.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert output == "stopped\n"
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give the file of a program, or a module with -m"),
        (("missing.py",), "missing.py"),
        (("-m", "no_such_module"), "no_such_module: there is no such module"),
        (("-m", "bare"), "it has no __main__"),
        (("--nonsense", "app.py"), "--nonsense"),
    ],
)
def test_a_wrong_command_line_is_refused(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "bare").mkdir()
    (folder / "bare" / "__init__.py").touch()
    done = command(folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
