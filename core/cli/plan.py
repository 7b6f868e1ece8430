"""What ``tocsin run`` is to run, as a file says it, and how a changed file takes effect."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any

from tocsin import creation, schedulefile
from tocsin.adapters.background import BackgroundScheduler
from tocsin.convert import timezone_name
from tocsin.crontab import read_crontab
from tocsin.errors import ConfigError, ConflictingIdError, JobLookupError
from tocsin.job import Job, undefined
from tocsin.stores.base import BaseJobStore
from tocsin.stores.memory import MemoryJobStore
from tocsin.stores.shared import SharedJobStore
from tocsin.triggers.base import BaseTrigger, Trigger
from tocsin.triggers.date import DateTrigger

_RUN = "tocsin.cli.shell:run"
#: The store of the jobs that run once, when this process starts.
_AT_START = "at start"
#: A run that is due within so many microseconds is left as it is when its job gets another
#: schedule: another process that shares the store may be about to begin it.
_NEAR = 1_000_000
#: So many characters one record of digests holds, and as many as this are those of a job.
_LARGEST = 200_000
_DIGESTS = 60
_NEVER = datetime(9999, 12, 31, tzinfo=timezone.utc)


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
    """A job of the file, and the digests of what must be equal for it to be unchanged.

    ``schedule`` is that of the part of ``definition`` that says when the job runs; None for one
    that runs when the scheduler starts.
    """

    job: Job
    store: str
    definition: str
    schedule: str | None


@dataclass(frozen=True)
class Changes:
    """The ids of the jobs that a changed file has added, changed, removed and left alone."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]


class Plan:
    """The jobs of a file in a scheduler.

    They are in ``store``, or else where the file says; ``fallback`` is made when it says
    nothing. Each store also has a job that never runs, by which it is known what the file has
    said before: so jobs that have vanished from it are taken out, and those that are the same
    keep their next run time, or stay out when they have had their last run.

    Raises, as `reload` does, OSError for a file that can't be read, ValueError for one that is
    wrong: ConfigError, or CrontabError with all its lines.
    """

    def __init__(
        self,
        path: Path,
        system: bool | None,
        store: BaseJobStore | None,
        fallback: Callable[[], BaseJobStore] = MemoryJobStore,
    ) -> None:
        self.path = path
        self._system = system
        self._place = path.resolve()
        self.settings = self._settings()
        self.scheduler = Scheduler(self.settings, prefix=None)
        stores = self.scheduler._jobstores
        if store is not None and "default" in stores:
            self.scheduler.remove_jobstore("default", shutdown=False)
        if store is not None or "default" not in stores:
            self.scheduler.add_jobstore(fallback() if store is None else store, "default")
        self.scheduler.add_jobstore(MemoryJobStore(), _AT_START)
        self._entries = self._read()
        #: What takes passwords out of a text.
        self.hide: Callable[[object], str] = str

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_toml(self) -> bool:
        """Whether the file is a TOML schedule; all others are crontabs."""
        return self.path.suffix == ".toml"

    def _settings(self) -> Mapping[str, Any]:
        return schedulefile.load(self.path).settings if self.is_toml else {}

    def start(self) -> None:
        """Open the stores and put the jobs there; they run when the scheduler is resumed.

        Raises ConfigError for an id that another program's job has, and what stores raise.
        """
        self.scheduler.start(paused=True)
        try:
            self._put(self._entries)
            for entry in self._entries.values():
                if entry.schedule is None:
                    self.scheduler._add([entry.job], _AT_START, False)
        except BaseException:
            self.scheduler.shutdown()
            raise

    def reload(self) -> Changes:
        """Read the file again, and change what it has changed; when it is wrong, nothing.

        A job whose definition is the same is left alone, and one whose schedule is the same
        keeps its next run time. A run that is due at this moment is neither lost nor doubled.
        """
        with self.scheduler.still:
            entries = self._read()
            old = self._entries
            self._put(entries)
            for job_id, entry in old.items():
                if entry.schedule is None and (
                    job_id not in entries or entries[job_id].definition != entry.definition
                ):
                    self._remove(job_id, _AT_START)
            self._entries = entries
        known = [job_id for job_id in entries if job_id in old]
        return Changes(
            [job_id for job_id in entries if job_id not in old],
            [each for each in known if entries[each].definition != old[each].definition],
            [job_id for job_id in old if job_id not in entries],
            [each for each in known if entries[each].definition == old[each].definition],
        )

    # What is in the stores

    def _put(self, entries: Mapping[str, Entry]) -> None:
        """Make the stores have the jobs of the file."""
        for alias in self.scheduler._jobstores:
            if alias != _AT_START:
                wanted = {
                    job_id: entry
                    for job_id, entry in entries.items()
                    if entry.store == alias and entry.schedule is not None
                }
                self._put_into(alias, wanted)

    def _put_into(self, alias: str, wanted: Mapping[str, Entry]) -> None:
        """Make one store have these jobs; several processes may do so at once."""
        scheduler = self.scheduler
        said = {job_id: [each.definition, each.schedule] for job_id, each in wanted.items()}
        before = self._said(alias)
        if before is None:
            if not said:
                return
            jobs = [*self._books(said), *(each.job for each in wanted.values())]
            try:
                scheduler._add(jobs, alias, False)
                return
            except ConflictingIdError:
                before = self._said(alias) or {}  # another process was quicker
        for job_id in before.keys() - said.keys():
            self._remove(job_id, alias)
        for job_id, entry in wanted.items():
            if job_id not in before:
                self._add(entry, alias)
            elif before[job_id] != said[job_id]:
                self._change(entry, alias, before[job_id][1] == entry.schedule)
        if before != said:
            books = self._books(said)
            scheduler._add(books, alias, True)
            for number in count(len(books)):
                if scheduler.get_job(self._book_id(number), alias) is None:
                    break
                self._remove(self._book_id(number), alias)

    def _said(self, alias: str) -> dict[str, list[str | None]] | None:
        """Give the digests of the jobs that the file has put into a store, None for never."""
        found: dict[str, list[str | None]] | None = None
        for number in count():
            book = self.scheduler.get_job(self._book_id(number), alias)
            if book is None:
                return found
            found = {**(found or {}), **book.kwargs["jobs"]}
        raise AssertionError

    def _books(self, said: Mapping[str, list[str | None]]) -> list[Job]:
        """Make the jobs that never run, and hold the digests: as many as records take."""
        parts: list[dict[str, list[str | None]]] = [{}]
        size = 0
        for job_id, digests in said.items():
            size += len(json.dumps(job_id)) + _DIGESTS
            if size > _LARGEST:
                parts.append({})
                size = 0
            parts[-1][job_id] = digests
        return [
            creation.make_job(
                self.scheduler,
                remember,
                DateTrigger(_NEVER),
                id=self._book_id(number),
                name=f"the jobs of {self.path.name}, as they were read; it never runs",
                kwargs={"jobs": part},
                next_run_time=None,
            )
            for number, part in enumerate(parts)
        ]

    def _book_id(self, number: int) -> str:
        return f"tocsin run {self._place}" + (f" #{number + 1}" if number else "")

    def _add(self, entry: Entry, alias: str) -> None:
        """Add a job, unless another process has done so."""
        job = entry.job
        try:
            self.scheduler._add([job], alias, False)
        except ConflictingIdError:
            known = self.scheduler.get_job(job.id, alias)
            if known is not None and (known.func_ref, known.args, known.kwargs) != (
                job.func_ref,
                job.args,
                job.kwargs,
            ):
                raise ConfigError(
                    f'{self.path}: job "{job.id}"',
                    f'job store "{alias}" has a job of this id that this file has not put there;'
                    " give it another id, or remove that job",
                ) from None

    def _change(self, entry: Entry, alias: str, on_schedule: bool) -> None:
        """Change a job to what the file says now."""
        job = entry.job
        known = self.scheduler.get_job(job.id, alias)
        if known is None:  # it has had its last run
            if not on_schedule:
                self._add(entry, alias)
            return
        names = ("name", "executor", "misfire_grace_time", "coalesce", "max_instances")
        approved: dict[str, Any] = {name: getattr(job, name) for name in names}
        approved.update(zip(("func", "args", "kwargs"), job._call, strict=True))
        now = self.scheduler.now()
        due = known._next_run
        if not on_schedule:
            approved["trigger"] = job.trigger
        if known.failure is not None or (not on_schedule and due is not None and due > now + _NEAR):
            approved["_next_run"] = job.trigger.next_run(None, now, self.scheduler._edge)
        try:
            self.scheduler._change(job.id, alias, {}, approved)
        except JobLookupError:
            return  # it has just had its last run

    def _remove(self, job_id: str, alias: str) -> None:
        try:
            self.scheduler.remove_job(job_id, alias)
        except JobLookupError:
            return  # it has had its last run

    # What is in the file

    def _read(self) -> dict[str, Entry]:
        return dict(self._read_toml() if self.is_toml else self._read_crontab())

    def _entry(
        self, arguments: dict[str, Any], definition: object, schedule: object, where: str
    ) -> tuple[str, Entry]:
        """Make an entry of arguments of `add_job`, and check that its store can hold it.

        One that runs when the scheduler starts is kept in memory.
        """
        store = arguments.pop("jobstore", "default")
        func = arguments["func"]
        job = creation.make_job(self.scheduler, **arguments)
        job._call = (func, *job._call[1:])  # by the name that the file gives it
        defaults = self.scheduler._defaults
        for name in ("misfire_grace_time", "coalesce", "max_instances"):
            if getattr(job, name) is undefined:
                setattr(job, name, getattr(defaults, name))
        known = self.scheduler._jobstores.get(store)
        if known is None or store == _AT_START:
            raise ConfigError(f"{where}: jobstore", f"{store!r} is unknown")
        if schedule is not None and isinstance(known, SharedJobStore):
            job._next_run = None
            try:
                known.codec.dumps(job)
            except ValueError as error:
                raise ConfigError(where, str(error)) from error
            job._next_run = undefined
        common = [_zone_of(self.scheduler), vars(defaults)]
        return job.id, Entry(
            job,
            store,
            _digest([definition, common]),
            None if schedule is None else _digest([schedule, common[0]]),
        )

    def _read_toml(self) -> Iterable[tuple[str, Entry]]:
        file = schedulefile.load(self.path)
        if file.settings != self.settings:
            raise ConfigError(
                f"{self.path}: tocsin",
                "settings can't be changed while the scheduler runs; restart",
            )
        for job_id, arguments in file.made_for(self.scheduler).items():
            definition = file.jobs[job_id]
            if "command" in definition:
                arguments["func"] = _RUN
                arguments["args"] = (job_id, *arguments["args"])
            where = f'{self.path}: job "{job_id}"'
            yield self._entry(arguments, definition, schedulefile.schedule_of(definition), where)

    def _read_crontab(self) -> Iterable[tuple[str, Entry]]:
        """Give the jobs of a crontab; their ids are the commands, whatever line they are on."""
        taken = set()
        for line in read_crontab(self.path, self.scheduler.timezone, system=self._system):
            job_id = line.command
            for number in count(2):
                if job_id not in taken:
                    break
                job_id = f"{line.command} #{number}"
            taken.add(job_id)
            user = None if line.user in (None, getpass.getuser()) else line.user
            where = f"{self.path}:{line.line}"
            if user is not None and os.geteuid() != 0:
                raise ConfigError(f"{where}: user", f"only root can run a command as {user!r}")
            call = (job_id, line.command, line.stdin, dict(line.environment), user)
            schedule = _record_of(line.trigger)
            arguments = {
                "id": job_id,
                "name": job_id,
                "func": _RUN,
                "args": call,
                "trigger": line.trigger or DateTrigger(timezone=self.scheduler.timezone),
            }
            yield self._entry(arguments, [schedule, call], schedule, where)


def remember(jobs: Mapping[str, Any]) -> None:
    """Do nothing: the callable of the job that holds what a file has said."""


def _zone_of(scheduler: BackgroundScheduler) -> str:
    """Name the time zone of a scheduler."""
    try:
        return timezone_name(scheduler.timezone)
    except ValueError:
        return repr(scheduler.timezone)


def _record_of(trigger: BaseTrigger | None) -> object:
    """Give what differs when a trigger of a crontab does; None for one that has none."""
    if not isinstance(trigger, Trigger):
        return None
    try:
        return trigger.to_dict()
    except ValueError:  # its time zone has no name
        return repr(trigger)


def _digest(value: object) -> str:
    """Give a short text that differs when a value does."""
    text = json.dumps(value, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]
