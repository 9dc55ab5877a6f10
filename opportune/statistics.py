"""Intervals and tests for scores measured on the same examples.

One share of right answers: Wilson's interval (1927), with an effective sample size where examples come in groups. Two
recipes on the same examples: Tango's score interval (1998) and the exact test of McNemar (1947). Everything else
(several seeds, scores that are no shares, groups in pairs, figures that are no means): the bootstrap over examples or
groups, with percentiles expanded for few of them (Hesterberg 2015). Resampling two or three seeds would keep half or
two thirds of their variance: the unbiased one is added instead, and the whole follows Student's distribution with as
few degrees of freedom as the seeds' share of it leaves. What is no interval of one figure (how many labels a method is
worth) resamples seeds as well (Owen 2007). Random draws are seeded, and the same for the same number of examples: a
page read twice says the same, and pairs stay pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Figure: TypeAlias = Callable[[int, Integers], float]
"""The figure of one seed (by its place) on these examples (by their places, repeated as drawn)."""

RESAMPLES = 2000
_QUANTILE = 1.959963984540054  # of the normal distribution, for 95 %


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, at 95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Draws:
    """Bootstrap resamples: how often each group of examples was drawn, and which seeds."""

    counts: NDArray[np.uint16]  # resamples x groups
    seeds: Floats  # resamples x seeds, in [0, 1)
    codes: Integers  # the group of each example


# ---- one share ------------------------------------------------------------------------------------------------------


def wilson(successes: float, count: float, quantile: float = _QUANTILE) -> Interval:
    """Wilson's score interval (1927) for a share of `count`; everything is possible when nothing was counted."""
    if count <= 0:
        return Interval(0.0, 1.0)
    share, square = successes / count, quantile**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = quantile / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    # At the ends the bound is the share itself: rounding must not push it inside.
    return Interval(0.0 if successes <= 0 else centre - half, 1.0 if successes >= count else centre + half)


def clustered_share(scores: Floats, groups: Sequence[Hashable]) -> Interval:
    """Wilson's interval for a share whose examples come in groups, by the effective sample size (Kish 1965).

    The variance is the cluster-robust one, the quantile Student's with one degree of freedom less than groups. Where
    it cannot be estimated (all scores equal) a group counts as one example.
    """
    from scipy.special import stdtrit

    number = len(set(groups))
    if number < 2:
        return Interval(0.0, 1.0)
    mean, variance = float(scores.mean()), cluster_variance(scores, groups)
    plain = mean * (1 - mean)
    effective = min(float(scores.size), plain / variance) if variance > 0 else float(number)
    return wilson(mean * effective, effective, float(stdtrit(number - 1, 0.975)))


def cluster_variance(values: Floats, groups: Sequence[Hashable]) -> float:
    """The cluster-robust variance of a mean (CR1), two groups at least."""
    codes = _codes(groups)
    sums = np.bincount(codes, values - values.mean())
    return float(sums.size / (sums.size - 1) * (sums**2).sum() / values.size**2)


def _codes(groups: Sequence[Hashable]) -> Integers:
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(group, len(places)) for group in groups], dtype=np.int64)


# ---- two recipes on the same examples -------------------------------------------------------------------------------


def paired_shares(gained: float, lost: float, count: int) -> Interval:
    """The score interval of the difference of two paired shares (Tango 1998).

    `gained` examples are right only with the first recipe, `lost` only with the second, of `count`.
    """
    if count <= 0:
        return Interval(-1.0, 1.0)
    return Interval(_tango_bound(gained, lost, count, -1), _tango_bound(gained, lost, count, 1))


def _tango_bound(gained: float, lost: float, count: int, side: int) -> float:
    """Where the score statistic meets the quantile, by bisection between the estimate and the end of the range."""
    inner, outer = (gained - lost) / count, float(side)
    for _ in range(60):
        middle = (inner + outer) / 2
        if abs(_tango(gained, lost, count, middle)) < _QUANTILE:
            inner = middle
        else:
            outer = middle
    return outer


def _tango(gained: float, lost: float, count: int, difference: float) -> float:
    """The score statistic for a given difference, its variance at the likeliest share of `lost` under it."""
    linear = -gained - lost + (2 * count - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    share = (math.sqrt(max(linear**2 - 8 * count * constant, 0.0)) - linear) / (4 * count)
    variance = count * (2 * share + difference * (1 - difference))
    surplus = gained - lost - count * difference
    return 0.0 if surplus == 0 else surplus / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, surplus)


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided exact p of McNemar's test (1947): are the discordant pairs a fair coin?"""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def holm(values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979), in the order given."""
    adjusted, running = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        running = max(running, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = running
    return adjusted


def examples_to_tell_apart(discordant: float, difference: float) -> int | None:
    """How many examples show a difference at the 5 % level with 80 % power, by McNemar's test (Miettinen 1968).

    `discordant` is the share of examples on which just one of the two is right. None: no number would.
    """
    if difference == 0:
        return None
    return math.ceil(7.85 * max(discordant - difference**2, 0.0) / difference**2)


# ---- the bootstrap --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def draw(count: int, seeds: int, groups: tuple[Hashable, ...] | None = None, resamples: int = RESAMPLES) -> Draws:
    """Resample `count` examples, whole groups where there are any, and `seeds` seeds; always the same draws."""
    codes = np.arange(count) if groups is None else _codes(groups)
    number = int(codes.max()) + 1
    random = np.random.default_rng(0)
    counts = np.empty((resamples, number), dtype=np.uint16)
    for part in np.array_split(counts, _parts(counts)):
        part[:] = random.multinomial(number, np.full(number, 1 / number), size=len(part))
    return Draws(counts, random.random((resamples, seeds)), codes)


def resampled_means(scores: Floats, draws: Draws) -> Floats:
    """The mean of `scores` (seeds x examples) in each resample."""
    columns = np.stack([np.bincount(draws.codes), *(np.bincount(draws.codes, row) for row in scores)], axis=1)
    parts = np.array_split(draws.counts, _parts(draws.counts))
    sums = np.concatenate([part.astype(np.float64) @ columns for part in parts])
    by_seed = sums[:, 1:] / sums[:, :1]
    return np.asarray(np.take_along_axis(by_seed, _seed_places(draws, len(scores)), axis=1).mean(axis=1))


def resampled_figures(figure: Figure, seeds: int, draws: Draws) -> Floats:
    """The figure in each resample, averaged over the seeds drawn; for figures that are no means."""
    values = np.empty(len(draws.counts))
    for row, places in enumerate(_seed_places(draws, seeds)):
        examples = np.repeat(np.arange(draws.codes.size), draws.counts[row][draws.codes])
        by_seed = {int(place): figure(int(place), examples) for place in set(places)}
        values[row] = np.mean([by_seed[int(place)] for place in places])
    return values


def _parts(counts: NDArray[np.uint16]) -> int:
    """Into how many parts to split the resamples, so that none takes much memory."""
    return 1 + counts.size // 4_000_000


def _seed_places(draws: Draws, seeds: int) -> Integers:
    """Which seeds each resample takes; recipes with the same number of seeds take the same ones."""
    return (draws.seeds[:, :seeds] * seeds).astype(np.int64)


def every_seed(draws: Draws, seeds: int) -> Draws:
    """The same resamples of examples, each with all seeds, once."""
    return replace(draws, seeds=np.tile((np.arange(seeds) + 0.5) / seeds, (len(draws.counts), 1)))


def seed_variance(by_seed: Sequence[Floats]) -> float:
    """The variance that seeds bring into a sum of means, from the figures of each mean by seed; 0 for one seed."""
    return sum(_mean_variance(figures) for figures in by_seed)


def _mean_variance(figures: Floats) -> float:
    return float(figures.var(ddof=1)) / figures.size if figures.size > 1 else 0.0


def with_seeds(values: Floats, by_seed: Sequence[Floats], units: int) -> Floats:
    """Bootstrap values over examples with the chance of the seeds in them, for `percentiles` and `bootstrap_p`.

    Student's degrees of freedom are those of the seeds over their share of the variance: one less than seeds where they
    alone matter, many where they agree. (With the share's square, as Welch has it, two seeds would cover only 0.87.)
    """
    from scipy.special import ndtri, stdtr, stdtrit

    seeds = seed_variance(by_seed)
    if seeds == 0 or units < 2:
        return values
    whole = float(values.var()) + seeds
    freedom = whole / sum(_mean_variance(figures) / (figures.size - 1) for figures in by_seed if figures.size > 1)
    away = values - values.mean() + math.sqrt(seeds) * np.random.default_rng(1).standard_normal(values.size)
    ranks = (away.argsort().argsort() + 0.5) / away.size
    levels = stdtr(units - 1, ndtri(ranks) / math.sqrt(units / (units - 1)))  # as `bootstrap_p` reads ranks
    stretch = stdtrit(min(freedom, units - 1), levels) / stdtrit(units - 1, levels)
    return np.asarray(values.mean() + away * np.where(np.isfinite(stretch), stretch, 1.0))


def percentiles(values: Floats, units: int) -> Interval:
    """The 95 % interval of bootstrap values, expanded for few examples or groups (Hesterberg 2015)."""
    from scipy.special import ndtr, stdtrit

    if units < 2:
        return Interval(-math.inf, math.inf)
    tail = float(ndtr(math.sqrt(units / (units - 1)) * stdtrit(units - 1, 0.025)))
    low, high = np.quantile(values, (tail, 1 - tail))
    return Interval(float(low), float(high))


def bootstrap_p(differences: Floats, units: int) -> float:
    """The two-sided p of no difference, from bootstrap differences: where the interval of `percentiles` meets zero."""
    from scipy.special import ndtri, stdtr

    if units < 2:
        return 1.0
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    quantile = float(ndtri((1 + beyond) / (1 + differences.size)))
    return min(1.0, 2 * float(stdtr(units - 1, quantile / math.sqrt(units / (units - 1)))))
