"""Runs a small comparison on a tiny network; a process of its own, so that a test can kill it.

python -m tests.run_tiny MODEL_FOLDER RUNS_FOLDER
"""

from __future__ import annotations

import sys

import torch

from opportune.api import compare
from tests.toy import toy_task

RECIPES = (
    "majority",
    "tfidf",
    "zero-shot",
    "k-shot:k=4,calibrate=contextual",
    "lora:rank=2,epochs=2,batch=4",
    "full:epochs=2,batch=4,rate=1e-3+k-shot:k=2",
)


def main(model: str, runs: str) -> None:
    torch.set_num_threads(1)
    compare(toy_task(), recipes=RECIPES, models=[model], dtype="float32", runs=runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
