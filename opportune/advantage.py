"""How many labels a method is worth: the horizontal distance between two curves of score against labelled examples.

After Le Scao & Rush 2021 (How Many Data Points is a Prompt Worth?): curves are made monotone, as more examples cannot
hurt in expectation; the data advantage is their horizontal distance, averaged over the scores that both reach. Between
two sizes a curve is taken to be linear in the logarithm of the size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from opportune.statistics import Floats

_LEVELS = 200  # scores at which the distance is measured


def monotone(scores: Floats) -> Floats:
    """The nearest sequence that never falls (isotonic regression by least squares)."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(scores).x, dtype=np.float64)


def labels_for(score: float, sizes: Sequence[int], scores: Floats) -> float:
    """The fewest labels with which a curve that never falls reaches a score; infinite where it does not."""
    if score <= scores[0]:
        return float(sizes[0])
    if score > scores[-1]:
        return math.inf
    place = int(np.searchsorted(scores, score))
    below, above = scores[place - 1], scores[place]
    share = (score - below) / (above - below)
    return float(2 ** (math.log2(sizes[place - 1]) + share * math.log2(sizes[place] / sizes[place - 1])))


def overtakes(sizes: Sequence[int], first: Floats, second: Floats) -> float:
    """The number of labels from which the first curve is at least as high as the second, for good.

    0 where it is so at the smallest size already, infinite where it is not at the largest.
    """
    gaps = monotone(first) - monotone(second)
    behind = np.flatnonzero(gaps < -1e-12)
    if not behind.size:
        return 0.0
    last = int(behind[-1])
    if last == len(sizes) - 1:
        return math.inf
    share = -gaps[last] / (gaps[last + 1] - gaps[last])
    return float(2 ** (math.log2(sizes[last]) + share * math.log2(sizes[last + 1] / sizes[last])))


def data_advantage(sizes: Sequence[int], first: Floats, second: Floats) -> float:
    """How many labels the first curve saves beside the second, on average over the scores that both reach.

    Not a number where there are no such scores.
    """
    first, second = monotone(first), monotone(second)
    low, high = max(first[0], second[0]), min(first[-1], second[-1])
    if high - low < 1e-9:
        return math.nan
    levels = low + (np.arange(_LEVELS) + 0.5) / _LEVELS * (high - low)
    return float(np.mean([labels_for(s, sizes, second) - labels_for(s, sizes, first) for s in levels]))
