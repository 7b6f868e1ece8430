"""The scheduler: configuration, jobs, listeners and state, whatever the framework.

`BaseScheduler` is in layers, each of which knows only those before it: `parts`, what a scheduler
is made of; `lookup`, reading its jobs; `jobs`, changing them; and here its life, from start to
shutdown, and the steps of its timer. Layers, and not objects of their own, since a call to add a
job costs little more than the calls that it makes.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import implementer

from tocsin.claims import Claim
from tocsin.errors import SchedulerAlreadyRunningError, SchedulerNotRunningError
from tocsin.events import (
    EVENT_JOB_BROKEN,
    EVENT_JOBSTORE_ERROR,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    JobBrokenEvent,
    JobStoreErrorEvent,
    SchedulerEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.interfaces import IScheduler
from tocsin.job import Job
from tocsin.scheduler.jobs import JobCalls
from tocsin.scheduler.parts import FOREVER, STATE_PAUSED, STATE_RUNNING, STATE_STOPPED
from tocsin.stores.base import BaseJobStore

__all__ = ["STATE_PAUSED", "STATE_RUNNING", "STATE_STOPPED", "BaseScheduler"]

_SECOND = 1_000_000

#: The schedulers that run in this process, for the child of a fork to forget.
_started: weakref.WeakSet[BaseScheduler] = weakref.WeakSet()


@implementer(IScheduler)
class BaseScheduler(JobCalls):
    """The base of all schedulers; an adapter adds a timer, a wake-up and a default executor.

    Every method may be called from any thread, and from a job. No lock is held while a store,
    a job, a listener or a trigger runs. There are two kinds of lock: the scheduler's, around
    its own lists only, and one in each store and executor, around theirs; neither is taken
    while the other is held.

    The arguments are those of `configure`.
    """

    #: The longest sleep, in seconds: after it the clock is looked at again, for it may have been
    #: set, and a suspended machine may have woken up.
    longest_sleep: float = 60.0
    #: Whether the scheduler goes on when the main thread of the program has ended.
    outlives_main_thread: bool = False

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
        self._close_stores(self._claims_of_runs())

    def _close_stores(self, running: Mapping[str | None, list[Claim]]) -> None:
        """Shut the stores down, each with the claims whose runs go on; then it is over."""
        for alias, store in self._jobstores.items():
            going_on = [running[alias]] if store.shared and alias in running else []
            self._shut_down(store, *going_on)
        self.logger.info("Scheduler has been shut down")
        self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_SHUTDOWN))

    def _claims_of_runs(self) -> dict[str | None, list[Claim]]:
        """List, by store, claims whose runs go on in executors that did not wait for them.

        What is to be had at least once, and is being cancelled, is left to others instead.
        """
        running: dict[str | None, list[Claim]] = {}
        for executor in self._executors.values():
            cancels = getattr(executor, "cancels", False)
            for (alias, _), claims in list(getattr(executor, "_claims", {}).items()):
                for claim in list(claims):
                    if cancels and claim.record is not None:
                        claim.leave()
                    else:
                        running.setdefault(alias, []).append(claim)
        return running

    def _shut_down(self, plugin: BaseExecutor | BaseJobStore, *arguments: Any) -> None:
        try:
            plugin.shutdown(*arguments)
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

    # What adapters and their like use

    def _process_jobs(self) -> float | None:
        """Run what is due; give the seconds until the next call is needed, None for never."""
        if self.state != STATE_RUNNING:
            return None
        self._wake_at = FOREVER  # whoever adds a job meanwhile wakes us
        try:
            wake = self._loop.advance(self.now())
        except Exception:
            self.logger.exception("Error in the scheduling loop; trying again in a second")
            wake = self.now() + _SECOND
        if wake is None:
            return None
        self._wake_at = wake
        return min(max((wake - self.now()) / _SECOND, 0.0), self.longest_sleep)

    def report_store_error(self, alias: str, error: Exception, retry_in: float) -> None:
        """Say by event and log that a store failed at one job, and tries again in some seconds.

        For stores to call.
        """
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


#: Held while this process is forked, and the stores that wait for that.
_forking = threading.Lock()
_waiting: list[BaseJobStore] = []


def _before_fork() -> None:
    _forking.acquire()
    for scheduler in list(_started):
        for store in scheduler._jobstores.values():
            store.before_fork()
            _waiting.append(store)


def _after_fork_in_parent() -> None:
    while _waiting:
        _waiting.pop().after_fork_in_parent()
    _forking.release()


def _after_fork() -> None:
    for scheduler in list(_started):
        scheduler._after_fork()
    _started.clear()
    _waiting.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork,
    )
