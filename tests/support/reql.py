"""An interpreter of those ReQL terms that the RethinkDB store sends: no server, and no driver.

It reads what the driver would send, as JSON, and has the tables in memory. It shows that the
queries mean what the store takes them for, by the documentation of ReQL; what a real server makes
of them is shown where ``RETHINKDB_URL`` names one.
"""

from __future__ import annotations

import copy
import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from rethinkdb import ql2_pb2
from rethinkdb.ast import ReQLEncoder
from rethinkdb.errors import ReqlOpFailedError

TERMS = {
    number: name
    for name, number in vars(ql2_pb2.Term.TermType).items()
    if isinstance(number, int) and name.isupper()
}


class Missing(Exception):
    """A field or element that is not there: what `default` is for."""


class Failed(Exception):
    """Any other error of a query."""


class Selection(list[Any]):
    """Documents of a table, which can be written."""

    def __init__(self, table: dict[str, Any], rows: list[Any], single: str | None = None) -> None:
        super().__init__(copy.deepcopy(rows))
        self.table = table
        self.single = single


class Table:
    """The documents of a table by their keys, and its indexes."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.indexes: dict[str, Any] = {}


def terms_of(query: Any) -> Any:
    """Give what is sent for a query, as JSON."""
    return json.loads(ReQLEncoder().encode(query))


class Interpreter:
    """What a connection of the driver is to the store; every query is one step."""

    host, port = "interpreter", 0

    def __init__(self) -> None:
        self.databases: dict[str, dict[str, Table]] = {}
        self._lock = threading.RLock()

    def is_open(self) -> bool:
        return True

    def _start(self, query: Any, **options: Any) -> Any:
        with self._lock:
            self._now = {"$time": round(time.time(), 3)}
            try:
                return copy.deepcopy(self._value(self._eval(terms_of(query), {})))
            except (Missing, Failed) as error:
                raise ReqlOpFailedError(str(error)) from None

    def _eval(self, term: Any, scope: dict[int, Any]) -> Any:
        if isinstance(term, dict):
            return {name: self._eval(each, scope) for name, each in term.items()}
        if not isinstance(term, list):
            return term
        name = TERMS[term[0]].lower()
        arguments = term[1] if len(term) > 1 else []
        options = term[2] if len(term) > 2 else {}
        lazy = getattr(self, f"_lazy_{name}", None)
        if lazy is not None:
            return lazy(scope, *arguments, **options)
        values: list[Any] = []
        for each in arguments:
            if isinstance(each, list) and TERMS[each[0]] == "ARGS":
                values += self._eval(each[1][0], scope)
            else:
                values.append(self._eval(each, scope))
        settings = {key: self._eval(each, scope) for key, each in options.items()}
        return getattr(self, f"_do_{name}")(*values, **settings)

    # Functions and control

    def _lazy_func(self, scope: dict[int, Any], names: Any, body: Any) -> Callable[..., Any]:
        return lambda *values: self._eval(
            body, {**scope, **dict(zip(names[1], values, strict=False))}
        )

    def _lazy_var(self, scope: dict[int, Any], number: int) -> Any:
        return scope[number]

    def _lazy_branch(self, scope: dict[int, Any], *parts: Any) -> Any:
        *pairs, last = parts
        for condition, then in zip(pairs[::2], pairs[1::2], strict=True):
            if _is_true(self._eval(condition, scope)):
                return self._eval(then, scope)
        return self._eval(last, scope)

    def _lazy_default(self, scope: dict[int, Any], value: Any, otherwise: Any) -> Any:
        try:
            found = self._eval(value, scope)
        except Missing:
            found = None
        return self._eval(otherwise, scope) if found is None else found

    def _lazy_and(self, scope: dict[int, Any], *parts: Any) -> Any:
        return all(_is_true(self._eval(each, scope)) for each in parts)

    def _lazy_or(self, scope: dict[int, Any], *parts: Any) -> Any:
        return any(_is_true(self._eval(each, scope)) for each in parts)

    def _do_funcall(self, function: Any, *values: Any) -> Any:
        return function(*map(self._value, values))

    @staticmethod
    def _value(given: Any) -> Any:
        """Give a document that was got by its key as a value."""
        if isinstance(given, Selection) and given.single is not None:
            return given[0] if given else None
        return given

    def _do_make_array(self, *values: Any) -> Any:
        return list(values)

    def _do_error(self, text: str) -> Any:
        raise Failed(text)

    # Values

    def _order(self, value: Any) -> Any:
        """Give what sorts values: those of different types by the names of the types."""
        kind = self._do_type_of(value)
        if kind == "ARRAY":
            return kind, [self._order(each) for each in value]
        if kind == "OBJECT":
            return kind, [(name, self._order(value[name])) for name in sorted(value)]
        return kind, value if value is not None else 0

    def _do_eq(self, a: Any, b: Any) -> bool:
        return bool(a == b)

    def _do_ne(self, a: Any, b: Any) -> bool:
        return bool(a != b)

    def _do_le(self, a: Any, b: Any) -> bool:
        return bool(self._order(a) <= self._order(b))

    def _do_not(self, a: Any) -> bool:
        return not _is_true(a)

    def _do_add(self, *values: Any) -> Any:
        if None in values:
            raise Missing(f"Expected type NUMBER but found NULL: {values}")
        if not all(type(each) in (int, float) for each in values):
            raise Failed(f"Expected type NUMBER: {values}")
        return sum(values)

    def _do_mul(self, a: Any, b: Any) -> Any:
        return a * b

    def _do_round(self, a: float) -> float:
        return math.copysign(math.floor(abs(a) + 0.5), a)  # halves away from zero

    def _do_now(self) -> Any:
        return self._now

    def _do_to_epoch_time(self, moment: Any) -> Any:
        return moment["$time"]

    def _do_type_of(self, value: Any) -> str:
        kinds = {bool: "BOOL", int: "NUMBER", float: "NUMBER", str: "STRING", type(None): "NULL"}
        return kinds.get(type(value), "OBJECT" if isinstance(value, dict) else "ARRAY")

    def _do_coerce_to(self, value: Any, kind: str) -> Any:
        assert kind == "array"
        return list(value)

    def _do_bracket(self, value: Any, key: Any) -> Any:
        value = self._value(value)
        if value is None:
            raise Missing(f"Cannot perform bracket on a non-object non-sequence `null`: {key}")
        if isinstance(value, list):
            if isinstance(key, int):
                return self._do_nth(value, key)
            return [each[key] for each in value if key in each]
        if not isinstance(value, dict):
            raise Failed(f"Cannot perform bracket on a non-object non-sequence: {value!r}")
        if key not in value:
            raise Missing(f"No attribute `{key}` in object")
        return value[key]

    def _do_nth(self, value: Any, number: int) -> Any:
        if number >= len(value):
            raise Missing(f"Index out of bounds: {number}")
        return value[number]

    def _do_has_fields(self, value: Any, name: str) -> Any:
        if not isinstance(value, dict):
            raise Missing("Cannot perform has_fields on a non-object")
        return value.get(name) is not None

    def _do_without(self, value: Any, *names: str) -> Any:
        if isinstance(value, list):
            return [self._do_without(each, *names) for each in value]
        return {name: each for name, each in value.items() if name not in names}

    def _do_pluck(self, value: Any, *names: str) -> Any:
        return {name: each for name, each in value.items() if name in names}

    def _do_merge(self, value: Any, other: Any) -> Any:
        if value is None:
            raise Missing("Cannot perform merge on a non-object")
        merged = dict(value)
        for name, each in other.items():
            if isinstance(each, dict) and isinstance(merged.get(name), dict):
                merged[name] = self._do_merge(merged[name], each)
            else:
                merged[name] = each
        return merged

    # Sequences

    def _do_append(self, value: Any, other: Any) -> Any:
        return [*value, other]

    def _do_map(self, value: Any, function: Any) -> Any:
        return [function(each) for each in value]

    def _do_concat_map(self, value: Any, function: Any) -> Any:
        return [each for part in value for each in function(part)]

    def _do_filter(self, value: Any, function: Any) -> Any:
        kept = [each for each in value if self._holds(function, each)]
        return Selection(value.table, kept) if isinstance(value, Selection) else kept

    def _holds(self, function: Any, *values: Any) -> bool:
        try:
            return _is_true(function(*values))
        except Missing:
            return False

    def _do_contains(self, value: Any, other: Any) -> bool:
        if callable(other):
            return any(self._holds(other, each) for each in value)
        return other in value

    def _do_is_empty(self, value: Any) -> bool:
        return not value

    def _do_max(self, value: Any) -> Any:
        return max(value)

    def _do_count(self, value: Any) -> int:
        return len(value)

    def _do_limit(self, value: Any, count: int) -> Any:
        return Selection(value.table, value[:count])

    def _do_set_difference(self, value: Any, other: Any) -> Any:
        return self._do_distinct([each for each in value if each not in other])

    def _do_set_intersection(self, value: Any, other: Any) -> Any:
        return self._do_distinct([each for each in value if each in other])

    def _do_distinct(self, value: Any, index: str | None = None) -> Any:
        found: list[Any] = []
        if index is not None:
            value = [key for row in value for key in self._keys(value.table, index, row)]
        for each in value:
            if each not in found:
                found.append(each)
        return found

    # Tables

    def _do_db(self, name: str) -> Any:
        return self.databases.get(name, {})

    def _do_db_list(self) -> Any:
        return list(self.databases)

    def _do_db_create(self, name: str) -> Any:
        self.databases[name] = {}
        return {"dbs_created": 1}

    def _do_table_list(self, database: Any) -> Any:
        return list(database)

    def _do_table_create(self, database: Any, name: str) -> Any:
        database[name] = Table()
        return {"tables_created": 1}

    def _do_table(self, database: Any, name: str, read_mode: str = "single") -> Any:
        if name not in database:
            raise Failed(f"Table `{name}` does not exist.")
        table = database[name]
        return Selection(table, list(table.rows.values()))

    def _do_index_list(self, rows: Any) -> Any:
        return list(rows.table.indexes)

    def _do_index_create(self, rows: Any, name: str, how: Any = None, multi: bool = False) -> Any:
        rows.table.indexes[name] = (how, multi)
        return {"created": 1}

    def _do_index_wait(self, rows: Any) -> Any:
        return []

    def _do_wait(self, rows: Any, timeout: int) -> Any:
        return {"ready": 1}

    def _keys(self, table: Any, index: str, row: Any) -> list[Any]:
        """Give what a document is found by in an index: nothing by what is missing, or null."""
        how, multi = table.indexes[index]
        try:
            key = row[index] if how is None else how(row)
        except (Missing, Failed, KeyError):
            return []
        keys = key if multi and isinstance(key, list) else [key]
        return [each for each in keys if self._do_type_of(each) not in ("NULL", "OBJECT")]

    def _do_get(self, rows: Any, key: str) -> Any:
        found = rows.table.rows.get(key)
        return Selection(rows.table, [] if found is None else [found], single=key)

    def _do_get_all(self, rows: Any, *keys: Any, index: str | None = None) -> Any:
        table = rows.table
        if index is None:
            found = [table.rows[key] for key in keys if key in table.rows]
        else:
            found = [
                row for key in keys for row in rows for own in self._keys(table, index, row)
                if own == key
            ]  # fmt: skip
        return Selection(table, found)

    def _do_between(
        self, rows: Any, low: Any, high: Any, index: str, right_bound: str = "open"
    ) -> Any:
        least, most = self._order(low), self._order(high)
        found = [
            row for row in rows for key in self._keys(rows.table, index, row)
            if least <= self._order(key) < most
            or (right_bound == "closed" and self._order(key) == most)
        ]  # fmt: skip
        return Selection(rows.table, found)

    def _do_order_by(self, rows: Any, index: str) -> Any:
        keyed = [
            (self._order(key), row) for row in rows for key in self._keys(rows.table, index, row)
        ]
        keyed.sort(key=lambda each: each[0])
        return Selection(rows.table, [row for _, row in keyed])

    # Writes

    def _write(self, told: dict[str, Any], table: Any, key: str, change: Any, always: bool) -> None:
        """Write one document: ``change`` gives the new one of the old."""
        old = table.rows.get(key)
        try:
            new = change(copy.deepcopy(old))
            if new is not None and (not isinstance(new, dict) or new.get("id") != key):
                raise Failed(f"Primary key `id` cannot be changed: {old} -> {new}")
        except (Missing, Failed) as error:
            told["errors"] += 1
            told.setdefault("first_error", str(error))
            return
        kinds = {
            (True, True): "skipped", (True, False): "inserted", (False, True): "deleted",
        }  # fmt: skip
        kind = kinds.get((old is None, new is None), "unchanged" if old == new else "replaced")
        told[kind] += 1
        if new is None:
            table.rows.pop(key, None)
        else:
            table.rows[key] = json.loads(json.dumps(new))
        if always or kind not in ("skipped", "unchanged"):
            told["changes"].append({"old_val": old, "new_val": new})

    @staticmethod
    def _told() -> dict[str, Any]:
        counts = ("deleted", "errors", "inserted", "replaced", "skipped", "unchanged")
        return {**dict.fromkeys(counts, 0), "changes": []}

    def _pure(self, term: Any) -> None:
        """Refuse a change of documents that depends on others, which would be no single step."""
        if isinstance(term, dict):
            for each in term.values():
                self._pure(each)
        elif isinstance(term, list):
            if TERMS[term[0]] == "TABLE":
                raise Failed("Could not prove function deterministic.")
            for each in (*term[1:2], *term[2:]):
                for part in each.values() if isinstance(each, dict) else each:
                    self._pure(part)

    def _lazy_replace(self, scope: Any, rows: Any, function: Any, **options: Any) -> Any:
        self._pure(function)
        return self._written(scope, rows, self._eval(function, scope), **options)

    def _written(self, scope: Any, rows: Any, change: Any, **options: Any) -> Any:
        selection = self._eval(rows, scope)
        told = self._told()
        always = options.get("return_changes") == "always"
        keys = [row["id"] for row in selection]
        if selection.single is not None:
            keys = [selection.single]
        for key in keys:
            self._write(told, selection.table, key, change, always)
        return self._shown(told, options)

    @staticmethod
    def _shown(told: dict[str, Any], options: Any) -> Any:
        if "return_changes" not in options:
            del told["changes"]
        return told

    def _lazy_update(self, scope: Any, rows: Any, function: Any, **options: Any) -> Any:
        self._pure(function)
        change = self._eval(function, scope)
        return self._written(
            scope, rows, lambda old: old and self._do_merge(old, change(old)), **options
        )

    def _lazy_delete(self, scope: Any, rows: Any, **options: Any) -> Any:
        return self._written(scope, rows, lambda old: None, **options)

    def _lazy_insert(self, scope: Any, rows: Any, given: Any, **options: Any) -> Any:
        table = self._eval(rows, scope).table
        documents = self._eval(given, scope)
        conflict = self._eval(options["conflict"], scope)
        told = self._told()

        def inserted(old: Any, new: Any) -> Any:
            if old is None or conflict == "replace":
                return new
            if conflict == "error":
                raise Failed("Duplicate primary key")
            return conflict(new["id"], old, new)

        for new in documents if isinstance(documents, list) else [documents]:
            self._write(told, table, new["id"], lambda old, new=new: inserted(old, new), False)
        return self._shown(told, options)


def _is_true(value: Any) -> bool:
    """Tell whether a value counts as true: all but false and null do."""
    return value is not False and value is not None


def spelled(query: Any) -> str:
    """Spell what is sent for a query, with the names of the terms; variables count from 1 on."""
    numbers: dict[int, int] = {}

    def lines(term: Any, indent: str) -> str:
        if isinstance(term, dict):
            inner = "".join(f"\n{indent}  {key}: {lines(term[key], indent + '  ')}" for key in term)
            return f"{{{inner}}}"
        if not isinstance(term, list):
            return json.dumps(term)
        name = TERMS[term[0]].lower()
        arguments = term[1] if len(term) > 1 else []
        options = term[2] if len(term) > 2 else {}
        if name == "var":
            return f"var_{numbers.setdefault(arguments[0], len(numbers) + 1)}"
        if name == "func":
            names = [numbers.setdefault(each, len(numbers) + 1) for each in arguments[0][1]]
            arguments = arguments[1:]
            name = f"func({', '.join(f'var_{each}' for each in names)})"
        parts = [lines(each, indent + "  ") for each in arguments]
        parts += [f"{key}={lines(each, indent + '  ')}" for key, each in options.items()]
        flat = f"{name}({', '.join(parts)})"
        if len(indent) + len(flat) <= 90 and "\n" not in flat:
            return flat
        return f"{name}(" + "".join(f"\n{indent}  {part}" for part in parts) + ")"

    return lines(terms_of(query), "")
