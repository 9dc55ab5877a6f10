"""What the benchmarks of quality share: one comparison through the Python face, in a folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opportune.api import compare, load_task
from opportune.rows import Comparison
from opportune.types import Task


def task_of(data: str, name: str, **options: Any) -> Task:
    """A public task by its folder's name."""
    return load_task(str(Path(data, name).resolve()), **options)


def measure(task: Task, recipes: Sequence[str], model: str | None, seeds: int = 1) -> Comparison:
    """Compare recipes on a task; nothing of the run is kept."""
    from opportune.cli.progress import LiveView

    with tempfile.TemporaryDirectory() as runs, LiveView() as view:
        view.task(task)
        models = [model] if model else []
        return compare(task, recipes=recipes, models=models, seeds=seeds, runs=runs, watcher=view)


def row_of(found: Any) -> dict[str, Any]:
    """What is kept of an arm."""
    return {
        "recipe": found.recipe,
        "status": found.status,
        "score": found.score and round(found.score.value, 4),
        "low": found.score and round(found.score.low, 4),
        "high": found.score and round(found.score.high, 4),
        "n": found.n,
        "failed": found.failed,
        "unparsed": found.unparsed,
        "scores_by_seed": [seed.score for seed in found.seeds],
        "seconds_per_1000": found.asking_per_1000.seconds and round(found.asking_per_1000.seconds, 1),
        "calls_per_question": found.n
        and found.measured.asking.calls
        and round(found.measured.asking.calls / found.n, 2),
    }
