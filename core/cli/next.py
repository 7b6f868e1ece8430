"""``tocsin next``: when a crontab expression or a crontab file fires."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from tocsin.convert import as_datetime, as_timezone, timezone_name
from tocsin.crontab import CrontabEntry, CrontabError, read_crontab
from tocsin.errors import CronError
from tocsin.triggers.cron import EXACTLY_ONCE, WALL_CLOCK, CronTrigger


@dataclass(frozen=True)
class _Row:
    """What there is to print of one expression."""

    expression: str
    trigger: CronTrigger | None
    path: Path | None = None
    entry: CrontabEntry | None = None


@click.command("next")
@click.argument("expressions", nargs=-1, metavar="[EXPR]...")
@click.option(
    "--file",
    "-f",
    "paths",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A crontab file; may be given several times.",
)
@click.option(
    "--system/--user",
    default=None,
    help="The crontab files have a column for the user, or none."
    "  [default: --system for /etc/crontab and /etc/cron.d/*]",
)
@click.option(
    "--count",
    "-n",
    default=3,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many fire times of each expression.",
)
@click.option(
    "--timezone",
    "-z",
    "zone",
    metavar="ZONE",
    help="The time zone, such as Europe/Berlin, UTC or +05:30, of expressions and of files"
    " that set neither CRON_TZ nor TZ.  [default: the local one]",
)
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="The date or time to start from, included, such as 2026-03-29 or"
    " '2026-03-29 10:15'.  [default: now]",
)
@click.option(
    "--dst",
    default=EXACTLY_ONCE,
    show_default=True,
    type=click.Choice([EXACTLY_ONCE, WALL_CLOCK]),
    help="What happens to a fixed time in an hour that the clock skips or repeats: it fires"
    " once, or as often as the clock shows it.",
)
@click.option("--seed", metavar="TEXT", help="What H in an expression is a hash of: a job's id.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, an object for each.")
def next_command(
    expressions: Sequence[str],
    paths: Sequence[Path],
    system: bool | None,
    count: int,
    zone: str | None,
    start: str | None,
    dst: str,
    seed: str | None,
    as_json: bool,
) -> None:
    """Print the next fire times of crontab expressions and crontab files.

    EXPR is one argument, so put it in quotes: tocsin next "0 9 * * mon-fri". It has 5 fields,
    6 (seconds first) or 7 (year last), or is a shortcut such as @daily.

    Exit codes: 0 printed; 1 an expression or a file is refused; 2 the command line is wrong.
    """
    if not expressions and not paths:
        raise click.UsageError("give a crontab expression, or a file with --file")
    timezone_ = _read_zone(zone)
    origin = _read_start(start, timezone_)
    rows = [
        *(_row_of_argument(each, timezone_, dst, seed, len(expressions)) for each in expressions),
        *(row for path in paths for row in _rows_of_file(path, timezone_, system, dst)),
    ]
    if as_json:
        click.echo(json.dumps([_record(row, origin, count) for row in rows], indent=2))
    else:
        _print(rows, origin, count)


def _read_zone(name: str | None) -> tzinfo:
    try:
        return as_timezone(name)
    except ValueError as error:
        raise click.BadParameter(
            str(error).removeprefix("timezone: "), param_hint="--timezone"
        ) from error


def _read_start(text: str | None, zone: tzinfo) -> datetime:
    if text is None:
        return datetime.now(zone)
    try:
        return as_datetime(text, zone, "")
    except ValueError as error:
        raise click.BadParameter(str(error).removeprefix(": "), param_hint="--from") from error


def _row_of_argument(expression: str, zone: tzinfo, dst: str, seed: str | None, given: int) -> _Row:
    try:
        return _Row(expression, CronTrigger.from_crontab(expression, zone, seed=seed, dst=dst))
    except CronError as error:
        message = str(error)
        if given >= 5 and len(expression.split()) == 1:
            message += '\nAn expression is one argument: put it in quotes, as in "0 9 * * mon-fri".'
        raise click.ClickException(message) from error


def _rows_of_file(path: Path, zone: tzinfo, system: bool | None, dst: str) -> Iterable[_Row]:
    try:
        entries = read_crontab(path, zone, system=system, dst=dst)
    except CrontabError as error:
        raise click.ClickException(f"{path} is refused, at line:position\n{error}") from error
    except OSError as error:
        raise click.BadParameter(str(error), param_hint="--file") from error
    return [_Row(entry.expression, entry.trigger, path, entry) for entry in entries]


def _record(row: _Row, origin: datetime, count: int) -> dict[str, Any]:
    record: dict[str, Any] = {"expression": row.expression}
    if row.entry is not None:
        record["file"] = str(row.path)
        record["line"] = row.entry.line
        record["user"] = row.entry.user
        record["command"] = row.entry.command
    record["description"] = _describe(row)
    record["timezone"] = None if row.trigger is None else _zone_name(row.trigger.timezone)
    record["fire_times"] = [each.isoformat() for each in _fire_times(row, origin, count)]
    return record


def _print(rows: Sequence[_Row], origin: datetime, count: int) -> None:
    # A pipe gets the lines as they are, whatever its width is taken to be.
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for index, row in enumerate(rows):
        title = Text(row.expression, style="bold cyan")
        if row.entry is not None:
            user = "" if row.entry.user is None else f"{row.entry.user}: "
            title.append(f"  {user}{row.entry.command}", style="bold white")
            title.append(f"  ({row.path}:{row.entry.line})", style="dim")
        if index:
            console.print()
        console.print(title)
        console.print(Text(f"  {_describe(row)}", style="italic"))
        if row.trigger is None:
            continue
        found = False
        for moment in _fire_times(row, origin, count):
            found = True
            line = Text("  ")
            line.append(f"{moment:%a} {moment.isoformat(' ')}", style="green")
            line.append(f"  {_distance(moment, origin)}", style="dim")
            console.print(line)
        if not found:
            console.print(Text("  never again", style="yellow"))
    if not rows:
        console.print("no jobs")


def _fire_times(row: _Row, origin: datetime, count: int) -> Iterable[datetime]:
    return () if row.trigger is None else row.trigger.fire_times(origin, limit=count)


def _describe(row: _Row) -> str:
    return "once, when the scheduler starts" if row.trigger is None else row.trigger.describe()


def _zone_name(zone: tzinfo) -> str:
    try:
        return timezone_name(zone)
    except ValueError:
        return str(zone)


def _distance(moment: datetime, origin: datetime) -> str:
    """Say how long it is to a moment, in its two largest units."""
    span = moment.astimezone(timezone.utc) - origin.astimezone(timezone.utc)
    rest = span // timedelta(seconds=1)
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {name}")
    return f"in {' '.join(parts[:2])}" if parts else "now"
