"""What is special to the SQL store: its options, what it refuses, and how it gets over trouble."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore as PeerStore
from sqlalchemy import MetaData, create_engine, event, inspect, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool
from support.servers import PostgreSQL

from tocsin import IntervalTrigger
from tocsin.job import Job
from tocsin.stores.sqlalchemy import SQLAlchemyJobStore
from tocsin.testing import FakeScheduler
from tocsin.testing.stores import note

PATIENCE = 20.0
SECOND = 1_000_000
_numbers = itertools.count()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def any_url(request: pytest.FixtureRequest) -> str:
    fixture = "url" if request.param == "sqlite" else request.param
    found = request.getfixturevalue(fixture)
    return found if isinstance(found, str) else str(found.url)


@pytest.fixture
def opened() -> Iterator[Callable[..., SQLAlchemyJobStore]]:
    """Open stores, on the scheduler's clock, and close them at the end."""
    stores: list[SQLAlchemyJobStore] = []

    def open_store(*args: Any, **options: Any) -> SQLAlchemyJobStore:
        store = SQLAlchemyJobStore(*args, **{"clock": "scheduler", **options})
        store.start(FakeScheduler(timezone="UTC"), "default")
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.shutdown()


def name() -> str:
    return f"jobs_{os.getpid()}_{next(_numbers)}_of_options"


def job(store: SQLAlchemyJobStore, job_id: str, due: float | None = 0.0, **options: Any) -> Job:
    scheduler = store._scheduler
    assert scheduler is not None
    return Job(
        scheduler,
        note,
        id=job_id,
        name=job_id,
        trigger=IntervalTrigger(hours=1),
        misfire_grace_time=None,
        coalesce=True,
        max_instances=1,
        next_run=None if due is None else scheduler.now() + round(due * SECOND),
        **options,
    )


def now(store: SQLAlchemyJobStore) -> int:
    assert store._scheduler is not None
    return store._scheduler.now()


# Options


@pytest.mark.parametrize("patience", [10, 0])
def test_another_that_makes_the_file_at_once(
    tmp_path: Path, opened: Callable[..., SQLAlchemyJobStore], patience: float
) -> None:
    """SQLite doesn't wait, when it sets the journal's mode, for one that has begun to write."""
    file = tmp_path / "jobs.sqlite"
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": patience})
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    tries = []

    @event.listens_for(engine, "before_cursor_execute")
    def be_quicker(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement == "PRAGMA journal_mode = WAL":
            tries.append(statement)
            other.execute("BEGIN IMMEDIATE" if len(tries) == 1 else "COMMIT")

    if patience:
        opened(engine=engine)
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    else:
        with pytest.raises(DBAPIError, match="locked"):
            opened(engine=engine)
    assert len(tries) == (2 if patience else 1)
    other.close()
    engine.dispose()


def test_texts_are_options(url: str, opened: Callable[..., Any]) -> None:
    store = opened(url, lease="30", poll_interval="2.5", create="true", pickle_protocol="4")
    assert (store.lease, store.poll_interval, store.create) == (30.0, 2.5, True)


def test_an_unknown_option_is_named(url: str) -> None:
    with pytest.raises(TypeError, match=r"leese: unknown.*lease") as refused:
        SQLAlchemyJobStore(url, leese=3)
    assert "tableschema" in str(refused.value)


@pytest.mark.parametrize(
    "options", [{}, {"url": "sqlite://", "engine": create_engine("sqlite://")}]
)
def test_one_of_url_and_engine_is_needed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="url: either it or an engine is needed"):
        SQLAlchemyJobStore(**options)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("oracle://scott:tiger@host/db", "'oracle' is not supported"),
        ("postgresql+psycopg_async://host/db", "asynchronous"),
        ("sqlite+nosuchdriver:///x", "SQLAlchemy knows no 'sqlite\\+nosuchdriver'"),
        ("scott:tiger@host/db", "can't be read as"),
    ],
)
def test_an_address_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        SQLAlchemyJobStore(address)
    assert "tiger" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "driver"),
    [
        ("postgresql://host/db", "psycopg"),
        ("mysql://host/db", "pymysql"),
        ("mariadb://host/db", "pymysql"),
    ],
)
def test_a_driver_that_is_installed_is_chosen(address: str, driver: str) -> None:
    assert SQLAlchemyJobStore(address)._engine.dialect.driver == driver


def test_names_and_passwords_are_not_shown() -> None:
    store = SQLAlchemyJobStore("postgresql+psycopg://scott:tiger@host:99/db?sslpassword=lion")
    assert repr(store) == "<SQLAlchemyJobStore postgresql://host:99/db tocsin_jobs>"


def test_errors_show_no_arguments(any_url: str, opened: Callable[..., Any]) -> None:
    store = opened(any_url, tablename=name())
    with store._engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {store.tablename}"))
    with pytest.raises(DBAPIError) as failed:
        store.add_jobs([job(store, "one", args=("s3cret",))], False)
    assert "s3cret" not in str(failed.value)


def test_an_engine_is_used_and_left_open(url: str, opened: Callable[..., Any]) -> None:
    engine = create_engine(url)
    disposed: list[Any] = []
    event.listen(engine, "engine_disposed", disposed.append)
    store = opened(engine=engine, tablename="elsewhere")
    store.add_jobs([job(store, "one")], False)
    assert list(store.claim(now(store), 10))
    store.shutdown()
    assert disposed == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM elsewhere")).scalars().all() == ["one"]
    engine.dispose()


def test_the_pool_of_an_engine_may_be_small(any_url: str, opened: Callable[..., Any]) -> None:
    store = opened(
        any_url,
        tablename=name(),
        engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": 2},
    )
    store.add_jobs([job(store, "one")], False)
    assert [each.id for each in store.claim(now(store), 10)] == ["one"]


def test_a_database_in_memory(opened: Callable[..., Any]) -> None:
    store, other = opened("sqlite://"), opened("sqlite:///:memory:")
    store.add_jobs([job(store, "one")], False)
    found = []
    thread = threading.Thread(target=lambda: found.extend(store.get_all_jobs()))
    thread.start()
    thread.join(PATIENCE)
    assert [each.id for each in found] == ["one"]
    assert other.get_all_jobs() == []


def test_an_engine_in_memory_must_have_one_connection(opened: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="poolclass=StaticPool"):
        SQLAlchemyJobStore(engine=create_engine("sqlite://"))
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    store = opened(engine=engine)
    store.add_jobs([job(store, "one")], False)
    assert [each.id for each in store.get_all_jobs()] == ["one"]
    store.shutdown()
    engine.dispose()


def test_metadata_gets_the_tables(url: str) -> None:
    metadata = MetaData()
    SQLAlchemyJobStore(url, tablename="mine", metadata=metadata)
    assert sorted(metadata.tables) == ["mine", "mine_members", "mine_meta", "mine_runs"]
    with pytest.raises(ValueError, match="metadata: it has a table 'mine' already"):
        SQLAlchemyJobStore(url, tablename="mine", metadata=metadata)


def test_a_schema_is_used(postgresql: Any, opened: Callable[..., Any]) -> None:
    schema = name()
    engine = create_engine(postgresql.url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    store = opened(postgresql.url, tableschema=schema)
    store.add_jobs([job(store, "one")], False)
    assert [each.id for each in store.claim(now(store), 10)] == ["one"]
    assert inspect(engine).has_table("tocsin_jobs_runs", schema=schema)
    engine.dispose()


def test_names_are_quoted(any_url: str, opened: Callable[..., Any]) -> None:
    strange = f'{name()} "Select" \'; -- `%s :x'
    store = opened(any_url, tablename=strange)
    store.add_jobs([job(store, "one"), job(store, "two")], False)
    claimed = store.claim(now(store), 10)
    moved = [(each, each._next_run, now(store) + SECOND) for each in claimed]
    assert store.advance(moved) == [True, True]
    assert store._member is not None
    assert store._settle(store._member, [each._handle for each in claimed]) == [True, True]
    assert store.add_jobs([job(store, "one")], True) == [True]
    assert store.recover(now(store)) == []
    store.remove_all_jobs()
    assert inspect(store._engine).has_table(strange)


def test_an_id_has_so_many_characters(any_url: str, opened: Callable[..., Any]) -> None:
    store = opened(any_url, tablename=name())
    longest = "\N{SNOWMAN}" * 255
    store.add_jobs([job(store, longest)], False)
    found = store.lookup_job(longest)
    assert found is not None
    with pytest.raises(ValueError, match="has 256 characters, at most 255"):
        store.add_jobs([job(store, longest + "x")], False)


# Tables


@pytest.mark.parametrize("create", [True, False])
def test_the_table_of_apscheduler_is_refused(any_url: str, create: bool) -> None:
    tablename = name()
    peer = PeerStore(any_url, tablename=tablename)
    peer.jobs_t.create(peer.engine)
    peer.shutdown()
    store = SQLAlchemyJobStore(any_url, tablename=tablename, create=create)
    with pytest.raises(RuntimeError, match=rf"'{tablename}' is APScheduler's; .*store migrate"):
        store.start(FakeScheduler(), "default")


@pytest.mark.parametrize(
    ("create", "message"), [(True, "that is not tocsin's"), (False, "tocsin store init")]
)
def test_the_table_of_others_is_refused(url: str, create: bool, message: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE tocsin_jobs (id INTEGER)")
    engine.dispose()
    with pytest.raises(RuntimeError, match=message):
        SQLAlchemyJobStore(url, create=create).start(FakeScheduler(), "default")


def test_tables_of_a_later_version_are_refused(url: str, opened: Callable[..., Any]) -> None:
    store = opened(url)
    with store._engine.begin() as connection:
        connection.execute(update(store.tables.meta).values(version=99))
    later = SQLAlchemyJobStore(url)
    with pytest.raises(RuntimeError, match=r"has version 99.*up to 1; use a later tocsin"):
        later.start(FakeScheduler(), "default")


# Runs


def test_a_run_is_recorded_once(any_url: str, opened: Callable[..., Any]) -> None:
    store = opened(any_url, tablename=name())
    store.add_jobs([job(store, "back"), job(store, "other"), job(store, "last")], False)
    first = store.claim(now(store), 10)
    due = now(store)
    assert store.advance([(each, due, due + SECOND) for each in first]) == [True] * 3
    # Somebody sets it back to a run that has not ended.
    store.modify_job("back", {"_next_run": due})
    again = {each.id: each for each in store.claim(due + SECOND, 10)}
    assert set(again) == {"back", "other", "last"}
    held = store.advance(
        [
            (again["back"], due, due + 9 * SECOND),
            (again["other"], due + SECOND, due + 9 * SECOND),
            (again["last"], due + SECOND, None),
        ]
    )
    assert held == [False, True, True]
    found = store.lookup_job("back")
    assert found is not None
    assert found._next_run == due
    assert store.lookup_job("last") is None


def test_the_fence_of_an_id_grows_when_it_is_added_again(
    any_url: str, opened: Callable[..., Any]
) -> None:
    store = opened(any_url, tablename=name())
    fences = []
    for _ in range(3):
        store.add_jobs([job(store, "one")], False)
        (claimed,) = store.claim(now(store), 10)
        fences.append(claimed._handle.fence)
        store.remove_job("one")
    assert fences == sorted(set(fences))


def test_whoever_is_no_member_records_nothing(any_url: str, opened: Callable[..., Any]) -> None:
    store = opened(any_url, tablename=name())
    store.add_jobs([job(store, "one")], False)
    (claimed,) = store.claim(now(store), 10)
    store._leave(store._member or "")
    assert store.advance([(claimed, now(store), now(store) + SECOND)]) == [False]
    found = store.lookup_job("one")
    assert found is not None
    assert found._next_run == now(store)


# Trouble


def test_a_server_that_was_restarted(
    start_server: Callable[..., Any], opened: Callable[..., Any]
) -> None:
    server = start_server(PostgreSQL)
    store, other = opened(server.url), opened(server.url)
    store.add_jobs([job(store, "one", 60)], False)
    woken = threading.Event()
    other._woken = woken.set
    server.restart()
    assert [each.id for each in store.get_all_jobs()] == ["one"]
    (claimed,) = store.claim(now(store) + 60 * SECOND, 10)
    assert store.advance([(claimed, claimed._next_run, now(store))]) == [True]
    # The other one listens again, and looks at what it may have missed.
    assert woken.wait(PATIENCE)
    woken.clear()
    store.add_jobs([job(store, "two", -5)], False)
    assert woken.wait(PATIENCE)


def test_a_connection_that_died_while_idle(
    postgresql: Any, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.stores.sqlalchemy._IDLE", -1.0)
    store = opened(postgresql.url, tablename=name())
    with store._engine.connect() as connection:
        mine = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    engine = create_engine(postgresql.url)
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT pg_terminate_backend({mine})")).scalar_one()
    engine.dispose()
    assert store.add_jobs([job(store, "one")], False) == [False]
    assert [each.id for each in store.get_all_jobs()] == ["one"]


@pytest.mark.parametrize("arrived", [True, False], ids=["done", "not done"])
def test_a_commit_whose_answer_is_lost(
    any_url: str, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    table = name()
    one, other = opened(any_url, tablename=table), opened(any_url, tablename=table)
    one.add_jobs([job(one, "again", at_least_once=True), job(one, "once")], False)
    claimed = one.claim(now(one), 10)
    assert one.advance([(each, each._next_run, now(one) + 99 * SECOND) for each in claimed])
    one._stop_keeping()
    late = now(other) + 60 * SECOND
    other.claim(late, 1)
    commit = other._database.commit

    def break_off(connection: Any) -> None:
        if arrived:
            commit(connection)
        else:
            other._database.rollback(connection)
        connection.invalidate()
        raise OSError("the connection broke")

    with monkeypatch.context() as broken:
        broken.setattr(other._database, "commit", break_off)
        with pytest.raises(OSError, match="broke"):
            other.recover(late)
    found = {each.job_id: each for each in other.recover(late)}
    assert set(found) == {"again", "once"}
    taken = found["again"].job
    assert taken is not None
    assert found["once"].job is None
    loss = found["once"].loss
    assert other._settle(other._member, [taken._handle]) == [True]
    loss.settle()
    other._stop_keeping()
    assert other._recorded(other._member, [loss]) == [False]
    other._recover_at = 0
    assert other.recover(late) == []


def test_a_lock_that_is_held_too_long_is_waited_for_again(
    mariadb: Any, opened: Callable[..., Any]
) -> None:
    patience = {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"}
    store = opened(mariadb.url, tablename=name(), engine_options={"connect_args": patience})
    store.add_jobs([job(store, "one")], False)
    refused = threading.Event()
    event.listen(store._engine, "handle_error", lambda context: refused.set())
    engine = create_engine(mariadb.url)
    with engine.connect() as holder:
        holder.execute(text(f"SELECT * FROM {store.tablename} FOR UPDATE"))  # noqa: S608
        changed = threading.Thread(target=store.modify_job, args=("one", {"name": "renamed"}))
        changed.start()
        assert refused.wait(PATIENCE)
        holder.rollback()
        changed.join(PATIENCE)
    engine.dispose()
    found = store.lookup_job("one")
    assert found is not None
    assert found.name == "renamed"


def test_a_lock_of_sqlite_ends_in_an_error_of_sqlalchemy(
    url: str, opened: Callable[..., Any]
) -> None:
    store = opened(url, engine_options={"connect_args": {"timeout": 0}})
    store.add_job(job(store, "a", -1.0))
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    for _ in range(2):
        with engine.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            with pytest.raises(DBAPIError, match="locked"):
                store.claim(now(store), 10)
            other.exec_driver_sql("ROLLBACK")
    engine.dispose()
    # The connection that it had is as good as new.
    (claimed,) = store.claim(now(store), 10)
    assert store.advance([(claimed, claimed._next_run, None)]) == [True]
    with store._engine.connect() as connection:
        levels = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "cache_size")
        }
    assert levels == {"synchronous": 2, "cache_size": -8192}


@pytest.mark.parametrize("oldest", [(3, 33), (99, 0)], ids=["blocks", "each row"])
def test_rows_of_sqlite_are_written_in_blocks(
    oldest: tuple[int, int],
    url: str,
    opened: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tocsin.stores.sql.sqlite._WITH_FROM", oldest)
    store = opened(url)
    store.add_jobs([job(store, f"{n:03}", -1000.0 + n) for n in range(120)], False)
    claimed = store.claim(now(store), 1000)
    assert [each.id for each in claimed] == [f"{n:03}" for n in range(120)]
    assert store.claim(now(store), 1000) == []
    store.modify_job("007", {"_next_run": now(store) + 60_000_000})
    store.remove_job("100")
    due = [each._next_run for each in claimed]
    later = [None if n == 55 else due[n] + 1_000_000_000_000 + n for n in range(120)]
    held = store.advance(list(zip(claimed, due, later, strict=True)))
    assert [n for n in range(120) if not held[n]] == [7, 100]
    stored = {each.id: each._next_run for each in store.get_all_jobs()}
    assert stored.keys() == {f"{n:03}" for n in range(120) if n not in (55, 100)}
    assert all(stored[f"{n:03}"] == later[n] for n in range(120) if n not in (7, 55, 100))
    with store._engine.connect() as connection:
        runs = connection.execute(select(store.tables.runs)).all()
    assert sorted((run.job_id, run.run_time) for run in runs) == [
        (f"{n:03}", due[n]) for n in range(120) if held[n]
    ]
    assert store._settle(store._member, [each._handle for each in claimed]) == held


def test_the_other_driver_of_postgresql(postgresql: Any, opened: Callable[..., Any]) -> None:
    address = postgresql.url.replace("+psycopg", "+psycopg2")
    table = name()
    store, other = opened(address, tablename=table), opened(address, tablename=table)
    store.add_jobs([job(store, "rest", None), job(store, 'quo"ted\\', 60)], False)
    woken = threading.Event()
    other._woken = woken.set
    store.modify_job("rest", {"_next_run": now(store)})
    assert woken.wait(PATIENCE)
    claimed = other.claim(now(store) + 60 * SECOND, 10)
    moved = [(each, each._next_run, now(store) + 90 * SECOND) for each in claimed]
    assert other.advance(moved) == [True, True]
    assert other._settle(other._member, [each._handle for each in claimed]) == [True, True]
