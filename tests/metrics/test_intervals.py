"""Intervals of scores that are no shares: against scipy's bootstrap, and fast enough for a figure that is no mean."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from opportune import scoring, statistics
from opportune.metrics import metric_named
from opportune.scoring import Sample
from opportune.types import Example

WORDS = [
    "parcel",
    "late",
    "nobody",
    "at",
    "the",
    "desk",
    "could",
    "say",
    "where",
    "it",
    "had",
    "gone",
    "since",
    "monday",
]


def sample(name, answers, targets):
    metric = metric_named(name)
    examples = tuple(Example(f"e{n}", "question", target) for n, target in enumerate(targets))
    scores = [metric.score(answer, example) for answer, example in zip(answers, examples, strict=True)]
    return Sample(metric, (0,), examples, (tuple(answers),), np.array([scores]))


def garbled(random, target, share):
    return " ".join(word for word in target.split() if random.random() > share) or "nothing"


@pytest.fixture
def pair():
    """Two arms whose scores go up and down together, the second losing a little more."""
    random = np.random.default_rng(0)
    targets = [" ".join(random.choice(WORDS, size=12)) for _ in range(150)]
    first = [garbled(random, target, random.uniform(0, 0.9)) for target in targets]
    second = [garbled(random, answer, 0.1) for answer in first]
    return sample("rouge-l", first, targets), sample("rouge-l", second, targets)


def test_the_paired_difference_of_rouge_l_is_that_of_scipy(pair):
    first, second = pair
    count = len(first.examples)
    # The percentiles are expanded for few examples (Hesterberg 2015): scipy is asked for the same ones.
    tail = stats.norm.cdf(math.sqrt(count / (count - 1)) * stats.t.ppf(0.025, count - 1))
    reference = stats.bootstrap(
        (first.scores[0], second.scores[0]),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        paired=True,
        n_resamples=20_000,
        confidence_level=1 - 2 * tail,
        method="percentile",
        random_state=np.random.default_rng(1),
    )
    found = scoring.difference(first, second)
    # A quantile of 2000 resamples strays by about 0.06 standard errors; unpaired, the interval would be far wider.
    allowed = 0.25 * reference.standard_error
    assert found.value == pytest.approx(np.mean(first.scores - second.scores))
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=allowed)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=allowed)
    unpaired = math.hypot(*(stats.sem(one.scores[0]) for one in pair))
    assert unpaired > 2 * reference.standard_error
    assert found.low > 0
    assert found.p < 0.01


def test_the_bootstrap_of_macro_f1_is_that_of_its_definition_and_takes_no_seconds():
    random = np.random.default_rng(0)
    labels = [f"label {n}" for n in range(20)]
    targets = random.choice(labels, size=1000)
    answers = np.where(random.random(1000) < 0.7, targets, random.choice(labels, size=1000))
    found = sample("macro-f1", answers.tolist(), targets.tolist())
    began = time.process_time()
    interval = scoring.estimate(found)
    assert time.process_time() - began < 0.4  # by the definition about 0.8 s
    draws = statistics.draw(1000, 1, None, 1000)
    slow = statistics.resampled_figures(
        lambda _, places: found.metric.figure([answers[p] for p in places], [found.examples[p] for p in places]),
        1,
        statistics.Draws(draws.counts[:50], draws.seeds[:50], draws.codes),
    )
    assert scoring.resampled(found, 1)[:50] == pytest.approx(slow, abs=1e-12)
    assert interval.low < interval.value < interval.high


def of_seeds(scores, seeds=None):
    """Right and wrong answers, seeds x examples."""
    examples = tuple(Example(f"e{n}", "question", "yes") for n in range(scores.shape[1]))
    answers = tuple(tuple("yes" if right else "no" for right in row) for row in scores)
    return Sample(metric_named("accuracy"), seeds or tuple(range(len(scores))), examples, answers, scores)


@pytest.mark.parametrize(("seeds", "least"), [(2, 0.88), (3, 0.92), (5, 0.92)])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_intervals_over_few_seeds_hold_the_truth(seeds, least, spread):
    random, covered, width = np.random.default_rng(8), 0, []
    for _ in range(200):
        chance = 0.6 + spread * random.standard_normal((seeds, 1)) + 0.15 * random.standard_normal(100)
        found = scoring.estimate(of_seeds((random.random((seeds, 100)) < np.clip(chance, 0, 1)).astype(float)))
        covered += found.low <= 0.6 <= found.high
        width.append(found.high - found.low)
    assert covered / 200 >= least
    if not spread:  # not much wider than that of a single seed
        assert np.median(width) < 1.5 * 2 * 1.96 * math.sqrt(0.24 / 100)


def test_a_gain_that_one_of_two_seeds_shows_is_none():
    random = np.random.default_rng(9)
    base, helped = (random.random((2, 400)) < 0.5).astype(float), (random.random(400) < 0.8).astype(float)
    found = scoring.difference(of_seeds(np.stack([helped, base[1]])), of_seeds(base))
    assert found.value > 0.1
    assert found.low < 0 < found.high
    assert found.p > 0.05
    # What moves both arms alike in each seed is no chance of the difference; without pairs it would be.
    moved = np.stack([helped, base[0]])
    better = moved.copy()
    for row in better:
        row[np.flatnonzero(row == 0)[:40]] = 1.0
    assert scoring.difference(of_seeds(better), of_seeds(moved)).low > 0
    assert scoring.difference(of_seeds(better, (3, 4)), of_seeds(moved)).low < 0
