"""Score against labelled examples: lines, where training overtakes prompting, and what a method is worth in labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from opportune import scoring
from opportune.advantage import data_advantage, overtakes
from opportune.scoring import Estimate, Sample
from opportune.statistics import Floats

_DEFINED = 0.9  # share of the resamples that must have a figure for it to have an interval
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """A recipe as it was measured: its test answers by number of labelled examples, one row of scores a draw."""

    recipe: str
    trained: bool
    flat: bool  # it never looks at the labelled examples: one measurement for all sizes
    samples: Mapping[int, Sample]
    runs: Mapping[int, tuple[str, ...]]  # by size, a run a draw


@dataclass(frozen=True, slots=True)
class Point:
    """A score at a number of labelled examples."""

    size: int
    score: Estimate  # over draws and test examples
    by_draw: tuple[float, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One recipe's curve."""

    recipe: str
    trained: bool
    flat: bool
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Overtaking:
    """From where on a trained recipe is at least as good as one that only asks."""

    trained: str
    asked: str
    labels: float  # 0: from the smallest size on; infinite: not within the sizes
    low: float  # 95 % over draws and test examples
    high: float
    measurably: int | None  # the smallest size from which on every paired difference is above zero


@dataclass(frozen=True, slots=True)
class Advantage:
    """How many labels the first recipe saves beside the second."""

    first: str
    second: str
    labels: float
    low: float | None  # None where too few resamples have common scores
    high: float | None


@dataclass(frozen=True, slots=True)
class Curves:
    """Everything the table, the page and the JSON show."""

    task: str
    metric: str
    sizes: tuple[int, ...]
    draws: int
    test: int  # examples
    lines: tuple[Line, ...]
    overtakings: tuple[Overtaking, ...]
    advantages: tuple[Advantage, ...]
    notes: tuple[str, ...]


def build(
    task: str, metric: str, sizes: Sequence[int], draws: int, measured: Sequence[Measured], notes: Sequence[str]
) -> Curves:
    """The curves of these measurements. Failed calls widen the intervals of scores; elsewhere they count as wrong."""
    curved = [one for one in measured if not one.flat]
    pairs = [(one, other) for one in measured if one.trained for other in measured if not other.trained]
    return Curves(
        task=task,
        metric=metric,
        sizes=tuple(sizes),
        draws=draws,
        test=max((len(sample.examples) for one in measured for sample in one.samples.values()), default=0),
        lines=tuple(Line(one.recipe, one.trained, one.flat, _points(one)) for one in measured),
        overtakings=tuple(_overtaking(*pair, draws) for pair in pairs if len(_common(*pair)) > 0),
        advantages=tuple(found for pair in combinations(curved, 2) if (found := _advantage(*pair, draws)) is not None),
        notes=tuple(notes),
    )


def to_json(curves: Curves) -> dict[str, Any]:
    """The object that `opportune curve --json` prints; infinity is null with its side told."""
    return {
        "schema": SCHEMA,
        "task": {"name": curves.task, "metric": curves.metric, "test": curves.test},
        "sizes": list(curves.sizes),
        "draws": curves.draws,
        "lines": [
            {
                "recipe": line.recipe,
                "trained": line.trained,
                "flat": line.flat,
                "points": [
                    {
                        "labels": point.size,
                        "score": point.score.value,
                        "low": point.score.low,
                        "high": point.score.high,
                        "by_draw": list(point.by_draw),
                        "runs": list(point.runs),
                    }
                    for point in line.points
                ],
            }
            for line in curves.lines
        ],
        "overtakings": [
            {
                "trained": found.trained,
                "asked": found.asked,
                "labels": _finite(found.labels),
                "low": _finite(found.low),
                "high": _finite(found.high),
                "within_sizes": math.isfinite(found.labels),
                "measurably_from": found.measurably,
            }
            for found in curves.overtakings
        ],
        "advantages": [
            {
                "recipe": found.first,
                "over": found.second,
                "labels": found.labels,
                "low": found.low,
                "high": found.high,
            }
            for found in curves.advantages
        ],
        "notes": list(curves.notes),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _points(measured: Measured) -> tuple[Point, ...]:
    found = []
    for size, sample in measured.samples.items():
        if (score := scoring.estimate(sample)) is not None:
            found.append(Point(size, score, tuple(scoring.figures(sample).values()), measured.runs[size]))
    return tuple(found)


def _common(first: Measured, second: Measured) -> list[int]:
    return [size for size in first.samples if size in second.samples]


def _curve(measured: Measured, sizes: Sequence[int]) -> Floats:
    return np.array([scoring.strict_figure(measured.samples[size]) for size in sizes])


def _resampled(measured: Measured, sizes: Sequence[int], draws: int) -> Floats:
    """The curve in each resample of draws and test examples: resamples x sizes."""
    return np.stack(
        [scoring.resampled(scoring.filled(measured.samples[size], right=False), draws) for size in sizes], axis=1
    )


def _spread(
    figure: Callable[[Sequence[int], Floats, Floats], float],
    first: Measured,
    second: Measured,
    sizes: Sequence[int],
    draws: int,
) -> tuple[float, float] | None:
    """The 95 % interval of a figure of two curves, by the bootstrap over draws and examples, both alike."""
    resamples = zip(_resampled(first, sizes, draws), _resampled(second, sizes, draws), strict=True)
    values = np.array([figure(sizes, one, other) for one, other in resamples])
    known = values[~np.isnan(values)]
    if len(known) < _DEFINED * len(values):
        return None
    low, high = np.quantile(known, (0.025, 0.975), method="nearest")  # between finite and infinite lies nothing
    return float(low), float(high)


def _overtaking(trained: Measured, asked: Measured, draws: int) -> Overtaking:
    sizes = _common(trained, asked)
    labels = overtakes(sizes, _curve(trained, sizes), _curve(asked, sizes))
    low, high = _spread(overtakes, trained, asked, sizes, draws) or (0.0, math.inf)
    return Overtaking(trained.recipe, asked.recipe, labels, low, high, _measurably(trained, asked, sizes))


def _measurably(trained: Measured, asked: Measured, sizes: Sequence[int]) -> int | None:
    found = None
    for size in reversed(sizes):
        gap = scoring.difference(trained.samples[size], asked.samples[size])
        if gap is None or gap.low <= 0:
            break
        found = size
    return found


def _advantage(first: Measured, second: Measured, draws: int) -> Advantage | None:
    """With the recipe that saves labels first; None where no score is reached by both."""
    sizes = _common(first, second)
    if len(sizes) < 2 or math.isnan(labels := data_advantage(sizes, _curve(first, sizes), _curve(second, sizes))):
        return None
    if labels < 0:
        first, second, labels = second, first, -labels
    low, high = _spread(data_advantage, first, second, sizes, draws) or (None, None)
    return Advantage(first.recipe, second.recipe, labels, low, high)
