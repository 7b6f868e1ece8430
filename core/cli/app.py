"""The command group."""

from __future__ import annotations

import click

import tocsin
from tocsin.cli.as_apscheduler import as_apscheduler
from tocsin.cli.next import next_command
from tocsin.cli.run import run_command
from tocsin.cli.store import store_group

_ENGINE = "compiled" if tocsin.COMPILED else "pure Python"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tocsin.__version__, message=f"tocsin %(version)s, {_ENGINE} engine")
def app() -> None:
    """Schedule jobs, right through daylight saving time.

    Exit codes: 0 done; 1 an expression or a file is refused; 2 the command line is wrong.
    """


app.add_command(as_apscheduler)
app.add_command(next_command)
app.add_command(run_command)
app.add_command(store_group)
