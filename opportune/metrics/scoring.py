"""What the metrics share: the mean."""

from __future__ import annotations

from collections.abc import Sequence

from opportune.types import Example, Metric


def mean_score(metric: Metric, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
    """The mean of the scores, an unparsed answer (None) counting 0; not a number when there are no examples."""
    if not examples:
        return float("nan")
    scores = [
        0.0 if answer is None else metric.score(answer, example)
        for answer, example in zip(answers, examples, strict=True)
    ]
    return sum(scores) / len(scores)
