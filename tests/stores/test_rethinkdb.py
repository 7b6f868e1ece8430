"""The job store of RethinkDB: on a server where there is one, and by the queries that it sends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rethinkdb import RethinkDB
from rethinkdb.errors import ReqlDriverError
from support import reql, servers
from support.rowstores import RowStoreCases, claim, ids, job, started

from tocsin import plugins
from tocsin.errors import ConflictingIdError
from tocsin.stores.rethinkdb import RethinkDBJobStore
from tocsin.stores.rethinkdb_queries import Queries, key_of
from tocsin.testing import FakeScheduler, JobStoreCompliance, SharedStoreCompliance

URL = os.environ.get("RETHINKDB_URL")
real = pytest.mark.skipif(
    URL is None, reason="RETHINKDB_URL is not set; no package registry has a server of RethinkDB"
)
Make = Callable[..., Any]
_SECOND = 1_000_000


def emptied(name: str) -> None:
    r: Any = RethinkDB()
    with r.connect(url=URL) as connection:
        if name in r.db_list().run(connection):
            r.db_drop(name).run(connection)


@real
class TestRethinkDBJobStore(JobStoreCompliance):
    def make_store(self) -> RethinkDBJobStore:
        emptied("compliance")
        return RethinkDBJobStore("compliance", url=URL, clock="scheduler")


@real
class TestRethinkDBJobStoreShared(SharedStoreCompliance):
    def setup_method(self) -> None:
        super().setup_method()
        emptied("shared")

    def make_store(self, **options: Any) -> RethinkDBJobStore:
        return RethinkDBJobStore("shared", url=URL, **options)

    def write_record(self, job_id: str, text: str) -> None:
        r: Any = RethinkDB()
        with r.connect(url=URL) as connection:
            table = r.db("shared").table("tocsin_jobs")
            table.get(key_of(job_id)).update({"record": text}).run(connection)


class TestInterpretedQueries(JobStoreCompliance):
    """What the queries mean by the documentation of ReQL, and what the store makes of answers."""

    def make_store(self) -> RethinkDBJobStore:
        return RethinkDBJobStore("compliance", client=reql.Interpreter(), clock="scheduler")


class TestInterpretedQueriesShared(SharedStoreCompliance):
    announces = False

    def setup_method(self) -> None:
        super().setup_method()
        self.interpreter = reql.Interpreter()

    def make_store(self, **options: Any) -> RethinkDBJobStore:
        return RethinkDBJobStore("shared", client=self.interpreter, **options)

    def write_record(self, job_id: str, text: str) -> None:
        table = self.interpreter.databases["shared"]["tocsin_jobs"]
        table.rows[key_of(job_id)]["record"] = text


# The queries

QUERIES = Queries("tocsin", "jobs")
ENTRY = {
    "fence": 7,
    "change": {"next": "5", "due": 5},
    "run": {"times": ["1"], "fence": 7, "member": "me", "call": "call"},
}
DOCUMENT = {"id": "one", "job": "one", "record": "{}", "fence": 7, "version": 7, "runs": []}
SENT = {
    "existing": QUERIES.existing(),
    "make_table": QUERIES.make_table("jobs"),
    "make_index due": QUERIES.make_index("due"),
    "make_index owners": QUERIES.make_index("owners"),
    "announce": QUERIES.announce("me", 3),
    "changes": QUERIES.changes(),
    "renew": QUERIES.renew("me", None, 15),
    "renew at an instant": QUERIES.renew("me", 100, 15),
    "leave": QUERIES.leave("me"),
    "insert": QUERIES.insert([DOCUMENT], False),
    "insert or replace": QUERIES.insert([DOCUMENT], True),
    "withdraw": QUERIES.withdraw({"one": 7}),
    "replace": QUERIES.replace("one", 7, "{}", False, 5),
    "replace and move": QUERIES.replace("one", 7, "{}", True, 5),
    "replace and pause": QUERIES.replace("one", 7, "{}", True, None),
    "delete": QUERIES.delete("one"),
    "claim": QUERIES.claim(None, 15, 100, "claim"),
    "advance": QUERIES.advance({"one": ENTRY}, "call"),
    "release": QUERIES.release("one", 7, 100),
    "earliest": QUERIES.earliest(),
    "settle": QUERIES.settle("me", {"one": [7]}),
    "recorded": QUERIES.recorded("me", ["one"]),
    "expel": QUERIES.expel("me", None),
    "take_over": QUERIES.take_over("me", ["gone"], 9, "call"),
    "hand_back": QUERIES.hand_back("me", {"one": [{"fence": 7, "member": "gone"}]}),
}
TERMS = Path(__file__).with_name("rethinkdb_terms.txt")


def expected() -> dict[str, str]:
    """Read the terms of each query: its name after ``##``, then what is sent."""
    parts = TERMS.read_text().split("## ")[1:]
    return {name: terms.strip() for name, _, terms in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("name", SENT)
def test_the_terms_of_a_query(name: str) -> None:
    assert reql.spelled(SENT[name]) == expected()[name]


def test_no_query_is_expected_that_is_not_sent() -> None:
    assert list(expected()) == list(SENT)


def test_what_is_spelled_is_what_the_driver_builds() -> None:
    r: Any = RethinkDB()
    get, args, options = r.db("a").table("b").get_all("k", index="i").build()
    assert reql.TERMS[get] == "GET_ALL"
    assert reql.spelled(r.db("a").table("b").get_all("k", index="i")) == (
        'get_all(table(db("a"), "b"), "k", index="i")'
    )
    assert len(args) == 2
    assert list(options) == ["index"]


# Names and options


@pytest.fixture
def make() -> Iterator[Make]:
    """Make stores on interpreters, started by a scheduler on a fake clock."""
    with started() as start:
        yield lambda client, **options: start(RethinkDBJobStore(client=client, **options))


def rows(store: Any) -> dict[str, Any]:
    return store._lent.databases["tocsin"]["tocsin_jobs"].rows  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hots": "x"}, 'hots: unknown (did you mean "host"?)'),
        ({"leases": 3}, 'leases: unknown (did you mean "lease"?)'),
        ({"port": "x"}, "port: 'x' is not a number"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a number"),
        ({"database": ""}, "database: '' is not a name"),
        ({"table": "a b"}, "table: 'a b' is not a name"),
        ({"client": reql.Interpreter(), "host": "x"}, "give it without host"),
        ({"lease": 0}, "lease: 0 is not a positive number"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        RethinkDBJobStore(**options)
    assert message in str(caught.value)


def test_texts_of_a_configuration() -> None:
    store = plugins.make(
        plugins.load("stores", "rethinkdb"),
        {"host": "db", "port": "1234", "timeout": "3", "table": "mine", "lease": "9"},
    )
    assert store._arguments == {"host": "db", "port": 1234, "timeout": 3}
    assert store.lease == 9
    assert repr(store) == "<RethinkDBJobStore db:1234 tocsin.mine>"


def test_nobody_is_there_and_no_password_is_shown() -> None:
    port, secret = servers.Port(), "open sesame"
    store = RethinkDBJobStore(host="127.0.0.1", port=port.number, password=secret)
    with pytest.raises(ReqlDriverError, match=str(port.number)) as caught:
        store.start(FakeScheduler(), "default")
    assert secret not in str(caught.value)
    port.release()
    url = RethinkDBJobStore(url="rethinkdb://me:xyzzy@db:1234/base?timeout=3")
    assert repr(url) == "<RethinkDBJobStore db:1234 tocsin.tocsin_jobs>"


# What is stored


def test_the_tables_and_indexes(make: Make) -> None:
    store = make(reql.Interpreter(), table="mine")
    tables = store._lent.databases["tocsin"]
    assert sorted(tables) == ["mine", "mine_members", "mine_meta"]
    assert sorted(tables["mine"].indexes) == ["due", "owners"]
    assert tables["mine_meta"].rows == {"schema": {"id": "schema", "version": 1}}


def test_ids_that_are_no_primary_keys(make: Make) -> None:
    store = make(reql.Interpreter())
    names = ["x" * 128, "null\0", "sha256:fake", "Zoë" * 40]
    store.add_jobs([job(name, number) for number, name in enumerate(names)], False)
    assert all(len(key.encode()) <= 127 and "\0" not in key for key in rows(store))
    assert ids(store) == names
    assert [each.id for each in claim(store)] == names
    for name in names:
        store.remove_job(name)
    assert rows(store) == {}


def test_instants_beyond_what_a_double_holds(make: Make) -> None:
    store = make(reql.Interpreter())
    far = 253402300799_999999
    store.add_jobs([job("far", far), job("early", -62135596799_999999)], False)
    assert [each._next_run for each in store.get_all_jobs()] == [-62135596799_999999, far]
    assert rows(store)["far"]["next"] == str(far)


def test_jobs_of_others_are_refused(make: Make) -> None:
    client = reql.Interpreter()
    client.databases["apscheduler"] = {"jobs": reql.Table()}
    client.databases["apscheduler"]["jobs"].rows["theirs"] = {"id": "theirs", "job_state": "..."}
    with pytest.raises(RuntimeError, match=r"are not tocsin's.*tocsin store migrate"):
        make(client, database="apscheduler", table="jobs")
    store = make(client, database="apscheduler")
    store.add_jobs([job("ours")], False)
    assert ids(store) == ["ours"]


def test_a_layout_of_later_days_is_refused(make: Make) -> None:
    store = make(reql.Interpreter())
    store._lent.databases["tocsin"]["tocsin_jobs_meta"].rows["schema"]["version"] = 99
    with pytest.raises(RuntimeError, match=r"version 99.* up to 1; use a later tocsin"):
        make(store._lent)


def test_what_was_spoilt_by_hand_stops_nobody(make: Make) -> None:
    store = make(reql.Interpreter())
    spoilt = {"record": 7, "fence": "high", "due": "soon", "next": [1], "version": None}
    store.add_jobs([job(name) for name in [*spoilt, "good"]], False)
    for name, value in spoilt.items():
        rows(store)[name][name] = value
    # What is no number comes before or after all numbers, and would be due first, or for ever.
    for name, value in (("list", [1]), ("flag", True)):
        store.add_jobs([job(name)], False)
        rows(store)[name]["due"] = value
    assert sorted(each.id for each in claim(store)) == ["fence", "good", "next", "version"]
    assert claim(store) == []
    for name in ("record", "fence", "next", "version", "good"):
        store.remove_job(name)
    assert store._earliest() is None
    for name in ("due", "list", "flag"):
        store.remove_job(name)
    assert ids(store) == []


def test_a_batch_that_somebody_overtakes_is_withdrawn(make: Make) -> None:
    store = make(reql.Interpreter())
    store.add_jobs([job("taken", 1)], False)
    # It is added when it was looked for in vain.
    store._queries.present = lambda keys: RethinkDB().expr([])
    with pytest.raises(ConflictingIdError):
        store.add_jobs([job("new", 3), job("taken", 4)], False)
    del store._queries.present
    assert ids(store) == ["taken"]


# Connections


class Breaking(reql.Interpreter):
    """An interpreter whose answers are lost, as often as is asked for."""

    lost = 0

    def reconnect(self, noreply_wait: bool = True) -> None:
        """Be there again."""

    def _start(self, query: Any, **options: Any) -> Any:
        answer = super()._start(query, **options)
        if self.lost > 0:
            self.lost -= 1
            raise ReqlDriverError("the answer was lost")
        return answer


class TestRethinkDBInTrouble(RowStoreCases):
    lost = ReqlDriverError

    def setup_method(self) -> None:
        self.client = Breaking()

    def make(self, **options: Any) -> RethinkDBJobStore:
        return RethinkDBJobStore(client=self.client, **options)

    def lose(self, store: Any, count: int) -> None:
        self.client.lost = count

    def lose_at_take_over(self, store: Any, count: int) -> None:
        take_over = store._queries.take_over

        def break_then(*arguments: Any) -> Any:
            del store._queries.take_over
            self.client.lost = count
            return take_over(*arguments)

        store._queries.take_over = break_then

    def stored(self, store: Any) -> set[str]:
        return {each["job"] for each in rows(store).values()}
