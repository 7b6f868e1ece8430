"""A job store, triggers, executors and schedulers as third parties write them for APScheduler 3."""

import asyncio
import concurrent.futures
import logging
import pickle
import sqlite3
import threading
from datetime import datetime, timedelta, timezone

from apscheduler.events import (
    EVENT_ALL,
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_REMOVED,
    JobExecutionEvent,
)
from apscheduler.executors.base import (
    BaseExecutor,
    MaxInstancesReachedError,
    run_coroutine_job,
    run_job,
)
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_STOPPED, BaseScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.util import datetime_to_utc_timestamp, maybe_ref, utc_timestamp_to_datetime
from scenarios import PATIENCE, Notes, Scenarios, listen

UTC = timezone.utc
LATER = datetime(2090, 5, 17, 8, 30, tzinfo=UTC)
scenario = Scenarios()


def scenarios():
    return scenario


# The things that strangers write.


class SqliteJobStore(BaseJobStore):
    """Jobs pickled into a table, guarded by a lock that is not to be taken twice."""

    def __init__(self, path, pickle_protocol=pickle.HIGHEST_PROTOCOL):
        super().__init__()
        self.pickle_protocol = pickle_protocol
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False)

    def start(self, scheduler, alias):
        super().start(scheduler, alias)
        with self._lock, self._connection as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, due REAL, state BLOB)"
            )

    def lookup_job(self, job_id):
        jobs = self._select("SELECT state FROM jobs WHERE id = ?", job_id)
        return jobs[0] if jobs else None

    def get_due_jobs(self, now):
        query = "SELECT state FROM jobs WHERE due <= ? ORDER BY due"
        return self._select(query, datetime_to_utc_timestamp(now))

    def get_next_run_time(self):
        with self._lock, self._connection as connection:
            (due,) = connection.execute("SELECT min(due) FROM jobs").fetchone()
        return utc_timestamp_to_datetime(due)

    def get_all_jobs(self):
        jobs = self._select("SELECT state FROM jobs ORDER BY due")
        self._fix_paused_jobs_sorting(jobs)
        return jobs

    def add_job(self, job):
        with self._lock, self._connection as connection:
            try:
                connection.execute("INSERT INTO jobs VALUES (?, ?, ?)", self._row(job))
            except sqlite3.IntegrityError:
                raise ConflictingIdError(job.id) from None

    def update_job(self, job):
        job_id, due, state = self._row(job)
        with self._lock, self._connection as connection:
            changed = connection.execute(
                "UPDATE jobs SET due = ?, state = ? WHERE id = ?", (due, state, job_id)
            )
        if not changed.rowcount:
            raise JobLookupError(job.id)

    def remove_job(self, job_id):
        with self._lock, self._connection as connection:
            changed = connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        if not changed.rowcount:
            raise JobLookupError(job_id)

    def remove_all_jobs(self):
        with self._lock, self._connection as connection:
            connection.execute("DELETE FROM jobs")

    def shutdown(self):
        self._logger.info("closing %s of %s", self._alias, self._scheduler)

    def _row(self, job):
        state = pickle.dumps(job.__getstate__(), self.pickle_protocol)
        return job.id, datetime_to_utc_timestamp(job.next_run_time), state

    def _select(self, query, *values):
        with self._lock, self._connection as connection:
            rows = connection.execute(query, values).fetchall()
        return [self._restore(state) for (state,) in rows]

    def _restore(self, state):
        job = Job.__new__(Job)
        job.__setstate__(pickle.loads(state))
        job._scheduler = self._scheduler
        job._jobstore_alias = self._alias
        return job


class CountingStore(MemoryJobStore):
    """The memory store, which counts what it is asked."""

    def __init__(self):
        super().__init__()
        self.added = []

    def add_job(self, job):
        super().add_job(job)
        self.added.append(job.id)


class EveryOther(BaseTrigger):
    """Fires at every other multiple of a period, with jitter."""

    __slots__ = "jitter", "period"

    def __init__(self, period, jitter=None, timezone=None):
        self.period = timedelta(seconds=period)
        self.jitter = jitter

    def get_next_fire_time(self, previous_fire_time, now):
        following = (previous_fire_time or now) + 2 * self.period
        return self._apply_jitter(following, self.jitter, now)

    def __getstate__(self):
        return {"period": self.period, "jitter": self.jitter}

    def __setstate__(self, state):
        self.period, self.jitter = state["period"], state["jitter"]

    def __str__(self):
        return f"every other {self.period}"


class NotOn(CronTrigger):
    """A cron trigger that leaves some dates out."""

    def __init__(self, *, holidays=(), **fields):
        super().__init__(**fields)
        self.holidays = set(holidays)

    def get_next_fire_time(self, previous_fire_time, now):
        found = super().get_next_fire_time(previous_fire_time, now)
        while found is not None and str(found.date()) in self.holidays:
            found = super().get_next_fire_time(found, found)
        return found


class ThreadEach(BaseExecutor):
    """A thread for each run."""

    def start(self, scheduler, alias):
        super().start(scheduler, alias)
        self.threads = []

    def shutdown(self, wait=True):
        for thread in self.threads if wait else ():
            if thread is not threading.current_thread():
                thread.join()

    def _do_submit_job(self, job, run_times):
        def target():
            try:
                told = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            except BaseException as error:
                self._run_job_error(job.id, error, error.__traceback__)
            else:
                self._run_job_success(job.id, told)

        thread = threading.Thread(target=target)
        self.threads.append(thread)
        thread.start()


class Counting(ThreadEach):
    """Does itself what the base class does, as some executors do."""

    def submit_job(self, job, run_times):
        with self._lock:
            if self._instances[job.id] >= job.max_instances:
                raise MaxInstancesReachedError(job)
            self._do_submit_job(job, run_times)
            self._instances[job.id] += 1


class Broken(BaseExecutor):
    """Never gets a job to run."""

    def _do_submit_job(self, job, run_times):
        threading.Thread(target=self._run_job_error, args=(job.id, OSError("no luck"))).start()


class OnLoop(BaseExecutor):
    """Coroutines as tasks."""

    def start(self, scheduler, alias):
        super().start(scheduler, alias)
        self._eventloop = scheduler._eventloop

    def _do_submit_job(self, job, run_times):
        def ended(task):
            self._run_job_success(job.id, task.result())

        coroutine = run_coroutine_job(job, job._jobstore_alias, run_times, self._logger.name)
        self._eventloop.create_task(coroutine).add_done_callback(ended)


class OwnPool(BasePoolExecutor):
    """A pool of its own kind."""

    def __init__(self, max_workers=2, **options):
        pool = concurrent.futures.ThreadPoolExecutor(int(max_workers), **options)
        super().__init__(pool)


class OwnScheduler(BaseScheduler):
    """A scheduler with a timer thread, an option and hooks of its own."""

    def _configure(self, config):
        self.greeting = config.pop("greeting", "hello")
        self.on_wake = maybe_ref(config.pop("on_wake", None))
        super()._configure(config)

    def start(self, *args, **kwargs):
        self._wanted = threading.Event()
        self.added = []
        self.dispatched = []
        self.rounds = 0
        super().start(*args, **kwargs)
        self._thread = threading.Thread(target=self._main)
        self._thread.start()

    def shutdown(self, *args, **kwargs):
        super().shutdown(*args, **kwargs)
        self._wanted.set()
        self._thread.join()

    def wakeup(self):
        self._wanted.set()

    def _main(self):
        wait = None
        while self.state != STATE_STOPPED:
            self._wanted.wait(wait)
            self._wanted.clear()
            if self.state != STATE_STOPPED:
                wait = self._process_jobs()

    def _process_jobs(self):
        self.rounds += 1
        return super()._process_jobs()

    def _create_default_executor(self):
        return DebugExecutor()

    def _create_default_jobstore(self):
        return CountingStore()

    def _real_add_job(self, job, jobstore_alias, replace_existing):
        self.added.append((job.id, jobstore_alias, replace_existing))
        super()._real_add_job(job, jobstore_alias, replace_existing)

    def _dispatch_event(self, event):
        if hasattr(self, "dispatched"):
            self.dispatched.append(event.code)
        super()._dispatch_event(event)

    def find(self, job_id):
        with self._jobstores_lock:
            return self._lookup_job(job_id, None)


class Exclusive(BackgroundScheduler):
    """Goes through the due jobs by itself, under a lock that several processes might share."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()

    def _process_jobs(self):
        now = datetime.now(self.timezone)
        earliest = None
        with self._lock, self._jobstores_lock:
            for alias, store in self._jobstores.items():
                for job in store.get_due_jobs(now):
                    times = job._get_run_times(now)
                    try:
                        self._lookup_executor(job.executor).submit_job(job, times[-1:])
                    except MaxInstancesReachedError:
                        self._logger.warning("%s runs already", job)
                    following = job.trigger.get_next_fire_time(times[-1], now)
                    if following is None:
                        self.remove_job(job.id, alias)
                    else:
                        job._modify(next_run_time=following)
                        store.update_job(job)
                due = store.get_next_run_time()
                if due is not None and (earliest is None or due < earliest):
                    earliest = due
        return None if earliest is None else max((earliest - now).total_seconds(), 0)


class Reporting(BackgroundScheduler):
    """A scheduler of APScheduler's that is only listened in on."""

    def add_job(self, *args, **kwargs):
        kwargs.setdefault("misfire_grace_time", 60)
        return super().add_job(*args, **kwargs)

    def _create_lock(self):
        self.locks = getattr(self, "locks", 0) + 1
        return super()._create_lock()


# What they are seen to do.

_ran = Notes()


def note(what):
    _ran.add(what)
    return what


def ran(count):
    """Wait until so many runs are noted, and give them."""
    return sorted(_ran.take(count), key=str)


async def note_async(what):
    await asyncio.sleep(0)
    return note(what)


async def fail_async():
    await asyncio.sleep(0)
    fail()


def fail():
    raise ZeroDivisionError("on purpose")


@scenario
def store():
    jobstore = {"class": "strangers:SqliteJobStore", "path": ":memory:"}
    scheduler = BackgroundScheduler(
        {"apscheduler.timezone": "UTC", "apscheduler.jobstores.default": jobstore}
    )
    heard = listen(scheduler, EVENT_JOB_REMOVED | EVENT_JOB_EXECUTED)
    scheduler.add_job("strangers:note", "date", args=["early"], id="early", run_date=LATER)
    scheduler.start()
    store = scheduler._jobstores["default"]
    seen = [repr(store), store._alias, store._scheduler is scheduler, store._logger.name]
    seen.append(str(scheduler.get_job("early").next_run_time))
    scheduler.modify_job("early", name="changed", args=["other"])
    seen.append((scheduler.get_job("early").name, list(scheduler.get_job("early").args)))
    scheduler.pause_job("early")
    scheduler.add_job(note, "cron", year=2080, args=[1], id="cron")
    seen.append([(job.id, str(job.next_run_time)) for job in scheduler.get_jobs()])
    for refused in (
        lambda: scheduler.add_job(note, "date", args=[1], id="cron"),
        lambda: scheduler.remove_job("missing"),
        lambda: scheduler.add_job(lambda: None, "date", run_date=LATER),
    ):
        try:
            refused()
        except (ConflictingIdError, JobLookupError, ValueError) as error:
            seen.append([k.__name__ for k in (KeyError, ValueError) if isinstance(error, k)])
    scheduler.add_job(note, "date", args=[2], id="cron", replace_existing=True, run_date=LATER)
    seen.append(str(scheduler.get_job("cron").trigger))
    scheduler.add_job(note, "interval", seconds=0.05, args=["run"], id="often")
    seen.append(ran(3)[:3])
    scheduler.get_job("often").remove()
    scheduler.add_job(note, args=["once"], id="once")
    heard(5)
    seen.append(sorted(job.id for job in scheduler.get_jobs()))
    scheduler.resume_job("early")
    scheduler.remove_all_jobs()
    seen.append(len(scheduler.get_jobs()))
    scheduler.shutdown()
    ran(0)
    return seen


@scenario
def memory_store():
    store = CountingStore()
    scheduler = BackgroundScheduler(jobstores={"default": store}, timezone="UTC")
    scheduler.start(paused=True)
    scheduler.add_job(note, "date", args=[1], run_date=LATER, id="a")
    seen = [len(store.get_all_jobs()), store.lookup_job("a").id, str(store.get_next_run_time())]
    seen.append([job.id for job in store.get_due_jobs(LATER)])
    seen.append([job.id for job in store.get_due_jobs(LATER - timedelta(seconds=1))])
    scheduler.shutdown()
    return [*seen, len(store.get_all_jobs())]


@scenario
def triggers():
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start()
    scheduler.add_job(note, EveryOther(0.02), args=["even"], id="even")
    seen = [ran(3)[:3], str(scheduler.get_job("even").trigger)]
    scheduler.remove_job("even")
    job = scheduler.add_job(note, EveryOther(1000, jitter=50), args=["jittered"])
    late = (job.next_run_time - datetime.now(UTC)).total_seconds()
    seen += [1990 < late < 2051, job.next_run_time.tzinfo is not None]
    trigger = pickle.loads(pickle.dumps(job.trigger))
    seen += [trigger.jitter, trigger.period.total_seconds()]
    holidays = ["2080-01-02", "2080-01-03"]
    trigger = NotOn(holidays=holidays, year=2080, day="*", hour=9, timezone="UTC")
    job = scheduler.add_job(note, trigger, args=["never"])
    seen.append(str(job.next_run_time))
    first = trigger.get_next_fire_time(None, LATER.replace(year=2079))
    second = trigger.get_next_fire_time(first, first)
    seen.append([str(first), str(second)])
    scheduler.shutdown()
    ran(0)
    return seen


def _executor(made, jobs, mask=EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED):
    logging.disable(logging.CRITICAL)
    scheduler = BackgroundScheduler(executors={"default": made}, timezone="UTC")
    heard = listen(scheduler, mask)
    scheduler.start(paused=True)
    past = datetime.now(UTC) - timedelta(seconds=30)
    scheduler.add_job(note, args=["well"], id="well", misfire_grace_time=None)
    scheduler.add_job(fail, id="ill", misfire_grace_time=None)
    scheduler.add_job(note, "date", run_date=past, args=["late"], id="late")
    scheduler.resume()
    events = sorted((event.job_id, event.code) for event in heard(jobs))
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    return [events, ran(1), {key: count for key, count in made._instances.items() if count}]


@scenario
def thread_executor():
    return _executor(ThreadEach(), 3)


@scenario
def counting_executor():
    return _executor(Counting(), 3)


@scenario
def own_pool():
    return _executor(OwnPool("3", thread_name_prefix="own"), 3)


@scenario
def broken_pool():
    """What a pool that can start no thread was given to run has ended."""
    logging.disable(logging.CRITICAL)
    executor = OwnPool(1, initializer=fail)
    ended = Notes()
    original = executor._run_job_error

    def told(job_id, error, *rest):
        original(job_id, error, *rest)
        ended.add([job_id, type(error).__name__])

    executor._run_job_error = told
    scheduler = BackgroundScheduler(executors={"default": executor}, timezone="UTC")
    scheduler.start()
    scheduler.add_job(note, args=["never"], id="a")
    seen = ended.wait_for(1)
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    return [seen, executor._instances.get("a", 0), ran(0)]


@scenario
def instances():
    logging.disable(logging.CRITICAL)
    executor = ThreadEach()
    scheduler = BackgroundScheduler(executors={"default": executor}, timezone="UTC")
    heard = listen(scheduler, EVENT_JOB_MAX_INSTANCES)
    release = threading.Event()
    scheduler.start()
    scheduler.add_job(release.wait, "interval", args=(PATIENCE,), seconds=0.02, id="a")
    heard(1)
    with executor._lock:
        counted = executor._instances["a"]
    release.set()
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    return counted


@scenario
def broken_executor():
    """An instance that could not run is given back: the next one is not refused."""
    logging.disable(logging.CRITICAL)
    executor = Broken()
    scheduler = BackgroundScheduler(executors={"default": executor}, timezone="UTC")
    heard = listen(scheduler, EVENT_JOB_MAX_INSTANCES)
    submitted = threading.Semaphore(0)
    original = executor._run_job_error

    def counted(*args):
        original(*args)
        submitted.release()

    executor._run_job_error = counted
    scheduler.start()
    scheduler.add_job(note, "interval", args=[1], seconds=0.05, id="a")
    seen = [submitted.acquire(timeout=PATIENCE) for _ in range(3)]
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    return [seen, len(heard(0))]


@scenario
def coroutine_executor():
    async def main():
        scheduler = AsyncIOScheduler(executors={"default": OnLoop()}, timezone="UTC")
        done = asyncio.Event()
        told = []

        def hear(event):
            told.append((event.job_id, event.code, event.retval, repr(event.exception)))
            if len(told) == 3:
                done.set()

        scheduler.add_listener(hear, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED)
        scheduler.start(paused=True)
        past = datetime.now(UTC) - timedelta(seconds=30)
        scheduler.add_job(note_async, args=["loop"], id="well", misfire_grace_time=None)
        scheduler.add_job(fail_async, id="ill", misfire_grace_time=None)
        scheduler.add_job(note_async, "date", run_date=past, args=["late"], id="late")
        scheduler.resume()
        await asyncio.wait_for(done.wait(), PATIENCE)
        scheduler.shutdown()
        await asyncio.sleep(0)
        return sorted(told)

    logging.disable(logging.CRITICAL)
    told = asyncio.run(main())
    logging.disable(logging.NOTSET)
    return [told, ran(1)]


@scenario
def run_job_alone():
    logging.disable(logging.CRITICAL)
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    now = datetime.now(UTC)
    well = scheduler.add_job(note, "date", run_date=LATER, args=["a"], id="well")
    ill = scheduler.add_job(fail, "date", run_date=LATER, id="ill", misfire_grace_time=None)
    times = [now - timedelta(hours=1), now]
    told = run_job(well, "default", times, "x") + run_job(ill, "spare", times[:1], "x")
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    ran(1)
    return [
        (type(event) is JobExecutionEvent, event.code, event.job_id, event.jobstore, event.retval)
        for event in told
    ] + [repr(told[-1].exception), "fail" in told[-1].traceback]


@scenario
def scheduler():
    scheduler = OwnScheduler({"apscheduler.greeting": "good day", "apscheduler.timezone": "UTC"})
    seen = [scheduler.greeting, scheduler.on_wake, str(scheduler.timezone)]
    scheduler.configure(on_wake="strangers:note", timezone="Europe/Berlin")
    seen += [scheduler.greeting, scheduler.on_wake is note, str(scheduler.timezone)]
    scheduler.add_job(note, "date", run_date=LATER, args=[1], id="early")
    seen.append([(job.id, alias, replace) for job, alias, replace in scheduler._pending_jobs])
    scheduler.start()
    scheduler.add_job(note, args=["now"], id="now")
    seen.append(ran(1))
    seen += [scheduler.added, scheduler.find("early")[1], scheduler.rounds > 0]
    seen += [sorted(scheduler._executors), sorted(scheduler._jobstores)]
    seen.append(scheduler._jobstores["default"].added)
    seen.append(EVENT_JOB_ADDED in scheduler.dispatched)
    try:
        scheduler.find("missing")
    except JobLookupError:
        seen.append("not found")
    scheduler.shutdown()
    seen.append(scheduler.state)
    try:
        scheduler.shutdown()
    except SchedulerNotRunningError:
        seen.append("not running")
    return seen


@scenario
def exclusive_scheduler():
    stores = {"default": MemoryJobStore(), "sqlite": SqliteJobStore(":memory:")}
    scheduler = Exclusive(timezone="UTC", jobstores=stores)
    scheduler.add_job(note, args=["once"], id="a", jobstore="sqlite")
    scheduler.start()
    found = ran(1)
    scheduler.add_job(note, args=["later"], id="b")  # while nothing else is due
    found += ran(1)
    scheduler.add_job(note, "interval", seconds=0.05, args=["often"], id="c", jobstore="sqlite")
    found += ran(3)[:3]
    left = [job.id for job in scheduler.get_jobs()]
    scheduler.shutdown()
    ran(0)
    return [found, left]


@scenario
def entry_points():
    """Plug-ins that the distribution of the strangers declares in APScheduler's groups."""
    scheduler = BackgroundScheduler(
        {
            "apscheduler.jobstores.default": {"type": "strangers-sqlite", "path": ":memory:"},
            "apscheduler.executors.default": {"type": "strangers-threads"},
        },
        timezone="UTC",
    )
    scheduler.add_jobstore("strangers-sqlite", "more", path=":memory:")
    scheduler.add_executor("strangers-threads", "more")
    scheduler.start()
    job = scheduler.add_job(note, "strangers-other", period=0.01, args=[1], jobstore="more")
    seen = [ran(1)[:1], str(job.trigger), type(scheduler._jobstores["default"]).__name__]
    seen.append(type(scheduler._executors["more"]).__name__)
    scheduler.shutdown()
    ran(0)
    return seen


@scenario
def listening_scheduler():
    scheduler = Reporting(timezone="UTC")
    heard = listen(scheduler, EVENT_ALL)
    job = scheduler.add_job(note, "date", args=[1], run_date=LATER)
    scheduler.start(paused=True)
    seen = [scheduler.locks > 2, job.misfire_grace_time, len(heard(4))]
    scheduler.shutdown()
    return seen
