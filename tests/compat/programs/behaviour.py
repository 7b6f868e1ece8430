"""What APScheduler 3 documents, in scenarios whose results do not depend on the moment."""

import asyncio
import copy
import functools
import io
import logging
import pickle
import sys
import threading
import types
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from apscheduler import events
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers import SchedulerAlreadyRunningError, SchedulerNotRunningError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from scenarios import Scenarios

UTC = timezone.utc
LATER = datetime(2090, 5, 17, 8, 30, tzinfo=UTC)
scenario = Scenarios()
_BUILT_IN = (TypeError, ValueError, AttributeError, KeyError, LookupError, RuntimeError)


def scenarios():
    return scenario


def refusal(function, *args, **kwargs):
    """Give the built-in kinds of the exception that a call raises."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        own = [
            kind.__name__
            for kind in (
                ConflictingIdError,
                JobLookupError,
                SchedulerAlreadyRunningError,
                SchedulerNotRunningError,
            )
            if isinstance(error, kind)
        ]
        return own + [kind.__name__ for kind in _BUILT_IN if isinstance(error, kind)]
    return None


def make(**options):
    options.setdefault("timezone", "UTC")
    return BackgroundScheduler(**options)


def paused(**options):
    scheduler = make(**options)
    scheduler.start(paused=True)
    return scheduler


def work(*args, **kwargs):
    return "done"


def fail():
    raise ZeroDivisionError("on purpose")


@scenario
def states():
    scheduler = make()
    seen = [(STATE_STOPPED, STATE_RUNNING, STATE_PAUSED), (scheduler.state, scheduler.running)]
    calls = (
        scheduler.shutdown,
        scheduler.pause,
        scheduler.resume,
        scheduler.start,
        scheduler.start,
        scheduler.configure,
        scheduler.resume,
        scheduler.pause,
        scheduler.pause,
        scheduler.resume,
        scheduler.shutdown,
        scheduler.shutdown,
        functools.partial(scheduler.start, paused=True),
        scheduler.shutdown,
    )
    return seen + [(refusal(call), scheduler.state, scheduler.running) for call in calls]


@scenario
def state_messages():
    return [str(SchedulerAlreadyRunningError()), str(SchedulerNotRunningError())]


@scenario
def tentative_jobs():
    scheduler = make()
    job = scheduler.add_job(work, "date", run_date=LATER, id="a", jobstore="default")
    seen = [job.pending, hasattr(job, "next_run_time"), str(job), repr(job)]
    scheduler.add_job(work, "date", run_date=LATER, id="a")  # found out at the start only
    seen.append([each.id for each in scheduler.get_jobs()])
    seen.append([each.id for each in scheduler.get_jobs("other")])
    seen.append(scheduler.get_job("a").id)
    scheduler.modify_job("a", name="renamed")
    seen.append(job.name)
    seen.append((refusal(scheduler.start), scheduler.state))
    scheduler.remove_job("a")
    seen.append(refusal(scheduler.remove_job, "b"))
    seen.append(len(scheduler.get_jobs()))
    scheduler.remove_all_jobs()
    seen.append(len(scheduler.get_jobs()))
    return seen


@scenario
def tentative_jobs_are_added_at_the_start():
    scheduler = make()
    job = scheduler.add_job(work, "date", run_date=LATER, id="a")
    scheduler.start(paused=True)
    seen = [job.pending, str(job.next_run_time), job.misfire_grace_time, job.max_instances]
    seen += [job.coalesce, [each.id for each in scheduler.get_jobs()]]
    scheduler.shutdown()
    return seen


@scenario
def replace_existing():
    scheduler = make()
    scheduler.add_job(work, "date", run_date=LATER, id="a", name="first")
    scheduler.add_job(work, "date", run_date=LATER, id="a", name="second", replace_existing=True)
    scheduler.start(paused=True)
    seen = [[job.name for job in scheduler.get_jobs()]]
    seen.append(refusal(scheduler.add_job, work, "date", run_date=LATER, id="a"))
    scheduler.add_job(work, "date", run_date=LATER, id="a", name="third", replace_existing=True)
    seen.append([job.name for job in scheduler.get_jobs()])
    scheduler.shutdown()
    return seen


@scenario
def unknown_store_at_the_start():
    scheduler = make()
    scheduler.add_job(work, "date", run_date=LATER, jobstore="nowhere")
    seen = [refusal(scheduler.start), scheduler.state, len(scheduler.get_jobs())]
    scheduler.add_jobstore(MemoryJobStore(), "nowhere")
    return seen


@scenario
def pausing_jobs():
    scheduler = paused()
    job = scheduler.add_job(work, "date", run_date=LATER, id="a")
    seen = [str(job.pause().next_run_time), str(job)]
    seen.append([str(each.next_run_time) for each in scheduler.get_jobs()])
    seen.append(str(job.resume().next_run_time))
    added = scheduler.add_job(work, "date", run_date=LATER, id="p", next_run_time=None)
    seen.append((added.pending, str(added.next_run_time), str(added)))
    over = scheduler.add_job(work, "interval", days=1, start_date=LATER, id="over")
    scheduler.pause_job("over")
    over.modify(trigger=IntervalTrigger(days=1, start_date="2001-01-01", end_date="2001-02-01"))
    seen.append(scheduler.resume_job("over"))
    seen.append(sorted(each.id for each in scheduler.get_jobs()))
    seen.append(refusal(scheduler.resume_job, "over"))
    seen.append(refusal(scheduler.pause_job, "over"))
    scheduler.shutdown()
    return seen


@scenario
def modifying_jobs():
    scheduler = paused()
    job = scheduler.add_job(work, "date", run_date=LATER, id="a")
    returned = job.modify(
        name="new", max_instances=5, coalesce=0, misfire_grace_time=None, args=[1], kwargs={"k": 2}
    )
    seen = [returned.name, job.max_instances, job.coalesce, job.misfire_grace_time]
    seen += [list(job.args), dict(job.kwargs)]
    job.modify(next_run_time="2091-01-01 10:00:00")
    seen.append(str(job.next_run_time))
    job.reschedule("cron", year=2095, hour=3)
    seen += [str(job.next_run_time), str(job.trigger)]
    job.pause()
    job.reschedule("cron", year=2096)
    seen.append(str(job.next_run_time))
    job.modify(func="behaviour:fail", args=(), kwargs={})
    seen.append((job.func is fail, job.func_ref))
    job.remove()
    seen.append(scheduler.get_job("a"))
    seen.append(refusal(scheduler.modify_job, "a", name="x"))
    scheduler.shutdown()
    return seen


@scenario
def refused_jobs():
    scheduler = paused()
    job = scheduler.add_job(work, "date", run_date=LATER)
    later = functools.partial(scheduler.add_job, work, "date", run_date=LATER)
    calls = {
        "args": lambda: later(args="text"),
        "args number": lambda: later(args=3),
        "kwargs": lambda: later(kwargs=[1]),
        "kwargs text": lambda: later(kwargs="x"),
        "name": lambda: later(name=3),
        "misfire_grace_time": lambda: later(misfire_grace_time="1"),
        "max_instances": lambda: later(max_instances="2"),
        "executor": lambda: later(executor=3),
        "id": lambda: later(id=3),
        "trigger": lambda: scheduler.add_job(work, object()),
        "trigger name": lambda: scheduler.add_job(work, "nonsense"),
        "trigger argument": lambda: scheduler.add_job(work, "interval", fortnights=1),
        "jobstore": lambda: later(jobstore="nowhere"),
        "func": lambda: scheduler.add_job(3),
        "reference": lambda: scheduler.add_job("behaviour:nothing"),
        "module": lambda: scheduler.add_job("no_such_module:nothing"),
        "no reference": lambda: scheduler.add_job("behaviour"),
        "too many": lambda: scheduler.add_job(fail, args=(1,)),
        "unknown keyword": lambda: scheduler.add_job(fail, kwargs={"a": 1}),
        "missing": lambda: scheduler.add_job(scenario),
        "modify id": lambda: job.modify(id="other"),
        "modify unknown": lambda: job.modify(colour="red"),
        "modify trigger": lambda: job.modify(trigger="cron"),
        "next_run_time": lambda: later(next_run_time="soon"),
    }
    seen = {name: refusal(call) for name, call in calls.items()}
    scheduler.shutdown()
    return seen


@scenario
def listing():
    scheduler = make()
    out = io.StringIO()
    scheduler.print_jobs(out=out)
    scheduler.add_job(work, "date", run_date=LATER, id="d", name="dated")
    scheduler.print_jobs(out=out)
    scheduler.start(paused=True)
    scheduler.add_job(work, "cron", year=2080, hour="9-17", name="cronned", id="c")
    scheduler.add_job(work, "interval", hours=2, start_date=LATER, name="often", next_run_time=None)
    scheduler.add_jobstore(MemoryJobStore(), "spare")
    scheduler.print_jobs(out=out)
    scheduler.print_jobs("spare", out=out)
    scheduler.shutdown()
    return out.getvalue()


@scenario
def order_of_jobs():
    scheduler = paused()
    for number in (5, 3, 9, 1, 7):
        scheduler.add_job(work, "date", run_date=LATER + timedelta(days=number), id=str(number))
    scheduler.pause_job("3")
    scheduler.modify_job("9", next_run_time=LATER)
    seen = [job.id for job in scheduler.get_jobs()]
    scheduler.shutdown()
    return seen


class Recorder:
    """Collects events, and lets a test wait for one."""

    def __init__(self, scheduler, *mask):
        self.seen = []
        self.arrived = threading.Condition()
        scheduler.add_listener(self, *mask)

    def __call__(self, event):
        with self.arrived:
            self.seen.append(event)
            self.arrived.notify_all()

    def wait_for(self, code, count=1):
        def is_there():
            return sum(event.code == code for event in self.seen) >= count

        with self.arrived:
            assert self.arrived.wait_for(is_there, 20), [vars(event) for event in self.seen]

    def told(self):
        return [
            (
                type(event).__name__,
                event.code,
                event.alias,
                getattr(event, "job_id", None),
                getattr(event, "jobstore", None),
            )
            for event in self.seen
        ]


@scenario
def events_of_a_life():
    scheduler = make()
    recorder = Recorder(scheduler)
    scheduler.add_job(work, "date", run_date=LATER, id="early")
    scheduler.modify_job("early", name="x")
    scheduler.start()
    scheduler.pause()
    scheduler.resume()
    job = scheduler.add_job(work, "date", run_date=LATER, id="a")
    job.modify(name="b")
    job.pause()
    job.resume()
    job.reschedule("date", run_date=LATER)
    scheduler.add_job(work, "date", run_date=LATER, id="a", replace_existing=True)
    job.remove()
    scheduler.add_executor(ThreadPoolExecutor(1), "second")
    scheduler.remove_executor("second")
    scheduler.add_jobstore("memory", "second")
    scheduler.remove_jobstore("second")
    scheduler.remove_all_jobs("default")
    scheduler.remove_all_jobs()
    scheduler.shutdown()
    return recorder.told()


@scenario
def event_codes():
    named = {name: value for name, value in vars(events).items() if name.startswith("EVENT_")}
    return sorted(named.items())


@scenario
def masks():
    scheduler = make()
    recorder = Recorder(scheduler, events.EVENT_JOB_ADDED | events.EVENT_SCHEDULER_STARTED)
    gone = Recorder(scheduler)
    scheduler.remove_listener(gone)
    scheduler.remove_listener(print)
    scheduler.add_listener(lambda event: 1 / 0, events.EVENT_JOB_REMOVED)
    logging.getLogger("apscheduler.scheduler").disabled = True
    scheduler.start(paused=True)
    scheduler.add_job(work, "date", run_date=LATER, id="a")
    scheduler.remove_job("a")
    scheduler.shutdown()
    logging.getLogger("apscheduler.scheduler").disabled = False
    return [recorder.told(), gone.told()]


@scenario
def events_of_runs():
    logging.disable(logging.ERROR)
    scheduler = make()
    scheduler.start()
    recorder = Recorder(scheduler)
    scheduler.add_job(work, id="well")
    scheduler.add_job(fail, id="ill")
    recorder.wait_for(events.EVENT_JOB_EXECUTED)
    recorder.wait_for(events.EVENT_JOB_ERROR)
    recorder.wait_for(events.EVENT_JOB_REMOVED, 2)
    recorder.wait_for(events.EVENT_JOB_SUBMITTED, 2)
    left = [job.id for job in scheduler.get_jobs()]
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    ran = {event.job_id: event for event in recorder.seen if hasattr(event, "retval")}
    well, ill = ran["well"], ran["ill"]
    seen = [left, sorted(recorder.told(), key=str)]
    seen += [well.retval, well.exception, well.traceback, repr(ill.exception), ill.retval]
    seen += ["fail" in ill.traceback, well.scheduled_run_time.tzinfo is not None]
    return seen


@scenario
def late_runs():
    """The default grace time is a second; a run that is later is missed."""
    logging.disable(logging.ERROR)
    scheduler = paused()
    recorder = Recorder(scheduler, events.EVENT_JOB_MISSED | events.EVENT_JOB_EXECUTED)
    past = datetime.now(UTC) - timedelta(seconds=30)
    scheduler.add_job(work, "date", run_date=past, id="missed")
    scheduler.add_job(work, "date", run_date=past, id="within", misfire_grace_time=100)
    scheduler.add_job(work, "date", run_date=past, id="whenever", misfire_grace_time=None)
    hours = {"hours": 1, "start_date": LATER, "misfire_grace_time": None}
    before = datetime.now(UTC) - timedelta(hours=5, minutes=1)
    scheduler.add_job(work, "interval", id="coalesced", next_run_time=before, **hours)
    scheduler.add_job(work, "interval", id="all", next_run_time=before, coalesce=False, **hours)
    scheduler.resume()
    recorder.wait_for(events.EVENT_JOB_MISSED, 1)
    recorder.wait_for(events.EVENT_JOB_EXECUTED, 9)
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    return sorted((event.job_id, event.code) for event in recorder.seen)


@scenario
def most_instances():
    logging.disable(logging.ERROR)
    scheduler = make()
    recorder = Recorder(scheduler, events.EVENT_JOB_MAX_INSTANCES)
    release = threading.Event()
    scheduler.start()
    scheduler.add_job(release.wait, "interval", args=(20,), seconds=0.05, id="a", max_instances=2)
    recorder.wait_for(events.EVENT_JOB_MAX_INSTANCES)
    release.set()
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    event = recorder.seen[0]
    return [type(event).__name__, event.job_id, event.jobstore, len(event.scheduled_run_times)]


@scenario
def configuration():
    flat = {
        "apscheduler.executors.default": {
            "class": "apscheduler.executors.pool:ThreadPoolExecutor",
            "max_workers": "20",
        },
        "apscheduler.executors.more.type": "threadpool",
        "apscheduler.jobstores.default": {"type": "memory"},
        "apscheduler.jobstores.spare": {"class": "apscheduler.jobstores.memory:MemoryJobStore"},
        "apscheduler.job_defaults.coalesce": "no",
        "apscheduler.job_defaults.max_instances": "3",
        "apscheduler.job_defaults.misfire_grace_time": "15",
        "apscheduler.timezone": "Europe/Berlin",
        "apscheduler.jobstore_retry_interval": "2.5",
    }
    seen = []
    bare = copy.deepcopy({key.removeprefix("apscheduler."): flat[key] for key in flat})
    prefixed = copy.deepcopy({f"mine.{key}": value for key, value in bare.items()})
    later = BackgroundScheduler()
    later.configure(
        jobstores={"default": MemoryJobStore(), "spare": {"type": "memory"}},
        executors={"default": ThreadPoolExecutor(20), "more": {"type": "threadpool"}},
        job_defaults={"coalesce": False, "max_instances": 3, "misfire_grace_time": 15},
        timezone=ZoneInfo("Europe/Berlin"),
        jobstore_retry_interval=2.5,
    )
    unprefixed = BackgroundScheduler()
    unprefixed.configure(dict(bare, daemon="off"), prefix=None)
    other = BackgroundScheduler()
    other.configure(prefixed, prefix="mine.")
    for scheduler in (BackgroundScheduler(flat), later, unprefixed, other):
        scheduler.start(paused=True)
        job = scheduler.add_job(work, "cron", year=2090, hour=12)
        seen.append(
            [
                str(scheduler.timezone),
                scheduler.jobstore_retry_interval,
                sorted(scheduler._executors),
                sorted(scheduler._jobstores),
                isinstance(scheduler._jobstores["default"], MemoryJobStore),
                isinstance(scheduler._executors["more"], ThreadPoolExecutor),
                (job.coalesce, job.max_instances, job.misfire_grace_time),
                str(job.next_run_time),
            ]
        )
        scheduler.shutdown()
    return seen


@scenario
def configuration_overridden():
    scheduler = BackgroundScheduler(
        {
            "apscheduler.timezone": "Europe/Berlin",
            "apscheduler.job_defaults.max_instances": "3",
            "apscheduler.job_defaults.coalesce": "false",
        },
        timezone="UTC",
        job_defaults={"max_instances": 7},
    )
    scheduler.start(paused=True)
    job = scheduler.add_job(work, "date", run_date=LATER)
    scheduler.shutdown()
    return [str(scheduler.timezone), job.max_instances, job.coalesce]


@scenario
def refused_configuration():
    calls = {
        "timezone": lambda: make(timezone="Nowhere/At_all"),
        "coalesce": lambda: make(job_defaults={"coalesce": "perhaps"}),
        "max_instances": lambda: make(job_defaults={"max_instances": "many"}),
        "executor": lambda: make(executors={"default": {}}),
        "jobstore": lambda: make(jobstores={"default": {"max_workers": 3}}),
    }
    return {name: "ValueError" in (refusal(call) or ["ValueError"]) for name, call in calls.items()}


@scenario
def unknown_options_are_ignored():
    logging.disable(logging.WARNING)
    options = {"apscheduler.colour": "red", "apscheduler.job_defaults.colour": "red"}
    scheduler = BackgroundScheduler(options, timezone="UTC", job_defaults={"max_instances": 2})
    scheduler.start(paused=True)
    job = scheduler.add_job(work, CronTrigger(hour=3, timezone="UTC"), minute=30)
    scheduler.shutdown()
    logging.disable(logging.NOTSET)
    return [job.max_instances, str(job.trigger), hasattr(scheduler, "colour")]


@scenario
def uwsgi_without_threads():
    seen = []
    for threads in (False, True):
        sys.modules["uwsgi"] = types.SimpleNamespace(has_threads=threads)
        scheduler = make()
        seen.append([refusal(scheduler.start, paused=True), scheduler.state])
    scheduler.shutdown()
    del sys.modules["uwsgi"]
    return seen


@scenario
def plugins():
    scheduler = paused()
    seen = [
        refusal(scheduler.add_executor, "debug", "default"),
        refusal(scheduler.add_executor, "nonsense", "x"),
        refusal(scheduler.add_executor, object(), "x"),
        refusal(scheduler.remove_executor, "x"),
        refusal(scheduler.add_jobstore, "memory", "default"),
        refusal(scheduler.add_jobstore, "nonsense", "x"),
        refusal(scheduler.add_jobstore, object(), "x"),
        refusal(scheduler.remove_jobstore, "x"),
    ]
    scheduler.add_jobstore("memory", "second")
    scheduler.add_job(work, "date", run_date=LATER, id="a", jobstore="second")
    seen.append([job.id for job in scheduler.get_jobs("second")])
    seen.append(len(scheduler.get_jobs("default")))
    scheduler.remove_jobstore("second")
    seen.append(len(scheduler.get_jobs()))
    scheduler.shutdown()
    return seen


@scenario
def decorated():
    scheduler = make()

    @scheduler.scheduled_job("date", run_date=LATER, id="a", args=[1])
    def first(number):
        return number

    decorator = scheduler.scheduled_job("date", run_date=LATER, id="a")
    seen = [first(3), decorator(work) is work]
    scheduler.start(paused=True)
    seen.append([(job.id, job.name) for job in scheduler.get_jobs()])
    scheduler.shutdown()
    return seen


@scenario
def memory_store_after_shutdown():
    scheduler = paused()
    scheduler.add_job(work, "date", run_date=LATER)
    scheduler.shutdown()
    scheduler.start(paused=True)
    seen = len(scheduler.get_jobs())
    scheduler.shutdown()
    return seen


@scenario
def jobs_as_objects():
    scheduler = paused()
    job = scheduler.add_job("behaviour:work", "date", run_date=LATER, id="a", args=[1, 2])
    other = scheduler.add_job(work, "date", run_date=LATER, id="b")
    state = job.__getstate__()
    twin = Job.__new__(Job)
    twin.__setstate__(pickle.loads(pickle.dumps(state)))
    twin._scheduler, twin._jobstore_alias = scheduler, "default"
    seen = [sorted(state), state["version"], state["func"], list(state["args"]), state["name"]]
    seen += [str(state["next_run_time"]), twin == job, job == other, twin.func is work]
    seen += [str(twin), twin.func_ref, repr(twin), isinstance(job, Job), len(job.id)]
    seen += [len(scheduler.add_job(work, "date", run_date=LATER).id)]
    seen.append(refusal(scheduler.add_job(print, "date", run_date=LATER).__getstate__))
    unnamed = scheduler.add_job(lambda: None, "date", run_date=LATER)
    seen += [unnamed.func_ref, refusal(unnamed.__getstate__), unnamed.name]
    seen.append(refusal(pickle.dumps, scheduler))
    scheduler.shutdown()
    return seen


@scenario
def loggers():
    names = set()

    class Handler(logging.Handler):
        def emit(self, record):
            names.add(record.name)

    handler = Handler()
    root = logging.getLogger("apscheduler")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    scheduler = make()
    scheduler.start()
    recorder = Recorder(scheduler)
    scheduler.add_job(work)
    recorder.wait_for(events.EVENT_JOB_EXECUTED)
    scheduler.shutdown()
    root.removeHandler(handler)
    root.setLevel(logging.NOTSET)
    root.propagate = True
    return sorted(names)


async def answer():
    await asyncio.sleep(0)
    return 42


@scenario
def coroutines():
    async def main():
        arrived = asyncio.get_running_loop().create_future()
        scheduler = AsyncIOScheduler(timezone="UTC")

        def hear(event):
            if not arrived.done():
                arrived.set_result((event.job_id, event.retval))

        scheduler.add_listener(hear, events.EVENT_JOB_EXECUTED)
        scheduler.start()
        scheduler.add_job(answer, id="a")
        result = await asyncio.wait_for(arrived, 20)
        scheduler.shutdown()
        await asyncio.sleep(0)
        return [result, scheduler.state]

    return asyncio.run(main())


@scenario
def triggers_by_name():
    scheduler = make(timezone="Europe/Berlin")
    made = [
        scheduler.add_job(work, "cron", hour=3).trigger,
        scheduler.add_job(work, "interval", hours=3).trigger,
        scheduler.add_job(work, "date", run_date="2090-01-01").trigger,
        scheduler.add_job(work).trigger,
    ]
    kinds = (CronTrigger, IntervalTrigger, DateTrigger, DateTrigger)
    zones = [str(trigger.timezone) for trigger in made[:2]] + [str(made[2].run_date)]
    return [[isinstance(*pair) for pair in zip(made, kinds, strict=True)], zones]
