"""chrF: how many runs of characters answer and target share (Popović 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from opportune.metrics.scoring import mean_score
from opportune.types import Example


@dataclass(frozen=True, slots=True)
class ChrF:
    """The F-measure (recall weighing twice) of runs of one to six characters, case counting and spaces not.

    The library sacrebleu's chrF2 of each example, as a share; the figure is the mean of the examples, not the score of
    all texts as one that translation contests report, so that examples can be compared in pairs.
    """

    summary: ClassVar[str] = "shared runs of characters (chrF2), for translations and languages with rich endings"
    source: ClassVar[str] = "Popović 2015, by the library sacrebleu"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def score(self, answer: str, example: Example) -> float:
        """From 0 to 1."""
        return min(1.0, float(_scorer().sentence_score(answer, [example.target]).score) / 100)

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)


@cache
def _scorer() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
