"""Multi-label F1: answers and targets that are sets of labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.errors import RecipeError
from opportune.metrics.scoring import mean_score
from opportune.types import Example
from opportune.values import normalise


@dataclass(frozen=True, slots=True)
class MultilabelF1:
    """The F1 of the answer's set of labels against the target's; order, repeats, case and spacing do not count.

    Labels stand between separators, or in a JSON list. The figure is the mean over examples (example-based F1), so that
    examples can be compared in pairs and intervals drawn; it is not the micro F1 over all labels at once.
    """

    separator: str = ","

    summary: ClassVar[str] = "F1 of the set of labels of each example, averaged over examples"
    source: ClassVar[str] = "Godbole and Sarawagi 2004 (as scikit-learn's average='samples')"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.separator:
            raise RecipeError("multilabel-f1:separator is empty; what stands between two labels is expected")

    def score(self, answer: str, example: Example) -> float:
        """From 0 to 1."""
        found, wanted = self._labels(answer), self._labels(example.target)
        if not found and not wanted:
            return 1.0
        return 2 * len(found & wanted) / (len(found) + len(wanted))

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)

    def _labels(self, text: str) -> set[str]:
        items: Sequence[object] | None = None
        if text.lstrip().startswith("["):
            try:
                items = json.loads(text)
            except (ValueError, RecursionError):
                items = None
        labels = text.split(self.separator) if items is None else map(str, items)
        return {normalise(label) for label in labels} - {""}
