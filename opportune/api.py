"""The Python face: everything the command line does, as calls.

from opportune import ask, compare, load_task

task = load_task("tickets.csv", input="text", target="intent")
comparison = compare(task, recipes=["zero-shot", "lora:rank=8+zero-shot"])
comparison                       # a table in a notebook
ask("latest", "lora:rank=8+zero-shot", "my card has not arrived").text
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opportune.answering import Answerer
from opportune.arm import Stage
from opportune.comparison import of_run
from opportune.records import ArmRecord, RunRecord
from opportune.report.page import fragment, write_report
from opportune.rows import Comparison
from opportune.run import DEFAULT_MODEL, Settings, Watcher, run
from opportune.schema import to_json
from opportune.store import Store
from opportune.tasks.load import load_task, task_from_records
from opportune.types import Answer, Task

__all__ = ["ask", "compare", "load_task", "report", "show", "task_from_records"]

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
    budget: float | None = None,
    runs: Path | str = RUNS,
    watcher: Watcher | None = None,
    source: str = "",
) -> Comparison:
    """Measure recipes on a task and recommend one; None is the bundled task, no recipes are the ten defaults.

    The same call after an interruption goes on where it stopped. Raises UsageError for bad input before anything is
    measured; an arm that fails later is a row with its reason, never a score. `max_dollars` and `max_tokens` cap what
    models behind a server (`openai:NAME`, at `base_url`) may spend; see docs/endpoints.md. `budget` is in seconds:
    arms predicted to pass it do not run.
    """
    settings = Settings(
        recipes=tuple(recipes),
        models=tuple(models) or (DEFAULT_MODEL,),
        seeds=seeds,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        tolerance=tolerance,
        machine_price=machine_price,
        base_url=base_url,
        max_dollars=max_dollars,
        max_tokens=max_tokens,
        prices=None if prices is None else Path(prices),
        budget=budget,
        runs=Path(runs),
    )
    with Store.open(settings.runs) as store:
        record = run(task or load_task(None), settings, store, watcher or _Unwatched(), source)
        store.finish_run(record.id, {})
        write_report(store, record.id, _page(store, record.id))
        comparison = of_run(store, record.id)
        store.finish_run(record.id, to_json(comparison))
        return comparison


def show(name: str | None = None, *, runs: Path | str = RUNS) -> Comparison:
    """A stored run, finished or not; the latest by default. Raises StoreError where there is none."""
    with Store.open(runs, create=False) as store:
        return of_run(store, store.run(name).id)


def report(name: str | None = None, *, runs: Path | str = RUNS) -> Path:
    """Write a run's report.html anew; the latest by default."""
    with Store.open(runs, create=False) as store:
        found = store.run(name).id
        return write_report(store, found, _page(store, found))


def ask(run_name: str, recipe: str, text: str, *, runs: Path | str = RUNS) -> Answer:
    """Answer a new input with a finished run's recipe, its trained weights included. "latest" names the latest run."""
    with Store.open(runs, create=False) as store:
        return Answerer(store, run_name, recipe)(text)


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
