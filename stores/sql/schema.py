"""The tables of the SQL store; ``docs/stores/sqlalchemy.md`` describes them."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["LONGEST_ID", "VERSION", "Key", "Tables", "is_mariadb", "make_tables"]

#: The version of the tables.
VERSION = 1
#: In characters: four bytes each, in a primary key of InnoDB.
LONGEST_ID = 255


class Key(TypeDecorator[str]):
    """A text that is compared by its bytes: "A" is not "a", and blanks at the end count."""

    impl = String
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(LONGEST_ID)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Name the collation of the server that we are connected to."""
        collation = None
        if dialect.name in ("mysql", "mariadb"):
            collation = "utf8mb4_nopad_bin" if is_mariadb(dialect) else "utf8mb4_0900_bin"
        elif dialect.name == "postgresql":
            collation = "C"
        return dialect.type_descriptor(String(LONGEST_ID, collation=collation))


def is_mariadb(dialect: Dialect) -> bool:
    """Tell MariaDB from MySQL, whatever the address calls it."""
    return bool(getattr(dialect, "is_mariadb", False))


class Tables(NamedTuple):
    """Jobs, the runs that have begun, the members, and the version of all of them."""

    jobs: Table
    runs: Table
    members: Table
    meta: Table


def make_tables(name: str, metadata: MetaData, schema: str | None) -> Tables:
    """Describe the tables of a store."""
    options: dict[str, Any] = {"schema": schema}
    for kind in ("mysql", "mariadb"):
        options |= {f"{kind}_charset": "utf8mb4", f"{kind}_engine": "InnoDB"}
    text = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
    jobs = Table(
        name,
        metadata,
        Column("id", Key, primary_key=True),
        Column("next_run", BigInteger),
        Column("due_at", BigInteger),
        Column("version", BigInteger, nullable=False),
        Column("fence", BigInteger, nullable=False),
        Column("record", text, nullable=False),
        **options,
    )
    some = jobs.c.due_at.is_not(None)
    Index(f"{name}_due", jobs.c.due_at, postgresql_where=some, sqlite_where=some)
    runs = Table(
        f"{name}_runs",
        metadata,
        Column("job_id", Key, primary_key=True),
        Column("run_time", BigInteger, primary_key=True, autoincrement=False),
        Column("member", Key, nullable=False),
        Column("fence", BigInteger, nullable=False),
        # NULL for a run at most once, empty when the job was removed meanwhile.
        Column("record", text),
        **options,
    )
    members = Table(
        f"{name}_members",
        metadata,
        Column("name", Key, primary_key=True),
        Column("expires_at", BigInteger, nullable=False),
        **options,
    )
    meta = Table(
        f"{name}_meta",
        metadata,
        Column("version", Integer, primary_key=True, autoincrement=False),
        **options,
    )
    return Tables(jobs, runs, members, meta)
