"""``tocsin store``: look after the jobs of a store, and move them from one to another."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tocsin.adapters.background import BackgroundScheduler
from tocsin.cli.addresses import Address, make_store, read_address
from tocsin.cli.place import url_of_file
from tocsin.errors import JobLookupError, TocsinError
from tocsin.job import Job
from tocsin.migration.layouts import OPTIONS, open_layout
from tocsin.migration.moving import Moved, check, move, read_jobs
from tocsin.records import to_record
from tocsin.stores.base import BaseJobStore
from tocsin.stores.rows import RowJobStore
from tocsin.stores.shared import SharedJobStore

_ALIAS = "store"
_STATUSES = ("scheduled", "paused", "broken")
_STYLES = {"scheduled": "green", "paused": "yellow", "broken": "red"}
_FIRE_TIMES = 5
#: Errors that need no name, for the message says it all.
_IN_WORDS = (TocsinError, LookupError, ImportError, RuntimeError, TypeError, ValueError)


class Observer(BackgroundScheduler):
    """What a store has to have as its scheduler, and which never runs: no job is ever taken.

    ``unreadable`` has the reasons why jobs can't be read, by id.
    """

    def __init__(self) -> None:
        super().__init__(timezone="UTC")
        self.unreadable: dict[str, str] = {}

    def report_unreadable(self, alias: str, job_id: str, reason: str) -> None:
        """Keep the reason why a job can't be read."""
        self.unreadable[job_id] = reason


class _Open:
    """A store that is open, and the scheduler that it takes the command line for."""

    def __init__(self, store: BaseJobStore, observer: Observer) -> None:
        self.store = store
        self.observer = observer
        self._knows_time = not isinstance(store, SharedJobStore)

    def jobs(self) -> list[tuple[str, Job | str]]:
        """Give each job by its id, those that run next first; the reason, if it can't be read."""
        jobs = self.store.get_all_jobs()
        jobs.sort(key=lambda job: (job._next_run is None, job._next_run or 0, job.id))
        return [*((job.id, job) for job in jobs), *sorted(self.observer.unreadable.items())]

    def job(self, job_id: str) -> Job:
        """Give a job; JobLookupError without one, ValueError for one that can't be read."""
        found = self.store.lookup_job(job_id)
        if found is None:
            raise JobLookupError(job_id)
        return found

    def first_run(self, job: Job) -> int | None:
        """Give the instant at which a job's schedule has it run next."""
        return job.trigger.next_run(None, self.now(), self.observer._edge)

    def now(self) -> int:
        """Give the instant by the clock that decides about the jobs."""
        if not self._knows_time and isinstance(self.store, SharedJobStore):
            self.store.learn_time()
            self._knows_time = True
        return self.store.time(self.observer.now())


_Change = Callable[[_Open, str], str]


@contextmanager
def _opened(address: Address, *, create: bool = False) -> Iterator[_Open]:
    """Open a store, without becoming one of the schedulers that share it."""
    with _blamed(address):
        if not create:
            _check_file(address)
        store = make_store(address, create=create)
        observer = Observer()
        store.start(observer, _ALIAS)
        try:
            yield _Open(store, observer)
        finally:
            store.shutdown()


@contextmanager
def _blamed(address: Address) -> Iterator[None]:
    """Have whatever goes wrong with a store end the command, in words, without passwords."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        own = isinstance(error, _IN_WORDS)
        words = str(error) if own and str(error) else f"{type(error).__name__}: {error}"
        raise click.ClickException(address.hide(f"{address.shown}: {words}")) from None


def _check_file(address: Address) -> None:
    """Refuse a file of SQLite that is not there: opening would make it."""
    url = str(address.options.get("url", ""))
    if not url.startswith("sqlite"):
        return
    path = url.partition(":///")[2].partition("?")[0]
    if path and path != ":memory:" and not path.startswith("file:") and not os.path.exists(path):
        raise LookupError(f"there is no file {path!r}; tocsin store init makes it")


def _url_of(value: str) -> str:
    """Give the URL of the store that tocsin run uses for a file; any other text as it is."""
    path = Path(value)
    is_file = "://" not in value and path.suffix not in (".sqlite", ".db") and path.is_file()
    return url_of_file(path) if is_file else value


#: What every command on one store takes.
_url = click.argument("url", metavar="URL", type=_url_of)
_option = click.option(
    "--option",
    "-o",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the store, such as tablename=jobs; may be given several times.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _address(url: str, given: Sequence[str]) -> Address:
    try:
        return read_address(url, given)
    except (ValueError, LookupError, ImportError, TypeError) as error:
        raise click.BadParameter(str(error), param_hint="URL") from None


@click.group("store")
def store_group() -> None:
    """Look after the jobs of a store.

    URL says where the store is: sqlite:///jobs.sqlite, postgresql+psycopg://host/db,
    mysql+pymysql://host/db, redis://host/0, mongodb://host/db, rethinkdb://host/db,
    zookeeper://host:2181/path or etcd://host:2379. Options of the store, such as the name of its
    table, are parameters of the URL (?tablename=jobs) or given with --option. To keep a password
    out of the command line, write env:NAME for a URL in an environment variable, file:PATH for
    one in a file. A FILE that tocsin run runs stands for the store that it uses.

    No command ever runs a job, or imports what jobs call.

    Exit codes: 0 done; 1 the store or a job was refused; 2 the command line is wrong.
    """
    logger = logging.getLogger("tocsin")
    click.get_current_context().call_on_close(partial(logger.setLevel, logger.level))
    logger.setLevel(logging.ERROR)  # warnings are for those who run jobs


def _command(
    name: str, text: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command on a store; its help is ``text``, or else the docstring.

    The function is given the `Address`, ``as_json``, and what options of its own say.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def call(url: str, given: Sequence[str], as_json: bool, **options: Any) -> None:
            function(_address(url, given), as_json=as_json, **options)

        store_group.command(name, help=text)(_url(_option(_json(call))))
        return function

    return decorate


def _job_command(name: str) -> Callable[[_Change], _Change]:
    """Make a change of a job, which tells what it did, a command on the jobs of some ids.

    It raises JobLookupError or ValueError for a job that can't be changed: that is told, and the
    others are changed.
    """

    def decorate(change: _Change) -> _Change:
        @_command(name, change.__doc__)
        @click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
        def call(address: Address, job_ids: Sequence[str], as_json: bool) -> None:
            _each(address, job_ids, change, as_json)

        return change

    return decorate


def _prepare(address: Address, as_json: bool) -> None:
    try:
        with _opened(address):
            was_ready = True
    except click.ClickException:
        was_ready = False
        with _opened(address, create=True):
            pass
    if as_json:
        click.echo(json.dumps({"store": address.shown, "changed": not was_ready}))
    else:
        click.echo(f"{address.shown}: {'it is up to date' if was_ready else 'it is ready now'}")


_command(
    "init",
    """Make what a store needs on its server: tables, indexes, nodes.

    For before the first start, by somebody who may do so, where schedulers have create=False. A
    store that is there already stays as it is, but for what `tocsin store upgrade` does.
    """,
)(_prepare)
_command(
    "upgrade",
    """Bring up to date what an older tocsin has made for a store.

    For after an upgrade of tocsin, where schedulers have create=False; all others do it when they
    start. A store that is not there yet is made.
    """,
)(_prepare)


@_command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only jobs of this status.")
@click.option("--match", metavar="TEXT", help="Only jobs whose id, name or function has TEXT.")
@click.option("--executor", metavar="NAME", help="Only jobs of this executor.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out so many jobs.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="Show so many jobs; 0 for all.",
)
def list_command(
    address: Address,
    status: str | None,
    match: str | None,
    executor: str | None,
    offset: int,
    limit: int,
    as_json: bool,
) -> None:
    """List the jobs, those that run next first, then the paused ones, then what can't be read."""
    with _opened(address) as opened:
        found = [
            (job_id, job)
            for job_id, job in opened.jobs()
            if status in (None, _status(job))
            and (match is None or match in _searched(job_id, job))
            and (executor is None or (isinstance(job, Job) and job.executor == executor))
        ]
        page = found[offset : offset + limit if limit else None]
        if as_json:
            click.echo(json.dumps([_summary(*each) for each in page], indent=2))
            return
        console = _console()
        table = Table(box=None, pad_edge=False, show_edge=False)
        for title in ("ID", "NEXT RUN", "TRIGGER", "FUNCTION"):
            table.add_column(title, overflow="fold")
        for job_id, job in page:
            row = _summary(job_id, job)
            state = row["next_run_time"] or row["status"]
            rest = (
                [row["trigger"], row["func"]]
                if isinstance(job, Job)
                else [f"can't be read: {job}", ""]
            )
            table.add_row(
                _text(job_id, "bold cyan"),
                _text(state, _STYLES[row["status"]]),
                *(_text(each) for each in rest),
            )
        if page:
            console.print(table)
        where = (
            f"{offset + 1} to {offset + len(page)} of " if page and len(page) < len(found) else ""
        )
        console.print(_text(f"{where}{len(found)} jobs", "dim"))


@_command("show")
@click.argument("job_id", metavar="JOB")
def show_command(address: Address, job_id: str, as_json: bool) -> None:
    """Show all of a job: its record, its status and when it runs next.

    Of a job that can't be read, what is stored is shown as it is. It is an error, as is an
    unknown job.
    """
    with _opened(address) as opened:
        try:
            job = opened.job(job_id)
        except JobLookupError:
            raise
        except ValueError as error:
            _show_unreadable(opened, job_id, str(error), as_json)
            raise click.exceptions.Exit(1) from None
        codec = opened.store.codec if isinstance(opened.store, SharedJobStore) else None
        record = to_record(job) if codec is None else to_record(job, codec)
        times = [] if job._next_run is None else [each.isoformat() for each in _upcoming(job)]
        if as_json:
            about = {**_summary(job_id, job), "next_run_times": times, "record": record}
            click.echo(json.dumps(about, indent=2, ensure_ascii=False))
            return
        console = _console()
        lines = {
            "id": job.id,
            "name": job.name,
            "status": _status(job) + (f": {job.failure}" if job.failure else ""),
            "function": job.func_ref or "",
            "args": json.dumps(record["args"], ensure_ascii=False),
            "kwargs": json.dumps(record["kwargs"], ensure_ascii=False),
            "trigger": job.trigger.describe(),
            "executor": job.executor,
            "grace time": "none"
            if job.misfire_grace_time is None
            else f"{job.misfire_grace_time} s",
            "coalesce": "yes" if job.coalesce else "no",
            "max instances": str(job.max_instances),
            "delivery": "at least once" if job.at_least_once else "at most once",
        }
        for name, value in lines.items():
            console.print(_text(f"{name:<14}", "bold"), _text(value))
        for number, moment in enumerate(times):
            console.print(
                _text(f"{'' if number else 'runs next':<14}", "bold"), _text(moment, "green")
            )


def _show_unreadable(opened: _Open, job_id: str, reason: str, as_json: bool) -> None:
    row = opened.store._row(job_id) if isinstance(opened.store, RowJobStore) else None
    stored = None if row is None else row.record
    if as_json:
        about = {**_summary(job_id, reason), "stored": None if stored is None else str(stored)}
        click.echo(json.dumps(about, indent=2, ensure_ascii=False))
        return
    console = _console()
    console.print(_text(f"{job_id} can't be read: {reason}", "red"))
    if stored is not None:
        console.print(_text(str(stored)))


def _upcoming(job: Job) -> Iterator[Any]:
    """Give the next run times as they are stored and as the trigger goes on."""
    found = job._next_run
    edge = job._scheduler._edge if job._scheduler is not None else None
    for _ in range(_FIRE_TIMES):
        if found is None or edge is None:
            return
        yield job.moment(found)
        found = job.trigger.next_run(found, found, edge)


@_job_command("pause")
def pause_command(opened: _Open, job_id: str) -> str:
    """Stop running jobs until they are resumed; runs that have begun go on."""
    opened.store.modify_job(job_id, {"_next_run": None})
    return "paused"


@_job_command("resume")
def resume_command(opened: _Open, job_id: str) -> str:
    """Run paused jobs again, from their next fire time on; also those that were set aside."""
    job = opened.job(job_id)
    if job._next_run is not None:
        return f"is not paused; it runs next at {job.moment(job._next_run).isoformat()}"
    due = opened.first_run(job)
    if due is None:
        raise ValueError("its schedule has ended; tocsin store remove takes it out")
    opened.store.modify_job(job_id, {"_next_run": due, "failure": None})
    return f"runs next at {job.moment(due).isoformat()}"


@_job_command("remove")
def remove_command(opened: _Open, job_id: str) -> str:
    """Take jobs out, also those that can't be read; runs that have begun go on."""
    opened.store.remove_job(job_id)
    return "removed"


@_job_command("run-now")
def run_now_command(opened: _Open, job_id: str) -> str:
    """Make jobs due at once: a scheduler that uses the store runs them.

    The next run time becomes now, by the store's clock where it has one, and the schedule goes on
    from there. A paused job is resumed by it. Without a scheduler the run waits until there is one.
    """
    opened.store.modify_job(job_id, {"_next_run": opened.now(), "failure": None})
    return "is due now; the next scheduler that looks runs it"


def _each(address: Address, job_ids: Sequence[str], change: _Change, as_json: bool) -> None:
    """Change jobs one by one; those that can't be are told, and the others are changed."""
    results = []
    with _opened(address) as opened:
        for job_id in job_ids:
            try:
                results.append({"id": job_id, "ok": True, "result": change(opened, job_id)})
            except (JobLookupError, ValueError) as error:
                results.append({"id": job_id, "ok": False, "result": address.hide(error)})
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            line = f"{result['id']}: {result['result']}"
            _console(stderr=not result["ok"]).print(_text(line, "" if result["ok"] else "red"))
    if not all(result["ok"] for result in results):
        raise click.exceptions.Exit(1)


@store_group.command("migrate")
@click.argument("old", metavar="OLD", type=_url_of)
@click.argument("new", metavar="NEW", type=_url_of)
@click.option(
    "--from",
    "source",
    type=click.Choice(["apscheduler", "tocsin"]),
    default="apscheduler",
    show_default=True,
    help="What has written OLD: APScheduler 3, or tocsin.",
)
@click.option(
    "--old-option", multiple=True, metavar="NAME=VALUE", help="An option of OLD; see --new-option."
)
@click.option(
    "--new-option",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of NEW, such as tablename=jobs or pickle_key=env:KEY.",
)
@click.option("--replace", is_flag=True, help="Write also what NEW has already, as it is in OLD.")
@click.option("--dry-run", is_flag=True, help="Write nothing; tell what could not be moved.")
@_json
def migrate_command(
    old: str,
    new: str,
    source: str,
    old_option: Sequence[str],
    new_option: Sequence[str],
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy the jobs of the store OLD into the store NEW, with their next run times.

    OLD is a store of APScheduler 3 of any kind, at the same kind of URL; where its jobs are is
    said by APScheduler's options (tablename, jobs_key, run_times_key, database, collection,
    table, path). Its pickles are read without running them. OLD is not changed; stop its
    schedulers first.

    It can be repeated: jobs that NEW has already stay as they are. Those that can't be moved are
    told, each with its reason, and the exit code is 1.
    """
    target = _address(new, new_option)
    if source == "tocsin":
        origin = _address(old, old_option)
        with _opened(origin) as opened:
            found = opened.jobs()
        moved = _move(target, len(found), found, replace, dry_run)
    else:
        origin = _old_address(old, old_option)
        with _blamed(origin), open_layout(origin.kind, origin.options) as (count, rows):
            moved = _move(target, count, read_jobs(_told(origin, rows)), replace, dry_run)
    if as_json:
        about: dict[str, Any] = {
            "written": moved.written,
            "there_already": moved.there,
            "left": [{"id": job_id, "reason": reason} for job_id, reason in moved.left],
        }
        click.echo(json.dumps(about, indent=2, ensure_ascii=False))
    else:
        console = _console()
        for job_id, reason in moved.left:
            console.print(_text(f"{job_id}: ", "bold cyan"), _text(reason, "red"), sep="")
        word = "could be written" if dry_run else "written"
        console.print(
            _text(
                f"{moved.written} jobs {word}, {moved.there} were there already,"
                f" {len(moved.left)} can't be moved"
            )
        )
    if moved.left:
        raise click.exceptions.Exit(1)


def _old_address(url: str, given: Sequence[str]) -> Address:
    try:
        address = read_address(url, given, lambda kind: (*OPTIONS[kind], *_IGNORED))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="OLD") from None
    options = {name: value for name, value in address.options.items() if name not in _IGNORED}
    return Address(address.kind, options, address.shown, address.secrets)


#: Options of APScheduler's stores that say nothing of where jobs are.
_IGNORED = ("run_times_key", "pickle_protocol", "close_connection_on_exit")


def _told(origin: Address, rows: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Have errors of reading blamed on the old store."""
    with _blamed(origin):
        yield from rows


def _move(
    target: Address,
    count: int,
    found: Iterable[tuple[str, Job | str]],
    replace: bool,
    dry_run: bool,
) -> Moved:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console(stderr=True), transient=True) as progress:
        task = progress.add_task("jobs", total=count)

        def told(done: int) -> None:
            progress.advance(task, done)

        if dry_run:
            with _blamed(target):
                return check(found, make_store(target), told=told)
        with _opened(target, create=True) as opened:
            return move(found, opened.store, replace=replace, told=told)


# Showing


def _status(job: Job | str) -> str:
    if isinstance(job, str) or job.failure is not None:
        return "broken"
    return "paused" if job._next_run is None else "scheduled"


def _summary(job_id: str, job: Job | str) -> dict[str, Any]:
    about: dict[str, Any] = {"id": job_id, "status": _status(job), "next_run_time": None}
    if isinstance(job, str):
        return {**about, "reason": job}
    if job._next_run is not None:
        about["next_run_time"] = job.moment(job._next_run).isoformat()
    if job.failure is not None:
        about["reason"] = job.failure
    return {
        **about,
        "name": job.name,
        "func": job.func_ref,
        "trigger": str(job.trigger),
        "executor": job.executor,
    }


def _searched(job_id: str, job: Job | str) -> str:
    return job_id if isinstance(job, str) else "\0".join((job_id, job.name, job.func_ref or ""))


def _console(stderr: bool = False) -> Console:
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=stderr)
    if not console.is_terminal:
        console.width = 10_000  # a pipe gets the lines as they are
    return console


def _text(value: str, style: str = "") -> Text:
    """Show a text of a store, which may hold what a terminal would obey."""
    shown = "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in value
    )
    return Text(shown, style=style)
