"""The configuration of a scheduler: from keywords, flat texts, nested mappings or TOML."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta, timezone, tzinfo
from functools import partial
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tocsin import plugins
from tocsin.callables import maybe_ref, ref_to_obj
from tocsin.convert import as_bool, as_number, as_timezone, from_text
from tocsin.errors import ConfigError, suggestion
from tocsin.job import checked_grace, checked_instances
from tocsin.mappings import chosen, merged, nested

__all__ = ["PREFIXES", "JobDefaults", "Settings", "load_toml", "read"]

#: What the keys of a flat configuration may begin with unless another prefix is given.
PREFIXES = ("tocsin.", "apscheduler.")

_T = TypeVar("_T")


@dataclass(frozen=True)
class JobDefaults:
    """What a job has that says nothing else; ``misfire_grace_time`` is in seconds."""

    misfire_grace_time: float | None = None
    coalesce: bool = True
    max_instances: int = 1


@dataclass
class Settings:
    """A configuration that has been checked, each value in its final type."""

    logger: logging.Logger | None
    timezone: tzinfo
    jobstore_retry_interval: float
    job_defaults: JobDefaults
    executors: dict[str, Any]
    jobstores: dict[str, Any]
    clock: Any
    extra: dict[str, Any]


def read(
    gconfig: Mapping[str, Any],
    prefix: str | tuple[str, ...] | None,
    options: Mapping[str, Any],
    extra: Mapping[str, Callable[[Any], Any]],
    job_defaults: JobDefaults = JobDefaults(),
) -> Settings:
    """Check a configuration, and make the executors and job stores that it describes.

    Of ``gconfig`` count the keys that start with ``prefix``, all of them without one. ``options``
    go before it, key by key at every depth. In both, a dot in a key leads into a nested mapping.
    ``extra`` has further keys with their coercions; ``job_defaults`` stand where the
    configuration has none. No mapping is changed.

    The keys are described in ``docs/configuration.md``. Raises ConfigError that names the key.
    """
    known = [field.name for field in fields(Settings) if field.name != "extra"] + sorted(extra)
    tree = merged(nested(chosen(gconfig, prefix, known)), nested(options.items()))
    for key in tree:
        if key in JobDefaults.__dataclass_fields__:
            raise ConfigError(key, f"it belongs in job_defaults, as job_defaults.{key}")
        _check_known(key, key, known)
    given = {key: value for key, value in tree.items() if value is not None}

    def value_of(key: str, coerce: Callable[[Any], _T], default: Callable[[], _T]) -> _T:
        return _coerced(key, given[key], coerce) if key in given else default()

    def plugins_of(key: str, kind: str) -> dict[str, Any]:
        section = _section(key, given.get(key, {}))
        return {alias: _plugin(f"{key}.{alias}", each, kind) for alias, each in section.items()}

    return Settings(
        logger=value_of("logger", _as_logger, lambda: None),
        timezone=value_of("timezone", as_timezone, _local_timezone),
        jobstore_retry_interval=value_of("jobstore_retry_interval", _as_seconds, lambda: 10.0),
        job_defaults=_job_defaults(given.get("job_defaults", {}), job_defaults),
        executors=plugins_of("executors", "executors"),
        jobstores=plugins_of("jobstores", "stores"),
        clock=value_of("clock", _as_clock, lambda: None),
        extra={key: _coerced(key, given[key], extra[key]) for key in extra if key in given},
    )


def load_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Give the table ``[tocsin]`` of a TOML file, to be read without a prefix.

    Raises OSError for a file that can't be read, ConfigError for one that is not TOML or has no
    such table.
    """
    document = load_document(path)
    table = document.get("tocsin")
    if not isinstance(table, dict):
        found = ", ".join(document) or "nothing"
        raise ConfigError("tocsin", f"{os.fspath(path)} has no such table; it has {found}")
    return table


def load_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file; raises OSError, and ConfigError for what is not TOML."""
    with open(path, "rb") as file:
        try:
            document: dict[str, Any] = tomllib.load(file)
        except ValueError as error:  # of its syntax, or of its encoding
            raise ConfigError(os.fspath(path), f"not TOML: {error}") from error
    return document


def _section(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(key, f"a mapping is needed, not {value!r}")
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(key, f"its keys are texts, not {name!r}")
    return value


def _check_known(path: str, key: str, known: Iterable[str]) -> None:
    if key not in known:
        raise ConfigError(path, f"unknown{suggestion(key, known)}; accepted: {', '.join(known)}")


def _coerced(key: str, value: Any, coerce: Callable[[Any], _T]) -> _T:
    try:
        return coerce(value)
    except (TypeError, ValueError, LookupError, ImportError) as error:
        reason = str(error).removeprefix(f"{key.rpartition('.')[2]}: ")
        raise ConfigError(key, reason) from error


def _job_defaults(given: Any, defaults: JobDefaults) -> JobDefaults:
    coercions: dict[str, Callable[[Any], Any]] = {
        "misfire_grace_time": _as_grace,
        "coalesce": as_bool,
        "max_instances": lambda value: checked_instances(from_text(value)),
    }
    found = {}
    for key, value in _section("job_defaults", given).items():
        path = f"job_defaults.{key}"
        _check_known(path, key, coercions)
        if value is not None or key == "misfire_grace_time":
            found[key] = _coerced(path, value, coercions[key])
    return replace(defaults, **found)


def _plugin(key: str, given: Any, kind: str) -> Any:
    """Give an executor or a job store, or make the one that a name or a section describes."""
    if isinstance(given, str):
        given = {"type": given}
    if not isinstance(given, Mapping):
        if isinstance(given, type):
            raise ConfigError(key, f"an instance or a mapping is needed, not the class {given!r}")
        _coerced(key, type(given), partial(plugins.verify, kind))
        return given
    arguments = dict(_section(key, given))
    if ("type" in arguments) == ("class" in arguments):
        raise ConfigError(
            key,
            f"a type ({', '.join(plugins.names(kind))}) or a class is needed, and not both;"
            f" given: {', '.join(arguments) or 'nothing'}",
        )
    if "type" in arguments:
        name = arguments.pop("type")
        if not isinstance(name, str):
            raise ConfigError(f"{key}.type", f"the name of a plug-in is needed, not {name!r}")
        cls = _coerced(f"{key}.type", name, partial(plugins.load, kind))
    else:
        cls = _coerced(f"{key}.class", arguments.pop("class"), maybe_ref)
        _coerced(f"{key}.class", cls, partial(plugins.verify, kind))
    try:
        return plugins.make(cls, arguments)
    except Exception as error:
        name, colon, reason = str(error).partition(": ")
        if colon and name in arguments:
            raise ConfigError(f"{key}.{name}", reason) from error
        call = f"{cls.__name__}({', '.join(arguments)})"
        raise ConfigError(key, f"{call} failed: {type(error).__name__}: {error}") from error


def _as_logger(value: Any) -> logging.Logger:
    if isinstance(value, str):
        value = ref_to_obj(value) if ":" in value else logging.getLogger(value)
    if not isinstance(value, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f"a logging.Logger, its name or 'module:attr' is needed, not {value!r}")
    return value  # type: ignore[return-value]


def _as_seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    seconds = float(as_number(from_text(value), "jobstore_retry_interval"))
    if seconds <= 0:
        raise ValueError(f"{value!r} is not positive; it is a number of seconds")
    return seconds


def _as_grace(value: Any) -> float | None:
    if isinstance(value, str) and value.strip().lower() == "none":
        return None
    return checked_grace(from_text(value))


def _as_clock(value: Any) -> Any:
    clock = maybe_ref(value)
    if isinstance(clock, type) or not callable(getattr(clock, "now", None)):
        raise TypeError(f"an object with a method now() is needed, not {clock!r}")
    now = clock.now()
    if not isinstance(now, int):
        raise TypeError(f"now() gives whole microseconds since 1970 in UTC, not {now!r}")
    return clock


def _local_timezone() -> tzinfo:
    try:
        return as_timezone(None)
    except ValueError as error:
        logging.getLogger(__name__).warning("UTC is used; %s", error)
        return timezone.utc
