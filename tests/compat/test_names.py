"""Every public name of APScheduler 3.11 is there, and none of its modules is loaded for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import compat

STATE_ERRORS = "SchedulerAlreadyRunningError SchedulerNotRunningError"
NAMES = {
    "apscheduler": "release version version_info __version__",
    "apscheduler.schedulers": STATE_ERRORS,
    "apscheduler.schedulers.base": "BaseScheduler STATE_STOPPED STATE_RUNNING STATE_PAUSED",
    "apscheduler.schedulers.blocking": "BlockingScheduler",
    "apscheduler.schedulers.background": "BackgroundScheduler",
    "apscheduler.schedulers.asyncio": "AsyncIOScheduler",
    "apscheduler.schedulers.gevent": "GeventScheduler",
    "apscheduler.schedulers.qt": "QtScheduler",
    "apscheduler.schedulers.tornado": "TornadoScheduler",
    "apscheduler.schedulers.twisted": "TwistedScheduler",
    "apscheduler.executors": "",
    "apscheduler.executors.base": "BaseExecutor MaxInstancesReachedError run_job run_coroutine_job",
    "apscheduler.executors.pool": "BasePoolExecutor ThreadPoolExecutor ProcessPoolExecutor",
    "apscheduler.executors.asyncio": "AsyncIOExecutor",
    "apscheduler.executors.debug": "DebugExecutor",
    "apscheduler.executors.gevent": "GeventExecutor",
    "apscheduler.executors.tornado": "TornadoExecutor",
    "apscheduler.executors.twisted": "TwistedExecutor",
    "apscheduler.jobstores": "",
    "apscheduler.jobstores.base": "BaseJobStore JobLookupError ConflictingIdError"
    " TransientJobError",
    "apscheduler.jobstores.etcd": "EtcdJobStore",
    "apscheduler.jobstores.memory": "MemoryJobStore",
    "apscheduler.jobstores.mongodb": "MongoDBJobStore",
    "apscheduler.jobstores.redis": "RedisJobStore",
    "apscheduler.jobstores.rethinkdb": "RethinkDBJobStore",
    "apscheduler.jobstores.sqlalchemy": "SQLAlchemyJobStore",
    "apscheduler.jobstores.zookeeper": "ZooKeeperJobStore",
    "apscheduler.triggers": "",
    "apscheduler.triggers.base": "BaseTrigger",
    "apscheduler.triggers.date": "DateTrigger",
    "apscheduler.triggers.interval": "IntervalTrigger",
    "apscheduler.triggers.cron": "CronTrigger",
    "apscheduler.triggers.calendarinterval": "CalendarIntervalTrigger",
    "apscheduler.triggers.combining": "BaseCombiningTrigger AndTrigger OrTrigger",
    "apscheduler.triggers.cron.fields": "MIN_VALUES MAX_VALUES DEFAULT_VALUES BaseField"
    " DayOfMonthField DayOfWeekField WeekField MonthField",
    "apscheduler.triggers.cron.expressions": "AllExpression RangeExpression MonthRangeExpression"
    " WeekdayRangeExpression WeekdayPositionExpression LastDayOfMonthExpression WEEKDAYS MONTHS",
    "apscheduler.job": "Job",
    "apscheduler.events": "EVENT_SCHEDULER_STARTED EVENT_SCHEDULER_START EVENT_SCHEDULER_SHUTDOWN"
    " EVENT_SCHEDULER_PAUSED EVENT_SCHEDULER_RESUMED EVENT_EXECUTOR_ADDED EVENT_EXECUTOR_REMOVED"
    " EVENT_JOBSTORE_ADDED EVENT_JOBSTORE_REMOVED EVENT_ALL_JOBS_REMOVED EVENT_JOB_ADDED"
    " EVENT_JOB_REMOVED EVENT_JOB_MODIFIED EVENT_JOB_EXECUTED EVENT_JOB_ERROR EVENT_JOB_MISSED"
    " EVENT_JOB_SUBMITTED EVENT_JOB_MAX_INSTANCES EVENT_ALL SchedulerEvent JobEvent"
    " JobSubmissionEvent JobExecutionEvent",
    "apscheduler.util": "asint asbool astimezone asdate convert_to_datetime"
    " datetime_to_utc_timestamp utc_timestamp_to_datetime timedelta_seconds datetime_ceil"
    " datetime_utc_add datetime_repr timezone_repr get_callable_name obj_to_ref ref_to_obj"
    " maybe_ref check_callable_args iscoroutinefunction_partial normalize localize undefined",
}
#: The module needs a client that no longer installs.
WITHOUT_PEER = {"apscheduler.jobstores.etcd"}
INSTALL = "from tocsin.adapters.apscheduler import install; install()\n"
ORIGINS = """
import importlib, json, sys
origins = {}
for name, wanted in json.loads(sys.argv[1]).items():
    module = importlib.import_module(name)
    given = [getattr(module, each) for each in wanted.split()]
    origins[name] = [str(getattr(each, "__module__", "")) for each in given]
loaded = [m for n, m in sys.modules.items() if n.partition(".")[0] == "apscheduler"]
files = [m.__file__ for m in loaded if getattr(m, "__file__", None) is not None]
print(json.dumps([origins, len(loaded), files]))
"""


@pytest.fixture(scope="module")
def found() -> tuple[dict[str, list[str]], int, list[str]]:
    origins, loaded, files = json.loads(compat.python("-c", INSTALL + ORIGINS, json.dumps(NAMES)))
    return origins, loaded, files


@pytest.mark.parametrize("module", NAMES)
def test_every_name_of_a_module_is_tocsins(module: str, found: Any) -> None:
    origins = found[0][module]
    assert len(origins) == len(NAMES[module].split())
    assert [each for each in origins if each and not each.startswith("tocsin.")] == []


def test_no_module_of_apscheduler_itself_is_loaded(found: Any) -> None:
    _, loaded, files = found
    assert loaded >= len(NAMES)
    assert files == []


def test_the_names_are_those_of_apscheduler_itself() -> None:
    there = {name: names for name, names in NAMES.items() if name not in WITHOUT_PEER}
    program = (
        "import importlib\n"
        f"for module, names in {there!r}.items():\n"
        "    found = importlib.import_module(module)\n"
        "    print([name for name in names.split() if not hasattr(found, name)])"
    )
    assert compat.python("-c", program) == "[]\n" * len(there)


def test_unknown_modules_are_not_found() -> None:
    program = f"{INSTALL}try:\n    import apscheduler.nonsense\n"
    output = compat.python("-c", f"{program}except ModuleNotFoundError as error:\n    print(error)")
    assert output.strip() == "No module named 'apscheduler.nonsense'"


def test_install_twice_is_as_good_as_once() -> None:
    output = compat.python(
        "-c", f"{INSTALL}import sys; n = len(sys.meta_path)\n{INSTALL}print(len(sys.meta_path) - n)"
    )
    assert output.strip() == "0"


def test_install_refuses_when_apscheduler_is_there_already() -> None:
    output = compat.python(
        "-c",
        "import apscheduler\nfrom tocsin.adapters.apscheduler import install\n"
        "try:\n    install()\nexcept RuntimeError as error:\n    print(error)",
    )
    assert output.startswith("apscheduler is imported already, from ")
    assert "before the first import" in output


def test_importing_the_module_changes_nothing() -> None:
    output = compat.python(
        "-c", "import tocsin.adapters.apscheduler, apscheduler; print(apscheduler.__file__)"
    )
    assert output.strip().endswith("__init__.py")
