"""Reasoning by training: last letters and SCAN's length split, accuracy by length, with LoRA on three sorts of lessons.

python -m benchmarks.reasoning_by_training [--task last_letters]

Direct answers; worked solutions (chain of thought); and decompositions, the trained solver then driven by
least-to-most (Zhou et al. 2022). Trained on short inputs, tested on longer ones. Expected: direct answers collapse with
length, worked solutions less, decompositions extrapolate. Goes on where an earlier sitting stopped.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import scan
from benchmarks.common import note, options, read, save
from benchmarks.compared import row_of
from benchmarks.kept import accuracy_by, keep_option, measure_kept
from opportune.api import task_from_records
from opportune.strategies.least_to_most import prefixes
from opportune.types import Task

LORA = "lora:rank=16,rate=1e-3,epochs={epochs}"
SHORT, LONG = (2, 3, 4), (2, 4, 6, 8, 10, 12)  # words of a list: trained on, tested on
WORDING = 'Take the last letters of each words in "{}" and concatenate them.'  # that of the published task
SCAN_BANDS = (8, 16, 22, 26, 30, 36, 48)  # actions of a test example, up to; 22 and less as in training


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of everything."""

    train: int = 400
    dev: int = 24
    test: int = 24  # of each length
    epochs: int = 3


def main() -> None:
    """The tasks asked for."""
    parser = keep_option(options(__doc__ or ""))
    parser.add_argument("--task", action="append", choices=list(TASKS), help="repeatable (default: both)")
    given = parser.parse_args()
    amounts = Amounts(train=8, dev=2, test=1, epochs=1) if given.quick else Amounts()
    for name in given.task or list(TASKS):
        arms = TASKS[name](given.data, amounts)
        found: dict[str, Any] = {}
        for what, task, strategy, length, epochs in arms:
            strategy = re.sub(r"max_tokens=\d+", "max_tokens=16", strategy) if given.quick else strategy
            recipe = f"{LORA.format(epochs=min(epochs, amounts.epochs))}+{strategy}"
            compared = measure_kept(task, [recipe], given.model, given.runs)
            by_length = accuracy_by(given.runs, compared, length)
            found[what] = row_of(compared.rows[0]) | {"by_length": by_length[compared.rows[0].recipe]}
            note(f"{name}, {what}: {[(part['at'], part['accuracy']) for part in found[what]['by_length']]}")
        work = f"{amounts.train} training examples, {amounts.test} test questions of each length"
        save(given.out, f"reasoning-by-training-{name}", {"work": work, "quick": given.quick, "arms": found})


# What, task, strategy, length of an example, epochs: fewer where an example is many lessons.
Arms = list[tuple[str, Task, str, Callable[[str, str], int], int]]


def last_letters(data: str, amounts: Amounts) -> Arms:
    """Lists of the published task's names: trained on 2 to 4, tested on up to 12."""
    folder = str(Path(data, "last_letters"))
    names = sorted(
        {word for split in ("train", "test") for row in read(folder, split) for word in _listed(row["input"])}
    )
    chance = random.Random(0)

    def draw(count: int, lengths: Sequence[int]) -> list[list[str]]:
        return [chance.sample(names, lengths[place % len(lengths)]) for place in range(count)]

    splits = {
        "train": draw(amounts.train, SHORT),
        "dev": draw(amounts.dev, SHORT),
        "test": draw(amounts.test * len(LONG), LONG),
    }

    def task(rationale: Callable[[list[str]], Any]) -> Task:
        rows = {
            split: [{"input": _asked(w), "target": _joined(w), "rationale": rationale(w)} for w in lists]
            for split, lists in splits.items()
        }
        return task_from_records(rows, name="last letters", metric="exact-match", kind="text")

    def length(text: str, _: str) -> int:
        return len(_listed(text))

    flat, nested = task(_solution), task(_decomposition)
    return [
        ("direct answers", flat, "zero-shot", length, 3),
        ("worked solutions", flat, "chain-of-thought:k=0,final=text,max_tokens=256", length, 3),
        ("least-to-most", nested, "least-to-most:decompose=prefixes,k=0,steps=12,max_tokens=64", length, 3),
    ]


def scan_length(data: str, amounts: Amounts) -> Arms:
    """The official length split: at most 22 actions in training, up to 48 in test; and short ones held out."""
    folder, chance = str(Path(data, "scan_length")), random.Random(0)
    short, long = (scan.rows(chance.sample(rows, len(rows))) for rows in (read(folder, "train"), read(folder, "test")))
    bands: dict[int, list[Any]] = {band: [] for band in SCAN_BANDS}
    for row in [*short[amounts.train + amounts.dev :], *long]:
        some = bands[_band("", row["target"])]
        if len(some) < amounts.test:
            some.append(row)
    splits = {
        "train": short[: amounts.train],
        "dev": short[amounts.train : amounts.train + amounts.dev],
        "test": [row for some in bands.values() for row in some],
    }
    task = task_from_records(
        splits, name="SCAN, length split", metric="exact-match", kind="text", instruction=scan.INSTRUCTION
    )
    return [
        ("direct answers", task, "zero-shot", _band, 3),
        ("worked solutions", task, "chain-of-thought:k=0,final=text,max_tokens=320", _band, 3),
        ("least-to-most", task, "least-to-most:k=0,steps=8,max_tokens=128", _band, 1),
    ]


TASKS: dict[str, Callable[[str, Amounts], Arms]] = {"last_letters": last_letters, "scan_length": scan_length}


def _band(_: str, target: str) -> int:
    return next(band for band in SCAN_BANDS if len(target.split()) <= band)


def _asked(words: Sequence[str]) -> str:
    return WORDING.format(" ".join(words))


def _listed(text: str) -> list[str]:
    return text.split('"')[1].split()


def _joined(words: Sequence[str]) -> str:
    return "".join(word[-1].lower() for word in words)


def _last(word: str) -> str:
    return f'The last letter of "{word}" is "{word[-1].lower()}".'


def _solution(words: Sequence[str]) -> str:
    """In the published task's words."""
    return f'{" ".join(map(_last, words))} Concatenating them is "{_joined(words)}".'


def _decomposition(words: Sequence[str]) -> list[dict[str, str]]:
    """Each longer list from the one before it, as in Zhou et al. 2022."""
    questions = [*prefixes(_asked(words)), _asked(words)]
    found = []
    for place, question in enumerate(questions):
        so_far, word = words[: place + 1], words[place + 1]
        before = _last(so_far[0]) if place == 0 else f'"{" ".join(so_far)}" gives "{_joined(so_far)}".'
        joined = f'Concatenating "{_joined(so_far)}", "{word[-1].lower()}" leads to "{_joined(words[: place + 2])}".'
        found.append({"question": question, "answer": f"{before} {_last(word)} {joined}"})
    return found


if __name__ == "__main__":
    main()
