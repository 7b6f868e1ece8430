"""Where a job store is, as the command line says it: a URL, and what is not shown of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tocsin import plugins
from tocsin.stores.base import BaseJobStore
from tocsin.stores.shared import SharedJobStore

__all__ = ["Address", "make_store", "options_of", "read_address"]

#: The kinds of stores by the scheme of their URLs; all others are SQLAlchemy's.
_KINDS = {
    "etcd": "etcd",
    "etcds": "etcd",
    "mongodb": "mongodb",
    "mongodb+srv": "mongodb",
    "redis": "redis",
    "rediss": "redis",
    "rethinkdb": "rethinkdb",
    "unix": "redis",
    "zookeeper": "zookeeper",
}
_EXAMPLES = (
    "sqlite:///jobs.sqlite, postgresql+psycopg://host/db, mysql+pymysql://host/db, redis://host/0,"
    " mongodb://host/db, rethinkdb://host/db, zookeeper://host:2181/path, etcd://host:2379"
)
_SECRET = re.compile(r"pass|pwd|secret|token|pickle_key", re.IGNORECASE)
_HIDDEN = "***"


@dataclass(frozen=True)
class Address:
    """A store: the name of its plug-in, the options of its constructor, and its URL as shown."""

    kind: str
    options: Mapping[str, Any]
    shown: str
    secrets: frozenset[str]

    def hide(self, text: object) -> str:
        """Give a text, such as that of a driver's error, without passwords."""
        result = str(text)
        for secret in sorted(self.secrets, key=len, reverse=True):
            result = result.replace(secret, _HIDDEN)
        return result


def options_of(kind: str) -> Collection[str]:
    """Name the options of a kind of store, as far as they are not those of its client."""
    variadic = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    return {
        name
        for cls in (plugins.load("stores", kind), SharedJobStore)
        for name, each in signature(cls).parameters.items()
        if each.kind not in variadic
    }


def make_store(address: Address, **options: Any) -> BaseJobStore:
    """Make the store of an address, not started; ``options`` are defaults of its own.

    Raises what its constructor raises.
    """
    cls = plugins.load("stores", address.kind)
    made: BaseJobStore = plugins.make(cls, {**options, **address.options})
    return made


def read_address(
    text: str,
    given: Iterable[str] = (),
    options_of: Callable[[str], Collection[str]] = options_of,
) -> Address:
    """Read a URL and options ``name=value``.

    The URL may be ``env:NAME`` or ``file:PATH``, which say where it is, as may the value of an
    option that is a secret. Parameters of the URL that are options are taken out of it.
    Raises ValueError that says what is wrong, without passwords.
    """
    url = _fetched(text)
    scheme, separator, _ = url.partition("://")
    if not separator:
        hint = f"; for a file of SQLite write sqlite:///{text}" if Path(text).exists() else ""
        raise ValueError(f"{text!r} is no URL such as {_EXAMPLES}{hint}")
    if _is_cut_off(url):
        raise ValueError(
            "the password in the URL ends early, at a character that needs percent-encoding,"
            " such as %2F for a slash; urllib.parse.quote(password, safe='') gives it"
        )
    kind = _KINDS.get(scheme.lower(), "sqlalchemy")
    known = options_of(kind)
    own_url = kind in ("sqlalchemy", "redis", "mongodb")
    base, _, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = {name: value for name, value in pairs if name in known or not own_url}
    kept = [
        part for part in query.split("&") if part and unquote(part.partition("=")[0]) not in options
    ]
    options |= _PARTS[kind](base, "&".join(kept))
    secrets = {value for name, value in pairs if _SECRET.search(name)}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ValueError(f"option {_masked(each)!r}: write name=value")
        if _SECRET.search(name) and name != "pickle_key":  # which the store reads in this way
            value = _fetched(value)
        if _SECRET.search(name):
            secrets.add(value)
        options[name] = value
    password = _password(base)
    if password:
        secrets |= {password, unquote(password)}
    return Address(kind, options, _masked(url), frozenset(secrets - {""}))


def _fetched(text: str) -> str:
    """Give a text, or what the environment variable or the file holds that it names."""
    place, colon, name = text.partition(":")
    if not colon or name.startswith("//"):
        return text
    if place == "env":
        found = os.environ.get(name)
        if not found:
            raise ValueError(f"the environment variable {name!r} is not set")
        return found.strip()
    if place == "file":
        try:
            return Path(name).read_text().strip()
        except OSError as error:
            raise ValueError(f"the file {name!r} can't be read: {error.strerror}") from error
    return text


def _is_cut_off(url: str) -> bool:
    """Tell whether what should be a port is a part of a password, of which the rest comes later."""
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    _, colon, port = authority.partition(":")
    is_login = colon and "@" not in authority and not authority.startswith("[")
    return bool(is_login and "@" in rest and not port.partition(",")[0].isdigit())


def _password(base: str) -> str:
    """Give the password of a URL as it stands there."""
    authority = base.partition("://")[2].partition("/")[0]
    user, at, _ = authority.rpartition("@")
    return user.partition(":")[2] if at else ""


def _masked(url: str) -> str:
    base, question, query = url.partition("?")
    password = _password(base)
    if password:
        base = base.replace(f":{password}@", f":{_HIDDEN}@", 1)
    parts = []
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        parts.append(
            f"{name}={_HIDDEN}" if value and _SECRET.search(name) else f"{name}{equals}{value}"
        )
    return base + question + "&".join(parts)


# How the rest of a URL becomes options.


def _whole(option: str) -> Callable[[str, str], dict[str, Any]]:
    """The driver reads URLs itself."""
    return lambda base, query: {option: f"{base}?{query}" if query else base}


def _mongodb(base: str, query: str) -> dict[str, Any]:
    options = _whole("host")(base, query)
    database = base.partition("://")[2].partition("/")[2]
    return {**options, "database": unquote(database)} if database else options


def _zookeeper(base: str, query: str) -> dict[str, Any]:
    authority, _, path = base.partition("://")[2].partition("/")
    user, at, hosts = authority.rpartition("@")
    options: dict[str, Any] = {"hosts": hosts}
    if at:
        options["auth_data"] = [("digest", unquote(user))]
    if path:
        options["path"] = f"/{path}"
    return options


def _rethinkdb(base: str, query: str) -> dict[str, Any]:
    parts = urlsplit(base)
    return _server(parts, "user") | ({"database": parts.path[1:]} if parts.path[1:] else {})


def _etcd(base: str, query: str) -> dict[str, Any]:
    parts = urlsplit(base)
    options = _server(parts, "user")
    if parts.scheme == "etcds":
        options["protocol"] = "https"
    return options | ({"path": parts.path} if parts.path not in ("", "/") else {})


def _server(parts: Any, user: str) -> dict[str, Any]:
    found = {
        "host": parts.hostname,
        "port": parts.port,
        user: parts.username and unquote(parts.username),
        "password": parts.password and unquote(parts.password),
    }
    return {name: value for name, value in found.items() if value is not None}


_PARTS: Mapping[str, Callable[[str, str], dict[str, Any]]] = {
    "etcd": _etcd,
    "mongodb": _mongodb,
    "redis": _whole("url"),
    "rethinkdb": _rethinkdb,
    "sqlalchemy": _whole("url"),
    "zookeeper": _zookeeper,
}
