"""The interpreter of ReQL, held to what RethinkDB's documentation and its own tests say of it.

Where ``RETHINKDB_URL`` names a server, that is held to the same, so that the two can't differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from rethinkdb import RethinkDB
from rethinkdb.errors import ReqlRuntimeError
from support import reql

r: Any = RethinkDB()
URL = os.environ.get("RETHINKDB_URL")
DATABASE = "tocsin_reql"


@pytest.fixture(params=["interpreter", "server"])
def connection(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "interpreter":
        yield reql.Interpreter()
    elif URL is None:
        pytest.skip("RETHINKDB_URL is not set")
    else:
        with r.connect(url=URL) as connected:
            yield connected


OBJECT = r.expr({"a": 1, "b": "x", "c": None})
ROWS = r.expr([{"a": 1}, {"a": None}, {}])
VALUES: dict[str, tuple[Any, Any]] = {
    "a field that is missing has a default": (OBJECT["d"].default(2), 2),
    "null has a default": (OBJECT["c"].default(2), 2),
    "what is not there is not compared": (ROWS.filter(lambda row: row["a"] == 1), [{"a": 1}]),
    "null is not a number, for which there is a default": ((OBJECT["c"] + 5).default(2), 2),
    "a place that is missing has a default": (r.expr([1]).nth(1).default(2), 2),
    "null counts as no field": (OBJECT.has_fields("c"), False),
    "a field is there": (OBJECT.has_fields("a"), True),
    "without": (OBJECT.without("a", "c"), {"b": "x"}),
    "pluck": (OBJECT.pluck("a", "d"), {"a": 1}),
    "merge overwrites": (OBJECT.merge({"a": 2}).pluck("a", "b"), {"a": 2, "b": "x"}),
    "merge goes into objects": (r.expr({"a": {"b": 1}}).merge({"a": {"c": 2}})["a"]["b"], 1),
    "merge does not go into arrays": (r.expr({"a": [1]}).merge({"a": [2]}), {"a": [2]}),
    "0 is true": (r.branch(0, "yes", "no"), "yes"),
    "null is false": (r.branch(None, "yes", "no"), "no"),
    "not null": (~r.expr(None), True),
    "and is lazy": (r.and_(False, r.error("never")), False),
    "types": (r.expr([1, "x", None, [], {}, True]).map(lambda each: each.type_of()), [
        "NUMBER", "STRING", "NULL", "ARRAY", "OBJECT", "BOOL",
    ]),
    "halves are rounded away from 0": (r.expr([2.5, -2.5]).map(lambda x: x.round()), [3, -3]),
    "types are ordered by their names": (r.expr([[9], True, 5]).map(lambda x: x <= 7), [
        True, True, True,
    ]),
    "texts come after numbers": (r.expr("") <= 7, False),
    "an intersection has each value once": (r.expr([1, 1, 2]).set_intersection([1, 1]), [1]),
    "a difference has each value once": (r.expr([1, 2, 2]).set_difference([1]), [2]),
    "contains asks a function": (ROWS.contains(lambda row: row["a"] == 2), False),
    "an empty array": (r.expr([]).is_empty(), True),
    "concat_map": (r.expr([[1], [], [2, 3]]).concat_map(lambda each: each), [1, 2, 3]),
    "fields of those that have them": (ROWS["a"], [1, None]),
    "distinct": (r.expr([1, 2, 1]).distinct(), [1, 2]),
    "max": (r.expr([1, 3, 2]).max(), 3),
    "a default is for what is missing": (OBJECT["d"].default(OBJECT["a"]), 1),
    "do gives a name": (r.expr(2).do(lambda x: [x, x]), [2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_a_value(name: str, connection: Any) -> None:
    query, expected = VALUES[name]
    assert query.run(connection) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (r.expr("a")["b"].default(2), "bracket|get_field"),
        ((OBJECT["b"] + 5).default(2), "NUMBER|STRING"),
        (OBJECT["d"], "No attribute"),
    ],
    ids=["a field of a text", "a text as a number", "a missing field"],
)
def test_what_fails(query: Any, message: str, connection: Any) -> None:
    with pytest.raises(ReqlRuntimeError, match=message):
        query.run(connection)


@pytest.fixture
def table(connection: Any) -> Any:
    """Give an empty table with an index on "due", and one on each element of "tags"."""
    if DATABASE in r.db_list().run(connection):
        r.db_drop(DATABASE).run(connection)
    r.db_create(DATABASE).run(connection)
    database = r.db(DATABASE)
    database.table_create("t").run(connection)
    made = database.table("t")
    made.index_create("due").run(connection)
    made.index_create("tags", multi=True).run(connection)
    made.index_wait().run(connection)
    return made


def told(answer: Any) -> dict[str, int]:
    """Give what a write counts, but for zeros."""
    counts = ("deleted", "errors", "inserted", "replaced", "skipped", "unchanged")
    return {name: answer[name] for name in counts if answer[name]}


def test_inserting(connection: Any, table: Any) -> None:
    def insert(document: Any, conflict: Any) -> dict[str, int]:
        return told(table.insert(document, conflict=conflict).run(connection))

    assert insert([{"id": "a", "n": 1}, {"id": "b"}], "error") == {"inserted": 2}
    assert insert([{"id": "a", "n": 2}, {"id": "c"}], "error") == {"errors": 1, "inserted": 1}
    assert table.get("a").run(connection) == {"id": "a", "n": 1}
    assert insert({"id": "a", "n": 2}, "replace") == {"replaced": 1}
    assert insert({"id": "a", "n": 2}, "replace") == {"unchanged": 1}
    both = lambda _id, old, new: new.merge({"was": old["n"]})  # noqa: E731
    assert insert({"id": "a", "n": 3}, both) == {"replaced": 1}
    assert table.get("a").run(connection) == {"id": "a", "n": 3, "was": 2}


def test_replacing(connection: Any, table: Any) -> None:
    def replace(key: str, function: Any, **options: Any) -> Any:
        return table.get(key).replace(function, **options).run(connection)

    made = replace("a", lambda row: {"id": "a", "old": row}, return_changes=True)
    assert told(made) == {"inserted": 1}
    assert made["changes"] == [{"old_val": None, "new_val": {"id": "a", "old": None}}]
    assert told(replace("none", lambda row: None)) == {"skipped": 1}
    same = replace("a", lambda row: row, return_changes=True)
    assert (told(same), same["changes"]) == ({"unchanged": 1}, [])
    same = replace("a", lambda row: row, return_changes="always")
    assert [each["new_val"]["id"] for each in same["changes"]] == ["a"]
    assert told(replace("a", lambda row: {"id": "b"})) == {"errors": 1}
    assert told(replace("a", lambda row: {"n": 1})) == {"errors": 1}
    assert told(replace("a", lambda row: {"id": "a", "n": row["n"]})) == {"errors": 1}
    assert table.get("a").run(connection) == {"id": "a", "old": None}
    assert told(replace("a", lambda row: None)) == {"deleted": 1}
    assert table.get("a").run(connection) is None


def test_updating(connection: Any, table: Any) -> None:
    table.insert([{"id": "a", "n": {"x": 1}}, {"id": "b"}], conflict="error").run(connection)
    seen = table.update(lambda row: {"n": {"y": row["n"]["x"]}}).run(connection)
    assert told(seen) == {"errors": 1, "replaced": 1}
    assert table.get("a").run(connection) == {"id": "a", "n": {"x": 1, "y": 1}}
    assert told(table.update(lambda row: {}).run(connection)) == {"unchanged": 2}
    with pytest.raises(ReqlRuntimeError, match="deterministic"):
        table.update(lambda row: {"m": table.get("b")}).run(connection)
    assert told(table.get("a").delete().run(connection)) == {"deleted": 1}
    assert told(table.get("a").delete().run(connection)) == {"skipped": 1}


def test_indexes(connection: Any, table: Any) -> None:
    due = {"array": [1], "bool": True, "one": 1, "two": 2, "text": "soon", "null": None}
    documents = [{"id": key, "due": value} for key, value in due.items()]
    table.insert([*documents, {"id": "missing"}], conflict="error").run(connection)

    def ids(query: Any) -> list[str]:
        return [row["id"] for row in query.run(connection)]

    assert ids(table.order_by(index="due")) == ["array", "bool", "one", "two", "text"]
    low = table.between(0, 2, index="due")
    assert ids(low) == ["one"]
    closed = table.between(0, 2, index="due", right_bound="closed")
    assert sorted(ids(closed)) == ["one", "two"]
    assert ids(closed.order_by(index="due").limit(1)) == ["one"]
    tagged = [{"id": "x", "tags": ["a", "b"]}, {"id": "y", "tags": ["b"]}, {"id": "z", "tags": []}]
    table.insert(tagged, conflict="error").run(connection)
    assert sorted(ids(table.get_all("b", index="tags"))) == ["x", "y"]
    assert sorted(ids(table.get_all("a", "b", index="tags"))) == ["x", "x", "y"]
    assert sorted(table.distinct(index="tags").run(connection)) == ["a", "b"]
    assert sorted(ids(table.get_all(r.args(["one", "none"])))) == ["one"]
