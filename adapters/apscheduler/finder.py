"""Where each public name of APScheduler 3.11 is found in tocsin, and the finder that uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

#: The version of APScheduler whose names these are.
VERSION = "3.11.3"

_HERE = "tocsin.adapters.apscheduler"
_STATES = "STATE_STOPPED STATE_RUNNING STATE_PAUSED"
_STATE_ERRORS = "SchedulerAlreadyRunningError SchedulerNotRunningError"
_JOB_ERRORS = "JobLookupError ConflictingIdError TransientJobError"
_EVENTS = (
    "EVENT_SCHEDULER_STARTED EVENT_SCHEDULER_START EVENT_SCHEDULER_SHUTDOWN"
    " EVENT_SCHEDULER_PAUSED EVENT_SCHEDULER_RESUMED EVENT_EXECUTOR_ADDED EVENT_EXECUTOR_REMOVED"
    " EVENT_JOBSTORE_ADDED EVENT_JOBSTORE_REMOVED EVENT_ALL_JOBS_REMOVED EVENT_JOB_ADDED"
    " EVENT_JOB_REMOVED EVENT_JOB_MODIFIED EVENT_JOB_EXECUTED EVENT_JOB_ERROR EVENT_JOB_MISSED"
    " EVENT_JOB_SUBMITTED EVENT_JOB_MAX_INSTANCES"
    " SchedulerEvent JobEvent JobSubmissionEvent JobExecutionEvent"
)

#: Module of APScheduler: module of tocsin: the names there, ``*`` for all that it exports. A
#: package has a slash at its end.
MODULES: Mapping[str, Mapping[str, str]] = {
    "apscheduler/": {},
    "apscheduler.events": {"tocsin.events": _EVENTS, f"{_HERE}.schedulers": "EVENT_ALL"},
    "apscheduler.job": {"tocsin.job": "Job"},
    "apscheduler.util": {f"{_HERE}.util": "*"},
    "apscheduler.schedulers/": {"tocsin.errors": _STATE_ERRORS},
    "apscheduler.schedulers.base": {
        f"{_HERE}.schedulers": "BaseScheduler EVENT_ALL",
        "tocsin.scheduler": _STATES,
        # Imported there by APScheduler, and from there by its users.
        "tocsin.errors": f"{_STATE_ERRORS} JobLookupError ConflictingIdError"
        " MaxInstancesReachedError",
        "tocsin.events": _EVENTS,
        "tocsin.job": "Job undefined",
    },
    "apscheduler.schedulers.asyncio": {f"{_HERE}.schedulers": "AsyncIOScheduler"},
    "apscheduler.schedulers.background": {f"{_HERE}.schedulers": "BackgroundScheduler"},
    "apscheduler.schedulers.blocking": {f"{_HERE}.schedulers": "BlockingScheduler"},
    "apscheduler.schedulers.gevent": {f"{_HERE}.schedulers": "GeventScheduler"},
    "apscheduler.schedulers.qt": {f"{_HERE}.schedulers": "QtScheduler"},
    "apscheduler.schedulers.tornado": {f"{_HERE}.schedulers": "TornadoScheduler"},
    "apscheduler.schedulers.twisted": {f"{_HERE}.schedulers": "TwistedScheduler"},
    "apscheduler.executors/": {},
    "apscheduler.executors.asyncio": {"tocsin.adapters.asyncio": "AsyncIOExecutor"},
    "apscheduler.executors.base": {
        f"{_HERE}.executors": "BaseExecutor run_job run_coroutine_job",
        "tocsin.errors": "MaxInstancesReachedError",
    },
    "apscheduler.executors.debug": {"tocsin.executors": "DebugExecutor"},
    "apscheduler.executors.gevent": {"tocsin.adapters.gevent": "GeventExecutor"},
    "apscheduler.executors.pool": {
        f"{_HERE}.executors": "BasePoolExecutor",
        "tocsin.adapters.pools": "ThreadPoolExecutor ProcessPoolExecutor",
    },
    "apscheduler.executors.tornado": {"tocsin.adapters.tornado": "TornadoExecutor"},
    "apscheduler.executors.twisted": {"tocsin.adapters.twisted": "TwistedExecutor"},
    "apscheduler.jobstores/": {},
    "apscheduler.jobstores.base": {
        "tocsin.stores.base": "BaseJobStore",
        "tocsin.errors": _JOB_ERRORS,
    },
    "apscheduler.jobstores.memory": {f"{_HERE}.stores": "MemoryJobStore"},
    "apscheduler.jobstores.etcd": {"tocsin.stores.etcd": "EtcdJobStore"},
    "apscheduler.jobstores.mongodb": {"tocsin.stores.mongodb": "MongoDBJobStore"},
    "apscheduler.jobstores.redis": {"tocsin.stores.redis": "RedisJobStore"},
    "apscheduler.jobstores.rethinkdb": {"tocsin.stores.rethinkdb": "RethinkDBJobStore"},
    "apscheduler.jobstores.sqlalchemy": {"tocsin.stores.sqlalchemy": "SQLAlchemyJobStore"},
    "apscheduler.jobstores.zookeeper": {"tocsin.stores.zookeeper": "ZooKeeperJobStore"},
    "apscheduler.triggers/": {},
    "apscheduler.triggers.base": {"tocsin.triggers.base": "BaseTrigger"},
    "apscheduler.triggers.calendarinterval": {f"{_HERE}.triggers": "CalendarIntervalTrigger"},
    "apscheduler.triggers.combining": {
        f"{_HERE}.triggers": "AndTrigger OrTrigger",
        "tocsin.triggers.combining": "BaseCombiningTrigger",
    },
    "apscheduler.triggers.cron/": {f"{_HERE}.triggers": "CronTrigger"},
    "apscheduler.triggers.cron.expressions": {f"{_HERE}.expressions": "*"},
    "apscheduler.triggers.cron.fields": {f"{_HERE}.fields": "*"},
    "apscheduler.triggers.date": {f"{_HERE}.triggers": "DateTrigger"},
    "apscheduler.triggers.interval": {f"{_HERE}.triggers": "IntervalTrigger"},
}

#: What job stores are called in a configuration: the names of their modules.
STORES = {
    name.rpartition(".")[2]: name
    for name in MODULES
    if name.startswith("apscheduler.jobstores.") and not name.endswith(".base")
}


class Finder(MetaPathFinder, Loader):
    """Find ``apscheduler`` and its modules, and fill them with tocsin's classes on import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Give the spec of a module of APScheduler, None for any other."""
        package = f"{fullname}/" in MODULES
        if not package and fullname not in MODULES:
            return None
        return spec_from_loader(fullname, self, origin=_HERE, is_package=package)

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module; ImportError when a driver or framework is not installed."""
        name = module.__name__
        module.__dict__.update(names_of(f"{name}/" if f"{name}/" in MODULES else name))
        if name == "apscheduler":
            module.__dict__.update(
                release=VERSION,
                version=VERSION,
                __version__=VERSION,
                version_info=tuple(int(part) for part in VERSION.split(".")),
            )


def names_of(name: str) -> dict[str, Any]:
    """Give what a key of `MODULES` stands for, by name."""
    found: dict[str, Any] = {}
    for source, names in MODULES[name].items():
        module = import_module(source)
        wanted = module.__all__ if names == "*" else names.split()
        found.update((each, getattr(module, each)) for each in wanted)
    return found
