"""The response cache: what servers have answered, kept in the user's cache folder so that no call is paid twice.

One SQLite database for all runs and processes. An answer is found by a digest of everything that was sent (the server's
address, the model, every field of the request) and the number of its sample; no request and no key is stored. Only
answers are, as the server wrote them, with the prompt where it echoes that; a call that failed leaves nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Column,
    ColumnElement,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    case,
    delete,
    func,
    select,
    update,
)

from opportune import database
from opportune.errors import StoreError
from opportune.models.cache import cache_folder

_FILE = "responses-1.db"  # another schema is another file: what is only a cache needs no migrations
_POLL = 0.05  # seconds between two looks at whether another process has its answer
_ANSWERS = Table(
    "answers",
    MetaData(),
    Column("key", Text, primary_key=True),
    Column("sample", Integer, primary_key=True, autoincrement=False),
    Column("created", Float, nullable=False),  # seconds since 1970
    Column("server", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("choices", JSON, nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("dollars", Float),
    Column("hits", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One sample of an answer and its share of what the request used; the first of a request bears the prompt."""

    choices: list[Any]  # of the reply, as the server wrote them
    tokens_in: int
    tokens_out: int
    seconds: float
    dollars: float | None  # None where no price was known


@dataclass(frozen=True, slots=True)
class Holding:
    """What is kept of one model at one server, and what it has saved so far."""

    server: str
    model: str
    answers: int
    tokens: int  # that the answers took
    hits: int  # how often they were used again
    tokens_saved: int
    dollars_saved: float | None  # None where no price was known


class ResponseCache:
    """The cache in one folder, opened when it is first used. Every method raises StoreError."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    @property
    def path(self) -> Path:
        """The database."""
        return self.folder / _FILE

    @property
    def size(self) -> int:
        """Bytes on disk."""
        files = (self.path.with_name(_FILE + ending) for ending in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @cached_property
    def _engine(self) -> Engine:
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        engine = database.connect(URL.create("sqlite", database=str(self.path)))
        with _told(self.path), database.writing(engine) as connection:
            _ANSWERS.create(connection, checkfirst=True)
        return engine

    def find(self, key: str, first: int, count: int) -> list[Kept]:
        """The samples from `first` on, as far as they follow each other, `count` at most; each counts as used."""
        there = (_ANSWERS.c.key == key) & _ANSWERS.c.sample.between(first, first + count - 1)
        engine = self._engine
        with _told(self.path):
            with engine.connect() as connection:
                rows = list(connection.execute(select(_ANSWERS).where(there).order_by(_ANSWERS.c.sample)))
            found = [row for place, row in enumerate(rows) if row.sample == first + place]
            if found:
                used = (_ANSWERS.c.key == key) & _ANSWERS.c.sample.between(first, first + len(found) - 1)
                with database.writing(engine) as connection:
                    connection.execute(update(_ANSWERS).where(used).values(hits=_ANSWERS.c.hits + 1))
        return [Kept(row.choices, row.tokens_in, row.tokens_out, row.seconds, row.dollars) for row in found]

    def keep(self, key: str, first: int, samples: Sequence[Kept], server: str, model: str) -> None:
        """Keep the samples of an answer, all or none, the first of them as number `first`."""
        common = {"key": key, "created": time.time(), "server": server, "model": model, "hits": 0}
        rows = [asdict(kept) | common | {"sample": first + place} for place, kept in enumerate(samples)]
        engine = self._engine
        with _told(self.path), database.writing(engine) as connection:
            statement = database.insert(connection, _ANSWERS)
            new = {c.name: statement.excluded[c.name] for c in _ANSWERS.columns if not c.primary_key}
            connection.execute(
                statement.on_conflict_do_update(index_elements=list(_ANSWERS.primary_key), set_=new), rows
            )

    def holdings(self) -> list[Holding]:
        """What there is, by server and model."""
        columns = _ANSWERS.c
        tokens = columns.tokens_in + columns.tokens_out
        # The sample that came first bears the prompt, so that these are sums over calls, not over samples.
        priced = func.count(columns.dollars) > 0
        statement = (
            select(
                columns.server,
                columns.model,
                func.count(),
                func.sum(tokens),
                func.sum(columns.hits),
                func.sum(columns.hits * tokens),
                case((priced, func.sum(columns.hits * columns.dollars)), else_=None),
            )
            .group_by(columns.server, columns.model)
            .order_by(columns.server, columns.model)
        )
        if not self.path.exists():
            return []
        engine = self._engine
        with _told(self.path), engine.connect() as connection:
            return [Holding(*row) for row in connection.execute(statement)]

    def clear(self, model: str | None = None, older_than: float | None = None, *, dry: bool = False) -> int:
        """Remove the answers of a model, or those older than so many seconds, or all; how many. `dry` only counts."""
        if not self.path.exists():
            return 0
        conditions: list[ColumnElement[bool]] = []
        if model is not None:
            conditions.append(_ANSWERS.c.model == model)
        if older_than is not None:
            conditions.append(_ANSWERS.c.created < time.time() - older_than)
        engine = self._engine
        with _told(self.path):
            with database.writing(engine) as connection:
                count = connection.scalar(select(func.count()).select_from(_ANSWERS).where(*conditions)) or 0
                if not dry:
                    connection.execute(delete(_ANSWERS).where(*conditions))
            if count and not dry:
                with engine.connect() as connection:  # outside of transactions, where SQLite can shrink the file
                    raw = connection.connection.driver_connection
                    raw.execute("VACUUM")  # type: ignore[union-attr]
                    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        return count

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Within it nobody else, in this process or another, asks for the same: whoever waits finds the answer.

        The system lifts the lock when the process ends, however it ends.
        """
        with _told(self.folder):
            file = _lock_file(self.folder)
        place = int(key, 16) >> 2  # a byte of its own in a file that stays empty; offsets have 63 bits
        async with _own_lock(str(self.path) + key):
            while not _locked(file, place):
                await asyncio.sleep(_POLL)
            try:
                yield
            finally:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """What goes wrong as one line that says how to do without."""
    try:
        with database.plain_errors(str(place)):
            yield
    except StoreError as error:
        raise StoreError(f"{error} (the response cache; --no-cache does without it)") from error


_own: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def _own_lock(name: str) -> asyncio.Lock:
    """Between the calls of this process; such locks of the system are between processes only."""
    return _own.setdefault(name, asyncio.Lock())


@cache
def _lock_file(folder: Path) -> int:
    """Opened once and never closed: closing any one handle would lift all locks that the process has on the file."""
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / (_FILE + ".lock"), os.O_RDWR | os.O_CREAT, 0o666)


def _locked(file: int, place: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except BlockingIOError:
        return False
    return True
