"""The scheduling loop: it is told the time, and answers when to be woken.

It does no I/O of its own, has no clock, no thread and no lock. One call of `Loop.advance` at a
time; what it works on may be changed by any thread meanwhile, for a store tells whether a claim
still held when it was advanced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from tocsin.claims import Claim
from tocsin.engine.schedule import Schedule
from tocsin.errors import MaxInstancesReachedError
from tocsin.events import (
    EVENT_JOB_BROKEN,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_REMOVED,
    EVENT_JOBSTORE_ERROR,
    JobBrokenEvent,
    JobCoalescedEvent,
    JobEvent,
    JobExecutionEvent,
    JobStoreErrorEvent,
    JobSubmissionEvent,
)
from tocsin.executors import BaseExecutor
from tocsin.triggers.limits import most_searches

if TYPE_CHECKING:
    from tocsin.claims import Recovered
    from tocsin.job import Job
    from tocsin.scheduler import BaseScheduler
    from tocsin.stores.base import BaseJobStore
    from tocsin.triggers.base import BaseTrigger

#: So many jobs are claimed at once: what is a short while for an event loop, a long batch for a
#: store.
BATCH = 1000
#: So many run times of one job are handed over at once when it does not coalesce.
MOST_RUN_TIMES = 1000
#: And no more than so many searches of its trigger find, for others wait meanwhile.
MOST_SEARCHES = 250_000
#: A job whose trigger fails so often in a row is set aside.
MOST_FAILURES = 5
_SECOND = 1_000_000


@dataclass
class Trouble:
    """What went wrong with a store or a job, and how often in a row.

    ``retry_at`` is the instant from which a store is tried again; a job is offered by its store.
    """

    failures: int
    reason: str
    retry_at: int = 0


class Loop:
    """Claim what is due, advance it, hand it over; the order in which a crash doubles nothing.

    ``stores`` and ``executors`` are by alias, and may be replaced between two calls.
    """

    def __init__(self, scheduler: BaseScheduler) -> None:
        self.scheduler = scheduler
        self.stores: Mapping[str, BaseJobStore] = {}
        self.executors: Mapping[str, BaseExecutor] = {}
        #: Stores that fail, by alias, and jobs that do, by alias and id.
        self.failing_stores: dict[str, Trouble] = {}
        self.failing_jobs: dict[tuple[str, str], Trouble] = {}
        #: Jobs that were set aside, with the reason.
        self.broken: dict[tuple[str, str], str] = {}
        # Jobs of which more run times are due than were handed over at once.
        self._backlog: set[tuple[str, str]] = set()

    def advance(self, now: int) -> int | None:
        """Do all that is due at ``now``; give the instant of the next wake-up, or None.

        At most `BATCH` jobs of each store: if more are due, the answer is ``now``. The cost is
        in the jobs that are due, and O(1) for the run times that a coalescing job has missed.
        """
        wake: int | None = None
        for alias, store in list(self.stores.items()):
            due = self._advance_store(alias, store, now)
            if due is not None and (wake is None or due < wake):
                wake = due
        return wake

    def forget(self, alias: str, job_id: str | None = None) -> None:
        """Forget the troubles of a job that was changed or removed, or of all in a store."""
        for key in [*self.failing_jobs, *self.broken]:
            if key[0] == alias and job_id in (None, key[1]):
                self.failing_jobs.pop(key, None)
                self.broken.pop(key, None)

    def _advance_store(self, alias: str, store: BaseJobStore, now: int) -> int | None:
        trouble = self.failing_stores.get(alias)
        if trouble is not None and now < trouble.retry_at <= now + self._longest_retry():
            return trouble.retry_at
        claimed: list[Job] = []
        try:
            if store.shared:
                self._recover(alias, store, now)
            claimed = store.claim(now, BATCH)
            if claimed:
                self._hand_over(alias, store, claimed, store.time(now))
            due = now if len(claimed) >= BATCH else store.next_due()
            if store.poll_interval is not None:
                poll = now + int(store.poll_interval * _SECOND)
                due = poll if due is None or due > poll else due
        except Exception as error:
            return self._store_failed(alias, error, now)
        except BaseException:  # Ctrl-C: what was claimed and not advanced is to be had again
            for job in claimed:
                if job._next_run is not None:
                    store.release(job, job._next_run, store.time(now))
            raise
        if trouble is not None:
            del self.failing_stores[alias]
            self.logger.info('Job store "%s" works again', alias)
        return due

    def _hand_over(self, alias: str, store: BaseJobStore, claimed: list[Job], now: int) -> None:
        """Advance claimed jobs in one step, then start the runs whose claims held."""
        edge = self.scheduler._edge
        claims: list[tuple[Job, int, int | None]] = []
        # By the id of a job of which several run times are due, those that count.
        several: dict[str, list[int]] = {}
        # The executors of the claims, each with the place of its first one.
        turns: list[tuple[str, int]] = []
        rules = None
        for job in claimed:
            run_time = job._next_run
            if run_time is None:  # paused since it was claimed
                continue
            try:
                following = job.trigger.next_run(run_time, now, edge)
                if following is not None and following <= now:
                    several[job.id], following = self._missed(job, run_time, following, now, edge)
            except Exception as error:
                self._job_failed(alias, store, job, run_time, error, now)
                continue
            if self._backlog and self._waits(alias, store, job, run_time, now):
                continue
            if several and following is not None and following <= now:
                self._backlog.add((alias, job.id))
            if job._rules is not rules:
                rules = job._rules
                if not turns or turns[-1][0] != rules.executor:
                    turns.append((rules.executor, len(claims)))
            claims.append((job, run_time, following))
        if self.failing_jobs or self.broken:
            for job, _, _ in claims:
                self.failing_jobs.pop((alias, job.id), None)
                self.broken.pop((alias, job.id), None)
        if not claims:
            return
        steps = iter(zip(claims, store.advance(claims, several), strict=True))
        turns.append(("", len(claims)))
        runs = None
        try:
            for (name, start), (_, end) in pairwise(turns):
                executor = self.executors.get(name)
                full = None if executor is None or not store.shared else executor.is_full
                runs = self._runs(alias, islice(steps, end - start), several, full, now)
                refused = partial(self._refused, alias)
                if executor is None:
                    for job, times in runs:
                        refused(job, times, self._missing(job))
                else:
                    # Not every executor has the base class.
                    submit = getattr(type(executor), "submit_jobs", BaseExecutor.submit_jobs)
                    submit(executor, runs, refused)
        except BaseException as error:  # Ctrl-C: what is advanced already can't be started again
            if runs is not None:
                runs.close()
            for (job, run_time, following), holds in steps:
                if holds:
                    self._not_started(alias, job, several.get(job.id, [run_time]), error)
                    if following is None:
                        self._finished(alias, job)
            raise

    def _runs(
        self,
        alias: str,
        steps: Iterable[tuple[tuple[Job, int, int | None], bool]],
        several: Mapping[str, list[int]],
        full: Callable[[Job], bool] | None,
        now: int,
    ) -> Generator[tuple[Job, Sequence[int]], None, None]:
        """Go through the runs to start, and say of each job whose last one it was that it ended.

        The run times are instants: a datetime that nobody looks at is not made.

        ``full`` tells whether too many instances run elsewhere; None if there is no elsewhere.
        """
        rules, punctual = None, False
        # Whether anybody hears of the end of a schedule.
        logged, listeners = self.logger.isEnabledFor(logging.INFO), self.scheduler._listeners
        for (job, run_time, following), holds in steps:
            if not holds:
                continue
            if job._rules is not rules:
                rules = job._rules
                punctual = rules.misfire_grace_time is not None
            times: Sequence[int] = (run_time,)
            if several or punctual:
                times = self._in_time(alias, job, several.get(job.id, times), run_time, now)
            if not times:
                if type(job._handle) is Claim:
                    job._handle.settle()
            elif full is not None and full(job):
                self._too_many(alias, job, times)
            else:
                try:
                    yield job, times
                except GeneratorExit:  # Ctrl-C in this run
                    if following is None:
                        self._finished(alias, job)
                    raise
            if following is None and (logged or listeners.mask & EVENT_JOB_REMOVED):
                self._finished(alias, job)

    def _refused(self, alias: str, job: Job, times: Sequence[int], error: Exception) -> None:
        """Report a run that an executor did not take."""
        if isinstance(error, MaxInstancesReachedError):
            self._too_many(alias, job, times)
        else:
            self._not_started(alias, job, times, error)

    def _recover(self, alias: str, store: BaseJobStore, now: int) -> None:
        """Look after runs whose schedulers are gone: start them anew, or say that they are lost."""
        for runs in store.recover(now):
            moments: list[Any] = [self.scheduler._edge.moment(instant) for instant in runs.times]
            job = runs.job
            if job is None:
                # A listener may have shut the store down since, which has left it to others.
                if runs.loss is None or not runs.loss.settled:
                    self._lost(alias, runs, moments)
                continue
            executor = self.executors.get(job.executor)
            full = executor is not None and executor.is_full(job)
            if full and job.at_least_once and not job._handle.elsewhere:
                job._handle.store.put_off(job)  # until an instance here has ended
                continue
            # Its id, as where a run is lost: when the job runs next is not known here.
            self.logger.warning(
                'Run of job "%s" at %s is started here: %s', job.id, moments[0], runs.reason
            )
            try:
                if executor is None:
                    raise self._missing(job)
                if full:
                    raise MaxInstancesReachedError(job)
                executor.submit_job(job, moments)
            except Exception as error:
                self._refused(alias, job, runs.times, error)

    def _waits(self, alias: str, store: BaseJobStore, job: Job, run_time: int, now: int) -> bool:
        """Have the rest of a backlog wait while the part before it keeps all instances busy."""
        key = (alias, job.id)
        if key not in self._backlog:
            return False
        executor = self.executors.get(job.executor)
        if executor is not None and executor.is_full(job):
            store.release(job, run_time, now + _SECOND // 10)
            return True
        self._backlog.discard(key)
        return False

    def _missed(
        self, job: Job, first: int, following: int, now: int, edge: Schedule
    ) -> tuple[list[int], int | None]:
        """Work out which of several run times that are due count, and what follows them."""
        trigger = job.trigger
        if job.coalesce:
            latest = trigger.latest_run(following, now, edge)
            return [latest], trigger.next_run(latest, now, edge)
        times = [first]
        upcoming: int | None = following
        most = _most_run_times(trigger)
        while upcoming is not None and upcoming <= now and len(times) < most:
            times.append(upcoming)
            upcoming = trigger.next_run(upcoming, now, edge)
        return times, upcoming

    def _in_time(
        self, alias: str, job: Job, times: Sequence[int], first: int, now: int
    ) -> Sequence[int]:
        """Give the run times that are within the job's grace time, and report what is lost."""
        if times[0] != first:
            self._coalesced(alias, job, first, times[0])
        grace = job.misfire_grace_time
        if grace is not None:
            earliest = now - int(grace * _SECOND)
            for instant in times:
                if instant < earliest:
                    self._late(alias, job, instant, now)
            times = [instant for instant in times if instant >= earliest]
        return times

    def _missing(self, job: Job) -> LookupError:
        return LookupError(
            f'no executor is called "{job.executor}"; add it with add_executor, or give the job'
            f" one of: {', '.join(self.executors)}"
        )

    # What is lost, late or wrong: one log line and one event each.

    @property
    def logger(self) -> logging.Logger:
        """The scheduler's logger."""
        return self.scheduler.logger

    def _coalesced(self, alias: str, job: Job, first: int, last: int) -> None:
        since, until = job.moment(first), job.moment(last)
        self.logger.warning(
            'Runs of job "%s" from %s on were coalesced into the one at %s', job, since, until
        )
        if self.scheduler.listens(EVENT_JOB_COALESCED):
            self.scheduler._dispatch_event(
                JobCoalescedEvent(EVENT_JOB_COALESCED, job.id, alias, since, until)
            )

    def _late(self, alias: str, job: Job, instant: int, now: int) -> None:
        late = (now - instant) / _SECOND
        reason = f"{late:.3f} s late, more than its grace time of {job.misfire_grace_time} s"
        moment = job.moment(instant)
        self.logger.warning('Run time of job "%s" at %s was missed: %s', job, moment, reason)
        if self.scheduler.listens(EVENT_JOB_MISSED):
            self.scheduler._dispatch_event(
                JobExecutionEvent(EVENT_JOB_MISSED, job.id, alias, moment, reason=reason)
            )

    def _too_many(self, alias: str, job: Job, times: Sequence[int]) -> None:
        moments = [job.moment(each) for each in times]
        self.logger.warning(
            'Run of job "%s" at %s was skipped: %d instances are running, as many as its'
            " max_instances allows",
            job,
            moments[0],
            job.max_instances,
        )
        if type(job._handle) is Claim:
            job._handle.settle()
        if self.scheduler.listens(EVENT_JOB_MAX_INSTANCES):
            self.scheduler._dispatch_event(
                JobSubmissionEvent(EVENT_JOB_MAX_INSTANCES, job.id, alias, moments)
            )

    def _not_started(
        self, alias: str, job: Job, times: Sequence[int], error: BaseException
    ) -> None:
        moments = [job.moment(each) for each in times]
        self.logger.error('Run of job "%s" at %s could not be started: %r', job, moments[0], error)
        if type(job._handle) is Claim:
            stopping = not self.scheduler.running or not isinstance(error, Exception)
            if job.at_least_once and stopping:
                job._handle.store.put_off(job)  # or it is another scheduler's when this one ends
            else:
                job._handle.settle()
        if self.scheduler.listens(EVENT_JOB_ERROR):
            for moment in moments:
                self.scheduler._dispatch_event(
                    JobExecutionEvent(EVENT_JOB_ERROR, job.id, alias, moment, exception=error)
                )

    def _lost(self, alias: str, runs: Recovered, moments: list[datetime]) -> None:
        """Tell of runs that are lost, and settle them then: a crash before has others tell."""
        job_id, loss, reason = runs.job_id, runs.loss, runs.reason
        self.logger.error('Run of job "%s" at %s is lost: %s', job_id, moments[0], reason)
        if loss is not None:
            loss.told = True  # or a listener that shuts the scheduler down has it told anew
        if self.scheduler.listens(EVENT_JOB_LOST):
            for moment in moments:
                self.scheduler._dispatch_event(
                    JobExecutionEvent(EVENT_JOB_LOST, job_id, alias, moment, reason=reason)
                )
        if loss is not None:
            loss.settle()

    def _finished(self, alias: str, job: Job) -> None:
        self.logger.info('Removed job "%s": its schedule has ended', job.name)
        if self.scheduler.listens(EVENT_JOB_REMOVED):
            self.scheduler._dispatch_event(JobEvent(EVENT_JOB_REMOVED, job.id, alias))

    def _job_failed(
        self, alias: str, store: BaseJobStore, job: Job, run_time: int, error: Exception, now: int
    ) -> None:
        """Try a job whose next run time can't be worked out again later, or set it aside."""
        key = (alias, job.id)
        known = self.failing_jobs.get(key)
        failures = 1 if known is None else known.failures + 1
        reason = f"{type(error).__name__}: {error}"
        if failures < MOST_FAILURES:
            wait = min((1 << (failures - 1)) * _SECOND, self._longest_retry())
            self.failing_jobs[key] = Trouble(failures, reason)
            self.logger.warning(
                'The next run time of job "%s" could not be worked out (%s); trying again in %g s',
                job,
                reason,
                wait / _SECOND,
            )
            store.release(job, run_time, now + wait)
            return
        self.failing_jobs.pop(key, None)
        self.broken[key] = reason
        self.logger.error(
            'Job "%s" was set aside, for its next run time could not be worked out %d times in a'
            " row; mend it and call reschedule_job or resume_job",
            job,
            failures,
            exc_info=error,
        )
        store.set_aside(job, run_time, reason)
        if self.scheduler.listens(EVENT_JOB_BROKEN):
            self.scheduler._dispatch_event(JobBrokenEvent(EVENT_JOB_BROKEN, job.id, alias, reason))

    def _store_failed(self, alias: str, error: Exception, now: int) -> int:
        """Leave a store alone for a while that doubles with each failure."""
        known = self.failing_stores.get(alias)
        failures = 1 if known is None else known.failures + 1
        wait = min((1 << min(failures - 1, 30)) * _SECOND // 10, self._longest_retry())
        retry_at = now + wait
        self.failing_stores[alias] = Trouble(failures, f"{type(error).__name__}: {error}", retry_at)
        self.logger.warning(
            'Job store "%s" failed (%s: %s); trying again in %g s',
            alias,
            type(error).__name__,
            error,
            wait / _SECOND,
            exc_info=error if failures == 1 else None,
        )
        if self.scheduler.listens(EVENT_JOBSTORE_ERROR):
            self.scheduler._dispatch_event(
                JobStoreErrorEvent(EVENT_JOBSTORE_ERROR, alias, error, wait / _SECOND)
            )
        return retry_at

    def _longest_retry(self) -> int:
        return int(self.scheduler.jobstore_retry_interval * _SECOND)


def _most_run_times(trigger: BaseTrigger) -> int:
    """Say how many run times are worked out at once: fewer where each takes many searches."""
    try:
        searches = most_searches(trigger)
    except ValueError:  # nothing that is stored, and each of its fire times is near
        return MOST_RUN_TIMES
    return min(MOST_RUN_TIMES, MOST_SEARCHES // searches or 1)
