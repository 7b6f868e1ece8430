"""What a scheduler is made of: its settings, executors, job stores and listeners."""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from datetime import tzinfo
from typing import Any, ClassVar, TypeVar

from tocsin import config, plugins
from tocsin.clock import Clock, SystemClock
from tocsin.convert import edge_of
from tocsin.engine.schedule import Schedule
from tocsin.errors import SchedulerAlreadyRunningError
from tocsin.events import (
    EVENT_ALL,
    EVENT_EXECUTOR_ADDED,
    EVENT_EXECUTOR_REMOVED,
    EVENT_JOBSTORE_ADDED,
    EVENT_JOBSTORE_REMOVED,
    SchedulerEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.job import Job
from tocsin.listeners import Listeners, run_coroutine_here
from tocsin.loop import Loop
from tocsin.stores.base import BaseJobStore

STATE_STOPPED = 0
STATE_RUNNING = 1
STATE_PAUSED = 2

#: Later than any instant.
FOREVER = 2**62


class Parts(ABC):
    """Hold the parts of a scheduler, add them and take them out.

    The arguments are those of `configure`. All of its kind are a `tocsin.scheduler.BaseScheduler`,
    which others take ``self`` for; a type checker can't know it.
    """

    #: What the names of the loggers begin with.
    log_prefix: ClassVar[str] = "tocsin"
    #: The options that this kind of scheduler takes beside the common ones, and what reads them.
    extra_options: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    #: What a job has that says nothing else.
    job_defaults_here: ClassVar[config.JobDefaults] = config.JobDefaults()

    logger: logging.Logger
    timezone: tzinfo
    _edge: Schedule

    def __init__(
        self,
        gconfig: Mapping[str, Any] | None = None,
        prefix: str | tuple[str, ...] | None = config.PREFIXES,
        **options: Any,
    ) -> None:
        self._list_lock = threading.RLock()
        self._executors: dict[str, BaseExecutor] = {}
        self._jobstores: dict[str, BaseJobStore] = {}
        self._pending: list[tuple[Job, str, bool]] = []
        self._listeners = Listeners(lambda coroutine: self._start_coroutine(coroutine))
        self._starting = False
        self._forked = False
        self._wake_at = FOREVER
        self._loop = Loop(self)  # type: ignore[arg-type]
        self.state = STATE_STOPPED
        self.clock: Clock = SystemClock()
        self.configure(gconfig, prefix, **options)

    # Configuration

    def configure(
        self,
        gconfig: Mapping[str, Any] | None = None,
        prefix: str | tuple[str, ...] | None = config.PREFIXES,
        **options: Any,
    ) -> None:
        """Set all options anew; those that are not given get their defaults.

        ``gconfig`` is a mapping, nested or flat with dots, whose keys start with ``prefix`` (by
        default ``tocsin.`` or ``apscheduler.``); ``options`` go before it. See
        `tocsin.config.read` for the keys. Raises SchedulerAlreadyRunningError unless stopped,
        ConfigError for a key or value that is wrong.
        """
        if self.state != STATE_STOPPED or self._starting:
            raise SchedulerAlreadyRunningError(
                "Scheduler is already running; its settings can only be changed before it starts"
            )
        settings = config.read(
            gconfig or {}, prefix, options, self.extra_options, self.job_defaults_here
        )
        self.logger = settings.logger or logging.getLogger(f"{self.log_prefix}.scheduler")
        self._listeners.logger = self.logger
        self.timezone = settings.timezone
        self._edge = edge_of(self.timezone)
        self.jobstore_retry_interval = settings.jobstore_retry_interval
        self.clock = settings.clock or self._create_default_clock()
        self._defaults = settings.job_defaults
        # The rules of the last job that was added, before and after its defaults were filled in.
        self._completed: tuple[Any, Any] = (None, None)
        self._executors = {}
        self._jobstores = {}
        self._take_extra(settings.extra)
        for alias, executor in settings.executors.items():
            self.add_executor(executor, alias)
        for alias, jobstore in settings.jobstores.items():
            self.add_jobstore(jobstore, alias)

    def _configure(self, options: Mapping[str, Any]) -> None:
        """Take the options of this kind of scheduler."""

    def _take_extra(self, options: Mapping[str, Any]) -> None:
        """Call `_configure`; apart, for to APScheduler's subclasses that name means more."""
        self._configure(options)

    @classmethod
    def from_toml(cls: type[_Parts], path: str | os.PathLike[str]) -> _Parts:
        """Make a scheduler with the settings of the table ``[tocsin]`` of a TOML file."""
        return cls(config.load_toml(path), prefix=None)

    def _create_default_clock(self) -> Clock:
        """Make the clock that is used where none is given."""
        return SystemClock()

    def _create_default_executor(self) -> BaseExecutor:
        """Make the executor that is called "default" where none is given."""
        made: BaseExecutor = plugins.load("executors", "threadpool")()
        return made

    def _create_default_jobstore(self) -> BaseJobStore:
        """Make the job store that is called "default" where none is given."""
        made: BaseJobStore = plugins.load("stores", "memory")()
        return made

    # State

    def now(self) -> int:
        """Give the instant that the scheduler's clock shows."""
        return self.clock.now()

    @property
    def running(self) -> bool:
        """Whether the scheduler has been started, paused or not."""
        return self.state != STATE_STOPPED

    @abstractmethod
    def wakeup(self) -> None:
        """Have the scheduler look at its jobs as soon as it can; from any thread."""

    # Plug-ins

    def add_executor(
        self, executor: BaseExecutor | str, alias: str = "default", **executor_opts: Any
    ) -> None:
        """Add an executor: an instance, or the name of a plug-in and its options.

        Raises ValueError when the alias is taken, TypeError for what is no executor.
        """
        made = self._plugin("executors", executor, executor_opts)
        with self._list_lock:
            self._executors = _with(self._executors, "an executor", alias, made)
        if self.running:
            made.start(self, alias)
            self._loop.executors = self._executors
        self._dispatch_event(SchedulerEvent(EVENT_EXECUTOR_ADDED, alias))

    def remove_executor(self, alias: str, shutdown: bool = True) -> None:
        """Take an executor out; KeyError if there is none. Its jobs stay, and say so when due."""
        with self._list_lock:
            self._executors, executor = _without(self._executors, "executor", alias)
            self._loop.executors = self._executors
        if shutdown:
            executor.shutdown()
        self._dispatch_event(SchedulerEvent(EVENT_EXECUTOR_REMOVED, alias))

    def add_jobstore(
        self, jobstore: BaseJobStore | str, alias: str = "default", **jobstore_opts: Any
    ) -> None:
        """Add a job store: an instance, or the name of a plug-in and its options.

        Raises ValueError when the alias is taken, TypeError for what is no job store.
        """
        made = self._plugin("stores", jobstore, jobstore_opts)
        _with(self._jobstores, "a job store", alias, made)  # refuse it before it is opened
        if self.running:
            made.start(self, alias)
        with self._list_lock:
            self._jobstores = _with(self._jobstores, "a job store", alias, made)
        self._dispatch_event(SchedulerEvent(EVENT_JOBSTORE_ADDED, alias))
        if self.running:
            self._loop.stores = self._jobstores
            self.wakeup()

    def remove_jobstore(self, alias: str, shutdown: bool = True) -> None:
        """Take a job store out; KeyError if there is none."""
        with self._list_lock:
            self._jobstores, store = _without(self._jobstores, "job store", alias)
            self._loop.stores = self._jobstores
        if shutdown:
            store.shutdown()
        self._dispatch_event(SchedulerEvent(EVENT_JOBSTORE_REMOVED, alias))

    def _plugin(self, kind: str, given: Any, options: dict[str, Any]) -> Any:
        if isinstance(given, str):
            return plugins.make(plugins.load(kind, given), options)
        if options:
            raise TypeError(
                f"{', '.join(options)}: options go with the name of a plug-in, not with {given!r}"
            )
        plugins.verify(kind, type(given))
        return given

    # Listeners

    def add_listener(self, callback: Callable[[Any], Any], mask: int = EVENT_ALL) -> None:
        """Call a function, or a coroutine function, for each event that the mask has.

        It is called in the thread where the event happens. What it raises is logged.
        """
        self._listeners.add(callback, mask)

    def remove_listener(self, callback: Callable[[Any], Any]) -> None:
        """Call a listener no more; nothing happens if it is none."""
        self._listeners.remove(callback)

    def listens(self, code: int) -> bool:
        """Tell whether an event would be heard by anybody."""
        return self._listeners.mask & code != 0

    def _dispatch_event(self, event: SchedulerEvent) -> None:
        self._listeners.tell(event)

    def _start_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Have a listener's coroutine run."""
        run_coroutine_here(coroutine)


_Parts = TypeVar("_Parts", bound=Parts)
_Plugin = TypeVar("_Plugin")


def _with(
    plugins_by_alias: dict[str, _Plugin], noun: str, alias: str, plugin: _Plugin
) -> dict[str, _Plugin]:
    """Add a plug-in under an alias that is free; ValueError if it is taken."""
    if alias in plugins_by_alias:
        raise ValueError(f'This scheduler already has {noun} by the alias of "{alias}"')
    return {**plugins_by_alias, alias: plugin}


def _without(
    plugins_by_alias: dict[str, _Plugin], noun: str, alias: str
) -> tuple[dict[str, _Plugin], _Plugin]:
    """Take the plug-in of an alias out, and give it too; KeyError if there is none."""
    rest = dict(plugins_by_alias)
    try:
        return rest, rest.pop(alias)
    except KeyError:
        raise KeyError(f'No such {noun}: "{alias}"') from None
