"""What the metrics share: how texts are made comparable, and the mean."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from opportune.types import Example, Metric


@lru_cache(maxsize=65536)  # a bootstrap compares the same texts a thousand times
def normalise(text: str) -> str:
    """The text without what no reader would call a difference: case, spacing, how accents are encoded."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def mean_score(metric: Metric, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
    """The mean of the scores, an unparsed answer (None) counting 0; not a number when there are no examples."""
    if not examples:
        return float("nan")
    scores = [
        0.0 if answer is None else metric.score(answer, example)
        for answer, example in zip(answers, examples, strict=True)
    ]
    return sum(scores) / len(scores)
