"""From the outcomes of an arm to its score, and of two arms to their paired difference: which interval holds for what.

| scores | interval of a score | interval of a paired difference | p |
|---|---|---|---|
| 0 or 1, one seed | Wilson | Tango | McNemar, exact |
| 0 or 1, one seed, groups | Wilson, effective sample size | bootstrap over groups | bootstrap |
| anything else | bootstrap over examples (or groups), with the variance of the seeds | the same | bootstrap |

A failed call has no score: it is left out of the figure, and an interval reaches from the low end with all failed calls
counted wrong to the high end with all counted right. A p-value is the larger one of these two cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np

from opportune import statistics
from opportune.records import OutcomeRecord
from opportune.statistics import Figure, Floats, Integers, Interval
from opportune.types import Example, Metric

_FIGURE_RESAMPLES = 1000  # a figure that is no mean is computed anew for each


@dataclass(frozen=True, slots=True, eq=False)  # equal only to itself, so that its resamples can be kept
class Sample:
    """One arm on one split: `scores` is seeds x examples, not a number where the call failed."""

    metric: Metric
    seeds: tuple[int, ...]
    examples: tuple[Example, ...]
    answers: tuple[tuple[str | None, ...], ...]  # seeds x examples
    scores: Floats

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Each example's group, an example without one being its own; None where no example has one."""
        if all(example.group is None for example in self.examples):
            return None
        return tuple(f"of {e.id}" if e.group is None else f"group {e.group}" for e in self.examples)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The score of one arm less that of another on the same examples, with its 95 % interval."""

    value: float
    low: float
    high: float
    p: float
    discordant: float  # share of examples on which just one is right; else what gives the same standard error


def sample(metric: Metric, outcomes: Sequence[OutcomeRecord], examples: Sequence[Example]) -> Sample | None:
    """The outcomes of one arm, on the examples that every seed has answered so far; None when there are none."""
    by_seed: dict[int, dict[str, OutcomeRecord]] = {}
    for outcome in outcomes:
        by_seed.setdefault(outcome.seed, {})[outcome.example] = outcome
    seeds = tuple(sorted(by_seed))
    rows = [by_seed[seed] for seed in seeds]
    shared = tuple(example for example in examples if all(example.id in row for row in rows))
    if not rows or not shared:
        return None
    found = [[row[example.id] for example in shared] for row in rows]
    scores = [[np.nan if o.score is None else o.score for o in row] for row in found]
    answers = tuple(tuple(outcome.answer for outcome in row) for row in found)
    return Sample(metric, seeds, shared, answers, np.array(scores, dtype=np.float64))


def figures(sample: Sample) -> dict[int, float]:
    """The metric's figure by seed, failed calls left out; without the seeds whose every call failed."""
    scored = [np.flatnonzero(~np.isnan(row)) for row in sample.scores]
    return {
        seed: _seed_figure(sample, place, examples)
        for place, (seed, examples) in enumerate(zip(sample.seeds, scored, strict=True))
        if examples.size
    }


def figure(sample: Sample) -> float | None:
    """The metric's figure, averaged over seeds, failed calls left out; None when every call failed."""
    values = list(figures(sample).values())
    return sum(values) / len(values) if values else None


def estimate(sample: Sample) -> Estimate | None:
    """The score of an arm with its interval; None when every call failed."""
    if (value := figure(sample)) is None:
        return None
    low, high = _interval(filled(sample, False)).low, _interval(filled(sample, True)).high
    return Estimate(value, min(max(low, 0.0), value), max(min(high, 1.0), value))


def difference(first: Sample, second: Sample) -> Difference | None:
    """`first` less `second` on the examples that both answered; None where there is no such example."""
    first, second = _common(first, second)
    both = np.flatnonzero(~(np.isnan(first.scores).any(axis=0) | np.isnan(second.scores).any(axis=0)))
    if not both.size:
        return None
    value = _mean_figure(_take(first, both)) - _mean_figure(_take(second, both))
    worst = _paired(filled(first, right=False), filled(second, right=True))
    best = worst
    if not (_complete(first) and _complete(second)):
        best = _paired(filled(first, right=True), filled(second, right=False))
    p = max(worst.p, best.p) if worst.value * best.value > 0 or worst is best else 1.0
    discordant = max(worst.discordant, best.discordant)
    return Difference(value, min(worst.low, value), max(best.high, value), p, discordant)


def filled(sample: Sample, right: bool) -> Sample:
    """The sample with failed calls counted as right or as wrong."""
    if _complete(sample):
        return sample
    failed = np.isnan(sample.scores)
    targets = [example.target if right else None for example in sample.examples]
    answers = tuple(
        tuple(target if gone else answer for target, gone, answer in zip(targets, row, given, strict=True))
        for row, given in zip(failed, sample.answers, strict=True)
    )
    return replace(sample, answers=answers, scores=np.where(failed, float(right), sample.scores))


def strict_figure(sample: Sample) -> float | None:
    """The figure with failed calls counted as wrong, by which dev chooses."""
    return figure(filled(sample, right=False))


def _complete(sample: Sample) -> bool:
    return not np.isnan(sample.scores).any()


def _seed_figure(sample: Sample, seed: int, places: Integers) -> float:
    if sample.metric.additive:
        return float(sample.scores[seed, places].mean())
    answers, examples = sample.answers[seed], sample.examples
    return sample.metric.figure([answers[place] for place in places], [examples[place] for place in places])


def _by_seed(sample: Sample) -> Floats:
    everything = np.arange(len(sample.examples))
    return np.array([_seed_figure(sample, seed, everything) for seed in range(len(sample.scores))])


def _mean_figure(sample: Sample) -> float:
    return float(_by_seed(sample).mean())


def _take(sample: Sample, places: Integers) -> Sample:
    answers = tuple(tuple(row[place] for place in places) for row in sample.answers)
    examples = tuple(sample.examples[place] for place in places)
    return replace(sample, examples=examples, answers=answers, scores=sample.scores[:, places])


def _common(first: Sample, second: Sample) -> tuple[Sample, Sample]:
    """Both on the examples that both have, in the order of the first."""
    ids = [example.id for example in second.examples]
    if [example.id for example in first.examples] == ids:
        return first, second
    place = {name: number for number, name in enumerate(ids)}
    mine = [number for number, example in enumerate(first.examples) if example.id in place]
    theirs = [place[first.examples[number].id] for number in mine]
    return _take(first, np.array(mine, dtype=np.int64)), _take(second, np.array(theirs, dtype=np.int64))


def _single_shares(*samples: Sample) -> bool:
    return all(s.metric.binary and s.metric.additive and len(s.scores) == 1 for s in samples)


def _interval(sample: Sample) -> Interval:
    scores, groups = sample.scores, sample.groups
    if _single_shares(sample):
        if groups is None:
            return statistics.wilson(float(scores.sum()), scores.size)
        return statistics.clustered_share(scores[0], groups)
    values = statistics.with_seeds(resampled(sample), [_by_seed(sample)], _units(sample))
    if np.ptp(values) < 1e-12:  # all alike tells nothing of what was not seen: as for a share of that many examples
        return statistics.wilson(float(values[0]) * _units(sample), _units(sample))
    return statistics.percentiles(values, _units(sample))


def _paired(first: Sample, second: Sample) -> Difference:
    """The difference of two arms without failed calls."""
    value, count = _mean_figure(first) - _mean_figure(second), len(first.examples)
    if _single_shares(first, second) and first.groups is None:
        gained = int(((first.scores > 0.5) & (second.scores < 0.5)).sum())
        lost = int(((first.scores < 0.5) & (second.scores > 0.5)).sum())
        between = statistics.paired_shares(gained, lost, count)
        return Difference(value, between.low, between.high, statistics.mcnemar(gained, lost), (gained + lost) / count)
    seeds, units = _chances(first, second), _units(first)
    examples: Floats = resampled(first) - resampled(second)
    values = statistics.with_seeds(examples, seeds, units)
    if np.ptp(values) < 1e-12:
        between = statistics.paired_shares(max(value, 0.0) * units, max(-value, 0.0) * units, units)
        p = statistics.mcnemar(round(abs(value) * units), 0)
        return Difference(value, between.low, between.high, p, abs(value))
    between = statistics.percentiles(values, units)
    low, high, p = max(between.low, -1.0), min(between.high, 1.0), statistics.bootstrap_p(values, units)
    variance = float(examples.var()) + statistics.seed_variance(seeds)
    return Difference(value, low, high, p, count * variance + value**2)


def _chances(first: Sample, second: Sample) -> list[Floats]:
    """What seeds bring into a difference: in pairs where both have the same ones, else each arm by itself."""
    if first.seeds == second.seeds:
        return [_by_seed(first) - _by_seed(second)]
    return [_by_seed(first), _by_seed(second)]


def _units(sample: Sample) -> int:
    groups = sample.groups
    return len(sample.examples) if groups is None else len(set(groups))


@lru_cache(maxsize=64)
def resampled(sample: Sample, seeds: int | None = None) -> Floats:
    """The figure in each of the resamples, which are the same for all arms on these examples: over all its seeds, or
    over so many drawn anew each time."""
    size, own = statistics.RESAMPLES if sample.metric.additive else _FIGURE_RESAMPLES, len(sample.scores)
    draws = statistics.draw(len(sample.examples), seeds or 1, sample.groups, size)
    draws = draws if seeds else statistics.every_seed(draws, own)
    if sample.metric.additive:
        return statistics.resampled_means(sample.scores, draws)
    return statistics.resampled_figures(_seed_figures(sample), own, draws)


@runtime_checkable
class Resampling(Protocol):
    """A metric that computes its figure on many resamples of the same answers faster than one by one."""

    def resampler(self, answers: Sequence[str | None], examples: Sequence[Example]) -> Callable[[Integers], float]:
        """The figure by the places of the examples drawn."""
        ...


def _seed_figures(sample: Sample) -> Figure:
    if not isinstance(sample.metric, Resampling):
        return lambda seed, places: _seed_figure(sample, seed, places)
    by_seed = [sample.metric.resampler(answers, sample.examples) for answers in sample.answers]
    return lambda seed, places: by_seed[seed](places)
