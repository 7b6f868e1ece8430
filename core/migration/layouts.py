"""Where the stores of APScheduler 3 keep their jobs. Nothing here writes.

Each reader takes options of the store's constructor in APScheduler, by their names there, and
gives the number of jobs and an iterator over their ids and pickles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from inspect import signature
from typing import Any

from tocsin.errors import suggestion

__all__ = ["OPTIONS", "open_layout"]

#: So many jobs are read at once.
_PAGE = 500
#: Seconds to wait for a server.
_PATIENCE = 10.0

_Rows = tuple[int, Iterator[tuple[str, bytes]]]

#: The options, beside those of the connection, that say where the jobs are, by kind of store.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "sqlalchemy": ("tablename", "tableschema"),
    "redis": ("jobs_key",),
    "mongodb": ("database", "collection"),
    "rethinkdb": ("database", "table"),
    "zookeeper": ("path",),
    "etcd": ("path",),
}


def open_layout(kind: str, options: Mapping[str, Any]) -> AbstractContextManager[_Rows]:
    """Open a store of APScheduler 3, to be read.

    Raises TypeError for an unknown option, LookupError when there is nothing of the kind,
    ImportError when the driver is not installed, and what the driver raises.
    """
    reader = _READERS[kind]
    known = signature(reader).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
        for name in options:
            if name not in known:
                raise TypeError(
                    f"{name}: unknown{suggestion(name, known)}; accepted: {', '.join(known)}"
                )
    return reader(**options)


def _driver(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this needs {name.partition('.')[0]}, which can't be imported ({error}):"
            f" pip install tocsin[{extra}]"
        ) from error


def _nothing(
    what: str, option: str, others: Iterator[str] | list[str] | None = None
) -> LookupError:
    known = sorted(others or ())
    there = f"; there are: {', '.join(known[:10])}" if known else ""
    return LookupError(
        f"nothing of APScheduler's is there: it has no {what}; another can be given as {option}"
        f"{there}. A store of tocsin's is read with --from tocsin"
    )


@contextmanager
def _sqlalchemy(
    url: str, tablename: str = "apscheduler_jobs", tableschema: str | None = None
) -> Iterator[_Rows]:
    sql = _driver("sqlalchemy", "sqlalchemy")
    address = sql.make_url(url)
    file = address.database
    on_file = address.get_backend_name() == "sqlite" and file and not file.startswith("file:")
    if on_file and not os.path.exists(file):  # it would be made
        raise LookupError(f"there is no file {file!r}")
    engine = sql.create_engine(address)
    try:
        inspector = sql.inspect(engine)
        if not inspector.has_table(tablename, schema=tableschema):
            names = inspector.get_table_names(schema=tableschema)
            raise _nothing(f"table {tablename!r}", "tablename", names)
        columns = {column["name"] for column in inspector.get_columns(tablename, tableschema)}
        if not {"id", "job_state"} <= columns:
            raise LookupError(
                f"the table {tablename!r} is none of APScheduler's: it lacks the columns id and"
                " job_state. A store of tocsin's is read with --from tocsin"
            )
        table = sql.table(
            tablename,
            sql.column("id", sql.Unicode()),
            sql.column("job_state", sql.LargeBinary()),
            schema=tableschema,
        )

        def rows() -> Iterator[tuple[str, bytes]]:
            # In pages, each a transaction: the new store may lie in the same database.
            page = sql.select(table.c.id, table.c.job_state).order_by(table.c.id).limit(_PAGE)
            following = page
            while True:
                with engine.connect() as connection:
                    found = connection.execute(following).all()
                yield from map(tuple, found)
                if len(found) < _PAGE:
                    return
                following = page.where(table.c.id > found[-1][0])

        with engine.connect() as connection:
            count = connection.execute(sql.select(sql.func.count()).select_from(table)).scalar()
        yield count, rows()
    finally:
        engine.dispose()


@contextmanager
def _redis(url: str, jobs_key: str = "apscheduler.jobs", **options: Any) -> Iterator[_Rows]:
    redis = _driver("redis", "redis")
    client = redis.Redis.from_url(url, socket_connect_timeout=_PATIENCE, **options)
    try:
        kind = client.type(jobs_key)
        if kind not in (b"hash", "hash"):
            raise _nothing(f"hash {jobs_key!r}", "jobs_key")

        def rows() -> Iterator[tuple[str, bytes]]:
            seen = set()  # a scan may give what it has given
            for key, state in client.hscan_iter(jobs_key, count=_PAGE):
                if key not in seen:
                    seen.add(key)
                    yield key.decode(errors="surrogateescape"), state

        yield client.hlen(jobs_key), rows()
    finally:
        client.close()


@contextmanager
def _mongodb(
    host: Any, database: str = "apscheduler", collection: str = "jobs", **options: Any
) -> Iterator[_Rows]:
    pymongo = _driver("pymongo", "mongodb")
    options.setdefault("serverSelectionTimeoutMS", int(_PATIENCE * 1000))
    client = pymongo.MongoClient(host, **options)
    try:
        names = client[database].list_collection_names()
        if collection not in names:
            raise _nothing(f"collection {database}.{collection}", "database, collection", names)
        jobs = client[database][collection]

        def rows() -> Iterator[tuple[str, bytes]]:
            for document in jobs.find({}, ["job_state"], batch_size=_PAGE):
                yield str(document["_id"]), document.get("job_state")

        yield jobs.count_documents({}), rows()
    finally:
        client.close()


@contextmanager
def _rethinkdb(
    database: str = "apscheduler", table: str = "jobs", **options: Any
) -> Iterator[_Rows]:
    r = _driver("rethinkdb", "rethinkdb").RethinkDB()
    connection = r.connect(db=database, timeout=int(_PATIENCE), **options)
    try:
        databases = r.db_list().run(connection)
        if database not in databases:
            raise _nothing(f"database {database!r}", "database", databases)
        tables = r.db(database).table_list().run(connection)
        if table not in tables:
            raise _nothing(f"table {table!r}", "table", tables)
        jobs = r.db(database).table(table)

        def rows() -> Iterator[tuple[str, bytes]]:
            for document in jobs.run(connection):
                yield str(document["id"]), document.get("job_state")

        yield jobs.count().run(connection), rows()
    finally:
        connection.close()


@contextmanager
def _zookeeper(path: str = "/apscheduler", **options: Any) -> Iterator[_Rows]:
    kazoo = _driver("kazoo.client", "zookeeper")
    client = kazoo.KazooClient(**options)
    try:
        client.start(timeout=_PATIENCE)
        if client.exists(path) is None:
            raise _nothing(f"node {path!r}", "path")
        names = sorted(client.get_children(path))

        def rows() -> Iterator[tuple[str, bytes]]:
            for start in range(0, len(names), _PAGE):
                page = names[start : start + _PAGE]
                answers = [client.get_async(f"{path.rstrip('/')}/{name}") for name in page]
                for name, answer in zip(page, answers, strict=True):
                    yield name, answer.get(timeout=_PATIENCE)[0]

        yield len(names), rows()
    finally:
        client.stop()
        client.close()


@contextmanager
def _etcd(path: str = "/apscheduler", **options: Any) -> Iterator[_Rows]:
    etcd = _driver("etcd3gw", "etcd")
    client = etcd.client(timeout=_PATIENCE, **options)
    # Without the slash, as APScheduler has it, others' keys would be had too.
    prefix = f"{path}/".encode()
    found = client.get_prefix(prefix)
    if not found:
        raise _nothing(f"key that begins with {path!r} and a slash", "path")

    def rows() -> Iterator[tuple[str, bytes]]:
        for state, about in found:
            yield about["key"][len(prefix) :].decode(errors="surrogateescape"), state

    yield len(found), rows()


_READERS: Mapping[str, Callable[..., AbstractContextManager[_Rows]]] = {
    "sqlalchemy": _sqlalchemy,
    "redis": _redis,
    "mongodb": _mongodb,
    "rethinkdb": _rethinkdb,
    "zookeeper": _zookeeper,
    "etcd": _etcd,
}
