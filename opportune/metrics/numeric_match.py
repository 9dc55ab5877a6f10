"""Numeric match: whether the last number of the answer is the target's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.metrics.scoring import mean_score
from opportune.types import Example
from opportune.values import last_number

_RELATIVE_TOLERANCE = 1e-6
_ABSOLUTE_TOLERANCE = 1e-9  # for a target of zero


@dataclass(frozen=True, slots=True)
class NumericMatch:
    """1 when the last number in the answer equals the last number in the target within one part in a million.

    Reads 1,000, $3.50, 12 %, -4 and 2e5; signs of currency and percent are dropped, not converted. A target without a
    number is never matched.
    """

    summary: ClassVar[str] = "share of answers whose last number is the target's"
    source: ClassVar[str] = "as in GSM8K evaluations (Cobbe et al. 2021)"
    binary: ClassVar[bool] = True
    additive: ClassVar[bool] = True

    def score(self, answer: str, example: Example) -> float:
        """1 or 0."""
        found, wanted = last_number(answer), last_number(example.target)
        if found is None or wanted is None:
            return 0.0
        return float(math.isclose(found, wanted, rel_tol=_RELATIVE_TOLERANCE, abs_tol=_ABSOLUTE_TOLERANCE))

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)
