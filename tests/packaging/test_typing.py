"""What type checkers make of a user's file and the installed package."""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

import pytest
from support.packages import Environment, run

pytestmark = pytest.mark.packaging

RIGHT = """\
from datetime import datetime, timezone

from tocsin import COMPILED, AndTrigger, CronError, CronTrigger, IntervalTrigger, Trigger

triggers: list[Trigger] = [
    CronTrigger.from_crontab("0 9 * * mon-fri", "Europe/Berlin"),
    IntervalTrigger(minutes=5),
]
both = AndTrigger(triggers)
now = datetime.now(timezone.utc)
following: datetime | None = both.next_fire_time(now)
times: list[datetime] = list(triggers[0].fire_times(now, limit=3))
compiled: bool = COMPILED
try:
    CronTrigger(hour="25")
except CronError as error:
    position: int | None = error.position
"""
#: Each line is one mistake: the checker must know the types, not take them for Any.
WRONG = """\
from datetime import datetime, timezone
from tocsin import COMPILED, CronTrigger
trigger = CronTrigger(hour=9)
number: int = trigger.next_fire_time(datetime.now(timezone.utc))
trigger.no_such_method()
trigger.next_fire_time("now")
CronTrigger(hours=9)
text: str = COMPILED
"""
MISTAKES = {4, 5, 6, 7, 8}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    return folder


def test_package_says_that_it_is_typed(installed: Environment) -> None:
    script = "import pathlib, tocsin; print(pathlib.Path(tocsin.__file__).with_name('py.typed'))"
    assert Path(installed.python(script)).is_file()


def test_mypy(installed: Environment, files: Path) -> None:
    python = installed.bin / "python"
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python)
    right = run(*mypy, "right.py", cwd=files)
    assert right.stdout == "Success: no issues found in 1 source file\n"
    wrong = run(*mypy, "--no-pretty", "wrong.py", cwd=files, check=False)
    found = {int(line.split(":")[1]) for line in wrong.stdout.splitlines() if ": error:" in line}
    assert found == MISTAKES


def test_pyright(installed: Environment, files: Path) -> None:
    pyright = Path(sysconfig.get_path("scripts")) / "basedpyright"
    (files / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    options = ("--pythonpath", installed.bin / "python", "--outputjson")
    right = json.loads(run(pyright, *options, "right.py", cwd=files, check=False).stdout)
    assert (right["summary"]["filesAnalyzed"], right["generalDiagnostics"]) == (1, [])
    wrong = json.loads(run(pyright, *options, "wrong.py", cwd=files, check=False).stdout)
    errors = (each for each in wrong["generalDiagnostics"] if each["severity"] == "error")
    assert {each["range"]["start"]["line"] + 1 for each in errors} == MISTAKES
