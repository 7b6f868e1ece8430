"""The calls that add, change and remove jobs."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import IO, Any, TypeVar

from tocsin import creation, records
from tocsin.callables import get_callable_name, runs_coroutine
from tocsin.errors import JobLookupError, SchedulerNotRunningError
from tocsin.events import (
    EVENT_ALL_JOBS_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    JobEvent,
    SchedulerEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.job import Job, undefined
from tocsin.scheduler.lookup import JobLookup
from tocsin.scheduler.parts import FOREVER, STATE_RUNNING, STATE_STOPPED
from tocsin.triggers.base import BaseTrigger

_Function = TypeVar("_Function", bound=Callable[..., Any])


class JobCalls(JobLookup):
    """The calls that change the jobs of a scheduler, before its start and while it runs."""

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
            self,  # type: ignore[arg-type]
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
        costs a fraction of as many calls of `add_job`. The garbage collector is held off
        while they are made. Raises what `add_job` raises.
        """
        # Nothing that is made here is garbage, and for a million new objects the collector would
        # go through all of them several times, which takes a third as long again.
        collecting = gc.isenabled()
        gc.disable()
        try:
            made = creation.make_jobs(self, jobs, common)  # type: ignore[arg-type]
        finally:
            if collecting:
                gc.enable()
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
        earliest = FOREVER
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
            job._scheduler = self  # type: ignore[assignment]
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
