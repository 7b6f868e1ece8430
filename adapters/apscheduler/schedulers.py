"""Schedulers with APScheduler's defaults and the hooks of those who extend its classes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any

from tocsin import adapters, config, events, plugins, scheduler
from tocsin.adapters.apscheduler import triggers
from tocsin.adapters.apscheduler.finder import STORES, names_of
from tocsin.adapters.apscheduler.stores import MemoryJobStore
from tocsin.errors import SchedulerAlreadyRunningError
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.mappings import chosen, nested
from tocsin.stores.base import BaseJobStore
from tocsin.triggers.base import BaseTrigger

if TYPE_CHECKING:
    from tocsin.adapters.background import BackgroundScheduler as _Background
    from tocsin.adapters.blocking import BlockingScheduler as _Blocking
else:
    _Background, _Blocking = adapters.BackgroundScheduler, adapters.BlockingScheduler

__all__ = ["EVENT_ALL", "BackgroundScheduler", "BaseScheduler", "BlockingScheduler"]

#: All that APScheduler knows; what tocsin adds to it is not for listeners written for that.
EVENT_ALL = (events.EVENT_JOB_MAX_INSTANCES << 1) - 1

_PREFIX = "apscheduler."
_TRIGGERS: Mapping[str, type[BaseTrigger]] = {
    "and": triggers.AndTrigger,
    "calendarinterval": triggers.CalendarIntervalTrigger,
    "cron": triggers.CronTrigger,
    "date": triggers.DateTrigger,
    "interval": triggers.IntervalTrigger,
    "or": triggers.OrTrigger,
}
_FRAMEWORKS = {
    "AsyncIOScheduler": "asyncio",
    "GeventScheduler": "gevent",
    "QtScheduler": "qt",
    "TornadoScheduler": "tornado",
    "TwistedScheduler": "twisted",
}


class BaseScheduler(scheduler.BaseScheduler):
    """The base of all schedulers that ``apscheduler.schedulers`` has.

    A subclass of a third party implements ``wakeup``, as a rule by a timer that calls
    `_process_jobs`, which gives the seconds until the next call. It may override `_create_lock`,
    `_create_default_executor`, `_create_default_jobstore`, `_configure`, `_process_jobs`,
    `_real_add_job`, `_lookup_job` and `_dispatch_event`.

    Options that are unknown are ignored, as by APScheduler, but with a warning.
    """

    log_prefix = "apscheduler"
    job_defaults_here = config.JobDefaults(misfire_grace_time=1)

    def __init__(self, gconfig: Mapping[str, Any] | None = None, **options: Any) -> None:
        self._executors_lock = self._create_lock()
        self._jobstores_lock = self._create_lock()
        self._listeners_lock = self._create_lock()
        options.setdefault("prefix", _PREFIX)
        super().__init__(gconfig, **options)
        if type(self)._dispatch_event is not BaseScheduler._dispatch_event:
            self.add_listener(_listen)  # so that the subclass hears what nobody else does

    # Configuration

    def configure(
        self,
        gconfig: Mapping[str, Any] | None = None,
        prefix: str | tuple[str, ...] | None = _PREFIX,
        **options: Any,
    ) -> None:
        """Set all options anew; those that are not given get their defaults.

        Of ``gconfig`` count the keys that start with ``prefix``, all of them without one; dots
        in them lead into nested mappings. ``options`` replace what it has for the same key.
        Raises SchedulerAlreadyRunningError unless stopped, ConfigError for a value that is wrong.
        """
        if self.state != scheduler.STATE_STOPPED:
            raise SchedulerAlreadyRunningError
        tree = nested(chosen(gconfig or {}, prefix, []))
        self._configure({**tree, **options})

    def _configure(self, options: Any) -> None:
        """Take a nested configuration, of which a subclass has taken what is its own."""
        super().configure(self._accepted(options), None)

    def _take_extra(self, options: Mapping[str, Any]) -> None:
        super()._configure(options)

    def _accepted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out, with a warning, what is unknown, and translate the names of stores."""
        known = {each.name for each in fields(config.Settings)} - {"extra"}
        accepted = self._only(given, known | self.extra_options.keys(), "")
        if isinstance(accepted.get("job_defaults"), Mapping):
            names = {each.name for each in fields(config.JobDefaults)}
            accepted["job_defaults"] = self._only(accepted["job_defaults"], names, "job_defaults.")
        if isinstance(accepted.get("jobstores"), Mapping):
            accepted["jobstores"] = {
                alias: _with_class(each) for alias, each in accepted["jobstores"].items()
            }
        return accepted

    def _only(self, given: Mapping[str, Any], known: Any, path: str) -> dict[str, Any]:
        logger = logging.getLogger(f"{self.log_prefix}.scheduler")
        for key in given:
            if key not in known:
                logger.warning(
                    "The option %s%s is unknown and ignored; known: %s",
                    path,
                    key,
                    ", ".join(sorted(known)),
                )
        return {key: value for key, value in given.items() if key in known}

    # What subclasses of APScheduler's use or override

    @property
    def _logger(self) -> Any:
        return self.logger

    @property
    def _pending_jobs(self) -> list[tuple[Job, str, bool]]:
        return self._pending

    def _create_lock(self) -> Any:
        """Make a lock for what belongs to the scheduler; one that a thread may take twice."""
        return RLock()

    def _lookup_executor(self, alias: str) -> BaseExecutor:
        try:
            return self._executors[alias]
        except KeyError:
            raise KeyError(f"No such executor: {alias}") from None

    def _lookup_jobstore(self, alias: str) -> BaseJobStore:
        return self._store(alias)

    def _create_default_jobstore(self) -> BaseJobStore:
        return MemoryJobStore()

    def _real_add_job(self, job: Job, jobstore_alias: str, replace_existing: bool) -> None:
        """Complete a job, and add it to its store."""
        super()._add((job,), jobstore_alias, replace_existing)

    def _add(self, jobs: Sequence[Job], alias: str, replace: bool) -> None:
        if type(self)._real_add_job is BaseScheduler._real_add_job:
            super()._add(jobs, alias, replace)
        else:
            for job in jobs:
                self._real_add_job(job, alias, replace)

    def _create_trigger(self, trigger: Any, arguments: dict[str, Any]) -> BaseTrigger:
        if isinstance(trigger, BaseTrigger) and arguments:
            self.logger.warning(
                "%s: ignored; arguments of a trigger go with its name, not with %r",
                ", ".join(arguments),
                trigger,
            )
            return trigger
        if trigger is None or isinstance(trigger, str):
            trigger = _TRIGGERS.get(trigger or "date", trigger)
        return super()._create_trigger(trigger, arguments)

    def _wake_by(self, instant: int) -> None:
        if type(self)._process_jobs is BaseScheduler._process_jobs:
            super()._wake_by(instant)
        elif self.state == scheduler.STATE_RUNNING:
            self.wakeup()  # who goes through the jobs by himself does not note when he is awake

    # The public calls

    def start(self, paused: bool = False) -> Any:
        """Start; see `tocsin.scheduler.BaseScheduler.start`.

        Raises SchedulerAlreadyRunningError, RuntimeError under a uWSGI without threads.
        """
        if not getattr(sys.modules.get("uwsgi"), "has_threads", True):
            raise RuntimeError(
                "The scheduler needs threads, which this uWSGI has not: start it with"
                " --enable-threads"
            )
        return super().start(paused)

    def add_listener(self, callback: Callable[[Any], Any], mask: int = EVENT_ALL) -> None:
        """Call a function for each event that the mask has, by default all of APScheduler's."""
        super().add_listener(callback, mask)

    def add_jobstore(
        self, jobstore: BaseJobStore | str, alias: str = "default", **jobstore_opts: Any
    ) -> None:
        """Add a job store: an instance, or the name of a plug-in and its options."""
        if isinstance(jobstore, str) and jobstore in STORES:
            jobstore, jobstore_opts = plugins.make(_store_class(jobstore), jobstore_opts), {}
        super().add_jobstore(jobstore, alias, **jobstore_opts)


def _listen(event: events.SchedulerEvent) -> None:
    """Listen to all, and do nothing."""


def _store_class(name: str) -> Any:
    """Import the store of a name; ImportError that says so where tocsin has none yet."""
    (found,) = names_of(STORES[name]).values()
    return found


def _with_class(given: Any) -> Any:
    """Put the class of a store in the place of its name, in the section that describes it."""
    name = given.get("type") if isinstance(given, Mapping) else None
    if name not in STORES:
        return given
    return {"class": _store_class(name), **{k: v for k, v in given.items() if k != "type"}}


class BlockingScheduler(BaseScheduler, _Blocking):
    """Run in the thread that calls ``start``; see `tocsin.adapters.BlockingScheduler`."""


class BackgroundScheduler(BlockingScheduler, _Background):
    """Run in a thread of its own; see `tocsin.adapters.BackgroundScheduler`."""


@cache
def __getattr__(name: str) -> Any:
    """Make the scheduler of a framework when it is asked for."""
    if name not in _FRAMEWORKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    native = getattr(import_module(f"tocsin.adapters.{_FRAMEWORKS[name]}"), name)
    members: dict[str, Any] = {"__module__": __name__, "__doc__": native.__doc__}
    if name == "QtScheduler":
        # APScheduler's outlives the event loop, and applications shut it down after that.
        members["_quit"] = lambda self: None
    return type(name, (BaseScheduler, native), members)
