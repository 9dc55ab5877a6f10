"""The store's schema, written once: named steps that are only ever appended (after simonw/llm's migrations).

A database remembers the names of the steps it has been through. A released step is never edited: a change is a new
function at the end of `MIGRATIONS`. Types are portable: the same steps build SQLite and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
)

from opportune.errors import StoreError

_applied = Table("migrations", MetaData(), Column("name", Text, primary_key=True))


def m001_initial(connection: Connection) -> None:
    """Runs, examples, arms, calls, outcomes and learning curves."""
    metadata = MetaData()

    def table(name: str, *columns: Column[Any]) -> Table:
        return Table(name, metadata, *columns)

    def key(name: str, kind: Any = Text) -> Column[Any]:
        return Column(name, kind, primary_key=True, autoincrement=False)

    def filled(name: str, kind: Any = Text, unique: bool | None = None) -> Column[Any]:
        return Column(name, kind, nullable=False, unique=unique)

    def arm() -> tuple[Column[Any], ...]:
        return key("run"), key("hash"), key("seed", BigInteger)

    table(
        "runs",
        key("id"),
        filled("key", unique=True),
        filled("created"),
        filled("name"),
        filled("config", JSON),
        filled("status"),
        Column("comparison", JSON),
    )
    table(
        "examples",
        key("run"),
        key("split"),
        filled("position", Integer),
        key("example"),
        filled("input"),
        filled("target"),
        Column("choices", JSON),
        Column("group", Text),
        Column("rationale", Text),
    )
    table(
        "arms",
        *arm(),
        filled("position", Integer),
        filled("recipe"),
        Column("model", Text),
        filled("resolved", JSON),
        filled("status"),
        Column("reason", Text),
        Column("predicted", JSON),
        filled("measured", JSON),
        filled("facts", JSON),
    )
    calls = table(
        "calls",
        *arm(),
        key("stage"),
        key("example"),
        key("round", Integer),
        key("position", Integer),
        filled("key"),
        filled("prompt"),
        Column("choices", JSON),
        filled("texts", JSON),
        Column("scores", JSON),
        filled("tokens_in", BigInteger),
        filled("tokens_out", BigInteger),
        filled("seconds", Float),
        filled("flops", Float),
        filled("shots_dropped", Integer),
        filled("tokens_cut", BigInteger),
        Column("error", Text),
        filled("shared", Boolean),
    )
    Index("calls_by_key", calls.c.run, calls.c.key)
    table(
        "outcomes",
        *arm(),
        key("split"),
        key("example"),
        Column("answer", Text),
        filled("raw"),
        filled("status"),
        Column("score", Float),
        Column("choice_scores", JSON),
    )
    table("curves", *arm(), key("trial"), key("step", BigInteger), filled("values", JSON))
    metadata.create_all(connection)


def m002_embeddings(connection: Connection) -> None:
    """Calls that come back with an embedding."""
    connection.execute(text("ALTER TABLE calls ADD COLUMN vector JSON"))


def m003_cached_tokens(connection: Connection) -> None:
    """Calls whose answer came from the response cache."""
    for name in ("cached_in", "cached_out"):
        connection.execute(text(f"ALTER TABLE calls ADD COLUMN {name} BIGINT NOT NULL DEFAULT 0"))


def m004_no_comparison(connection: Connection) -> None:
    """A run's comparison is made from what it measured whenever it is read, so it is not kept as well."""
    connection.execute(text("ALTER TABLE runs DROP COLUMN comparison"))


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    m001_initial,
    m002_embeddings,
    m003_cached_tokens,
    m004_no_comparison,
)


def pending(connection: Connection) -> list[Callable[[Connection], None]]:
    """The steps this database has not been through.

    Raises StoreError when it has been through steps unknown here: a newer Opportune wrote it.
    """
    known = inspect(connection).has_table("migrations")
    done = set(connection.scalars(select(_applied.c.name))) if known else set()
    if unknown := sorted(done - {step.__name__ for step in MIGRATIONS}):
        where = connection.engine.url.render_as_string(hide_password=True)
        raise StoreError(f"the store {where} is of a newer version of Opportune (step {unknown[-1]}): update Opportune")
    return [step for step in MIGRATIONS if step.__name__ not in done]


def migrate(connection: Connection) -> None:
    """Take the database through its pending steps; the caller holds one writing transaction around all of them."""
    steps = pending(connection)
    if steps:
        _applied.create(connection, checkfirst=True)
    for step in steps:
        step(connection)
        connection.execute(insert(_applied), {"name": step.__name__})
