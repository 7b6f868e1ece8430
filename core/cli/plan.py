"""What ``tocsin run`` is to run, as a file says it, and how a changed file takes effect."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from tocsin import schedulefile
from tocsin.adapters.background import BackgroundScheduler
from tocsin.cli.shell import Shell
from tocsin.crontab import read_crontab
from tocsin.errors import ConfigError, JobLookupError


class Scheduler(BackgroundScheduler):
    """A scheduler that hands over no run while ``still`` is held."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.still = RLock()
        super().__init__(*args, **options)

    def _process_jobs(self) -> float | None:
        with self.still:
            return super()._process_jobs()


@dataclass(frozen=True)
class Entry:
    """A job: arguments of `add_job`, and what must be equal for it to be unchanged.

    ``schedule`` is the part of ``definition`` that says when it runs; None for a job that runs
    when the scheduler starts.
    """

    arguments: Mapping[str, Any]
    definition: Any
    schedule: Any


@dataclass(frozen=True)
class Changes:
    """The ids of the jobs that a changed file has added, changed, removed and left alone."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]


class Plan:
    """The jobs of a file in a scheduler.

    Raises, as `reload` does, OSError for a file that can't be read, ValueError for one that is
    wrong: ConfigError, or CrontabError with all its lines.
    """

    def __init__(self, path: Path, system: bool | None, shell: Shell) -> None:
        self.path = path
        self._system = system
        self._shell = shell
        self.settings = self._settings()
        self.scheduler = Scheduler(self.settings, prefix=None)
        self._entries = self._read()
        with self.scheduler.still:
            for entry in self._entries.values():
                self.scheduler.add_job(**entry.arguments)

    @property
    def is_toml(self) -> bool:
        """Whether the file is a TOML schedule; all others are crontabs."""
        return self.path.suffix == ".toml"

    def _settings(self) -> Mapping[str, Any]:
        return schedulefile.load(self.path).settings if self.is_toml else {}

    def reload(self) -> Changes:
        """Read the file again, and change what it has changed; when it is wrong, nothing.

        A job whose definition is the same is left alone, and one whose schedule is the same
        keeps its next run time. A run that is due at this moment is neither lost nor doubled.
        """
        with self.scheduler.still:
            entries = self._read()
            old = self._entries
            changes = Changes(
                [job_id for job_id in entries if job_id not in old],
                [
                    job_id
                    for job_id, entry in entries.items()
                    if job_id in old and entry.definition != old[job_id].definition
                ],
                [job_id for job_id in old if job_id not in entries],
                [
                    job_id
                    for job_id, entry in entries.items()
                    if job_id in old and entry.definition == old[job_id].definition
                ],
            )
            for job_id in changes.removed:
                self._remove(job_id)
            for job_id in (*changes.added, *changes.changed):
                self._put(job_id, entries[job_id], old.get(job_id))
            self._entries = entries
        return changes

    def _put(self, job_id: str, entry: Entry, old: Entry | None) -> None:
        """Add a job, or put it in the place of the one that there was."""
        if entry.schedule is None:  # the start of the scheduler is over
            self._remove(job_id)
            return
        arguments = dict(entry.arguments)
        # Told the time once: a run that becomes due between two looks at the clock would be of
        # the past for the new schedule, and not yet due by the old one.
        now = self.scheduler.now()
        job = self.scheduler.get_job(job_id)
        if job is None and old is not None and old.schedule == entry.schedule:
            return  # it has had its last run
        due = None if job is None else job._next_run
        if due is not None and old is not None:
            if due > now and old.schedule != entry.schedule:
                due = arguments["trigger"].next_run(None, now, self.scheduler._edge)
            if due is not None:
                arguments["next_run_time"] = self.scheduler._edge.moment(due)
        if job is not None and job._jobstore_alias != arguments.get("jobstore", "default"):
            self._remove(job_id)
        self.scheduler.add_job(**arguments, replace_existing=True)

    def _remove(self, job_id: str) -> None:
        try:
            self.scheduler.remove_job(job_id)
        except JobLookupError:
            return  # it has had its last run

    def _read(self) -> dict[str, Entry]:
        return self._read_toml() if self.is_toml else self._read_crontab()

    def _read_toml(self) -> dict[str, Entry]:
        file = schedulefile.load(self.path)
        if file.settings != self.settings:
            raise ConfigError(
                f"{self.path}: tocsin",
                "settings can't be changed while the scheduler runs; restart",
            )
        entries = {}
        for job_id, arguments in file.made_for(self.scheduler).items():
            definition = file.jobs[job_id]
            if "command" in definition:
                arguments["func"] = self._shell.run
                arguments["args"] = (job_id, *arguments["args"])
            store = arguments.get("jobstore", "default")
            if store != "default" and store not in self.settings.get("jobstores", {}):
                raise ConfigError(f'{self.path}: job "{job_id}": jobstore', f"{store!r} is unknown")
            entries[job_id] = Entry(arguments, definition, schedulefile.schedule_of(definition))
        return entries

    def _read_crontab(self) -> dict[str, Entry]:
        """Give the jobs of a crontab; their ids are the commands, whatever line they are on."""
        entries: dict[str, Entry] = {}
        for line in read_crontab(self.path, self.scheduler.timezone, system=self._system):
            job_id, count = line.command, 1
            while job_id in entries:
                count += 1
                job_id = f"{line.command} #{count}"
            user = None if line.user in (None, getpass.getuser()) else line.user
            if user is not None and os.geteuid() != 0:
                raise ConfigError(
                    f"{self.path}:{line.line}: user", f"only root can run a command as {user!r}"
                )
            arguments: dict[str, Any] = {
                "id": job_id,
                "name": job_id,
                "func": self._shell.run,
                "args": (job_id, line.command, line.stdin, line.environment, user),
            }
            if line.trigger is not None:
                arguments["trigger"] = line.trigger
            definition = (line.trigger, arguments["args"])
            entries[job_id] = Entry(arguments, definition, line.trigger)
        return entries
