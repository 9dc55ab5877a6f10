"""Contains: whether the answer names the target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.metrics.scoring import mean_score
from opportune.types import Example
from opportune.values import bounded, normalise


@dataclass(frozen=True, slots=True)
class Contains:
    """1 when the target occurs in the answer as words of its own, whatever the case and spacing.

    In a script without spaces between words (Chinese, Thai), wherever it occurs.
    For answers in whole sentences. An answer that names every possibility is right by it, so look at some.
    """

    summary: ClassVar[str] = "share of answers in which the target occurs, as words of its own"
    source: ClassVar[str] = "as in open-domain question answering (Mallen et al. 2023)"
    binary: ClassVar[bool] = True
    additive: ClassVar[bool] = True

    def score(self, answer: str, example: Example) -> float:
        """1 or 0."""
        return float(re.search(bounded(normalise(example.target)), normalise(answer)) is not None)

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)
