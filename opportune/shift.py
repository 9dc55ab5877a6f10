"""What an arm's prompts make of the distribution over the choices, from the outcomes it left on test.

A prompt moves probability: onto the right choice, one hopes, but also onto labels that it likes for no reason. Only
answers ranked by likelihood tell it; shares of votes are no probabilities of the model and are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from opportune import statistics
from opportune.distributions import are_logs, bits, divergence, total_variation
from opportune.records import OutcomeRecord
from opportune.scoring import Estimate, Sample
from opportune.statistics import Floats

BINS = 20  # of the probability of the right choice


@dataclass(frozen=True, slots=True)
class LabelShare:
    """One label: how often it is right, how often it was answered, how likely it is when nothing is asked."""

    label: str
    expected: float
    answered: float
    content_free: float | None


@dataclass(frozen=True, slots=True)
class Shift:
    """One arm on test, all seeds together. Entropies are in bits."""

    right: Estimate  # the mean probability of the right choice
    spread: tuple[float, ...]  # the share of answers in each twentieth of that probability
    entropy: float  # mean, of the answers' distributions over the choices
    most: float  # what the entropy would be if all choices were equally likely
    labels: tuple[LabelShare, ...]  # none where questions have choices of their own

    @property
    def bias(self) -> float | None:
        """The total variation between the labels answered and the labels expected; None without labels."""
        if not self.labels:
            return None
        return total_variation([one.answered for one in self.labels], [one.expected for one in self.labels])

    @property
    def content_free(self) -> Mapping[str, float] | None:
        """The probability of each label for inputs that say nothing; None where that was not asked."""
        known = {one.label: one.content_free for one in self.labels if one.content_free is not None}
        return known if known and len(known) == len(self.labels) else None

    @property
    def content_free_bias(self) -> float | None:
        """The total variation between these and equal probabilities."""
        shares = self.content_free
        return None if shares is None else total_variation(list(shares.values()), [1 / len(shares)] * len(shares))

    @property
    def content_free_divergence(self) -> float | None:
        """The KL divergence of these from equal probabilities, in bits."""
        shares = self.content_free
        if shares is None:
            return None
        with np.errstate(divide="ignore"):
            logs = np.log(np.array(list(shares.values())))
        return bits(divergence(logs, np.zeros(len(shares))))


def shift_of(
    test: Sample,
    outcomes: Sequence[OutcomeRecord],
    labels: Sequence[str] | None,
    content_free: Sequence[Mapping[str, float] | None],
) -> Shift | None:
    """The shift of one arm, `content_free` by seed; None where no answer came with a probability for each choice.

    An answer without one has an unknown probability: it is left out of the mean, and the interval holds both ends.
    """
    ranked = [o for o in outcomes if o.status == "ok" and o.choice_scores and are_logs(o.choice_scores.values())]
    by_place = {(o.seed, o.example): o.choice_scores or {} for o in ranked}
    found = [[by_place.get((seed, example.id)) for example in test.examples] for seed in test.seeds]
    distributions = [scores for row in found for scores in row if scores is not None]
    if not distributions:
        return None
    targets = [example.target for example in test.examples]
    rights = np.array([[_right(*pair) for pair in zip(row, targets, strict=True)] for row in found])
    logs = _matrix(distributions)
    return Shift(
        right=_mean(rights, test.groups),
        spread=_spread(rights),
        entropy=bits(float(-(np.exp(logs) * np.where(logs > -np.inf, logs, 0.0)).sum(axis=1).mean())),
        most=float(np.mean([math.log2(len(scores)) for scores in distributions])),
        labels=_labels(test, labels, [share for share in content_free if share]) if labels else (),
    )


def _matrix(scores: Sequence[Mapping[str, float]]) -> Floats:
    """A row of log-probabilities for each answer; where it has fewer choices than others, impossible ones."""
    width = max(map(len, scores), default=0)
    rows = np.full((len(scores), width), -np.inf)
    for row, one in zip(rows, scores, strict=True):
        row[: len(one)] = list(one.values())
    return rows


def _right(scores: Mapping[str, float] | None, target: str) -> float:
    """The probability of the target; not a number where it is unknown."""
    return math.nan if scores is None else math.exp(scores.get(target, -math.inf))


def _mean(rights: Floats, groups: tuple[str, ...] | None) -> Estimate:
    value = float(np.nanmean(rights))
    low, high = (_percentiles(np.where(np.isnan(rights), unknown, rights), groups) for unknown in (0.0, 1.0))
    return Estimate(value, min(max(low.low, 0.0), value), max(min(high.high, 1.0), value))


def _percentiles(rights: Floats, groups: tuple[str, ...] | None) -> statistics.Interval:
    units = rights.shape[1] if groups is None else len(set(groups))
    draws = statistics.every_seed(statistics.draw(rights.shape[1], 1, groups), len(rights))
    values = statistics.with_seeds(statistics.resampled_means(rights, draws), [rights.mean(axis=1)], units)
    return statistics.percentiles(values, units)


def _spread(rights: Floats) -> tuple[float, ...]:
    known = rights[~np.isnan(rights)]
    counts, _ = np.histogram(np.clip(known, 0.0, 1.0), bins=BINS, range=(0.0, 1.0))
    return tuple(float(count) / known.size for count in counts)


def _labels(test: Sample, labels: Sequence[str], content_free: Sequence[Mapping[str, float]]) -> tuple[LabelShare, ...]:
    targets = Counter(example.target for example in test.examples)
    answers = Counter(answer for row in test.answers for answer in row if answer is not None)
    asked, given = len(test.examples), max(1, sum(answers.values()))

    def free(label: str) -> float | None:
        known = [shares[label] for shares in content_free if label in shares]
        return sum(known) / len(known) if known else None

    return tuple(LabelShare(label, targets[label] / asked, answers[label] / given, free(label)) for label in labels)
