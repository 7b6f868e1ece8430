"""The scheduler: configuration, jobs, listeners and state, whatever the framework."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import IO, Any, ClassVar, TypeVar

from zope.interface import implementer

from tocsin import config, creation, plugins, records
from tocsin.callables import get_callable_name, runs_coroutine
from tocsin.clock import Clock, SystemClock
from tocsin.convert import edge_of
from tocsin.errors import (
    JobLookupError,
    SchedulerAlreadyRunningError,
    SchedulerNotRunningError,
)
from tocsin.events import (
    EVENT_ALL,
    EVENT_ALL_JOBS_REMOVED,
    EVENT_EXECUTOR_ADDED,
    EVENT_EXECUTOR_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_BROKEN,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOBSTORE_ADDED,
    EVENT_JOBSTORE_ERROR,
    EVENT_JOBSTORE_REMOVED,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    JobBrokenEvent,
    JobEvent,
    JobStoreErrorEvent,
    SchedulerEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.interfaces import IScheduler
from tocsin.job import Job, undefined
from tocsin.listeners import Listeners, run_coroutine_here
from tocsin.loop import Loop
from tocsin.stores.base import BaseJobStore
from tocsin.triggers.base import BaseTrigger

STATE_STOPPED = 0
STATE_RUNNING = 1
STATE_PAUSED = 2

_FOREVER = 2**62
_SECOND = 1_000_000
_Function = TypeVar("_Function", bound=Callable[..., Any])

#: The schedulers that run in this process, for the child of a fork to forget.
_started: weakref.WeakSet[BaseScheduler] = weakref.WeakSet()


@implementer(IScheduler)
class BaseScheduler(ABC):
    """The base of all schedulers; an adapter adds a timer, a wake-up and a default executor.

    Every method may be called from any thread, and from a job. No lock is held while a store,
    a job, a listener or a trigger runs. There are two kinds of lock: the scheduler's, around
    its own lists only, and one in each store and executor, around theirs; neither is taken
    while the other is held.

    The arguments are those of `configure`.
    """

    #: What the names of the loggers begin with.
    log_prefix: ClassVar[str] = "tocsin"
    #: The options that this kind of scheduler takes beside the common ones, and what reads them.
    extra_options: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    #: The longest sleep, in seconds: after it the clock is looked at again, for it may have been
    #: set, and a suspended machine may have woken up.
    longest_sleep: float = 60.0
    #: Whether the scheduler goes on when the main thread of the program has ended.
    outlives_main_thread: bool = False
    #: What a job has that says nothing else.
    job_defaults_here: ClassVar[config.JobDefaults] = config.JobDefaults()

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
        self._wake_at = _FOREVER
        self._loop = Loop(self)
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
    def from_toml(cls: type[_Scheduler], path: str | os.PathLike[str]) -> _Scheduler:
        """Make a scheduler with the settings of the table ``[tocsin]`` of a TOML file."""
        return cls(config.load_toml(path), prefix=None)

    # State

    def now(self) -> int:
        """Give the instant that the scheduler's clock shows."""
        return self.clock.now()

    @property
    def running(self) -> bool:
        """Whether the scheduler has been started, paused or not."""
        return self.state != STATE_STOPPED

    def start(self, paused: bool = False) -> Any:
        """Start executors and stores, add the jobs that waited for it, and begin to run them.

        With ``paused`` no job runs before `resume`. When something fails, all is as before.
        Raises SchedulerAlreadyRunningError.
        """
        with self._list_lock:
            if self.state != STATE_STOPPED or self._starting:
                raise SchedulerAlreadyRunningError
            self._starting = True
        started: list[BaseExecutor | BaseJobStore] = []
        try:
            if "default" not in self._executors:
                self.add_executor(self._create_default_executor(), "default")
            if "default" not in self._jobstores:
                self.add_jobstore(self._create_default_jobstore(), "default")
            for alias, executor in list(self._executors.items()):
                executor.start(self, alias)
                started.append(executor)
            for alias, jobstore in list(self._jobstores.items()):
                jobstore.start(self, alias)
                started.append(jobstore)
            self._loop.stores, self._loop.executors = self._jobstores, self._executors
            self._add_pending(STATE_PAUSED if paused else STATE_RUNNING)
        except BaseException:
            for plugin in reversed(started):
                plugin.shutdown()
            raise
        finally:
            self._starting = False
        self._forked = False
        _started.add(self)
        self.logger.info("Scheduler started")
        self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_STARTED))
        if not paused:
            self.wakeup()
        return None

    def _add_pending(self, state: int) -> None:
        """Add the jobs that wait, and enter a state when none is left."""
        while True:
            with self._list_lock:
                batch = self._pending
                if not batch:
                    self.state = state
                    return
                self._pending = []
            for position, (job, alias, replace) in enumerate(batch):
                try:
                    self._add((job,), alias, replace)
                except BaseException:
                    with self._list_lock:
                        self._pending = batch[position:] + self._pending
                    self._take_back(batch[:position])
                    raise

    def _take_back(self, added: Sequence[tuple[Job, str, bool]]) -> None:
        """Make jobs pending again that a start that failed had added."""
        for job, alias, _ in added:
            self._jobstores[alias].remove_job(job.id)
            job._jobstore_alias = None
        with self._list_lock:
            self._pending = [*added, *self._pending]

    def shutdown(self, wait: bool = True) -> Any:
        """Stop, and with ``wait`` return only when the running jobs have ended.

        A job may call it: it is not waited for itself. Raises SchedulerNotRunningError.
        """
        with self._list_lock:
            if self.state == STATE_STOPPED:
                raise SchedulerNotRunningError
            self.state = STATE_STOPPED
        self._stop_timer()
        self._close(wait)
        return None

    def _stop_timer(self) -> None:
        """Have the timer stop, and return when no job is being handed over any more."""

    def _close(self, wait: bool) -> None:
        """Shut executors and stores down."""
        _started.discard(self)
        for executor in self._executors.values():
            self._shut_down(executor, wait)
        for store in self._jobstores.values():
            self._shut_down(store)
        self.logger.info("Scheduler has been shut down")
        self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_SHUTDOWN))

    def _shut_down(self, plugin: BaseExecutor | BaseJobStore, *wait: bool) -> None:
        try:
            plugin.shutdown(*wait)
        except Exception:
            self.logger.exception("Error shutting down %r", plugin)

    def pause(self) -> None:
        """Start no more jobs until `resume`; raises SchedulerNotRunningError."""
        with self._list_lock:
            if self.state == STATE_STOPPED:
                raise SchedulerNotRunningError
            changed, self.state = self.state != STATE_PAUSED, STATE_PAUSED
        if changed:
            self.logger.info("Paused scheduler job processing")
            self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_PAUSED))

    def resume(self) -> None:
        """Start jobs again, those first that became due; raises SchedulerNotRunningError."""
        with self._list_lock:
            if self.state == STATE_STOPPED:
                raise SchedulerNotRunningError
            changed, self.state = self.state != STATE_RUNNING, STATE_RUNNING
        if changed:
            self.logger.info("Resumed scheduler job processing")
            self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_RESUMED))
            self.wakeup()

    @abstractmethod
    def wakeup(self) -> None:
        """Have the scheduler look at its jobs as soon as it can; from any thread."""

    def health(self) -> dict[str, Any]:
        """Tell how the scheduler fares, as JSON values.

        ``ok`` is true when it runs, every store answers, and no job is set aside or failing;
        the rest says what is not so.
        """
        loop = self._loop
        stores = {
            alias: {
                "ok": alias not in loop.failing_stores,
                "error": trouble.reason if (trouble := loop.failing_stores.get(alias)) else None,
                "failures": trouble.failures if trouble else 0,
            }
            for alias in list(self._jobstores)
        }
        failing = [
            {"id": job_id, "jobstore": alias, "error": trouble.reason}
            for (alias, job_id), trouble in list(loop.failing_jobs.items())
        ]
        moment = self._edge.moment(self._wake_at)
        return {
            "ok": self.state == STATE_RUNNING
            and all(store["ok"] for store in stores.values())
            and not failing
            and not self._loop.broken,
            "state": ("stopped", "running", "paused")[self.state],
            "next_wakeup": None if moment is None else moment.isoformat(),
            "jobstores": stores,
            "executors": {
                alias: {"running": executor.running} for alias, executor in self._executors.items()
            },
            "failing_jobs": failing,
            "broken_jobs": [
                {"id": job_id, "jobstore": alias, "error": reason}
                for (alias, job_id), reason in list(loop.broken.items())
            ],
        }

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

    # Adding jobs

    def add_job(
        self,
        func: Callable[..., Any] | str,
        trigger: BaseTrigger | str | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        misfire_grace_time: timedelta | float | None = undefined,
        coalesce: bool = undefined,
        max_instances: int = undefined,
        next_run_time: date | str | None = undefined,
        jobstore: str = "default",
        executor: str = "default",
        replace_existing: bool = False,
        at_least_once: bool = False,
        **trigger_args: Any,
    ) -> Job:
        """Add a job and give its handle. Before the start it is kept until then.

        ``func`` is a callable or a reference ``module:name``. ``trigger`` is a trigger, or the
        name of one whose arguments are ``trigger_args``; without one the job runs once, now.
        ``next_run_time`` overrules the trigger for the first run; None adds the job paused.
        ``misfire_grace_time`` (seconds, or None for no limit), ``coalesce`` and
        ``max_instances`` are by default the scheduler's ``job_defaults``. ``at_least_once`` is
        for stores that schedulers share: a run whose scheduler died is begun anew by another.

        Raises TypeError and ValueError, naming the argument, for what is wrong,
        ConflictingIdError for an id that is taken unless ``replace_existing``, KeyError for an
        unknown store, LookupError for an unknown trigger or reference.
        """
        made: Any = trigger
        # isinstance() is slow where abstract base classes are.
        if trigger_args or BaseTrigger not in type(trigger).__mro__:
            made = self._create_trigger(trigger, trigger_args)
        job = creation.make_job(
            self,
            func,
            made,
            executor,
            args,
            kwargs,
            id,
            name,
            misfire_grace_time,
            coalesce,
            max_instances,
            next_run_time,
            at_least_once,
        )
        self._place([job], jobstore, replace_existing)
        return job

    def add_jobs(
        self,
        jobs: Iterable[Mapping[str, Any]],
        *,
        jobstore: str = "default",
        replace_existing: bool = False,
        **common: Any,
    ) -> list[Job]:
        """Add many jobs in one step, all or none, and give their handles.

        Each is a mapping of arguments of `add_job`; ``common`` are those that all share. It
        costs a fraction of as many calls of `add_job`. Raises what `add_job` raises.
        """
        made = creation.make_jobs(self, jobs, common)
        self._place(made, jobstore, replace_existing)
        return made

    def scheduled_job(
        self,
        trigger: BaseTrigger | str,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,  # noqa: A002
        name: str | None = None,
        misfire_grace_time: timedelta | float | None = undefined,
        coalesce: bool = undefined,
        max_instances: int = undefined,
        next_run_time: date | str | None = undefined,
        jobstore: str = "default",
        executor: str = "default",
        at_least_once: bool = False,
        **trigger_args: Any,
    ) -> Callable[[_Function], _Function]:
        """Decorate a function to add it as a job; a job of the same id is replaced."""

        def decorate(func: _Function) -> _Function:
            self.add_job(
                func,
                trigger,
                args,
                kwargs,
                id,
                name,
                misfire_grace_time,
                coalesce,
                max_instances,
                next_run_time,
                jobstore,
                executor,
                True,
                at_least_once,
                **trigger_args,
            )
            return func

        return decorate

    def _create_trigger(
        self, trigger: BaseTrigger | str | None, arguments: dict[str, Any]
    ) -> BaseTrigger:
        return creation.make_trigger(trigger, arguments, self.timezone, self.now())

    def _place(self, jobs: Sequence[Job], alias: str, replace: bool) -> None:
        """Give jobs to their store, or keep them until the start."""
        if self.state == STATE_STOPPED:
            with self._list_lock:
                if self._forked:
                    raise SchedulerNotRunningError(
                        "This scheduler was started in the process that this one was forked from;"
                        " it does not run here unless it is started here"
                    )
                if self.state == STATE_STOPPED:
                    self._pending += [(job, alias, replace) for job in jobs]
                    self.logger.info(
                        "Adding job tentatively -- it will be properly scheduled when the"
                        " scheduler starts"
                    )
                    return
        self._add(jobs, alias, replace)

    def _add(self, jobs: Sequence[Job], alias: str, replace: bool) -> None:
        """Complete jobs, and add them to a store."""
        store = self._store(alias)
        now = self.now()
        edge = self._edge
        earliest = _FOREVER
        given, complete = self._completed
        rules = trigger = refusing = None
        for job in jobs:
            if job._rules is not rules:
                rules = job._rules
                if rules is not given:
                    given, complete = rules, rules.completed(self._defaults)
                    self._completed = (given, complete)
                executor = self._executors.get(rules.executor)
                refusing = None if getattr(executor, "runs_coroutines", True) else executor
            if refusing is not None:
                self._refuse_coroutine(job, refusing)
            job._rules = complete
            if job._next_run is undefined:
                if job.trigger is not trigger:
                    trigger = job.trigger
                    first = trigger.next_run(None, now, edge)
                job._next_run = first
                if first is None:
                    self.logger.warning(
                        'Job "%s" will never run: %s has no fire time from now on; it is kept,'
                        " paused",
                        job.name,
                        trigger,
                    )
            due = job._next_run
            if due is not None and due < earliest:
                earliest = due
            job._scheduler = self
            job._jobstore_alias = alias
        try:
            store.add_jobs(jobs, replace)
        except BaseException:
            for job in jobs:
                job._jobstore_alias = None
            raise
        if self.logger.isEnabledFor(logging.INFO):
            for job in jobs:
                self.logger.info('Added job "%s" to job store "%s"', job.name, alias)
        if self._listeners.mask & EVENT_JOB_ADDED:
            for job in jobs:
                self._dispatch_event(JobEvent(EVENT_JOB_ADDED, job.id, alias))
        self._wake_by(earliest)

    def _wake_by(self, instant: int) -> None:
        """Have the scheduler wake up in time for a job that is due then."""
        if instant < self._wake_at and self.state == STATE_RUNNING:
            self._wake_at = instant  # one wake-up is enough for all that come until it is served
            self.wakeup()

    def _refuse_coroutine(self, job: Job, executor: BaseExecutor) -> None:
        if runs_coroutine(job.func):
            raise TypeError(
                f"func: {get_callable_name(job.func)} is a coroutine function, which the executor"
                f' "{job.executor}" ({type(executor).__name__}) can\'t run; give the job an'
                " executor that can, such as an AsyncIOExecutor or a ThreadPoolExecutor"
            )

    # Changing jobs

    def modify_job(self, job_id: str, jobstore: str | None = None, **changes: Any) -> Job:
        """Change attributes of a job, all or none, and give it.

        Raises JobLookupError, AttributeError for an attribute that there is not, TypeError and
        ValueError for wrong values.
        """
        return self._change(job_id, jobstore, changes, {})

    def _change(
        self,
        job_id: str,
        jobstore: str | None,
        changes: Mapping[str, Any],
        approved: dict[str, Any],
    ) -> Job:
        job, alias = self._lookup_job(job_id, jobstore)
        if changes:
            approved |= job.checked(changes)
        if alias is None:
            with self._list_lock:
                job._apply(approved)
            self._dispatch_event(JobEvent(EVENT_JOB_MODIFIED, job_id, None))
            return job
        due = None
        if "_next_run" in approved:
            due = approved["_next_run"]
            approved["failure"] = None
            if self._loop.failing_jobs or self._loop.broken:
                self._loop.forget(alias, job_id)
        job = self._jobstores[alias].modify_job(job_id, approved)
        if self._listeners.mask & EVENT_JOB_MODIFIED:
            self._dispatch_event(JobEvent(EVENT_JOB_MODIFIED, job_id, alias))
        if due is not None:
            self._wake_by(due)
        return job

    def reschedule_job(
        self,
        job_id: str,
        jobstore: str | None = None,
        trigger: BaseTrigger | str | None = None,
        **trigger_args: Any,
    ) -> Job:
        """Give a job another trigger, and the next run time that follows from it.

        A paused job is resumed by it. Raises what `modify_job` and `add_job` raise.
        """
        made = self._create_trigger(trigger, trigger_args)
        return self._change(job_id, jobstore, {"trigger": made}, self._first_run(made))

    def _first_run(self, trigger: BaseTrigger) -> dict[str, Any]:
        return {"_next_run": trigger.next_run(None, self.now(), self._edge)}

    def pause_job(self, job_id: str, jobstore: str | None = None) -> Job:
        """Stop running a job until it is resumed; JobLookupError without one."""
        return self._change(job_id, jobstore, {}, {"_next_run": None})

    def resume_job(self, job_id: str, jobstore: str | None = None) -> Job | None:
        """Run a job again from its next fire time on; without one it is removed, giving None.

        Raises JobLookupError.
        """
        job, _ = self._lookup_job(job_id, jobstore)
        approved = self._first_run(job.trigger)
        if approved["_next_run"] is None:
            self.remove_job(job_id, jobstore)
            return None
        return self._change(job_id, jobstore, {}, approved)

    def run_job_now(self, job_id: str, jobstore: str | None = None) -> None:
        """Run a job once, now, beside its schedule, which stays as it is.

        Raises JobLookupError, MaxInstancesReachedError when as many instances run as the job
        allows, LookupError when its executor is not there, SchedulerNotRunningError.
        """
        if self.state == STATE_STOPPED:
            raise SchedulerNotRunningError
        job, _ = self._lookup_job(job_id, jobstore)
        executor = self._executors.get(job.executor)
        if executor is None:
            raise LookupError(f'executor: no executor is called "{job.executor}"')
        executor.submit_job(job, [job.moment(self.now())])

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """Take a job out; JobLookupError without one."""
        alias: str | None = None
        if not (self._pending and self._remove_pending(job_id, jobstore)):
            if self.state == STATE_STOPPED:
                raise JobLookupError(job_id)
            stores = self._jobstores if jobstore is None else self._stores(jobstore)
            for alias, store in stores.items():  # noqa: B007
                try:
                    store.remove_job(job_id)
                    break
                except JobLookupError:
                    continue
            else:
                raise JobLookupError(job_id)
            loop = self._loop
            if loop.failing_jobs or loop.broken:
                loop.forget(alias, job_id)
        if self.logger.isEnabledFor(logging.INFO):
            self.logger.info("Removed job %s", job_id)
        if self._listeners.mask & EVENT_JOB_REMOVED:
            self._dispatch_event(JobEvent(EVENT_JOB_REMOVED, job_id, alias))

    def _remove_pending(self, job_id: str, jobstore: str | None) -> bool:
        with self._list_lock:
            for position, (job, alias, _) in enumerate(self._pending):
                if job.id == job_id and jobstore in (None, alias):
                    del self._pending[position]
                    return True
        return False

    def remove_all_jobs(self, jobstore: str | None = None) -> None:
        """Take all jobs out, of one store or of all."""
        with self._list_lock:
            self._pending = [
                each for each in self._pending if jobstore is not None and each[1] != jobstore
            ]
        if self.state != STATE_STOPPED:
            for alias, store in self._stores(jobstore).items():
                store.remove_all_jobs()
                self._loop.forget(alias)
        self._dispatch_event(SchedulerEvent(EVENT_ALL_JOBS_REMOVED, jobstore))

    # Looking jobs up

    def get_job(self, job_id: str, jobstore: str | None = None) -> Job | None:
        """Give the job of an id, or None."""
        try:
            return self._lookup_job(job_id, jobstore)[0]
        except JobLookupError:
            return None

    def get_jobs(
        self,
        jobstore: str | None = None,
        pending: bool | None = None,
        *,
        name: str | None = None,
        executor: str | None = None,
        status: str | None = None,
        where: Callable[[Job], bool] | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> list[Job]:
        """List jobs, those that run next first, paused ones last.

        While the scheduler is stopped these are the ones that wait for it (``pending=True``
        gives only them, False only those in stores). ``name``, ``executor``, ``status``
        (``"scheduled"``, ``"paused"``, ``"broken"`` or ``"pending"``) and ``where`` select;
        ``offset`` and ``limit`` give a page. Raises ValueError for another status.
        """
        if status not in (None, *_STATUSES):
            raise ValueError(f"status: {status!r} is none of {', '.join(_STATUSES)}")
        jobs: list[Job] = []
        if pending is not False:
            with self._list_lock:
                jobs += [job for job, alias, _ in self._pending if jobstore in (None, alias)]
        if pending is not True and self.state != STATE_STOPPED:
            stores = self._stores(jobstore)
            for store in stores.values():
                jobs += store.get_all_jobs()
            if len(stores) > 1:
                jobs.sort(key=lambda job: _FOREVER if job._next_run is None else job._next_run)
        jobs = [
            job
            for job in jobs
            if (name is None or job.name == name)
            and (executor is None or job.executor == executor)
            and (status is None or _status(job) == status)
            and (where is None or where(job))
        ]
        return jobs[offset : None if limit is None else offset + limit]

    def _lookup_job(self, job_id: str, jobstore: str | None) -> tuple[Job, str | None]:
        """Give a job and the alias of its store, which is None while it waits."""
        if self._pending:
            with self._list_lock:
                for job, alias, _ in self._pending:
                    if job.id == job_id and jobstore in (None, alias):
                        return job, None
        if self.state != STATE_STOPPED:
            stores = self._jobstores if jobstore is None else self._stores(jobstore)
            for alias in stores:
                found = stores[alias].lookup_job(job_id)
                if found is not None:
                    found._scheduler = self
                    found._jobstore_alias = alias
                    return found, alias
        raise JobLookupError(job_id)

    def _stores(self, alias: str | None) -> Mapping[str, BaseJobStore]:
        """Give one store, if there is one of that alias, or all."""
        stores = self._jobstores
        if alias is None:
            return stores
        return {alias: stores[alias]} if alias in stores else {}

    def _store(self, alias: str) -> BaseJobStore:
        try:
            return self._jobstores[alias]
        except KeyError:
            raise KeyError(
                f'No such job store: "{alias}"; there are: {", ".join(self._jobstores)}'
            ) from None

    def print_jobs(self, jobstore: str | None = None, out: IO[str] | None = None) -> None:
        """Print the jobs of all stores, or of one, and those that wait for the start."""
        out = out or sys.stdout
        if self.state == STATE_STOPPED:
            print("Pending jobs:", file=out)
            self._print(self.get_jobs(jobstore), "No pending jobs", out)
        else:
            for alias, store in self._stores(jobstore).items():
                print(f"Jobstore {alias}:", file=out)
                self._print(store.get_all_jobs(), "No scheduled jobs", out)

    @staticmethod
    def _print(jobs: Sequence[Job], none: str, out: IO[str]) -> None:
        for line in [str(job) for job in jobs] or [none]:
            print(f"    {line}", file=out)

    def export_jobs(
        self, outfile: IO[str] | str | os.PathLike[str], jobstore: str | None = None
    ) -> None:
        """Write jobs as JSON records to a file or path; see `tocsin.records`.

        Raises SchedulerNotRunningError, ValueError for a job that can't be written down.
        """
        if self.state == STATE_STOPPED:
            raise SchedulerNotRunningError("Scheduler is not running; start it to export its jobs")
        records.dump(self.get_jobs(jobstore, pending=False), outfile)

    def import_jobs(
        self,
        infile: IO[str] | str | os.PathLike[str],
        jobstore: str = "default",
        *,
        replace_existing: bool = False,
    ) -> list[Job]:
        """Add the jobs that `export_jobs` wrote, all or none, with their next run times.

        Raises ValueError for what is no such file, KeyError for an unknown store,
        ConflictingIdError as `add_job`.
        """
        jobs = records.load(infile)
        self._place(jobs, jobstore, replace_existing)
        return jobs

    # What adapters and their like use

    def _process_jobs(self) -> float | None:
        """Run what is due; give the seconds until the next call is needed, None for never."""
        if self.state != STATE_RUNNING:
            return None
        self._wake_at = _FOREVER  # whoever adds a job meanwhile wakes us
        try:
            wake = self._loop.advance(self.now())
        except Exception:
            self.logger.exception("Error in the scheduling loop; trying again in a second")
            wake = self.now() + _SECOND
        if wake is None:
            return None
        self._wake_at = wake
        return min(max((wake - self.now()) / _SECOND, 0.0), self.longest_sleep)

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

    def report_store_error(self, alias: str, error: Exception, retry_in: float) -> None:
        """Say by event and log that a store failed at one job; for stores."""
        self.logger.warning(
            'Job store "%s" failed at a job (%s: %s); trying again in %g s',
            alias,
            type(error).__name__,
            error,
            retry_in,
            exc_info=error,
        )
        if self.listens(EVENT_JOBSTORE_ERROR):
            self._dispatch_event(JobStoreErrorEvent(EVENT_JOBSTORE_ERROR, alias, error, retry_in))

    def report_unreadable(self, alias: str, job_id: str, reason: str) -> None:
        """Say once, by event and log, that a stored job can't be used here; for stores."""
        if self._loop.broken.get((alias, job_id)) == reason:
            return
        self._loop.broken[alias, job_id] = reason
        self.logger.error(
            'Job "%s" of job store "%s" can\'t run here and is left as it is: %s',
            job_id,
            alias,
            reason,
        )
        if self.listens(EVENT_JOB_BROKEN):
            self._dispatch_event(JobBrokenEvent(EVENT_JOB_BROKEN, job_id, alias, reason))

    def time_of(self, alias: str | None) -> int:
        """Give the instant by the clock of a job store, which decides about its jobs."""
        store = self._jobstores.get(alias or "")
        return self.now() if store is None else store.time(self.now())

    def _after_fork(self) -> None:
        """Be stopped in a forked child, which has none of the threads, and say so when used."""
        self._list_lock = threading.RLock()
        self._listeners.after_fork()
        self._forked = True
        self._starting = False
        self.state = STATE_STOPPED
        for executor in self._executors.values():
            executor.after_fork()
        for store in self._jobstores.values():
            store.after_fork()

    def __getstate__(self) -> Any:
        raise TypeError(
            "Schedulers can't be pickled: give jobs a function of a module, which finds the"
            " scheduler there, instead of the scheduler or one of its methods"
        )


_Scheduler = TypeVar("_Scheduler", bound=BaseScheduler)

_STATUSES = ("scheduled", "paused", "broken", "pending")


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


def _status(job: Job) -> str:
    if job.failure is not None:
        return "broken"
    if job._next_run is undefined:
        return "pending"
    return "paused" if job._next_run is None else "scheduled"


def _after_fork() -> None:
    for scheduler in list(_started):
        scheduler._after_fork()
    _started.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
