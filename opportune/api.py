"""The Python face: everything the command line does, as calls.

from opportune import ask, compare, load_task

task = load_task("tickets.csv", input="text", target="intent")
comparison = compare(task, recipes=["zero-shot", "lora:rank=8+zero-shot"])
comparison                       # a table in a notebook
ask("latest", "lora:rank=8+zero-shot", "my card has not arrived").text
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from opportune.answering import Answerer
from opportune.arm import Stage
from opportune.comparison import of_run
from opportune.curves import DRAWS, SIZES, CurveWatcher
from opportune.curves import curve as measure_curve
from opportune.errors import UsageError
from opportune.exporting import Exported, check_places, export_adapter, export_merged
from opportune.labels import Curves
from opportune.models.response_cache import ResponseCache
from opportune.records import ArmRecord, RunRecord
from opportune.report.page import fragment, write_report
from opportune.rows import Comparison
from opportune.run import Watcher, run
from opportune.settings import DEFAULT_MODEL, Settings
from opportune.store import Store
from opportune.tasks.load import load_task, task_from_records
from opportune.types import Answer, Progress, Task

__all__ = ["ask", "compare", "curve", "export", "load_task", "report", "show", "task_from_records"]

RUNS = "opportune-runs"

# In a notebook a comparison shows itself; the type itself stays below the report in the order of imports.
Comparison._repr_html_ = fragment  # type: ignore[attr-defined]


def compare(
    task: Task | None = None,
    *,
    recipes: Sequence[str] = (),
    models: Sequence[str] = (),
    seeds: int = 1,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    tolerance: float = 0.03,
    machine_price: float | None = None,
    base_url: str | None = None,
    max_dollars: float | None = None,
    max_tokens: int | None = None,
    prices: Path | str | None = None,
    general: Path | str | None = None,
    cache: bool = True,
    budget: float | None = None,
    runs: Path | str = RUNS,
    watcher: Watcher | None = None,
    source: str = "",
) -> Comparison:
    """Measure recipes on a task and recommend one; None is the bundled task, no recipes are the ten defaults.

    The same call after an interruption goes on where it stopped. Raises UsageError for bad input before anything is
    measured; an arm that fails later is a row with its reason, never a score. `max_dollars` and `max_tokens` cap what
    models behind a server (`openai:NAME`, at `base_url`) may spend; see docs/endpoints.md. Without `cache` their
    earlier answers are neither used nor kept. `general` is the text on which forgetting is measured (a file or folder),
    instead of the one of the package. `budget` is in seconds: arms predicted to pass it do not run.
    """
    settings = replace(
        _settings(recipes, models, device, dtype, trust_remote_code, runs),
        seeds=seeds,
        tolerance=tolerance,
        machine_price=machine_price,
        base_url=base_url,
        max_dollars=max_dollars,
        max_tokens=max_tokens,
        prices=None if prices is None else Path(prices),
        general=None if general is None else str(general),
        cache=cache,
        budget=budget,
    )
    with Store.open(settings.runs) as store:
        record = run(task or load_task(None), settings, store, watcher or _Unwatched(), source)
        write_report(store, record.id, _page(store, record.id))
        store.finish_run(record.id)
        return of_run(store, record.id)


def curve(
    task: Task | None = None,
    *,
    recipes: Sequence[str],
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    models: Sequence[str] = (),
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    base_url: str | None = None,
    max_dollars: float | None = None,
    max_tokens: int | None = None,
    prices: Path | str | None = None,
    cache: bool = True,
    runs: Path | str = RUNS,
    watcher: CurveWatcher | None = None,
    source: str = "",
) -> Curves:
    """Measure recipes with more and more labelled examples; None is the bundled task.

    Each size is measured on `draws` nested, stratified draws of train, with the same dev and test. The same call after
    an interruption goes on where it stopped; sizes, draws and recipes can be added. Models behind a server are asked
    as by `compare`, the caps holding for the whole curve. Raises UsageError for bad input.
    """
    settings = replace(
        _settings(recipes, models, device, dtype, trust_remote_code, runs),
        base_url=base_url,
        max_dollars=max_dollars,
        max_tokens=max_tokens,
        prices=None if prices is None else Path(prices),
        cache=cache,
    )
    with Store.open(settings.runs) as store:
        return measure_curve(task or load_task(None), settings, sizes, draws, store, watcher or _Unwatched(), source)


def show(name: str | None = None, *, runs: Path | str = RUNS) -> Comparison:
    """A stored run, finished or not; the latest by default. Raises StoreError where there is none."""
    with Store.open(runs, create=False) as store:
        return of_run(store, store.run(name).id)


def report(name: str | None = None, *, runs: Path | str = RUNS) -> Path:
    """Write a run's report.html anew; the latest by default."""
    with Store.open(runs, create=False) as store:
        found = store.run(name).id
        return write_report(store, found, _page(store, found))


def ask(
    run_name: str,
    recipe: str,
    text: str,
    *,
    choices: Sequence[str] | None = None,
    cache: bool = True,
    runs: Path | str = RUNS,
) -> Answer:
    """Answer a new input with a finished run's recipe, its trained weights included. "latest" names the latest run.

    `choices` are the input's own, of a task whose rows have them. What a server has answered before comes from the
    response cache, unless `cache` is False.
    """
    with Store.open(runs, create=False) as store:
        answerer = Answerer(store, run_name, recipe, cache=ResponseCache() if cache else None)
        return answerer(text, None if choices is None else tuple(choices))


def export(
    run_name: str,
    recipe: str,
    *,
    merged: Path | str | None = None,
    adapter: Path | str | None = None,
    runs: Path | str = RUNS,
    progress: Progress = lambda stage, done, total: None,
) -> list[Exported]:
    """Write a finished run's trained recipe as folders that other software loads: `merged` into the model, or as an
    `adapter` in peft's format. Each re-answers the test split first; raises ParityError where it answers otherwise."""
    if merged is None and adapter is None:
        raise UsageError("nothing to export: name a folder with --merged, --adapter or both")
    check_places(None if merged is None else Path(merged), None if adapter is None else Path(adapter))
    with Store.open(runs, create=False) as store:
        asked = [(export_merged, merged), (export_adapter, adapter)]
        return [write(store, run_name, recipe, Path(to), progress) for write, to in asked if to is not None]


def _settings(
    recipes: Sequence[str],
    models: Sequence[str],
    device: str | None,
    dtype: str | None,
    trust: bool,
    runs: Path | str,
) -> Settings:
    """What every measurement has."""
    named = tuple(models) or (DEFAULT_MODEL,)
    return Settings(tuple(recipes), named, device=device, dtype=dtype, trust_remote_code=trust, runs=Path(runs))


def _page(store: Store, run_id: str) -> Path:
    return store.run_folder(run_id) / "report.html"


class _Unwatched:
    """Shows nothing."""

    def begin(self, run: RunRecord, arms: Sequence[ArmRecord]) -> None:
        return None

    def note(self, text: str) -> None:
        return None

    def stage(self, arm: ArmRecord, stage: Stage) -> None:
        return None

    def end(self, arm: ArmRecord) -> None:
        return None

    def plan(self, seconds: Sequence[float]) -> None:
        return None

    def cell(self, place: int, name: str) -> None:
        return None
