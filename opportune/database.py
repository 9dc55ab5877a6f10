"""The database beneath the store: how SQLite is opened, what PostgreSQL spells otherwise, and errors in one line.

Nothing outside this file knows which database it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from opportune.errors import StoreError

_DIALECTS = {"sqlite": sqlite, "postgresql": postgresql}
_BUSY_SECONDS = 30


def connect(url: URL | str) -> Engine:
    """An engine for the database at `url`; StoreError when it is of a kind that is not supported."""
    try:
        backend = make_url(url).get_backend_name()
        if backend not in _DIALECTS:
            raise StoreError(f"cannot use the database {_shown(url)}: only sqlite and postgresql are supported")
        engine = create_engine(url, json_serializer=_to_json)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(f"cannot use the database {_shown(url)}: {error}") from None
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def writing(engine: Engine) -> AbstractContextManager[Connection]:
    """One transaction that will write: committed at the end of the block, undone by an exception."""
    return engine.execution_options(writes=True).begin()


def insert(connection: Connection, table: Table) -> Any:
    """An insert that can meet a row that is there (`on_conflict_do_...`), in the database's own dialect."""
    return _DIALECTS[connection.dialect.name].insert(table)


def place(engine: Engine) -> str:
    """Where the database is, for messages: never with a password."""
    is_file = engine.dialect.name == "sqlite" and engine.url.database
    return engine.url.database or "" if is_file else _shown(engine.url)


@contextmanager
def plain_errors(where: str) -> Iterator[None]:
    """What the database or the file system says becomes a StoreError of one line that names the place."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StoreError(f"cannot use the store {where}: {cause}{_advice(cause)}") from error
    except OSError as error:
        raise StoreError(f"cannot use {where}: {error.strerror or error}") from error


def _shown(url: URL | str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "given by its URL"


def _advice(cause: str) -> str:
    if "full" in cause or "disk I/O" in cause:
        return "; free some space and run the same command again: nothing that was measured is lost"
    if "locked" in cause:
        return f"; another process has held it for {_BUSY_SECONDS} seconds"
    return ""


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below: Python's own leave DDL outside of them
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode this survives a crash of the process


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that turns from reading to writing fails at once when another writes: take the lock at the start.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _to_json(value: Any) -> str:
    """JSON as the standard has it: what is not finite (the loss of a diverged training) becomes null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
