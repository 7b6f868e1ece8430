"""What a plug-in must provide, declared with zope.interface."""

from __future__ import annotations

from zope.interface import Interface

# Methods of an interface have no self and no body: mypy reads them as faulty functions.
# mypy: disable-error-code="misc, no-untyped-def, empty-body"


class ITrigger(Interface):
    """Tell when a job runs; immutable. Every datetime has a time zone.

    `tocsin.triggers.base.BaseTrigger` makes all of it of `get_next_fire_time`.
    """

    def next_fire_time(after):
        """Give the first fire time after a datetime, or None."""

    def previous_fire_time(before):
        """Give the last fire time before a datetime, or None."""

    def fire_times(start, end=None, limit=None):
        """Iterate over the fire times from ``start`` on, before ``end``, at most ``limit``."""

    def get_next_fire_time(previous_fire_time, now):
        """Give the fire time after the previous one, or the first from ``now`` on without it."""

    def describe():
        """Say in one line when the trigger fires."""

    def next_run(previous, now, edge):
        """Do what `get_next_fire_time` does, on instants; ``edge`` converts them."""

    def latest_run(first, now, edge):
        """Give the last run time that is not after ``now``, of those that begin with ``first``."""

    def moment(instant, edge):
        """Turn an instant into a datetime in the trigger's time zone, or else in ``edge``'s."""


class IJobStore(Interface):
    """Keep, find and claim jobs. Methods may be called from any thread.

    The loop uses the batch calls; `tocsin.stores.base.BaseJobStore` makes them of the one-job
    contract of APScheduler 3 for stores that know only that.
    """

    def start(scheduler, alias):
        """Open the store, for a scheduler that calls it ``alias``."""

    def shutdown():
        """Close the store; it may be started again."""

    def lookup_job(job_id):
        """Give the job of an id, or None."""

    def get_all_jobs():
        """List all jobs, those that run next first, paused ones last."""

    def add_jobs(jobs, replace):
        """Add jobs, all or none; tell for each whether it replaced one."""

    def modify_job(job_id, changes):
        """Change attributes of a job in one step and give it; JobLookupError without one."""

    def remove_job(job_id):
        """Take a job out; JobLookupError without one."""

    def remove_all_jobs():
        """Take all jobs out."""

    def claim(now, limit):
        """Take jobs that are due at an instant for this scheduler, the earliest first.

        A claim ends with `advance`, `release` or `set_aside`.
        """

    def advance(claims, several):
        """Set the next run time of claimed jobs; tell for each whether the claim still held.

        Each claim is a triple of job, claimed run time and next run time; None ends the job
        and takes it out. A claim no longer holds when the job was changed or removed since.
        The claimed run time is what will be run, unless ``several`` has others for the job's
        id; a shared store records them in the same step, until the claim is settled.
        """

    def time(now):
        """Turn an instant of the scheduler's clock into one of the clock that decides here."""

    def recover(now):
        """Give the runs that need looking after, for their scheduler is gone; see `Recovered`."""

    def release(job, run_time, until):
        """Give a claimed job back, to be claimed again for the same run time from ``until``."""

    def set_aside(job, run_time, reason):
        """Keep a claimed job, for a reason, but never offer it again until it is changed."""

    def next_due():
        """Give the instant of the earliest claim to be had, or None."""

    def after_fork():
        """Forget, in a forked child, what only its parent has."""


class IExecutor(Interface):
    """Run jobs somewhere."""

    def start(scheduler, alias):
        """Begin, for a scheduler that calls the executor ``alias``; may follow a shutdown."""

    def shutdown(wait=True):
        """End; with ``wait`` only after the running jobs have."""

    def submit_job(job, run_times):
        """Run a job once for each run time; MaxInstancesReachedError if too many run."""

    def is_full(job):
        """Tell whether as many instances of a job run as it allows."""

    def after_fork():
        """Forget, in a forked child, what only its parent has."""


class IScheduler(Interface):
    """A scheduler of a framework: a timer, a wake-up from any thread, a place to run jobs.

    The timer calls ``_process_jobs`` of `tocsin.scheduler.BaseScheduler`, which says in how many
    seconds it wants to be called again; a wake-up has it called at once.
    """

    def start(paused=False):
        """Begin to run jobs."""

    def shutdown(wait=True):
        """Stop; the answer, in whatever form, comes when the running jobs have ended."""

    def wakeup():
        """Have the scheduler look at its jobs as soon as it can; from any thread."""
