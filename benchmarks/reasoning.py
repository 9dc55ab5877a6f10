"""Small-model honesty: the strategies that reason, on tasks of the papers, with the default model.

python -m benchmarks.reasoning

Expected to lose or to sit at the floor at 135M parameters (Wei et al. 2022, table 2): the techniques need a more
capable model. The share of answers that could not be read is reported beside the score.
"""

from __future__ import annotations

import random
import re

from benchmarks.common import note, options, save
from benchmarks.compared import measure, resumable, row_of, task_of
from opportune.api import task_from_records
from opportune.types import Task

DIRECT = ("zero-shot", "k-shot:k=8,pick=random")
REASONED = (
    "chain-of-thought:k=0,max_tokens=96",
    "chain-of-thought:k=4,max_tokens=96",
    "self-consistency:n=5,of=(chain-of-thought:k=4,max_tokens=96)",
    "step-back:sense=abstract,max_tokens=64",
    "step-back:sense=reconsider,max_tokens=64",
)
LEAST = {"last_letters": "least-to-most:decompose=prefixes,max_tokens=64"}
NAMES = ("Ann", "Bo", "Cy", "Dee", "Eli", "Fay")
THINGS = ("pens", "apples", "stamps", "coins", "books", "shells")


def main() -> None:
    """One run a task."""
    given = options(__doc__ or "").parse_args()
    with resumable("reasoning") as runs:
        test, dev = (2, 2) if given.quick else (60, 10)
        limit, rows = f"train=64,dev={dev},test={test}", []
        tasks = {
            "last_letters": lambda: task_of(given.data, "last_letters", limit=limit, metric="exact-match"),
            "coin_flip": lambda: task_of(given.data, "coin_flip", limit=limit),
            "one_step_arithmetic": lambda: one_step(dev, test),
        }
        for name, make in tasks.items():
            least = LEAST.get(name, "least-to-most:max_tokens=64")
            recipes = [*DIRECT, *REASONED, least]
            if given.quick:
                recipes = [re.sub(r"max_tokens=\d+", "max_tokens=8", recipe) for recipe in recipes]
            found = measure(make(), recipes, given.model, runs)
            rows += [{"task": name, **row_of(row)} for row in found.rows]
            note(f"{name}: " + ", ".join(f"{r.recipe} {r.score.value if r.score else r.status}" for r in found.rows))
        save(given.out, "reasoning", {"work": f"{test} test questions a task", "quick": given.quick, "rows": rows})


def one_step(dev: int, test: int) -> Task:
    """Word problems of one addition or subtraction, with worked solutions, made by a seeded script."""
    chance, rows = random.Random(0), []
    for number in range(64 + dev + test):
        who, what, first, second = (
            chance.choice(NAMES),
            chance.choice(THINGS),
            chance.randint(2, 60),
            chance.randint(1, 30),
        )
        if chance.random() < 0.5 and first > second:
            told, total, sign = f"gives away {second}", first - second, "-"
        else:
            told, total, sign = f"gets {second} more", first + second, "+"
        rows.append(
            {
                "input": f"{who} has {first} {what} and {told}. How many {what} does {who} have now?",
                "target": str(total),
                "rationale": f"{who} starts with {first} and {told}: {first} {sign} {second} = {total}.",
                "split": "train" if number < 64 else "dev" if number < 64 + dev else "test",
            }
        )
    by_split = {split: [row for row in rows if row["split"] == split] for split in ("train", "dev", "test")}
    return task_from_records(by_split, name="one-step arithmetic", metric="numeric-match", kind="text")


if __name__ == "__main__":
    main()
