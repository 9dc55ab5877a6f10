"""Made-up arms for tests of comparisons: every answer a mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from opportune.comparison import build
from opportune.cost import Amount, Cost
from opportune.metrics.accuracy import Accuracy
from opportune.records import ArmRecord, ArmStatus, ExampleRecord, Facts, OutcomeRecord, RunConfig, RunRecord
from opportune.rows import Comparison, Row
from opportune.types import Metric, Split

LABELS = ["refund", "card", "other"]
CONFIG: RunConfig = {
    "task": {
        "name": "desk",
        "source": "desk.csv",
        "kind": "choice",
        "instruction": "What is it about?",
        "metric": "accuracy",
        "labels": LABELS,
        "notes": [],
    },
    "models": [
        {"name": "tiny", "path": "/m", "parameters": 9, "digest": "d", "dtype": "float32", "device": "cpu"},
    ],
    "seeds": [0],
    "tolerance": 0.03,
    "machine_price": None,
    "versions": {},
}
RUN = RunRecord("r", "key", "2026-08-23T12:00:00+00:00", "desk", CONFIG)


@dataclass(frozen=True)
class Arm:
    """An arm by the marks of its answers: 1 right, 0 wrong, u unparsed, f failed; a string per seed."""

    recipe: str
    test: tuple[str, ...] = ()
    dev: tuple[str, ...] = ("1",)
    seconds: float = 1.0  # of asking the whole test split
    tuning: float = 0.0
    status: ArmStatus = "done"
    dollars: float | None = None
    facts: Facts = field(default_factory=Facts)


def target(number: int) -> str:
    return LABELS[number % len(LABELS)]


def wrong(number: int) -> str:
    return LABELS[(number + 1) % len(LABELS)]


def outcome(recipe: str, seed: int, split: Split, number: int, mark: str) -> OutcomeRecord:
    answer = {"1": target(number), "0": wrong(number)}.get(mark)
    status = {"f": "failed", "u": "unparsed"}.get(mark, "ok")
    score = None if mark == "f" else float(mark == "1")
    return OutcomeRecord("r", recipe, seed, split, f"{split}{number}", answer, answer or "", status, score)  # type: ignore[arg-type]


def comparison(
    arms: Sequence[Arm],
    metric: Metric | None = None,
    groups: Mapping[int, str] | None = None,
    size: int | None = None,
    tolerance: float = 0.03,
) -> Comparison:
    """The comparison of made-up arms; `groups` by test example, `size` of the test split."""
    size = size or max(len(marks) for arm in arms for marks in arm.test or ("1",))
    examples = [
        ExampleRecord("r", split, n, f"{split}{n}", f"message {n}", target(n), None, (groups or {}).get(n))
        for split, count in (("train", 2), ("dev", 60), ("test", size))
        for n in range(count)
    ]
    records = [
        ArmRecord(
            *("r", arm.recipe, seed, place, arm.recipe, "tiny", {}, arm.status),
            "out of memory" if arm.status == "failed" else None,
            measured=Cost(
                tuning=Amount(seconds=arm.tuning),
                asking=Amount(seconds=arm.seconds, calls=size, dollars=arm.dollars, peak_bytes=7),
            ),
            facts=arm.facts,
        )
        for place, arm in enumerate(arms)
        for seed in range(max(len(arm.test), 1))
    ]
    outcomes = [
        outcome(arm.recipe, seed, split, number, mark)
        for arm in arms
        for split, seeds in (("dev", arm.dev), ("test", arm.test))
        for seed, marks in enumerate(seeds)
        for number, mark in enumerate(marks)
    ]
    run = replace(RUN, config={**CONFIG, "tolerance": tolerance})
    return build(run, records, examples, outcomes, metric or Accuracy())


def row(found: Comparison, recipe: str) -> Row:
    found_row = found.row(recipe)
    assert found_row is not None
    return found_row


def marks(right: int, wrong: int) -> str:
    """So many right, then so many wrong."""
    return "1" * right + "0" * wrong
