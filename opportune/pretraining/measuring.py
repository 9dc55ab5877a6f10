"""Figures of a pretraining: its curve, and its loss in bits per character, which no tokenizer can flatter."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate
from statistics import fmean

from opportune.pretraining.order import Point
from opportune.training.loop import Trained


def bits(nats: float, documents: Iterable[str]) -> tuple[float, float]:
    """The summed loss of documents and their ends in bits per character and per byte (UTF-8) of their text."""
    sizes = [(len(text), len(text.encode("utf-8", "surrogatepass"))) for text in documents]
    characters, size = (sum(each) for each in zip(*sizes, strict=True))
    return nats / math.log(2) / characters, nats / math.log(2) / size


def curve_of(trained: Trained) -> tuple[Point, ...]:
    """The validations on the way; seconds are those of the steps alone."""
    seconds = [0.0, *accumulate(step.seconds for step in trained.steps)]
    tokens = [0, *accumulate(step.tokens for step in trained.steps)]
    points, since = [], 0
    for evaluation in trained.evaluations:
        at = evaluation.step
        mean = fmean(step.loss for step in trained.steps[since:at])
        points.append(Point(at, tokens[at], seconds[at], evaluation.figures["loss"], mean))
        since = at
    return tuple(points)
