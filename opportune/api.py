"""The Python face: everything the command line does, as calls.

    from opportune import compare, load_task

    task = load_task("tickets.csv", input="text", target="intent")
    comparison = compare(task, recipes=["zero-shot", "lora:rank=8+zero-shot"])
    comparison                       # a table in a notebook
    ask(comparison.run, "lora:rank=8+zero-shot", "my card has not arrived")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opportune import comparison as comparisons
from opportune.answering import answer_with
from opportune.comparison import Comparison
from opportune.report.page import write_report
from opportune.run import DEFAULT_MODEL, Settings, Watcher, run
from opportune.store import Store
from opportune.tasks.load import load_task, task_from_records
from opportune.types import Answer, Task

__all__ = ["ask", "compare", "load_task", "report", "show", "task_from_records"]


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
    runs: Path | str = "opportune-runs",
    watcher: Watcher | None = None,
    source: str = "",
) -> Comparison:
    """Measure recipes on a task and recommend one; None is the bundled task, no recipes are the ten defaults.

    The same call after an interruption goes on where it stopped. Raises UsageError for bad input before anything is
    measured; an arm that fails later is a row with its reason, never a score.
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
        runs=Path(runs),
    )
    with Store.open(settings.runs) as store:
        record = run(task or load_task(None), settings, store, watcher or _Unwatched(), source)
        write_report(store, record.id, report_path(store, record.id))
        result = comparisons.of_run(store, record.id)
        store.finish_run(record.id, comparisons.to_json(result))
        return result
