"""Plug-ins by name: triggers, executors and job stores, tocsin's own and those of others.

tocsin's own are in a table and are imported when they are asked for; no entry points are needed,
so that frozen applications work. Other names are looked up in the entry points of what is
installed, in tocsin's groups and then in those of APScheduler 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from typing import Any

from zope.interface.interface import Method

from tocsin.errors import suggestion
from tocsin.executors import BaseExecutor
from tocsin.interfaces import IExecutor, IJobStore, ITrigger
from tocsin.stores.base import BaseJobStore
from tocsin.triggers.base import BaseTrigger

__all__ = ["KINDS", "Kind", "load", "make", "names", "verify"]

_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Kind:
    """A kind of plug-in: what it is called, must provide, and where it is found."""

    noun: str
    base: type[Any]
    interface: Any
    groups: tuple[str, ...]
    #: Name to ``module:Class``.
    builtins: Mapping[str, str]


KINDS: Mapping[str, Kind] = {
    "triggers": Kind(
        "trigger",
        BaseTrigger,
        ITrigger,
        ("tocsin.triggers", "apscheduler.triggers"),
        {
            "and": "tocsin.triggers:AndTrigger",
            "calendarinterval": "tocsin.triggers:CalendarIntervalTrigger",
            "cron": "tocsin.triggers:CronTrigger",
            "date": "tocsin.triggers:DateTrigger",
            "interval": "tocsin.triggers:IntervalTrigger",
            "or": "tocsin.triggers:OrTrigger",
        },
    ),
    "executors": Kind(
        "executor",
        BaseExecutor,
        IExecutor,
        ("tocsin.executors", "apscheduler.executors"),
        {
            "asyncio": "tocsin.adapters.asyncio:AsyncIOExecutor",
            "debug": "tocsin.executors:DebugExecutor",
            "gevent": "tocsin.adapters.gevent:GeventExecutor",
            "inline": "tocsin.executors:DebugExecutor",
            "processpool": "tocsin.adapters.pools:ProcessPoolExecutor",
            "qt": "tocsin.adapters.qt:QtExecutor",
            "threadpool": "tocsin.adapters.pools:ThreadPoolExecutor",
            "tornado": "tocsin.adapters.tornado:TornadoExecutor",
            "twisted": "tocsin.adapters.twisted:TwistedExecutor",
        },
    ),
    "stores": Kind(
        "jobstore",
        BaseJobStore,
        IJobStore,
        ("tocsin.stores", "apscheduler.jobstores"),
        {
            "etcd": "tocsin.stores.etcd:EtcdJobStore",
            "memory": "tocsin.stores.memory:MemoryJobStore",
            "mongodb": "tocsin.stores.mongodb:MongoDBJobStore",
            "redis": "tocsin.stores.redis:RedisJobStore",
            "rethinkdb": "tocsin.stores.rethinkdb:RethinkDBJobStore",
            "sqlalchemy": "tocsin.stores.sqlalchemy:SQLAlchemyJobStore",
            "zookeeper": "tocsin.stores.zookeeper:ZooKeeperJobStore",
        },
    ),
}


def _bundled() -> None:
    """Import what the table names, but never run: bundlers such as PyInstaller see imports only.

    Without the frameworks: who uses one imports its scheduler, and with it its executor.
    """
    import tocsin.adapters.asyncio
    import tocsin.adapters.pools
    import tocsin.stores.etcd
    import tocsin.stores.memory
    import tocsin.stores.mongodb
    import tocsin.stores.redis
    import tocsin.stores.rethinkdb
    import tocsin.stores.sqlalchemy
    import tocsin.stores.zookeeper  # noqa: F401


@lru_cache(maxsize=256)
def load(kind: str, name: str) -> type[Any]:
    """Import the plug-in of a name; ``kind`` is a key of `KINDS`. O(1) after the first time.

    Raises LookupError for a name that is unknown or whose entry point can't be loaded, TypeError
    for a class that `verify` refuses, ImportError when the plug-in's framework is not installed.
    """
    plugin = KINDS[kind]
    reference = plugin.builtins.get(name)
    if reference is not None:
        module, _, attribute = reference.partition(":")
        found: Any = getattr(import_module(module), attribute)
        verify(kind, found)
        return found  # type: ignore[no-any-return]
    others = _third_party(plugin)
    if name in others:
        return _load_entry_point(kind, others[name])
    known = names(kind)
    raise LookupError(
        f'No {plugin.noun} by the name "{name}" was found{suggestion(name, known)};'
        f" known: {', '.join(known)}"
    )


def names(kind: str) -> list[str]:
    """List the names that `load` knows, sorted; entry points are read, but not loaded."""
    plugin = KINDS[kind]
    return sorted({*plugin.builtins, *_third_party(plugin)})


def make(cls: type[Any], arguments: Mapping[str, Any]) -> Any:
    """Call the constructor of a plug-in.

    Raises TypeError that names an argument which is unknown or missing, and those accepted.
    """
    try:
        accepted = signature(cls)
    except (TypeError, ValueError):  # of a class written in C
        return cls(**arguments)
    parameters = accepted.parameters.values()
    named = [each.name for each in parameters if each.kind not in _VARIADIC]
    takes = f"{cls.__name__} takes {', '.join(named) or 'no arguments'}"
    if not any(each.kind is Parameter.VAR_KEYWORD for each in parameters):
        for name in arguments:
            if name not in named:
                raise TypeError(f"{name}: unknown{suggestion(name, named)}; {takes}")
    try:
        accepted.bind(**arguments)
    except TypeError as error:
        raise TypeError(f"{error}; {takes}") from None
    return cls(**arguments)


def _third_party(plugin: Kind) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for group in plugin.groups:
        for entry_point in entry_points(group=group):
            # APScheduler's own classes fit its own schedulers only.
            if entry_point.module.partition(".")[0] != "apscheduler":
                found.setdefault(entry_point.name, entry_point)
    return found


def _load_entry_point(kind: str, entry_point: EntryPoint) -> type[Any]:
    dist = entry_point.dist
    origin = (
        f'The {KINDS[kind].noun} "{entry_point.name}", entry point {entry_point.value!r} of the'
        f" distribution {'unknown' if dist is None else f'{dist.name} {dist.version}'},"
    )
    try:
        found = entry_point.load()
    except Exception as error:
        raise LookupError(f"{origin} can't be loaded: {type(error).__name__}: {error}") from error
    try:
        verify(kind, found)
    except TypeError as error:
        raise TypeError(f"{origin} is unfit: {error}") from None
    return found  # type: ignore[no-any-return]


def verify(kind: str, cls: Any) -> None:
    """Refuse, by TypeError that lists the missing methods, a class that is no such plug-in.

    A subclass of the base class has to implement its abstract methods, any other class all
    methods of the interface.
    """
    plugin = KINDS[kind]
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is not a class")
    if issubclass(cls, plugin.base):
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            raise TypeError(f"{_full_name(cls)} does not implement {', '.join(missing)}")
        return
    missing = sorted(
        name
        for name, member in plugin.interface.namesAndDescriptions(all=True)
        if isinstance(member, Method) and not callable(getattr(cls, name, None))
    )
    if missing:
        raise TypeError(
            f"{_full_name(cls)} is not a {_full_name(plugin.base)}, and lacks methods of"
            f" {plugin.interface.__name__}: {', '.join(missing)}"
        )


def _full_name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
