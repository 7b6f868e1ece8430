"""``tocsin run``: run the jobs of a file until told to stop."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from tocsin.cli import shell
from tocsin.cli.addresses import Address, make_store, read_address
from tocsin.cli.place import make_folder, url_of_file
from tocsin.cli.plan import Plan
from tocsin.cli.shell import Shell
from tocsin.events import (
    EVENT_JOB_BROKEN,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_STARTED,
    EVENT_JOBSTORE_ERROR,
    NAMES,
    SchedulerEvent,
)
from tocsin.schedulefile import CommandFailed
from tocsin.stores.base import BaseJobStore
from tocsin.stores.memory import MemoryJobStore

_TOLD = (
    EVENT_JOB_STARTED
    | EVENT_JOB_EXECUTED
    | EVENT_JOB_ERROR
    | EVENT_JOB_MISSED
    | EVENT_JOB_MAX_INSTANCES
    | EVENT_JOB_COALESCED
    | EVENT_JOB_BROKEN
    | EVENT_JOB_LOST
    | EVENT_JOBSTORE_ERROR
)
_CUT_OFF = 3
_STOP, _RELOAD, _ENDED = "stop", "reload", "ended"
_SIGNALS = {"SIGTERM": _STOP, "SIGINT": _STOP, "SIGHUP": _RELOAD}  # the last not on Windows
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: str) -> float:
    """Read seconds, or numbers with units."""
    if not re.fullmatch(r"\d+(\.\d+)?|(\d+(\.\d+)?[smhd])+", value):
        raise click.BadParameter(f"{value!r} is not a duration such as 15, 90s, 1.5h or 1m30s")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", value)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@click.command("run")
@click.argument(
    "path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--for",
    "limit",
    metavar="DURATION",
    type=_duration,
    help="Stop after a time, such as 15, 90s or 1h30m.",
)
@click.option(
    "--grace",
    metavar="DURATION",
    type=_duration,
    default="30s",
    show_default=True,
    help="How long the running jobs have to finish at the end; then they are cut off.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, for each event.")
@click.option(
    "--system/--user",
    default=None,
    help="The crontab has a column for the user, or none."
    "  [default: --system for /etc/crontab and /etc/cron.d/*]",
)
@click.option(
    "--store",
    "url",
    metavar="URL",
    help="Where the jobs are kept, as for tocsin store.  [default: what FILE says, or else a"
    " file of SQLite among the user's]",
)
@click.option("--memory", is_flag=True, help="Keep the jobs in memory: nothing outlives a stop.")
def run_command(
    path: Path,
    limit: float | None,
    grace: float,
    as_json: bool,
    system: bool | None,
    url: str | None,
    memory: bool,
) -> None:
    """Run the jobs of FILE until stopped: a schedule in TOML (*.toml), or else a crontab.

    Jobs are functions (module:function) or commands of the shell. They are kept in a store, so
    that a run that falls due meanwhile is had at the next start, and any number of processes
    may run FILE at once: each run is had once. See tocsin store list FILE.

    SIGTERM and SIGINT (Ctrl-C) stop it: running jobs finish, within the grace time; a second
    signal ends them at once. SIGHUP reads FILE again: jobs that are the same keep their next
    run time, and a file that is wrong changes nothing.

    Exit codes: 0 stopped, all jobs had finished; 1 FILE is refused; 2 the command line is
    wrong; 3 stopped, and running jobs were cut off.
    """
    if memory and url is not None:
        raise click.UsageError("--store and --memory exclude each other")
    _quieten_logs()
    calls = _Calls()
    output = _Output(as_json, calls.stop)
    own_shell = Shell(lambda job_id, line: output.tell("job_output", job_id, line=line))
    shell.use(own_shell)
    sys.path.insert(0, os.getcwd())
    # What functions print must not come between the lines of JSON.
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        plan = _plan(path, system, url, memory)
        code = _Runner(plan, own_shell, output, calls).run(limit, grace)
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what was cut off would be waited for otherwise


def _plan(path: Path, system: bool | None, url: str | None, memory: bool) -> Plan:
    """Read the file; its jobs will be in the store of a URL, in memory, or where it says."""
    store: BaseJobStore | None = MemoryJobStore() if memory else None
    address = None
    if url is not None:
        try:
            address = read_address(url)
        except (ImportError, LookupError, ValueError) as error:
            raise click.BadParameter(str(error), param_hint="--store") from None
        store = _made(address)

    def default() -> BaseJobStore:
        make_folder()
        return _made(read_address(url_of_file(path)))

    try:
        plan = Plan(path, system, store, default)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path} is refused\n{error}") from error
    if address is not None:
        plan.hide = address.hide
    return plan


def _made(address: Address) -> BaseJobStore:
    try:
        return make_store(address)
    except Exception as error:
        raise click.ClickException(address.hide(f"{address.shown}: {error}")) from None


def _quieten_logs() -> None:
    """Have the jobs' own loggers write to stderr, without what our events tell already."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("tocsin.executors").setLevel(logging.CRITICAL)
    logging.getLogger("tocsin.scheduler").setLevel(logging.ERROR)


class _Calls:
    """What the main thread waits for: signals, and calls of other threads.

    Each is a byte in a socket, a signal's is its number. (A signal that comes just before the
    interpreter waits for a lock would be heard only when that is over.)
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._meanings = {0: _ENDED}
        for name, meaning in _SIGNALS.items():
            if hasattr(signal, name):
                self._meanings[getattr(signal, name)] = meaning

    def take_signals(self) -> None:
        """Take signals from now on."""
        for number in self._meanings:
            if number:
                signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._sender.fileno())

    def stop(self) -> None:
        """Do what SIGTERM does."""
        self._sender.send(bytes([signal.SIGTERM]))

    def ended(self) -> None:
        """Say that all has ended."""
        self._sender.send(b"\0")

    def get(self, end: float | None) -> str:
        """Wait for a call; the end of a time counts as one to stop."""
        self._receiver.settimeout(None if end is None else max(0.0, end - monotonic()))
        try:
            return self._meanings[self._receiver.recv(1)[0]]
        except (TimeoutError, BlockingIOError):
            return _STOP


class _Runner:
    """A scheduler that signals stop and reload."""

    def __init__(self, plan: Plan, shell: Shell, output: _Output, calls: _Calls) -> None:
        self.plan = plan
        self.shell = shell
        self.output = output
        self.calls = calls

    def run(self, limit: float | None, grace: float) -> int:
        """Run until stopped; give the exit code."""
        scheduler = self.plan.scheduler
        scheduler.add_listener(self.output.event, _TOLD)
        self.calls.take_signals()
        end = None if limit is None else monotonic() + limit
        try:
            self.plan.start()
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{self.plan.path} is refused\n{error}") from error
        except Exception as error:  # whatever the driver of a store raises
            store = scheduler._jobstores.get("default")
            reason = f"{type(error).__name__}: {error}"
            words = f"the job store {store!r} failed: {reason}"
            raise click.ClickException(self.plan.hide(words)) from None
        self.output.tell(
            "started",
            jobs=len(self.plan),
            file=str(self.plan.path),
            store=repr(scheduler._jobstores["default"]),
            stops_after=limit,
        )
        scheduler.resume()
        while self.calls.get(end) == _RELOAD:
            self._reload()
        self.output.tell("stopping", running=self._count_running())
        threading.Thread(target=self._shut_down, daemon=True).start()
        end = monotonic() + grace
        call = self.calls.get(end)
        while call == _RELOAD:
            call = self.calls.get(end)
        if call == _ENDED:
            self.output.tell("stopped", cut_off=0)
            return 0
        self.output.tell("stopped", cut_off=self._count_running())
        self.shell.kill()
        return _CUT_OFF

    def _shut_down(self) -> None:
        self.plan.scheduler.shutdown()
        self.calls.ended()

    def _count_running(self) -> int:
        executors = self.plan.scheduler.health()["executors"].values()
        return sum(executor["running"] for executor in executors)

    def _reload(self) -> None:
        try:
            changes = self.plan.reload()
        except (OSError, ValueError) as error:
            self.output.tell("reload_refused", file=str(self.plan.path), reason=str(error))
            return
        except Exception as error:  # whatever the driver of a store raises
            reason = self.plan.hide(f"the job store failed: {type(error).__name__}: {error}")
            self.output.tell("reload_refused", file=str(self.plan.path), reason=reason)
            return
        self.output.tell("reloaded", file=str(self.plan.path), **vars(changes))


class _Output:
    """Prints events, for people or as JSON; ``closed`` is called when nobody reads any more."""

    def __init__(self, as_json: bool, closed: Callable[[], None]) -> None:
        self._as_json = as_json
        self._closed = closed
        self._lock = threading.Lock()
        self._out = sys.stdout
        self._console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)

    def tell(self, event: str, job_id: str | None = None, **details: Any) -> None:
        """Print that something has happened."""
        now = datetime.now(timezone.utc)
        try:
            with self._lock:
                if self._as_json:
                    job = {} if job_id is None else {"job": job_id}
                    record = {"time": now.isoformat(), "event": event, **job, **details}
                    print(json.dumps(record, default=str), file=self._out, flush=True)
                else:
                    self._print(now, event, job_id, details)
        except (BrokenPipeError, SystemExit):  # rich makes the one into the other
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            self._closed()

    def event(self, event: SchedulerEvent) -> None:
        """Print an event of the scheduler."""
        details: dict[str, Any] = {}
        for name in ("scheduled_run_time", "start", "end", "first_run_time", "last_run_time"):
            moment = getattr(event, name, None)
            if moment is not None:
                details[name] = moment.isoformat()
        duration = getattr(event, "duration", None)
        if duration is not None:
            details["duration"] = duration.total_seconds()
        retval = getattr(event, "retval", None)
        if retval is not None:
            details["retval"] = retval
        error = getattr(event, "exception", None)
        if error is not None:
            details["error"] = f"{type(error).__name__}: {error}"
            if not isinstance(error, CommandFailed):
                details["traceback"] = getattr(event, "traceback", None)
        reason = getattr(event, "reason", None)
        if reason is not None:
            details["reason"] = reason
        self.tell(NAMES[event.code].lower(), getattr(event, "job_id", None), **details)

    def _print(self, now: datetime, event: str, job_id: str | None, details: Any) -> None:
        style, text = _WORDS[event]
        line = Text(f"{now.astimezone():%H:%M:%S}", style="dim")
        if job_id is not None:
            line.append(f"  {job_id}", style="bold cyan")
        line.append(f"  {text(details)}", style=style)
        self._console.print(line)


def _counted(details: Any) -> str:
    return ", ".join(f"{len(ids)} {what}" for what, ids in details.items() if what != "file")


def _failed(details: Any) -> str:
    trace = details.get("traceback")
    return f"failed: {details['error']}" + (f"\n{trace.rstrip()}" if trace else "")


#: How people are told: the style, and the text made of the details.
_WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "started": (
        "",
        lambda d: (
            f"running {d['jobs']} jobs of {d['file']}"
            + (f" for {d['stops_after']:g} s" if d["stops_after"] is not None else "")
        ),
    ),
    "stopping": ("", lambda d: f"stopping; {d['running']} jobs are running"),
    "stopped": (
        "",
        lambda d: f"stopped; {d['cut_off']} jobs were cut off" if d["cut_off"] else "stopped",
    ),
    "reloaded": ("", lambda d: f"read {d['file']} again: {_counted(d)}"),
    "reload_refused": (
        "red",
        lambda d: f"{d['file']} is refused, the old jobs go on: {d['reason']}",
    ),
    "job_output": ("", lambda d: f"| {d['line']}"),
    "job_started": ("dim", lambda d: "started"),
    "job_executed": ("green", lambda d: f"finished in {d['duration']:.3f} s"),
    "job_error": ("red", _failed),
    "job_missed": ("yellow", lambda d: f"missed: {d['reason']}"),
    "job_max_instances": ("yellow", lambda d: "skipped: the run before it has not finished"),
    "job_coalesced": (
        "yellow",
        lambda d: f"the runs from {d['first_run_time']} on became the one of {d['last_run_time']}",
    ),
    "job_lost": ("red", lambda d: f"lost: {d['reason']}"),
    "job_broken": ("red", lambda d: f"set aside: {d['reason']}"),
    "jobstore_error": ("red", lambda d: f"the job store failed: {d['error']}"),
}
