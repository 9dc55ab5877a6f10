"""Accuracy: the share of answers that are the right choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.metrics.scoring import mean_score
from opportune.types import Example
from opportune.values import normalise


@dataclass(frozen=True, slots=True)
class Accuracy:
    """1 when the answer is the target, whatever its case and spacing."""

    summary: ClassVar[str] = "share of answers that are the right choice"
    source: ClassVar[str] = "the usual definition"
    binary: ClassVar[bool] = True
    additive: ClassVar[bool] = True

    def score(self, answer: str, example: Example) -> float:
        """1 or 0."""
        return float(normalise(answer) == normalise(example.target))

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)
