"""``twistd`` as a process: the plug-in, and the example of an application."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.schedulers import PATIENCE
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from zope.interface.verify import verifyObject

ROOT = Path(__file__).parents[2]
TWISTD = Path(sysconfig.get_path("scripts")) / "twistd"

#: The job "slow" tells when it begins and is in no hurry to end.
SCHEDULE = """
[tocsin]
timezone = "UTC"

[[job]]
id = "tick"
command = "echo tick >> ticks"
trigger = "interval"
seconds = 0.1

[[job]]
id = "slow"
command = ["sh", "-c", "echo begun >> slow; sleep 1; echo $WORD >> slow"]
environment = { WORD = "ended" }
trigger = "date"
"""
APP = """
from pathlib import Path
from tocsin.adapters import TwistedScheduler
from twisted.internet import task

scheduler = TwistedScheduler()
not_one = object()

@scheduler.scheduled_job("interval", seconds=0.1)
def tick():
    with open("ticks", "a") as file:
        file.write("tick\\n")

@scheduler.scheduled_job("date")
async def slow():
    from twisted.internet import reactor
    Path("slow").write_text("begun\\n")
    await task.deferLater(reactor, 1)
    Path("slow").write_text("begun\\nended\\n")
"""


class Twistd:
    """A process of ``twistd`` in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [TWISTD, "-n", "--pidfile", "twistd.pid", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, name: str, text: str) -> str:
        """Wait until a file holds a text; give what it holds."""
        return wait_for(self.folder / name, text, self.process)

    def stop(self) -> str:
        """Stop it as an init system does; give its log."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> str:
        """Wait for its end; give its log."""
        return self.process.communicate(timeout=PATIENCE)[0]


def wait_for(path: Path, text: str, process: subprocess.Popen[str] | None = None) -> str:
    """Wait until a file of another process holds a text: nothing tells, so look again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        held = path.read_text() if path.exists() else ""
        if text in held:
            return held
        if process is not None and process.poll() is not None:
            raise AssertionError(f"twistd ended: {process.communicate()[0]}")
        assert time.monotonic() < deadline, f"{path} holds {held!r}"
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "schedule.toml").write_text(SCHEDULE)
    (tmp_path / "shop.py").write_text(APP)
    yield tmp_path
    assert not (tmp_path / "twistd.pid").exists()
    assert not list(tmp_path.glob("*.tap"))


def test_the_plug_in_is_a_service_maker() -> None:
    (maker,) = [each for each in getPlugins(IServiceMaker) if each.tapname == "tocsin"]
    assert verifyObject(IServiceMaker, maker)
    assert type(maker).__module__ == "twisted.application.service"
    assert issubclass(maker.options, object)
    assert maker.options.__module__ == "tocsin.adapters.twistd"


@pytest.mark.parametrize("source", [("--file", "schedule.toml"), ("--app", "shop:scheduler")])
@pytest.mark.parametrize("reactor", ["default", "select", "asyncio"])
def test_it_runs_until_it_is_told_to_stop(
    folder: Path, source: tuple[str, str], reactor: str
) -> None:
    twistd = Twistd(folder, "--reactor", reactor, "tocsin", *source)
    twistd.wait_for("ticks", "tick\ntick\n")
    assert twistd.wait_for("slow", "begun\n") == "begun\n"
    assert int((folder / "twistd.pid").read_text()) == twistd.process.pid
    log = twistd.stop()
    assert (folder / "slow").read_text() == "begun\nended\n"
    # twistd ends as the signal would have ended it, so that a supervisor sees what it was.
    assert twistd.process.returncode == -signal.SIGTERM
    assert "[tocsin.scheduler#info] Scheduler started" in log
    assert "[tocsin.scheduler#info] Scheduler has been shut down" in log
    assert log.index("Received SIGTERM") < log.index('Job "slow (trigger: date')
    assert log.rstrip().endswith("Server Shut Down.")
    for word in ("Warning", "warn]", "Traceback", "error]", "plugin cache"):
        assert word not in log


def test_it_stops_after_its_limit(folder: Path) -> None:
    (folder / "stuck.py").write_text(
        "from tocsin.adapters import TwistedScheduler\n"
        "from twisted.internet.defer import Deferred\n"
        "scheduler = TwistedScheduler()\n"
        "scheduler.add_job(Deferred, executor='reactor', name='stuck')\n"
        "@scheduler.scheduled_job('date')\n"
        "def then():\n"
        "    open('slow', 'w').write('begun')\n"
    )
    twistd = Twistd(folder, "tocsin", "-a", "stuck:scheduler", "--stop-timeout", "0.1")
    twistd.wait_for("slow", "begun")
    log = twistd.stop()
    assert "[tocsin.scheduler#warn] Jobs still run 0.1 s after the shutdown began: stuck" in log
    assert twistd.process.returncode == -signal.SIGTERM


def test_as_a_daemon(folder: Path) -> None:
    subprocess.run(
        [TWISTD, "--pidfile", "twistd.pid", "--logfile", "log", "tocsin", "-f", "schedule.toml"],
        cwd=folder,
        check=True,
        timeout=PATIENCE,
    )
    wait_for(folder / "slow", "begun")
    os.kill(int((folder / "twistd.pid").read_text()), signal.SIGTERM)
    log = wait_for(folder / "log", "Server Shut Down.")
    assert (folder / "slow").read_text() == "begun\nended\n"
    assert "Traceback" not in log
    deadline = time.monotonic() + PATIENCE
    while (folder / "twistd.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "give either --app module:name or --file schedule.toml"),
        (("--app", "shop:scheduler", "--file", "schedule.toml"), "give either --app"),
        (("--app", "nowhere:scheduler"), "--app: error resolving reference nowhere:scheduler"),
        (("--app", "shop"), "--app: invalid reference 'shop': it has the form 'module:name'"),
        (("--app", "shop:not_one"), "is <object object at"),
        (("--file", "nowhere.toml"), "--file: [Errno 2] No such file or directory"),
        (("--file", "wrong.toml"), '--file: wrong.toml: job "a": minuets: neither arguments'),
        (("--app", "shop:scheduler", "--log-level", "loud"), "--log-level: 'loud' is none of"),
        (("--app", "shop:scheduler", "--stop-timeout", "-1"), "--stop-timeout: -1"),
        (("--app", "shop:scheduler", "--stop-timeout", "soon"), "--stop-timeout: could not"),
    ],
)
def test_what_is_wrong_is_refused(folder: Path, arguments: tuple[str, ...], reason: str) -> None:
    (folder / "wrong.toml").write_text(
        '[[job]]\nid = "a"\nfunc = "os:getcwd"\ntrigger = "interval"\nminuets = 1\n'
    )
    twistd = Twistd(folder, "tocsin", *arguments)
    log = twistd.end()
    assert twistd.process.returncode == 1
    assert reason in log
    assert "Traceback" not in log


def test_the_example_of_an_application(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    example = ROOT / "examples" / "twisted_status.tac"
    twistd = Twistd(tmp_path, "-y", str(example), PORT=str(port))
    deadline = time.monotonic() + PATIENCE
    page = ""
    while "\nbeat: interval[0:00:00.500000], next at " not in page or page.startswith("0 beats"):
        assert twistd.process.poll() is None, twistd.end()
        assert time.monotonic() < deadline, page
        time.sleep(0.02)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                page = answer.read().decode()
        except OSError:  # it does not listen yet
            continue
    assert "\nnightly: cron[hour='3', minute='30'], next at " in page
    log = twistd.stop()
    assert twistd.process.returncode == -signal.SIGTERM
    assert "[tocsin.scheduler#info] Scheduler has been shut down" in log
    assert "Traceback" not in log
