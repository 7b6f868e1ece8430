"""Schedules in TOML files: the settings of a scheduler, and its jobs.

The table ``[tocsin]`` has the settings, as `tocsin.config.read` knows them; it may be missing.
Each ``[[job]]`` is a job, with the keys of `BaseScheduler.add_job`::

    [tocsin]
    timezone = "Europe/Berlin"

    [[job]]
    id = "rates"
    func = "shop.tasks:fetch_rates"
    trigger = "interval"
    minutes = 15

    [[job]]
    id = "backup"
    command = "rsync -a /srv/data /backup"
    crontab = "30 2 * * *"

``id`` is needed, and either ``func`` (as ``module:function``, with ``args`` and ``kwargs``) or
``command`` (a text for the shell, or a list of a program and its arguments, with ``environment``
and ``stdin``), and either ``trigger`` with the trigger's own arguments or ``crontab`` with those of
`CronTrigger.from_crontab`. ``name``, ``executor``, ``jobstore``, ``coalesce``, ``max_instances``
and ``misfire_grace_time`` (in seconds, or "none") may follow. Nothing else is accepted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from tocsin import config, creation
from tocsin.convert import as_bool
from tocsin.errors import ConfigError, TocsinError, suggestion
from tocsin.triggers.base import BaseTrigger
from tocsin.triggers.cron import CronTrigger

if TYPE_CHECKING:
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler

__all__ = ["CommandFailed", "ScheduleFile", "load", "run_command"]

_TABLES = ("tocsin", "job")
#: The keys of all jobs, and those that go with a function and with a command.
_COMMON = (
    "id", "name", "executor", "jobstore", "coalesce", "max_instances", "misfire_grace_time",
)  # fmt: skip
_OWN = {"func": ("args", "kwargs"), "command": ("environment", "stdin")}
_WITH_CRONTAB = tuple(list(signature(CronTrigger.from_crontab).parameters)[1:])
_RUN_COMMAND = "tocsin.schedulefile:run_command"


@dataclass(frozen=True)
class ScheduleFile:
    """What a file says: the settings, and the arguments of each job by the job's id."""

    path: str
    settings: Mapping[str, Any]
    jobs: Mapping[str, Mapping[str, Any]]

    def add_to(self, scheduler: BaseScheduler) -> list[Job]:
        """Add the jobs to a scheduler, all or none, in the place of those with their ids.

        Raises ConfigError that names the job and the key, KeyError for an unknown job store.
        """
        stores: dict[str, list[dict[str, Any]]] = {}
        for made in self.made_for(scheduler).values():
            stores.setdefault(made.pop("jobstore", "default"), []).append(made)
        return [
            job
            for store, jobs in stores.items()
            for job in scheduler.add_jobs(jobs, jobstore=store, replace_existing=True)
        ]

    def made_for(self, scheduler: BaseScheduler) -> dict[str, dict[str, Any]]:
        """Give the arguments of `add_job` for each job by its id, the triggers made.

        Raises ConfigError that names the job and the key.
        """
        jobs = {}
        for job_id, entry in self.jobs.items():
            try:
                made = _job(scheduler, dict(entry))
                arguments = {key: value for key, value in made.items() if key != "jobstore"}
                creation.make_job(scheduler, **arguments)
            except (ImportError, LookupError, TypeError, ValueError) as error:
                raise ConfigError(f'{self.path}: job "{job_id}"', str(error)) from error
            jobs[job_id] = made
        return jobs


def schedule_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keys of a job's entry that say when it runs."""
    others = (*_COMMON, *_OWN, *(key for keys in _OWN.values() for key in keys))
    return {key: value for key, value in entry.items() if key not in others}


def load(path: str | os.PathLike[str]) -> ScheduleFile:
    """Read a schedule; what its jobs name is looked up when they are added.

    Raises OSError for a file that can't be read, ConfigError that names the job and the key.
    """
    document = config.load_document(path)
    name = os.fspath(path)
    for table in document:
        if table not in _TABLES:
            raise ConfigError(
                f"{name}: {table}",
                f"unknown{suggestion(table, _TABLES)}; accepted: [tocsin], [[job]]",
            )
    settings = document.get("tocsin", {})
    if not isinstance(settings, dict):
        raise ConfigError(f"{name}: tocsin", f"a table is needed, [tocsin], not {settings!r}")
    entries = document.get("job", [])
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ConfigError(f"{name}: job", "an array of tables is needed: write [[job]]")
    jobs: dict[str, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries, 1):
        job_id = entry.get("id")
        where = f"{name}: job {number}"
        if not isinstance(job_id, str) or not job_id:
            reason = "missing" if job_id is None else f"a text is needed, not {job_id!r}"
            raise ConfigError(f"{where}: id", reason)
        if job_id in jobs:
            raise ConfigError(f"{where}: id", f"{job_id!r} belongs to a job before it")
        _check(f'{name}: job "{job_id}"', entry)
        jobs[job_id] = entry
    return ScheduleFile(name, settings, jobs)


def _check(where: str, entry: Mapping[str, Any]) -> None:
    """Refuse an entry with too few keys, too many, or keys that don't go together."""
    for one, other in (("func", "command"), ("trigger", "crontab")):
        if (one in entry) == (other in entry):
            given = "both are given" if one in entry else "neither is given"
            raise ConfigError(f"{where}: {one}", f"a {one} or a {other} is needed; {given}")
    for key, (is_right, wanted) in _SHAPES.items():
        if key in entry and not is_right(entry[key]):
            raise ConfigError(f"{where}: {key}", f"{wanted} is needed, not {entry[key]!r}")
    calls = "func" if "func" in entry else "command"
    for other, keys in _OWN.items():
        for key in keys:
            if other != calls and key in entry:
                raise ConfigError(f"{where}: {key}", f"it goes with a {other}, not with a {calls}")
    if "crontab" in entry:  # the keys of a trigger are checked where it is made
        accepted = [calls, "crontab", *_COMMON, *_OWN[calls], *_WITH_CRONTAB]
        for key in entry:
            if key not in accepted:
                raise ConfigError(
                    f"{where}: {key}",
                    f"unknown{suggestion(key, accepted)}; accepted: {', '.join(accepted)}",
                )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_command(value: Any) -> bool:
    return bool(value) and (isinstance(value, str) or (isinstance(value, list) and _texts(value)))


def _texts(values: Iterable[Any]) -> bool:
    return all(isinstance(each, str) for each in values)


#: What the values of some keys must be.
_SHAPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "func": (_is_text, 'a text such as "module:function"'),
    "trigger": (_is_text, 'the name of a trigger, such as "interval"'),
    "crontab": (_is_text, 'a text such as "30 2 * * *"'),
    "command": (_is_command, "a text for the shell, or a list of texts,"),
    "stdin": (_is_text, "a text"),
    "environment": (
        lambda value: isinstance(value, dict) and _texts(value.values()),
        "a table of texts",
    ),
}


def _job(scheduler: BaseScheduler, entry: dict[str, Any]) -> dict[str, Any]:
    """Turn an entry into arguments of `add_job`, the trigger made."""
    made = {key: entry.pop(key) for key in (*_COMMON, *_OWN["func"]) if key in entry}
    if str(made.get("misfire_grace_time", "")).lower() == "none":
        made["misfire_grace_time"] = None
    if "coalesce" in made:
        made["coalesce"] = as_bool(made["coalesce"])
    if "func" in entry:
        made["func"] = entry.pop("func")
    else:
        made["func"] = _RUN_COMMAND
        made["args"] = (entry.pop("command"),)
        made["kwargs"] = {key: entry.pop(key) for key in _OWN["command"] if key in entry}
        made.setdefault("name", made["id"])
    made["trigger"] = _trigger(scheduler, made["id"], entry)
    return made


def _trigger(scheduler: BaseScheduler, job_id: str, entry: dict[str, Any]) -> BaseTrigger:
    if "crontab" in entry:
        arguments = {"timezone": scheduler.timezone, "seed": job_id, **entry}
        return CronTrigger.from_crontab(arguments.pop("crontab"), **arguments)
    name = entry.pop("trigger")
    return creation.make_trigger(name, entry, scheduler.timezone, scheduler.now())


class CommandFailed(TocsinError, RuntimeError):
    """A command ended with another exit code than 0, ``returncode``; negative for a signal."""

    def __init__(self, command: str | Sequence[str], returncode: int) -> None:
        how = f"exit code {returncode}" if returncode >= 0 else f"signal {-returncode}"
        super().__init__(f"{command!r} ended with {how}")
        self.command = command
        self.returncode = returncode

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str | Sequence[str], int]]:
        return CommandFailed, (self.command, self.returncode)


def run_command(
    command: str | Sequence[str],
    *,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command and wait for it: a text by the shell, a list without one.

    Its output goes where the scheduler's goes. Without ``stdin`` its input is empty;
    ``environment`` is added to the scheduler's own. Raises CommandFailed, OSError for a program
    that can't be started.
    """
    done = subprocess.run(  # noqa: S603  # what a crontab is for
        command if isinstance(command, str) else list(command),
        shell=isinstance(command, str),
        input="" if stdin is None else stdin,
        env={**os.environ, **(environment or {})},
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(command, done.returncode)
