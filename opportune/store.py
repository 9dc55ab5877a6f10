"""The store: all that a run measures, committed as it is measured; `kill -9` loses at most the batch in flight.

One SQLite database in WAL mode for all runs of a folder (`opportune.db`), or the one that OPPORTUNE_DATABASE names by
its URL (SQLite and PostgreSQL are supported): a team's runs in one place. The columns of a table are the fields of its
record in `records`; the tables themselves are built by `migrations` and read back from the database, so that the schema
is written in one place.
Beside the database each run has a folder of its own, for its artefacts and its lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TextIO

from sqlalchemy import URL, ColumnElement, Connection, Engine, MetaData, Table, select, update

from opportune import database, migrations
from opportune.errors import StoreError
from opportune.records import (
    ArmRecord,
    CallRecord,
    CurvePoint,
    ExampleRecord,
    OutcomeRecord,
    Record,
    RunConfig,
    RunRecord,
    from_row,
)
from opportune.types import Split, digest

_TABLES = ("runs", "examples", "arms", "calls", "outcomes", "curves")
_FILE = "opportune.db"
DATABASE = "OPPORTUNE_DATABASE"  # a URL may hold a password: the environment is the place for it
_KEYS_PER_QUERY = 500  # well under every database's limit of bound parameters


class Store:
    """All runs of one folder. Every method that writes has committed when it returns; all raise StoreError."""

    def __init__(self, engine: Engine, folder: Path, tables: dict[str, Table]) -> None:
        self.folder = folder  # holds one folder per run
        self._engine = engine
        self._tables = tables

    @classmethod
    def open(cls, folder: Path | str, create: bool = True) -> Self:
        """Open the store of a folder of runs. Its database is that of OPPORTUNE_DATABASE, a URL, where that is set.

        With `create=False` a folder without runs is a StoreError instead of a new store.
        """
        folder, shared = Path(folder), os.environ.get(DATABASE)
        if not (create or shared or (folder / _FILE).exists()):
            raise StoreError(f"no runs in {folder}: start one with `opportune compare`, or name its folder with --runs")
        with database.plain_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        engine = database.connect(shared or URL.create("sqlite", database=str(folder / _FILE)))
        with database.plain_errors(database.place(engine)):
            return cls(engine, folder, _tables(engine))

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def run_folder(self, run: str) -> Path:
        """The run's own folder, made when it is not there."""
        path = self.folder / run
        with database.plain_errors(str(path)):
            path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def lock_run(self, run: str) -> Iterator[None]:
        """Hold the run for this process; StoreError names the process that has it.

        The system releases the lock when the process ends, however it ends.
        """
        with _take_lock(self.run_folder(run) / "lock"):
            yield

    # ---- runs ----

    def begin_run(self, key: str, name: str, config: RunConfig) -> RunRecord:
        """The run with this key: the one that is there, with all it measured, else a new one.

        What only reads the measurements (tolerance and price) is taken from the new configuration.
        """
        now = datetime.now(UTC)
        record = RunRecord(f"{now:%Y%m%d-%H%M%S}-{digest(key)[:6]}", key, now.isoformat(), name, config)
        runs = self._tables["runs"]
        with self._writing() as connection:
            connection.execute(database.insert(connection, runs).on_conflict_do_nothing(), [asdict(record)])
        found = self._read(RunRecord, "runs", runs.c.key == key)[0]
        current = replace(found, config=_reread(found.config, config))
        if current != found:
            with self._writing() as connection:
                connection.execute(update(runs).where(runs.c.id == found.id).values(config=current.config))
        return current

    def finish_run(self, run: str) -> None:
        """Mark the run as finished."""
        runs = self._tables["runs"]
        with self._writing() as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(status="finished"))

    def list_runs(self) -> list[RunRecord]:
        """All runs, newest first."""
        runs = self._tables["runs"]
        return self._read(RunRecord, "runs", order=(runs.c.created.desc(), runs.c.id.desc()))

    def latest_run(self) -> RunRecord:
        """The newest run."""
        if not (runs := self.list_runs()):
            raise StoreError(f"no runs in {self.folder}: start one with `opportune compare`")
        return runs[0]

    def run(self, name: str | None) -> RunRecord:
        """The run of this id, or of the only id that begins so; None or "latest" is the newest one."""
        if name in (None, "latest"):
            return self.latest_run()
        runs = self._tables["runs"]
        found = self._read(RunRecord, "runs", runs.c.id.startswith(name, autoescape=True))
        exact = [run for run in found if run.id == name]
        if len(found) == 1 or exact:
            return (exact or found)[0]
        known = ", ".join(run.id for run in (found or self.list_runs())[:5]) or "none"
        what = f"{len(found)} runs begin with {name!r}" if found else f"no run {name!r}"
        raise StoreError(f"{what} in {self.folder}; {'they are' if found else 'the latest'}: {known}")

    # ---- what a run measures ----

    def put_examples(self, examples: Sequence[ExampleRecord]) -> None:
        """Keep the task's examples."""
        self._put("examples", examples)

    def put_arm(self, arm: ArmRecord) -> None:
        """Keep an arm as it now stands."""
        self._put("arms", [arm])

    def put_calls(self, calls: Sequence[CallRecord]) -> None:
        """Keep a batch of calls, all or none; a call that is there already is replaced."""
        self._put("calls", calls)

    def put_outcomes(self, outcomes: Sequence[OutcomeRecord]) -> None:
        """Keep a batch of outcomes, all or none."""
        self._put("outcomes", outcomes)

    def put_curve(self, points: Sequence[CurvePoint]) -> None:
        """Keep points of a learning curve."""
        self._put("curves", points)

    def examples(self, run: str, split: Split | None = None) -> list[ExampleRecord]:
        """The task's examples, in the task's order."""
        columns = self._tables["examples"].c
        return self._read(
            ExampleRecord, "examples", *_where(columns, run=run, split=split), order=(columns.split, columns.position)
        )

    def arms(self, run: str) -> list[ArmRecord]:
        """The run's arms, in the order they were asked for."""
        columns = self._tables["arms"].c
        return self._read(ArmRecord, "arms", columns.run == run, order=(columns.position, columns.hash, columns.seed))

    def calls(
        self, run: str, hash: str | None = None, seed: int | None = None, stage: str | None = None
    ) -> list[CallRecord]:
        """The calls of a run, an arm or a stage of it; an example's calls follow each other in their order."""
        columns = self._tables["calls"].c
        order = (columns.hash, columns.seed, columns.stage, columns.example, columns.round, columns.position)
        conditions = _where(columns, run=run, hash=hash, seed=seed, stage=stage)
        return self._read(CallRecord, "calls", *conditions, order=order)

    def find_calls(self, run: str, keys: Sequence[str]) -> dict[str, CallRecord]:
        """Calls of this run that succeeded, by content key: what need not be computed again."""
        columns = self._tables["calls"].c
        wanted = list(dict.fromkeys(keys))
        found: dict[str, CallRecord] = {}
        for start in range(0, len(wanted), _KEYS_PER_QUERY):
            some = columns.key.in_(wanted[start : start + _KEYS_PER_QUERY])
            order = (columns.shared, columns.hash, columns.seed, columns.stage, columns.example)
            calls = self._read(CallRecord, "calls", columns.run == run, some, columns.error.is_(None), order=order)
            found |= {call.key: call for call in reversed(calls)}  # the call that was paid for, not its copies
        return found

    def outcomes(self, run: str, hash: str | None = None, split: Split | None = None) -> list[OutcomeRecord]:
        """The outcomes of a run, an arm or a split."""
        columns = self._tables["outcomes"].c
        order = (columns.hash, columns.seed, columns.split, columns.example)
        return self._read(OutcomeRecord, "outcomes", *_where(columns, run=run, hash=hash, split=split), order=order)

    def curves(self, run: str) -> list[CurvePoint]:
        """The learning curves of a run."""
        columns = self._tables["curves"].c
        order = (columns.hash, columns.seed, columns.trial, columns.step)
        return self._read(CurvePoint, "curves", columns.run == run, order=order)

    # ---- the database ----

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with database.plain_errors(database.place(self._engine)), database.writing(self._engine) as connection:
            yield connection

    def _put(self, name: str, records: Sequence[Record]) -> None:
        if not records:
            return
        with self._writing() as connection:
            statement = database.insert(connection, table := self._tables[name])
            rest = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
            statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=rest)
            connection.execute(statement, [asdict(record) for record in records])

    def _read(
        self, kind: type[Record], name: str, *conditions: ColumnElement[bool], order: Sequence[ColumnElement[Any]] = ()
    ) -> list[Record]:
        statement = select(self._tables[name]).where(*conditions).order_by(*order)
        with database.plain_errors(database.place(self._engine)), self._engine.connect() as connection:
            return [from_row(kind, row._asdict()) for row in connection.execute(statement)]


def _where(columns: Any, **wanted: object) -> list[ColumnElement[bool]]:
    return [columns[name] == value for name, value in wanted.items() if value is not None]


def _reread(measured: RunConfig, asked: RunConfig) -> RunConfig:
    """The configuration a run was measured under, with what the user now wants its figures read by."""
    return {**measured, "tolerance": asked["tolerance"], "machine_price": asked["machine_price"]}


def _take_lock(path: Path) -> TextIO:
    with database.plain_errors(str(path)):
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise StoreError(f"run {path.parent.name} is in use by process {holder}: wait for it or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    return file


def _tables(engine: Engine) -> dict[str, Table]:
    with engine.connect() as connection:
        outdated = bool(migrations.pending(connection))
    if outdated:
        with database.writing(engine) as connection:
            migrations.migrate(connection)
    metadata = MetaData()
    metadata.reflect(engine, only=_TABLES)
    return dict(metadata.tables)
