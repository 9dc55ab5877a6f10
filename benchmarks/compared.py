"""What the benchmarks of quality share: one comparison through the Python face, in a folder of its own.

The folder stays until the benchmark has written its result: cut short, the same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, commit
from opportune.api import compare, load_task
from opportune.rows import Comparison
from opportune.types import Task


def task_of(data: str, name: str, **options: Any) -> Task:
    """A public task by its folder's name."""
    return load_task(str(Path(data, name).resolve()), **options)


@contextmanager
def resumable(name: str) -> Iterator[Path]:
    """A folder for the runs of a benchmark, the same for the same command and commit; gone once the block has ended."""
    asked = hashlib.sha256(f"{commit()} {shlex.join(sys.argv[1:])}".encode()).hexdigest()[:8]
    folder = ROOT / "benchmarks" / ".runs" / f"{name}-{asked}"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def measure(task: Task, recipes: Sequence[str], model: str | None, runs: Path, seeds: int = 1) -> Comparison:
    """Compare recipes on a task, or go on with it."""
    from opportune.cli.progress import LiveView

    with LiveView() as view:
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
        **{f"{name}_per_question": _each(found, name) for name in ("calls", "tokens_in", "tokens_out")},
        "why": found.why,
    }


def _each(found: Any, name: str) -> float | None:
    amount = getattr(found.measured.asking, name)
    return None if amount is None or not found.n else round(amount / found.n, 2)
