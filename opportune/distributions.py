"""Distributions given by their log-probabilities: how open they are, and how far one is from another.

Everything is in nats (`bits` turns them into bits) and computed in float64 on normalised values, so that what a network
gives in float32 does not have to sum to 1 exactly. A probability of 0 has the log-probability minus infinity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Logs: TypeAlias = "Sequence[float] | NDArray[Any]"


def bits(nats: float) -> float:
    """Nats as bits."""
    return nats / math.log(2)


def normalised(logs: Logs) -> Floats:
    """Log-probabilities shifted so that the probabilities sum to 1."""
    values = np.asarray(logs, dtype=np.float64)
    top = values.max()
    return np.asarray(values - (top + math.log(np.exp(values - top).sum())))


def are_logs(scores: Iterable[float]) -> bool:
    """Whether scores of all choices are log-probabilities, which sum to 1 as probabilities, and not shares of votes."""
    known = list(scores)
    return max(known, default=1.0) < 1e-3 and abs(math.fsum(map(math.exp, known)) - 1) < 1e-3


def entropy(logs: Logs) -> float:
    """How open the outcome is (Shannon 1948): 0 when it is certain, log n when n outcomes are equally likely."""
    values = normalised(logs)
    return max(0.0, -_weighted(values, values))


def divergence(first: Logs, second: Logs) -> float:
    """KL(first || second) (Kullback & Leibler 1951): what it costs to expect `second` where `first` is the truth."""
    one, other = normalised(first), normalised(second)
    with np.errstate(invalid="ignore"):  # where both are impossible the difference is not read
        return max(0.0, _weighted(one, one - other))


def jensen_shannon(first: Logs, second: Logs) -> float:
    """The Jensen-Shannon divergence (Lin 1991): symmetric, never infinite, log 2 at most."""
    one, other = normalised(first), normalised(second)
    middle = np.logaddexp(one, other) - math.log(2)
    return (divergence(one, middle) + divergence(other, middle)) / 2


def total_variation(first: Sequence[float], second: Sequence[float]) -> float:
    """Half the sum of the differences of two distributions, given as probabilities: the share that would have to move
    to make one into the other, 0 to 1."""
    return float(np.abs(np.asarray(first) - np.asarray(second)).sum() / 2)


def _weighted(logs: Floats, values: Floats) -> float:
    """The mean of values under a distribution; what never happens does not count, whatever its value."""
    there = logs > -np.inf
    return float((np.exp(logs[there]) * values[there]).sum())
