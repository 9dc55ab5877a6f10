"""`opportune compare --try all-prompts` and `all-training` on the bundled task: wall time and every arm's figures.

python -m benchmarks.groups [--group all-prompts]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import note, options, save
from benchmarks.compared import measure, row_of
from opportune.api import load_task
from opportune.rows import Row

GROUPS = {  # the examples, and the minutes it may take on two cores
    "all-prompts": ("train=128,dev=40,test=100", 15),
    "all-training": ("train=128,dev=60,test=150", 30),
}


def main() -> None:
    """Measure the groups asked for, each from an empty folder."""
    parser = options(__doc__ or "")
    parser.add_argument("--group", choices=GROUPS, action="append", help="repeatable; both by default")
    given = parser.parse_args()
    for group in given.group or GROUPS:
        limit, minutes = GROUPS[group]
        task = load_task(None, limit="train=40,dev=10,test=10" if given.quick else limit)
        with tempfile.TemporaryDirectory() as runs:
            began = time.perf_counter()
            found = measure(task, [group], given.model, Path(runs))
            seconds = time.perf_counter() - began
        rows = [{"task": task.name, **row_of(row), **_costs(row)} for row in found.rows]
        work = f"{group} on {task.name}, {len(task.train)} train, {len(task.dev)} dev, {len(task.test)} test"
        figures = {"seconds": round(seconds, 1), "seconds_at_most": 60 * minutes, "rows": rows}
        save(given.out, group, {"work": work, "quick": given.quick, **figures})
        note(f"{group}: {seconds / 60:.1f} minutes of {minutes}")


def _costs(row: Row) -> dict[str, Any]:
    """What an arm was predicted to cost and what it did, as if it had run alone; what training did to it."""
    forgetting, gap = row.forgetting, row.gap
    predicted, measured = row.predicted and row.predicted.total(), row.measured.total()
    return {
        "predicted_seconds": predicted and predicted.seconds and round(predicted.seconds, 1),
        "seconds": measured.seconds and round(measured.seconds, 1),
        "predicted_bytes": predicted and predicted.peak_bytes,
        "peak_bytes": measured.peak_bytes,
        "training_seconds": (row.measured.training + row.measured.tuning).seconds,
        "training_tokens": row.measured.training.tokens_in,
        "rate": row.seeds[0].facts.rate,
        "rate_at_edge": row.rate_at_edge,
        "forgetting": forgetting and round(forgetting.after - forgetting.before, 4),
        "gap": gap and round(gap.dev - gap.train, 4),
    }


if __name__ == "__main__":
    main()
