"""The commands of docs/command-line.md are typed, one after the other."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import sysconfig
from pathlib import Path

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.pool import NullPool
from support.programs import printed

TEXT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    (schedule,) = (block for language, block in BLOCKS if language == "toml")
    (tmp_path / "schedule.toml").write_text(schedule)
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    # APScheduler's own pool would leave a connection open.
    store = SQLAlchemyJobStore(url, engine_options={"poolclass": NullPool})
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start(paused=True)
    scheduler.add_job("json:dumps", "cron", hour=3, args=["x"], id="job")
    scheduler.shutdown()
    scripts = sysconfig.get_path("scripts")
    environment = {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "STATE_DIRECTORY": "",
    }
    checker = doctest.OutputChecker()
    typed = 0
    for language, block in BLOCKS:
        if language != "console":
            continue
        for part in block.removeprefix("$ ").split("\n$ "):
            command, _, expected = part.partition("\n")
            said = printed(*shlex.split(command), cwd=tmp_path, env=environment)
            expected = expected.rstrip("\n") + "\n"
            fits = checker.check_output(expected, said, doctest.ELLIPSIS)
            assert fits, f"{command}\n{said}"
            typed += 1
    assert typed >= 10
