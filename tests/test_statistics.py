"""The statistics against references (statsmodels, scipy, a direct maximisation) and against simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from opportune import statistics
from opportune.statistics import Interval

TABLES = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200)).filter(lambda t: sum(t) > 0)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_statsmodels(counts: tuple[int, int]) -> None:
    successes, count = counts
    found = statistics.wilson(successes, count)
    low, high = proportion_confint(successes, count, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert 0 <= found.low <= successes / count <= found.high <= 1


def test_nothing_counted_tells_nothing() -> None:
    assert statistics.wilson(0, 0) == Interval(0, 1)


def test_cluster_variance_agrees_with_statsmodels() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 12, 90)
    values = random.random(90) + groups / 10
    reference = OLS(values, np.ones(90)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert statistics.cluster_variance(values, groups.tolist()) == pytest.approx(reference.cov_params()[0, 0])


def test_groups_of_one_are_no_groups_but_for_the_quantile() -> None:
    scores = np.array([1.0] * 60 + [0.0] * 40)
    found, plain = statistics.clustered_share(scores, range(100)), statistics.wilson(60, 100)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.003)


def test_copies_in_a_group_count_once() -> None:
    scores = np.array([1.0] * 30 + [0.0] * 20)
    once = statistics.clustered_share(scores, range(50))
    fourfold = statistics.clustered_share(np.repeat(scores, 4), np.repeat(np.arange(50), 4).tolist())
    assert (fourfold.low, fourfold.high) == pytest.approx((once.low, once.high), abs=1e-9)
    assert statistics.clustered_share(np.ones(200), [n // 4 for n in range(200)]).low < 0.95
    assert statistics.clustered_share(np.ones(4), ["same"] * 4) == Interval(0, 1)


def test_clustered_interval_covers_where_the_naive_one_does_not() -> None:
    random, covered, naive = np.random.default_rng(1), 0, 0
    for _ in range(400):
        right = random.random((20, 5)) < random.beta(1.6, 0.4, size=(20, 1))  # mean 0.8, correlation 1/3
        scores = right.astype(float).ravel()
        found, plain = statistics.clustered_share(scores, np.repeat(np.arange(20), 5).tolist()), right.sum()
        covered += found.low <= 0.8 <= found.high
        naive += statistics.wilson(plain, 100).low <= 0.8 <= statistics.wilson(plain, 100).high
    assert covered / 400 > 0.92
    assert naive / 400 < 0.87


def _likeliest(gained: int, lost: int, count: int, difference: float) -> float:
    """The share of `lost` that maximises the likelihood under a given difference of shares, by brute force."""

    def surprise(share: float) -> float:
        parts = (gained, share + difference), (lost, share), (count - gained - lost, 1 - 2 * share - difference)
        return -sum(number * math.log(max(chance, 1e-300)) for number, chance in parts if number)

    edges = max(0.0, -difference), (1 - difference) / 2
    return float(optimize.minimize_scalar(surprise, bounds=edges, method="bounded", options={"xatol": 1e-12}).x)


@settings(deadline=None)
@given(TABLES, st.floats(-0.9, 0.9))
def test_tango_variance_is_at_the_constrained_maximum(table: tuple[int, int, int], difference: float) -> None:
    gained, lost, same = table
    count = gained + lost + same
    share = _likeliest(gained, lost, count, difference)
    variance = count * (2 * share + difference * (1 - difference))
    surplus = gained - lost - count * difference
    if variance > 1e-3 * count:
        expected = surplus / math.sqrt(variance)
        assert statistics._tango(gained, lost, count, difference) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@settings(deadline=None)
@given(TABLES)
def test_paired_interval_is_sound(table: tuple[int, int, int]) -> None:
    gained, lost, same = table
    count = gained + lost + same
    found, mirrored = statistics.paired_shares(gained, lost, count), statistics.paired_shares(lost, gained, count)
    assert -1 <= found.low <= (gained - lost) / count <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-8)
    assert found.low < found.high
    z = (gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0
    if abs(abs(z) - 1.96) > 1e-3:  # at a difference of zero the score test is McNemar's
        assert (found.low > 0 or found.high < 0) == (abs(z) > 1.96)


@pytest.mark.parametrize(
    ("count", "gain", "loss"), [(30, 0.1, 0.1), (60, 0.05, 0.1), (150, 0.1, 0.13), (150, 0.02, 0.02), (500, 0.1, 0.13)]
)
def test_paired_interval_covers(count: int, gain: float, loss: float) -> None:
    draws = np.random.default_rng(2).multinomial(count, (gain, loss, 1 - gain - loss), size=2000)
    tables, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    found = [statistics.paired_shares(int(g), int(b), count) for g, b in tables]
    covered = sum(t for i, t in zip(found, times, strict=True) if i.low <= gain - loss <= i.high)
    assert 0.93 < covered / 2000 < 0.985


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_statsmodels(gained: int, lost: int) -> None:
    reference = reference_mcnemar([[0, gained], [lost, 0]], exact=True).pvalue if gained + lost else 1.0
    assert statistics.mcnemar(gained, lost) == pytest.approx(reference, abs=1e-12)


def test_five_discordant_pairs_are_never_enough() -> None:
    assert statistics.mcnemar(5, 0) > 0.05 > statistics.mcnemar(6, 0)


@settings(max_examples=10, deadline=None)  # the reference takes its time
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_statsmodels(values: list[float]) -> None:
    reference = multipletests(values, method="holm")[1] if values else []
    assert statistics.holm(values) == pytest.approx(list(reference))


@pytest.mark.parametrize(
    ("discordant", "difference", "examples"),
    [(0.2, 0.10, 150), (0.2, 0.05, 621), (0.2, 0.03, 1737), (0.1, 0.05, 307), (0.3, 0.05, 935)],
)
def test_examples_to_tell_apart(discordant: float, difference: float, examples: int) -> None:
    """Known values, and that so many examples have the power that is promised."""
    assert statistics.examples_to_tell_apart(discordant, difference) == examples
    shares = (discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant
    tables = np.random.default_rng(3).multinomial(examples, shares, size=4000)
    z = (tables[:, 0] - tables[:, 1]) / np.sqrt(tables[:, 0] + tables[:, 1])
    assert 0.77 < (np.abs(z) > 1.96).mean() < 0.83


def test_no_number_of_examples_tells_equals_apart() -> None:
    assert statistics.examples_to_tell_apart(0.2, 0.0) is None


def test_draws_are_the_same_each_time_and_whole_groups() -> None:
    first, again = statistics.draw.__wrapped__(60, 2), statistics.draw.__wrapped__(60, 2)
    assert (first.counts == again.counts).all()
    assert (first.seeds == again.seeds).all()
    assert (statistics.draw(60, 5).counts == first.counts).all()  # so that arms with other seeds still pair
    assert (first.counts.sum(axis=1) == 60).all()
    scores = np.repeat([0.0, 1.0], 10)[None]
    values = statistics.resampled_means(scores, statistics.draw(20, 1, ("a",) * 10 + ("b",) * 10))
    assert set(values) == {0.0, 0.5, 1.0}


def test_means_and_figures_agree_on_what_is_a_mean() -> None:
    random = np.random.default_rng(4)
    scores, groups = random.random((3, 50)), tuple(random.integers(0, 9, 50).tolist())
    draws = statistics.draw(50, 3, groups, 200)
    figures = statistics.resampled_figures(lambda seed, places: float(scores[seed, places].mean()), 3, draws)
    assert statistics.resampled_means(scores, draws) == pytest.approx(figures)


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(5).exponential(size=80)
    found = statistics.percentiles(statistics.resampled_means(values[None], statistics.draw(80, 1)), 80)
    reference = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=0).confidence_interval
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.02)


def test_two_level_bootstrap_holds_the_spread_of_seeds() -> None:
    """Seeds that differ a lot widen the interval; one over examples alone would miss the truth."""
    random = np.random.default_rng(6)
    covered = narrow = 0
    for _ in range(150):
        chance = 1 / (1 + np.exp(-random.normal(0, 0.6, (5, 1)) - random.normal(0, 0.5, 100)))
        scores = (random.random((5, 100)) < chance).astype(float)
        both = statistics.percentiles(statistics.resampled_means(scores, statistics.draw(100, 5)), 100)
        one = statistics.percentiles(
            statistics.resampled_means(scores.mean(axis=0, keepdims=True), statistics.draw(100, 1)), 100
        )
        covered += both.low <= 0.5 <= both.high
        narrow += one.low <= 0.5 <= one.high
    assert covered / 150 > 0.85
    assert narrow / 150 < 0.65


@pytest.mark.parametrize("groups", [8, 30])
def test_bootstrap_p_holds_its_level_with_few_groups(groups: int) -> None:
    random, codes = np.random.default_rng(7), tuple(np.repeat(np.arange(groups), 4).tolist())
    draws = statistics.draw(4 * groups, 1, codes)
    values = [
        statistics.resampled_means(
            (random.normal(size=(groups, 1)) + random.normal(size=(groups, 4))).reshape(1, -1), draws
        )
        for _ in range(400)
    ]
    rejected = sum(statistics.bootstrap_p(v, groups) < 0.05 for v in values)
    assert rejected / 400 < 0.085
    for v in values[:100]:
        within = statistics.percentiles(v, groups)
        p = statistics.bootstrap_p(v, groups)
        if abs(p - 0.05) > 0.01:
            assert (p < 0.05) == (within.low > 0 or within.high < 0)
