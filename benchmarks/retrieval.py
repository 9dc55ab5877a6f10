"""Retrieval of demonstrations: Banking77, k = 10, random against the most similar (Bertsch et al. 2024).

python -m benchmarks.retrieval
"""

from __future__ import annotations

from benchmarks.common import options, save
from benchmarks.compared import measure, resumable, row_of, task_of

PICKS = ("pick=random", "pick=nearest", "pick=diverse", "pick=nearest,similarity=embedding")


def main() -> None:
    """One run with all ways of picking."""
    given = options(__doc__ or "").parse_args()
    with resumable("retrieval") as runs:
        limit = "train=100,dev=4,test=4" if given.quick else "train=2000,dev=20,test=200"
        task = task_of(given.data, "banking77", limit=limit)
        found = measure(task, [f"k-shot:k=10,{pick},format=plain" for pick in PICKS], given.model, runs)
        rows = [row_of(row) for row in found.rows]
        save(given.out, "retrieval", {"work": f"banking77, {limit}, k=10", "quick": given.quick, "rows": rows})


if __name__ == "__main__":
    main()
