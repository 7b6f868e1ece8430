"""One configuration, however it is written, and a mistake is named by its key."""

from __future__ import annotations

import copy
import logging
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from dataclasses import fields
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import apscheduler.util
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.programs import ended

from tocsin import adapters, convert, plugins
from tocsin.adapters import BackgroundScheduler, ProcessPoolExecutor, ThreadPoolExecutor
from tocsin.callables import maybe_ref
from tocsin.config import PREFIXES, JobDefaults, Settings, load_toml, read
from tocsin.errors import ConfigError, SchedulerAlreadyRunningError, TocsinError
from tocsin.executors import BaseExecutor, DebugExecutor
from tocsin.mappings import merged, nested
from tocsin.scheduler import BaseScheduler
from tocsin.stores.memory import MemoryJobStore
from tocsin.testing import FakeClock

EXTRA = {"daemon": convert.as_bool, "event_loop": maybe_ref}

#: What references in these tests lead to.
CLOCK = FakeClock()
LOGGER = logging.getLogger("tests.of.config")


def settings(
    gconfig: Mapping[str, Any] | None = None,
    prefix: str | tuple[str, ...] | None = PREFIXES,
    **options: Any,
) -> Settings:
    return read(gconfig or {}, prefix, options, EXTRA)


def shape(plugin: Any) -> tuple[type[Any], Any, Any]:
    """Tell plug-ins apart as far as their constructors' arguments go."""
    return type(plugin), getattr(plugin, "max_workers", None), getattr(plugin, "_prefix", None)


def comparable(found: Settings) -> dict[str, Any]:
    """Give settings without the identity of plug-ins."""
    plain = dict(vars(found))
    for section in ("executors", "jobstores"):
        plain[section] = [(alias, shape(each)) for alias, each in plain[section].items()]
    return plain


# The styles

FLAT: dict[str, Any] = {
    "logger": "tests.of.config",
    "timezone": "Europe/Berlin",
    "jobstore_retry_interval": "2.5",
    "job_defaults.misfire_grace_time": "30",
    "job_defaults.coalesce": "off",
    "job_defaults.max_instances": "3",
    "executors.default.type": "threadpool",
    "executors.default.max_workers": "20",
    "executors.default.pool_kwargs.thread_name_prefix": "mail",
    "executors.heavy.class": "tocsin.adapters.pools:ProcessPoolExecutor",
    "executors.heavy.max_workers": "2",
    "executors.inline": "inline",
    "jobstores.default.type": "memory",
    "jobstores.other.class": "tocsin.stores.memory:MemoryJobStore",
    "daemon": "no",
}
NESTED: dict[str, Any] = {
    "logger": "tests.of.config",
    "timezone": "Europe/Berlin",
    "jobstore_retry_interval": 2.5,
    "job_defaults": {"misfire_grace_time": 30, "coalesce": False, "max_instances": 3},
    "executors": {
        "default": {
            "type": "threadpool",
            "max_workers": 20,
            "pool_kwargs": {"thread_name_prefix": "mail"},
        },
        "heavy": {"class": ProcessPoolExecutor, "max_workers": 2},
        "inline": {"type": "debug"},
    },
    "jobstores": {"default": {"type": "memory"}, "other": {"class": MemoryJobStore}},
    "daemon": False,
}
OBJECTS: dict[str, Any] = {
    "logger": LOGGER,
    "timezone": ZoneInfo("Europe/Berlin"),
    "jobstore_retry_interval": timedelta(seconds=2.5),
    "job_defaults": {
        "misfire_grace_time": timedelta(seconds=30),
        "coalesce": False,
        "max_instances": 3,
    },
    "executors": {
        "default": ThreadPoolExecutor(20, {"thread_name_prefix": "mail"}),
        "heavy": ProcessPoolExecutor(2),
        "inline": DebugExecutor(),
    },
    "jobstores": {"default": MemoryJobStore(), "other": MemoryJobStore()},
    "daemon": False,
}
TOML = """
[tocsin]
logger = "tests.of.config"
timezone = "Europe/Berlin"
jobstore_retry_interval = 2.5
job_defaults = { misfire_grace_time = 30, coalesce = false, max_instances = 3 }
daemon = false

[tocsin.executors]
default = { type = "threadpool", max_workers = 20, pool_kwargs.thread_name_prefix = "mail" }
heavy = { class = "tocsin.adapters.pools:ProcessPoolExecutor", max_workers = 2 }
inline = "inline"

[tocsin.jobstores]
default = { type = "memory" }
other = { class = "tocsin.stores.memory:MemoryJobStore" }
"""


def prefixed(prefix: str, flat: Mapping[str, Any] = FLAT) -> dict[str, Any]:
    return {prefix + key: value for key, value in flat.items()}


def from_toml_text(path: Path) -> Settings:
    file = path / "tocsin.toml"
    file.write_text(TOML)
    return settings(load_toml(file), prefix=None)


def from_ini_file(path: Path) -> Settings:
    parser = ConfigParser(interpolation=None)
    parser["app"] = prefixed("tocsin.")
    return settings(parser["app"])


STYLES: dict[str, Callable[[Path], Settings]] = {
    "keywords": lambda _: settings(**OBJECTS),
    "nested keywords": lambda _: settings(**NESTED),
    "flat tocsin": lambda _: settings(prefixed("tocsin.")),
    "flat apscheduler": lambda _: settings(prefixed("apscheduler.")),
    "flat, own prefix": lambda _: settings({**prefixed("sched_"), "timezone": 5}, prefix="sched_"),
    "flat, all keys": lambda _: settings(FLAT, prefix=None),
    "flat, empty prefix": lambda _: settings(FLAT, prefix=""),
    "nested, all keys": lambda _: settings(NESTED, prefix=None),
    "nested under a name": lambda _: settings({"tocsin": NESTED, "database": {"url": "x"}}),
    "toml": from_toml_text,
    "ini": from_ini_file,
}


@pytest.mark.parametrize("style", STYLES)
def test_styles_are_equal(style: str, tmp_path: Path) -> None:
    found = STYLES[style](tmp_path)
    assert comparable(found) == {
        "logger": LOGGER,
        "timezone": ZoneInfo("Europe/Berlin"),
        "jobstore_retry_interval": 2.5,
        "job_defaults": JobDefaults(30, coalesce=False, max_instances=3),
        "executors": [
            ("default", (ThreadPoolExecutor, 20, "mail")),
            ("heavy", (ProcessPoolExecutor, 2, None)),
            ("inline", (DebugExecutor, None, None)),
        ],
        "jobstores": [
            ("default", (MemoryJobStore, None, None)),
            ("other", (MemoryJobStore, None, None)),
        ],
        "clock": None,
        "extra": {"daemon": False},
    }
    assert type(found.job_defaults.misfire_grace_time) in (int, float)
    assert type(found.jobstore_retry_interval) is float


def schedulers(path: Path) -> dict[str, Callable[[], BackgroundScheduler]]:
    file = path / "tocsin.toml"
    file.write_text(TOML)

    def configured() -> BackgroundScheduler:
        scheduler = BackgroundScheduler()
        scheduler.configure(NESTED, prefix=None)
        return scheduler

    return {
        "keywords": lambda: BackgroundScheduler(**OBJECTS),
        "flat": lambda: BackgroundScheduler(prefixed("apscheduler.")),
        "configure": configured,
        "toml": lambda: BackgroundScheduler.from_toml(file),
    }


@pytest.mark.parametrize("style", ["keywords", "flat", "configure", "toml"])
def test_schedulers_are_equal(style: str, tmp_path: Path) -> None:
    """A real scheduler of each style runs a job in the pool that it was told to have."""
    scheduler = schedulers(tmp_path)[style]()
    names: list[str] = []
    ran = threading.Event()

    def job() -> None:
        names.append(threading.current_thread().name)
        ran.set()

    handle = scheduler.add_job(job, "interval", days=1, jobstore="other")
    scheduler.add_job(job)
    with scheduler:
        assert ran.wait(20)
        assert handle.max_instances == 3
        assert (handle.misfire_grace_time, handle.coalesce) == (30, False)
        assert scheduler.timezone == ZoneInfo("Europe/Berlin")
        assert handle.next_run_time is not None
        assert handle.next_run_time.tzinfo == ZoneInfo("Europe/Berlin")
        assert scheduler.jobstore_retry_interval == 2.5
        assert scheduler.logger is LOGGER
        with pytest.raises(SchedulerAlreadyRunningError):
            scheduler.configure(timezone="UTC")
    assert [name.rpartition("-")[0] for name in names] == ["mail"]


def test_defaults() -> None:
    found = settings()
    assert comparable(found) == {
        "logger": None,
        "timezone": convert.as_timezone(None),
        "jobstore_retry_interval": 10.0,
        "job_defaults": JobDefaults(None, coalesce=True, max_instances=1),
        "executors": [],
        "jobstores": [],
        "clock": None,
        "extra": {},
    }
    nothing = dict.fromkeys(
        ("logger", "timezone", "jobstore_retry_interval", "job_defaults", "executors", "daemon")
    )
    assert comparable(settings(nothing, prefix=None)) == comparable(found)


def test_defaults_of_another_kind_of_scheduler() -> None:
    theirs = JobDefaults(misfire_grace_time=1)

    def defaults(**given: Any) -> JobDefaults:
        return read({}, None, {"job_defaults": given}, {}, theirs).job_defaults

    assert defaults(max_instances=2) == JobDefaults(1, coalesce=True, max_instances=2)
    assert defaults(misfire_grace_time=None, coalesce=None) == JobDefaults()


def test_options_go_before_gconfig_key_by_key() -> None:
    dotted: dict[str, Any] = {"job_defaults.misfire_grace_time": 9}
    found = settings(
        {
            "tocsin.timezone": "UTC",
            "tocsin.job_defaults.max_instances": "3",
            "tocsin.job_defaults.coalesce": "false",
            "tocsin.executors.default.type": "threadpool",
            "tocsin.executors.default.max_workers": "5",
            "tocsin.executors.default.pool_kwargs.thread_name_prefix": "mail",
            "tocsin.executors.other": "inline",
        },
        timezone="Asia/Tokyo",
        job_defaults={"coalesce": True},
        executors={"default": {"max_workers": 7}, "other": ThreadPoolExecutor(4)},
        **dotted,
    )
    assert found.timezone == ZoneInfo("Asia/Tokyo")
    assert found.job_defaults == JobDefaults(9, coalesce=True, max_instances=3)
    assert shape(found.executors["default"]) == (ThreadPoolExecutor, 7, "mail")
    assert shape(found.executors["other"]) == (ThreadPoolExecutor, 4, "tocsin-worker")


def test_nothing_of_the_user_is_changed() -> None:
    gconfig = {**prefixed("apscheduler."), "tocsin": {"executors": {"b": {"type": "inline"}}}}
    options: dict[str, Any] = {
        "executors": {"b": {"class": DebugExecutor}, "default": {"max_workers": 1}}
    }
    before = copy.deepcopy((gconfig, NESTED, options))
    assert list(settings(gconfig).executors) == ["default", "heavy", "inline", "b"]
    assert shape(settings(NESTED, prefix=None, **options).executors["default"])[1] == 1
    settings(**NESTED)
    assert (gconfig, NESTED, options) == before


def test_instances_are_kept() -> None:
    executor, store = DebugExecutor(), MemoryJobStore()
    found = settings(executors={"a": executor}, jobstores={"b": store}, clock=CLOCK)
    assert found.executors["a"] is executor
    assert found.jobstores["b"] is store
    assert found.clock is CLOCK


# Coercions

BOOLEANS = ["true", "YES", " on ", "y", "t", "1", "False", "no", "off\n", "n", "f", "0", 0, 1, True]


@pytest.mark.parametrize("value", BOOLEANS)
def test_booleans_are_those_of_apscheduler(value: Any) -> None:
    expected = apscheduler.util.asbool(value)
    assert settings(job_defaults={"coalesce": value}).job_defaults.coalesce is expected
    assert settings(daemon=value).extra == {"daemon": expected}


@pytest.mark.parametrize("text", ["1", " 20 ", "+3", "1_000"])
def test_whole_numbers_are_those_of_apscheduler(text: str) -> None:
    found = settings(job_defaults={"max_instances": text, "misfire_grace_time": text})
    assert found.job_defaults.max_instances == apscheduler.util.asint(text)
    assert found.job_defaults.misfire_grace_time == apscheduler.util.asint(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("none", None), ("None", None), (None, None), ("2.5", 2.5), (timedelta(minutes=1), 60)],
)
def test_grace_times(value: Any, seconds: float | None) -> None:
    assert settings(job_defaults={"misfire_grace_time": value}).job_defaults == JobDefaults(seconds)


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), (0.5, 0.5), (7, 7.0), (timedelta(minutes=1), 60.0)]
)
def test_retry_intervals(value: Any, seconds: float) -> None:
    found = settings(jobstore_retry_interval=value).jobstore_retry_interval
    assert (found, type(found)) == (seconds, float)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("UTC", timezone.utc),
        ("+05:30", timezone(timedelta(hours=5, minutes=30))),
        (ZoneInfo("Asia/Tokyo"), ZoneInfo("Asia/Tokyo")),
    ],
)
def test_timezones(value: Any, expected: Any) -> None:
    assert settings(timezone=value).timezone == expected


@pytest.mark.parametrize("value", ["tests.of.config", f"{__name__}:LOGGER", LOGGER])
def test_loggers(value: Any) -> None:
    assert settings(logger=value).logger is LOGGER


def test_logger_adapter() -> None:
    adapter: Any = logging.LoggerAdapter(LOGGER, {"service": "mail"})
    assert settings(logger=adapter).logger is adapter


def test_clock_and_event_loop_by_reference() -> None:
    found = settings({"tocsin.clock": f"{__name__}:CLOCK", "tocsin.event_loop": "os:environ"})
    assert found.clock is CLOCK
    assert found.extra == {"event_loop": os.environ}


def test_local_timezone_that_does_not_exist() -> None:
    program = """
        import logging
        from datetime import timezone
        from tocsin.adapters import BackgroundScheduler
        logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
        assert BackgroundScheduler().timezone is timezone.utc
    """
    program = textwrap.dedent(program)
    done = ended(sys.executable, "-c", program, env={"TZ": "Nowhere/Land"})
    assert done.returncode == 0, done.stderr
    message = "WARNING tocsin.config UTC is used; timezone: the local one was not found, name one: "
    assert message in done.stderr
    assert "Nowhere/Land" in done.stderr


# Mistakes


class Fussy(DebugExecutor):
    def __init__(self, port: int, host: str = "localhost") -> None:
        super().__init__()
        if host == "nowhere":
            raise OSError("no such host")
        self.port = int(port)


def executor(**section: Any) -> dict[str, Any]:
    return {"executors": {"mine": section}}


FUSSY = f"{__name__}:Fussy"

MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    # What is given, the key in the message, and what the message says.
    ({"jobstore": {}}, "jobstore", 'unknown (did you mean "jobstores"?); accepted: logger, '),
    ({"x": 1}, "x", "unknown; accepted: logger, timezone, jobstore_retry_interval, job_defaults"),
    ({"deamon": True}, "deamon", 'did you mean "daemon"?); accepted: '),
    ({"misfire_grace_time": 900}, "misfire_grace_time", "it belongs in job_defaults, as job_def"),
    ({"coalesce": True}, "coalesce", "it belongs in job_defaults, as job_defaults.coalesce"),
    ({"max_instances": 2}, "max_instances", "it belongs in job_defaults"),
    ({"timezone": "Mars/Base"}, "timezone", "'Mars/Base' is not in the time zone database; use a"),
    ({"timezone": 3}, "timezone", "a name or a tzinfo is needed, not 3"),
    ({"daemon": "maybe"}, "daemon", "'maybe' is neither true (true, yes, on, y, t, 1) nor false"),
    ({"daemon": 2}, "daemon", "2 is neither true"),
    ({"event_loop": "nothing"}, "event_loop", "invalid reference 'nothing'"),
    ({"event_loop": "no_module_x:loop"}, "event_loop", "could not import module 'no_module_x'"),
    ({"jobstore_retry_interval": 0}, "jobstore_retry_interval", "0 is not positive"),
    ({"jobstore_retry_interval": "-1"}, "jobstore_retry_interval", "'-1' is not positive"),
    ({"jobstore_retry_interval": "soon"}, "jobstore_retry_interval", "'soon' is not a number"),
    ({"jobstore_retry_interval": "nan"}, "jobstore_retry_interval", "nan is not a finite number"),
    ({"jobstore_retry_interval": []}, "jobstore_retry_interval", "a number is needed, not []"),
    ({"logger": 5}, "logger", "a logging.Logger, its name or 'module:attr' is needed, not 5"),
    ({"logger": "os:path"}, "logger", "a logging.Logger, its name or 'module:attr' is needed"),
    ({"logger": "os:nothing"}, "logger", "error looking up object 'nothing'"),
    ({"clock": 5}, "clock", "an object with a method now() is needed, not 5"),
    ({"clock": FakeClock}, "clock", "an object with a method now() is needed, not <class"),
    ({"job_defaults": 5}, "job_defaults", "a mapping is needed, not 5"),
    ({"job_defaults": {5: 1}}, "job_defaults", "its keys are texts, not 5"),
    (
        {"job_defaults": {"max_instance": 1}},
        "job_defaults.max_instance",
        'unknown (did you mean "max_instances"?); accepted: misfire_grace_time, coalesce, max_ins',
    ),
    ({"job_defaults": {"max_instances": 0}}, "job_defaults.max_instances", "0 is less than 1"),
    ({"job_defaults": {"max_instances": "2.5"}}, "job_defaults.max_instances", "not 2.5"),
    ({"job_defaults": {"max_instances": "x"}}, "job_defaults.max_instances", "'x' is not a number"),
    ({"job_defaults": {"coalesce": "x"}}, "job_defaults.coalesce", "'x' is neither true"),
    ({"job_defaults": {"coalesce": None, "y": 1}}, "job_defaults.y", "unknown; accepted"),
    (
        {"job_defaults": {"misfire_grace_time": -1}},
        "job_defaults.misfire_grace_time",
        "-1 is not a positive number of seconds",
    ),
    ({"executors": []}, "executors", "a mapping is needed, not []"),
    ({"executors": {None: "inline"}}, "executors", "its keys are texts, not None"),
    ({"executors": {"mine": 5}}, "executors.mine", "int is not a tocsin.executors.BaseExecutor"),
    ({"executors": {"mine": MemoryJobStore()}}, "executors.mine", "lacks methods of IExecutor: is"),
    ({"jobstores": {"mine": DebugExecutor()}}, "jobstores.mine", "lacks methods of IJobStore: "),
    ({"executors": {"mine": DebugExecutor}}, "executors.mine", "not the class <class 'tocsin.exe"),
    (
        {"executors": {"mine": "threads"}},
        "executors.mine.type",
        'No executor by the name "threads" was found (did you mean "threadpool"?); known: asyncio',
    ),
    (executor(type=["x"]), "executors.mine.type", "the name of a plug-in is needed, not ['x']"),
    (executor(), "executors.mine", "threadpool, tornado, twisted) or a class is needed, and not"),
    (executor(max_workers=1), "executors.mine", "given: max_workers"),
    (executor(type="inline", **{"class": Fussy}), "executors.mine", "given: type, class"),
    (executor(**{"class": "os:nothing"}), "executors.mine.class", "looking up object 'nothing'"),
    (executor(**{"class": "os:path"}), "executors.mine.class", "is not a class"),
    (executor(**{"class": BaseExecutor}), "executors.mine.class", "does not implement _do_submit"),
    (
        executor(type="threadpool", max_worker=1),
        "executors.mine.max_worker",
        'unknown (did you mean "max_workers"?); ThreadPoolExecutor takes max_workers, pool_kwargs',
    ),
    (
        executor(type="threadpool", max_workers="many"),
        "executors.mine.max_workers",
        "'many' is not a whole number",
    ),
    (executor(type="processpool", max_workers=0), "executors.mine.max_workers", "0 is less than 1"),
    (
        executor(type="threadpool", pool_kwargs={"prefix": "x"}),
        "executors.mine.pool_kwargs",
        "prefix: unknown; accepted: thread_name_prefix, initializer, initargs",
    ),
    ({"jobstores": {"a": {"type": "memory", "url": "x"}}}, "jobstores.a.url", "takes no arguments"),
    (
        executor(**{"class": FUSSY}),
        "executors.mine",
        "Fussy() failed: TypeError: missing a required argument: 'port'; Fussy takes port, host",
    ),
    (
        executor(**{"class": Fussy, "port": "x"}),
        "executors.mine",
        "Fussy(port) failed: ValueError: invalid literal for int() with base 10: 'x'",
    ),
    (
        executor(**{"class": Fussy, "port": 1, "host": "nowhere"}),
        "executors.mine",
        "Fussy(port, host) failed: OSError: no such host",
    ),
]


@pytest.mark.parametrize("style", ["options", "gconfig"])
@pytest.mark.parametrize(("given_", "key", "message"), MISTAKES)
def test_mistakes(given_: dict[str, Any], key: str, message: str, style: str) -> None:
    gconfig, options = ({}, given_) if style == "options" else (prefixed("tocsin.", given_), {})
    with pytest.raises(ConfigError) as caught:
        settings(gconfig, **options)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{key}: ")
    assert message in caught.value.reason
    assert isinstance(caught.value, (TocsinError, ValueError))


def test_scheduler_refuses_a_mistake_and_stays_as_it_was() -> None:
    with pytest.raises(ConfigError, match=r"^event_loop: unknown"):
        BackgroundScheduler(event_loop=None)
    scheduler = BackgroundScheduler(timezone="Asia/Tokyo")
    with pytest.raises(ConfigError, match="it belongs in job_defaults"):
        scheduler.configure(timezone="UTC", misfire_grace_time=900)
    assert scheduler.timezone == ZoneInfo("Asia/Tokyo")


class Sundial:
    def now(self) -> float:
        return 0.5


def test_clock_that_does_not_count_microseconds() -> None:
    with pytest.raises(ConfigError, match=r"^clock: now\(\) gives whole microseconds .* not 0\.5"):
        settings(clock=Sundial())


# Prefixes and dots


def test_keys_of_other_programs_are_no_mistake() -> None:
    others: dict[Any, Any] = {"database.url": "x", "timezone": "Mars/Base", 5: 6, "debug": True}
    assert settings({**others, "tocsin.timezone": "UTC"}).timezone is timezone.utc
    del others["timezone"]
    assert settings(others).executors == {}


@pytest.mark.parametrize(
    ("gconfig", "prefix", "key", "message"),
    [
        (NESTED, PREFIXES, "logger", "it lacks the prefix 'tocsin.' or 'apscheduler.'; with pref"),
        ({"executors.default": "x"}, "app.", "executors.default", "it lacks the prefix 'app.'"),
        ({"timezone": "UTC", 5: 6}, None, "5", "a key is a text, not 5"),
        ({"tocsin.timezone": 1, "apscheduler.timezone": 1}, PREFIXES, "timezone", "given twice"),
        ({"executors.a": "inline", "executors.a.type": "x"}, None, "executors.a", "given twice"),
        ({"executors.a.type": "x", "executors": {"a": 1}}, None, "executors.a", "given twice"),
        ("tocsin.toml", None, "gconfig", "a mapping is needed, not 'tocsin.toml'"),
        ({"tocsin.executor.a": "x"}, PREFIXES, "executor", 'did you mean "executors"?'),
        ({"tocsin": {"x": 1}}, PREFIXES, "x", "unknown; accepted: "),
    ],
)
def test_mistakes_in_keys(gconfig: Any, prefix: Any, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(gconfig, prefix)
    assert caught.value.key == key
    assert message in caught.value.reason


NAMES = st.text("abc", min_size=1, max_size=2)
TREES = st.dictionaries(
    NAMES,
    st.recursive(st.integers(), lambda each: st.dictionaries(NAMES, each, min_size=1, max_size=3)),
    max_size=4,
)


def flattened(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flattened(value, f"{path}{key}."))
        else:
            flat[path + key] = value
    return flat


@given(tree=TREES)
def test_flat_and_nested_are_the_same(tree: dict[str, Any]) -> None:
    assert nested(flattened(tree).items()) == tree
    assert nested(tree.items()) == tree


@given(base=TREES, over=TREES)
def test_merging_keeps_all_of_the_upper_and_the_rest_of_the_lower(
    base: dict[str, Any], over: dict[str, Any]
) -> None:
    before = copy.deepcopy((base, over))
    upper, lower = flattened(over), flattened(base)

    def hidden(key: str) -> bool:
        return any(
            f"{key}.".startswith(f"{top}.") or f"{top}.".startswith(f"{key}.") for top in upper
        )

    kept = {key: value for key, value in lower.items() if not hidden(key)}
    assert flattened(merged(base, over)) == {**kept, **upper}
    assert (base, over) == before


# TOML


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("[tocsin", "FILE", "not TOML: "),
        ('[tocsin]\ntimezone = "\\q"', "FILE", "not TOML: "),
        ("[app]\nx = 1\n[other]", "tocsin", "FILE has no such table; it has app, other"),
        ("tocsin = 5", "tocsin", "FILE has no such table; it has tocsin"),
        ("", "tocsin", "FILE has no such table; it has nothing"),
    ],
)
def test_toml_mistakes(text: str, key: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert caught.value.key == key.replace("FILE", str(file))
    assert caught.value.reason.startswith(message.replace("FILE", str(file)))


def test_toml_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_bytes(b"x = '\xff'")
    with pytest.raises(ConfigError, match="not TOML: "):
        load_toml(file)


def test_toml_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"jobs\.toml"):
        load_toml(tmp_path / "jobs.toml")


# The document


def test_every_key_and_every_plugin_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    first_columns = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    documented = set(re.findall(r"`([\w.]+)`", " ".join(first_columns)))
    keys = {each.name for each in fields(Settings)} - {"extra", "job_defaults"}
    keys |= {f"job_defaults.{each.name}" for each in fields(JobDefaults)}
    for name in adapters.__all__:
        cls = getattr(adapters, name)
        if issubclass(cls, BaseScheduler):
            keys |= set(cls.extra_options)
    keys = {f"{key}.NAME" if key in ("executors", "jobstores") else key for key in keys}
    names = {name for kind in ("executors", "stores") for name in plugins.KINDS[kind].builtins}
    assert documented - {"prefix", "None"} == keys | names
