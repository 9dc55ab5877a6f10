"""Calibration, in the shape of Zhao et al. 2021, table 1: mean and worst accuracy over draws of the shots, with and
without.

python -m benchmarks.calibration
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.common import options, save
from benchmarks.compared import measure, resumable, task_of

TASKS, SHOTS, DRAWS, TEST = ("trec6", "sst2", "dbpedia14"), (4, 8), 5, 300
KINDS = ("none", "contextual", "batch")


def main() -> None:
    """One run a task: every number of shots, plain and calibrated, under the same draws."""
    given = options(__doc__ or "").parse_args()
    with resumable("calibration") as runs:
        draws, test = (2, 10) if given.quick else (DRAWS, TEST)
        rows = []
        for name in TASKS[:1] if given.quick else TASKS:
            task = task_of(given.data, name, limit=f"train=1000,dev=10,test={test}")
            recipes = [f"k-shot:k={k},pick=random,format=plain,calibrate={kind}" for k in SHOTS for kind in KINDS]
            found = measure(task, recipes, given.model, runs, draws)
            rows += [{"task": name, "shots": k, **_figures(found, k)} for k in SHOTS]
        work = f"{test} test questions, {draws} random draws of the shots"
        save(given.out, "calibration", {"work": work, "quick": given.quick, "rows": rows})


def _figures(found: Any, k: int) -> dict[str, Any]:
    by_kind = {kind: found.row(f"k-shot:k={k},pick=random,format=plain,calibrate={kind}") for kind in KINDS}
    return {kind: _spread([seed.score for seed in row.seeds]) for kind, row in by_kind.items()}


def _spread(scores: list[float]) -> dict[str, Any]:
    return {
        "mean": round(statistics.mean(scores), 4),
        "sd": round(statistics.stdev(scores), 4),
        "worst": round(min(scores), 4),
        "scores": [round(score, 4) for score in scores],
    }


if __name__ == "__main__":
    main()
