"""Addresses and engines of SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

__all__ = ["checked_engine", "make_engine", "parsed", "shown"]

#: Per kind of database: modules and what an address calls their drivers, the preferred one first.
_DRIVERS = {
    "postgresql": {"psycopg": "psycopg", "psycopg2": "psycopg2"},
    "mysql": {"pymysql": "pymysql", "MySQLdb": "mysqldb"},
    "mariadb": {"pymysql": "pymysql", "mariadb": "mariadbconnector", "MySQLdb": "mysqldb"},
}
#: Arguments of connections, in seconds unless it says otherwise: a server that has gone without a
#: word must not be waited for without end.
_PATIENCE: Mapping[str, Mapping[str, Any]] = {
    "pysqlite": {"timeout": 10},
    "psycopg": {
        "connect_timeout": 10,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,  # milliseconds
    },
    "pymysql": {"connect_timeout": 10, "read_timeout": 30, "write_timeout": 30},
}
_PATIENCE |= {"psycopg2": _PATIENCE["psycopg"]}  # type: ignore[operator]


def parsed(url: Any) -> URL:
    """Read an address, and choose a driver that is installed if it names none."""
    try:
        made = make_url(url)
    except ArgumentError:
        # What it says may hold the password.
        raise ValueError(
            "url: it can't be read as postgresql+psycopg://name:password@host/database can; if a"
            " name or password in it has other characters than letters and digits, quote them"
            " (urllib.parse.quote)"
        ) from None
    if "+" not in made.drivername:
        for module, driver in _DRIVERS.get(made.drivername, {}).items():
            if find_spec(module) is not None:
                return made.set(drivername=f"{made.drivername}+{driver}")
    return made


def make_engine(url: URL, isolation: str, options: Mapping[str, Any]) -> Engine:
    """Make an engine whose errors show no arguments of jobs; ImportError without the driver."""
    given = {"isolation_level": isolation, "hide_parameters": True, **options}
    try:
        arguments = dict(_PATIENCE.get(url.get_dialect().driver, {}))
        if is_in_memory(url):
            given.setdefault("poolclass", StaticPool)
            arguments["check_same_thread"] = False
        given["connect_args"] = {
            **{name: value for name, value in arguments.items() if name not in url.query},
            **given.get("connect_args", {}),
        }
        if url.get_backend_name() in ("mysql", "mariadb"):
            # A connection that is closed ends what it has begun, without another round trip for
            # nothing when it comes back to the pool.
            given.setdefault("pool_reset_on_return", None)
        engine = create_engine(url, **given)
    except ImportError as error:
        raise ImportError(
            f"url: {url.drivername} needs a driver that can't be imported ({error}); install it,"
            f" or name one that is there, as in {_example(url)}"
        ) from error
    except NoSuchModuleError:
        raise ValueError(
            f"url: SQLAlchemy knows no {url.drivername!r}; it begins as in {_example(url)}"
        ) from None
    return checked_engine(engine)


def checked_engine(engine: Any) -> Engine:
    """Refuse what we can't use as an engine."""
    if not isinstance(engine, Engine):
        raise TypeError(f"engine: {engine!r} is no Engine of SQLAlchemy")
    if engine.dialect.is_async:
        raise ValueError(
            f"engine: its driver {engine.dialect.driver!r} is asynchronous; use one that is not,"
            f" as in {_example(engine.url)}"
        )
    if isinstance(engine.pool, SingletonThreadPool):
        raise ValueError(
            "engine: a database of SQLite in memory that is another one for each thread; make it"
            " with poolclass=StaticPool and connect_args={'check_same_thread': False}"
        )
    return engine


def is_in_memory(url: URL) -> bool:
    """Tell whether an address is that of a database of SQLite that ends with its connection."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def shown(url: URL) -> str:
    """Show where an address leads, without names, passwords and options."""
    host = url.host or url.query.get("host", "")
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{host}{port}/{url.database or ''}"


def _example(url: URL) -> str:
    examples = {
        "mysql": "mysql+pymysql://",
        "mariadb": "mariadb+pymysql://",
        "sqlite": "sqlite:///jobs.sqlite",
    }
    return examples.get(url.drivername.partition("+")[0], "postgresql+psycopg://")
