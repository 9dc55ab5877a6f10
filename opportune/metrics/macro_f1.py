"""Macro F1: the F1 of each label, averaged, so that rare labels weigh as much as common ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.metrics.scoring import normalise
from opportune.types import Example


@dataclass(frozen=True, slots=True)
class MacroF1:
    """The unweighted mean of F1 over the labels that occur among the targets.

    It is no mean of per-example scores; the score of an example is whether it is right, so that pairs can be compared.
    `binary` is False because Wilson's interval, made for a share, does not hold for the figure.
    """

    summary: ClassVar[str] = "F1 of each label that occurs among the targets, averaged"
    source: ClassVar[str] = "van Rijsbergen 1979; averaged as by scikit-learn (average='macro')"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = False

    def score(self, answer: str, example: Example) -> float:
        """1 when the answer is the target, else 0."""
        return float(normalise(answer) == normalise(example.target))

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The macro F1; an unparsed answer (None) misses its label and predicts none; not a number without examples."""
        if not examples:
            return float("nan")
        targets = [normalise(example.target) for example in examples]
        predicted = [None if answer is None else normalise(answer) for answer in answers]
        actual, claimed = Counter(targets), Counter(predicted)
        right = Counter(target for target, answer in zip(targets, predicted, strict=True) if target == answer)
        return sum(2 * right[label] / (actual[label] + claimed[label]) for label in actual) / len(actual)
