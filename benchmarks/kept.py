"""Comparisons that are kept, for benchmarks of several sittings: what is done is not done again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from benchmarks.common import ROOT
from opportune.api import compare
from opportune.rows import Comparison
from opportune.store import Store
from opportune.types import Task


def keep_option(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Where the runs are kept."""
    runs = ROOT / "opportune-runs" / "benchmarks"
    parser.add_argument(
        "--runs", type=Path, default=runs, help="folder of the runs, to go on with (default %(default)s)"
    )
    return parser


def measure_kept(
    task: Task, recipes: Sequence[str], model: str | None, runs: Path, seeds: int = 1, dtype: str | None = None
) -> Comparison:
    """Compare recipes on a task, or go on where an earlier sitting stopped."""
    from opportune.cli.progress import LiveView

    with LiveView() as view:
        view.task(task)
        models = [model] if model else []
        return compare(task, recipes=recipes, models=models, seeds=seeds, dtype=dtype, runs=runs, watcher=view)


def accuracy_by(
    runs: Path, found: Comparison, key: Callable[[str, str], Hashable]
) -> dict[str, list[dict[str, object]]]:
    """By recipe: the share of right test answers by a key of input and target, in the key's order."""
    with Store.open(runs) as store:
        told = {e.example: key(e.input, e.target) for e in store.examples(found.run, "test")}
        scores = {row.recipe: store.outcomes(found.run, row.hash, "test") for row in found.rows}
    result = {}
    for recipe, outcomes in scores.items():
        by_key: dict[Hashable, list[float]] = {}
        for outcome in outcomes:
            by_key.setdefault(told[outcome.example], []).append(outcome.score or 0.0)
        result[recipe] = [
            {"at": at, "n": len(some), "accuracy": round(sum(some) / len(some), 4)}
            for at, some in sorted(by_key.items())
        ]
    return result
