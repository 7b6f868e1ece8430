"""The plug-in of twistd is found, whichever way tocsin was installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.packages import Environment, copy_sources, run

pytestmark = pytest.mark.packaging


def check_twistd(environment: Environment, folder: Path) -> None:
    """List the plug-ins, then run ours until its job stops the reactor."""
    folder.mkdir()
    twistd = environment.bin / "twistd"
    for _ in range(2):  # the first writes the cache of the plug-ins, the second reads it
        listed = run(twistd, "--help", cwd=folder, PYTHONWARNINGS="error").stdout
        assert "tocsin           A scheduler of jobs." in listed
        assert "cache" not in listed
    (folder / "shop.py").write_text(
        "from tocsin.adapters import TwistedScheduler\n"
        "scheduler = TwistedScheduler()\n"
        "@scheduler.scheduled_job('date', executor='reactor')\n"
        "def stop():\n"
        "    from twisted.internet import reactor\n"
        "    print('ran', flush=True)\n"
        "    reactor.stop()\n"
    )
    done = run(twistd, "-n", "tocsin", "--app", "shop:scheduler", cwd=folder)
    assert "ran" in done.stdout
    assert "Scheduler has been shut down" in done.stdout
    assert "Traceback" not in done.stdout
    assert "cache" not in done.stdout


def test_twistd_after_the_wheel(wheel: Path, tmp_path: Path) -> None:
    environment = Environment.create(
        tmp_path / "venv", Path(sys.executable), f"tocsin[twisted] @ {wheel.as_uri()}"
    )
    check_twistd(environment, tmp_path / "work")
    environment.pip("uninstall", "-q", "-y", "tocsin")
    assert "A scheduler of jobs" not in run(environment.bin / "twistd", "--help").stdout


def test_twistd_after_an_editable_installation(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    environment = Environment.create(tmp_path / "venv", Path(sys.executable))
    environment.pip("install", "-q", "-e", f"{sources}[twisted]", TOCSIN_PURE="1")
    check_twistd(environment, tmp_path / "work")


def test_without_twisted(installed: Environment) -> None:
    """The plug-in's folder makes ``import twisted`` succeed; the adapter is not deceived."""
    message = installed.fails("from tocsin.adapters import TwistedScheduler")
    assert "tocsin.adapters.twisted needs Twisted: pip install tocsin[twisted]" in message
