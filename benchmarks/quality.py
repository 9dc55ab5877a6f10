"""Quality, as a check of soundness: a few recipes on TREC, plain format, against where the default model should land.

python -m benchmarks.quality
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, options, save

SIZES = {"train": 256, "dev": 100, "test": 500}
SEEDS = 3  # draws of demonstrations and orders of lessons
NEAR = {  # recipe -> about where the accuracy should be with 256 labelled examples; None where nothing is known
    "zero-shot:format=plain": 0.30,
    "zero-shot:format=plain,calibrate=contextual": None,
    "k-shot:k=8,format=plain": 0.40,
    "k-shot:k=8,format=plain,calibrate=contextual": 0.55,
    "k-shot:k=32,format=plain": 0.50,
    "k-shot:k=32,format=plain,calibrate=contextual": 0.78,
    "k-shot:k=32,pick=random,format=plain": 0.50,
    "k-shot:k=32,pick=random,format=plain,calibrate=contextual": 0.78,
    "lora:rank=16+zero-shot:format=plain": 0.90,
}


def main() -> None:
    """Run `opportune compare` once with all recipes."""
    given = options(__doc__ or "").parse_args()
    recipes = list(NEAR)[:3] if given.quick else list(NEAR)
    sizes = {"train": 32, "dev": 10, "test": 10} if given.quick else SIZES
    limit = ",".join(f"{split}={size}" for split, size in sizes.items())
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "opportune", "compare", str(Path(given.data, "trec6").resolve()), "--json"]
        command += [
            "--limit",
            limit,
            "--runs",
            runs,
            "--seeds",
            str(1 if given.quick else SEEDS),
            *(["--model", given.model] if given.model else []),
        ]
        for recipe in recipes:
            command += ["--try", recipe]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - began
    compared = json.loads(done.stdout)
    figures = {
        "work": f"trec6, {limit}",
        "seeds": len(compared["seeds"]),
        "quick": given.quick,
        "seconds": round(seconds, 1),
        "models": [{key: model[key] for key in ("name", "parameters", "digest")} for model in compared["models"]],
        "rows": [_row(row, near) for row, near in zip(compared["rows"], [NEAR[r] for r in recipes], strict=True)],
        "recommended": compared["recommended"],
    }
    save(given.out, "quality", figures)


def _row(row: dict[str, Any], near: float | None) -> dict[str, Any]:
    kept = ("recipe", "status", "score", "low", "high", "n", "failed", "unparsed", "dev_score")
    return {key: row[key] for key in kept} | {"expected_near": near, "cost": row["cost"]}


if __name__ == "__main__":
    main()
