"""What became of each label under an arm: the confusion matrix and the recall per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opportune.records import OutcomeRecord

MOST_LABELS = 20


@dataclass(frozen=True, slots=True)
class Confusion:
    """counts[i][j]: examples of targets[i] that were answered answers[j]."""

    targets: tuple[str, ...]
    answers: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    labels: int  # how many labels there are; more than targets when only the most confused are shown


def confusion(outcomes: Sequence[OutcomeRecord], targets: Mapping[str, str], labels: Sequence[str]) -> Confusion:
    """The matrix over these outcomes (of any number of seeds); `targets` maps an example's id to its label.

    Beyond 20 labels the 20 most confused are shown. What is no label has a column of its own: `unparsed`, `failed`.
    """
    pairs = Counter((targets[outcome.example], _answered(outcome)) for outcome in outcomes)
    confused: Counter[str] = Counter()
    for (target, answer), count in pairs.items():
        if target != answer:
            confused.update({target: count, answer: count})
    shown = list(labels)
    if len(shown) > MOST_LABELS:
        most = sorted(labels, key=lambda label: -confused[label])[:MOST_LABELS]
        shown = [label for label in labels if label in set(most)]
    extra = [name for name in ("(unparsed)", "(failed)") if any(answer == name for _, answer in pairs)]
    columns = (*shown, *extra)
    counts = tuple(tuple(pairs[target, answer] for answer in columns) for target in shown)
    return Confusion(tuple(shown), columns, counts, len(labels))


def recall(
    outcomes: Sequence[OutcomeRecord], targets: Mapping[str, str], labels: Sequence[str]
) -> tuple[float | None, ...]:
    """The share of each label's examples answered right, failed calls left out; None where none was asked."""
    asked, right = Counter[str](), Counter[str]()
    for outcome in outcomes:
        if outcome.status != "failed":
            target = targets[outcome.example]
            asked[target] += 1
            right[target] += outcome.answer == target
    return tuple(right[label] / asked[label] if asked[label] else None for label in labels)


def _answered(outcome: OutcomeRecord) -> str:
    return f"({outcome.status})" if outcome.answer is None else outcome.answer
