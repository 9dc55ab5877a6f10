"""Comparisons of made-up arms: what is scored, compared and told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opportune import statistics
from opportune.comparison import build
from opportune.cost import Amount, Cost
from opportune.metrics.accuracy import Accuracy
from opportune.metrics.macro_f1 import MacroF1
from opportune.metrics.token_f1 import TokenF1
from opportune.records import ArmRecord, ArmStatus, Facts, Latency, Trial
from tests.made_up import RUN, Arm, comparison, marks, row


def test_score_interval_difference_and_p_are_those_of_the_statistics() -> None:
    found = comparison([Arm("a", ("1111100011" * 10,), dev=("1",)), Arm("b", ("1111111000" * 10,), dev=("0",))])
    assert found.reference == "a"
    a, b = row(found, "a"), row(found, "b")
    assert a.versus is None
    wilson = statistics.wilson(70, 100)
    assert b.score is not None
    assert b.versus is not None
    assert (b.score.value, b.score.low, b.score.high) == (0.7, wilson.low, wilson.high)
    tango = statistics.paired_shares(20, 20, 100)
    assert (b.versus.difference, b.versus.low, b.versus.high) == (0.0, tango.low, tango.high)
    assert b.versus.p == statistics.mcnemar(20, 20)
    assert b.versus.discordant == 0.4


def test_p_is_corrected_for_the_number_of_arms_compared() -> None:
    arms = [Arm("ref", (marks(60, 0),)), *(Arm(f"a{k}", (marks(60 - k, k),), dev=("0",)) for k in (6, 8, 12))]
    found = [row(comparison(arms), f"a{k}").versus for k in (6, 8, 12)]
    raw = [versus.p for versus in found if versus]
    assert [versus.p_holm for versus in found if versus] == statistics.holm(raw)
    assert raw[0] < 0.05


def test_failed_calls_are_left_out_of_the_score_and_widen_the_interval() -> None:
    found = row(comparison([Arm("a", ("1" * 60 + "0" * 20 + "f" * 15 + "u" * 5,))]), "a")
    assert found.score is not None
    assert (found.n, found.failed, found.unparsed) == (100, 15, 5)
    assert found.score.value == 60 / 85
    assert found.score.low == statistics.wilson(60, 100).low
    assert found.score.high == statistics.wilson(75, 100).high


def test_failed_calls_widen_a_difference_and_raise_its_p() -> None:
    reference = Arm("ref", (marks(80, 20),))
    whole, holed = marks(90, 10), "f" * 20 + marks(70, 10)
    clean = row(comparison([reference, Arm("b", (whole,), dev=("0",))]), "b").versus
    versus = row(comparison([reference, Arm("b", (holed,), dev=("0",))]), "b").versus
    assert clean is not None
    assert versus is not None
    assert versus.difference == pytest.approx(10 / 80)  # on the examples that both answered
    assert versus.low < clean.low < clean.high == pytest.approx(versus.high)
    assert (clean.p, versus.p) == (statistics.mcnemar(10, 0), 1.0)


def test_an_arm_whose_every_call_failed_has_no_score() -> None:
    found = comparison([Arm("ref", (marks(50, 0),), seconds=9), Arm("b", ("f" * 50,), dev=("f",))])
    assert (row(found, "b").score, row(found, "b").versus, row(found, "b").failed) == (None, None, 50)
    assert found.recommended == "ref"


def test_seeds_are_averaged_and_their_spread_widens_the_interval() -> None:
    steady = row(comparison([Arm("a", (marks(80, 20),) * 3)]), "a")
    moody = row(comparison([Arm("a", (marks(95, 5), marks(80, 20), marks(65, 35)))]), "a")
    assert steady.score is not None
    assert moody.score is not None
    assert (steady.score.value, moody.score.value) == pytest.approx((0.8, 0.8))
    assert moody.score.high - moody.score.low > 1.3 * (steady.score.high - steady.score.low)
    assert [seed.score for seed in moody.seeds] == [0.95, 0.8, 0.65]
    assert (moody.n, moody.measured.asking.seconds, moody.measured.asking.calls) == (100, pytest.approx(1.0), 100)


def test_all_right_is_never_certain() -> None:
    for arm in (Arm("a", (marks(30, 0),)), Arm("a", (marks(30, 0),) * 3)):
        score = row(comparison([arm]), "a").score
        assert score is not None
        assert (score.value, score.high) == (1.0, 1.0)
        assert 0.85 < score.low < 0.92
    arms = [Arm("ref", (marks(30, 0),) * 3), Arm("b", (marks(30, 0),) * 3, dev=("0",))]
    versus = row(comparison(arms), "b").versus
    assert versus is not None
    assert (versus.difference, versus.p) == (0, 1)
    assert versus.low < -0.1


def test_groups_widen_the_intervals() -> None:
    first, second = "1" * 40 + "0" * 10 + "1" * 10 + "0" * 20 + "1" * 20, marks(60, 40)
    arms = [Arm("ref", (first,)), Arm("b", (second,), dev=("0",))]
    plain, grouped = comparison(arms), comparison(arms, groups={n: f"g{n // 10}" for n in range(100)})
    for recipe in ("ref", "b"):
        a, b = row(plain, recipe).score, row(grouped, recipe).score
        assert a is not None
        assert b is not None
        assert b.high - b.low > 1.5 * (a.high - a.low)
    one, other = row(plain, "b").versus, row(grouped, "b").versus
    assert one is not None
    assert other is not None
    assert one.difference == other.difference
    assert other.high - other.low > 1.5 * (one.high - one.low)


def test_a_figure_that_is_no_mean_is_bootstrapped() -> None:
    arms = [Arm("ref", ("110" * 30,)), Arm("b", ("011" * 25 + "0" * 15,), dev=("0",))]
    found = comparison(arms, metric=MacroF1())
    reference, other = row(found, "ref").score, row(found, "b")
    assert reference is not None
    assert reference.value == pytest.approx(5 / 9)  # every example of the third label is answered with the first one
    assert reference.low < reference.value < reference.high
    assert other.score is not None
    assert other.versus is not None
    assert other.versus.difference == pytest.approx(other.score.value - reference.value)
    assert other.versus.low < other.versus.difference < other.versus.high
    assert 0 < other.versus.p <= 1


def test_scores_between_0_and_1_are_bootstrapped() -> None:
    found = comparison([Arm("ref", (marks(70, 30),)), Arm("b", (marks(50, 50),), dev=("0",))], metric=TokenF1())
    reference, versus = row(found, "ref").score, row(found, "b").versus
    assert reference is not None
    assert versus is not None
    exact = statistics.wilson(70, 100)
    assert (reference.low, reference.high) == pytest.approx((exact.low, exact.high), abs=0.02)
    assert (versus.difference, versus.p < 0.005) == (pytest.approx(-0.2), True)
    assert -0.29 < versus.low < versus.high < -0.11


def test_recall_and_confusion_by_label() -> None:
    found = row(comparison([Arm("a", ("1u0" * 9 + "10f",))]), "a")
    assert [(c.label, c.recall, c.count) for c in found.classes] == [
        ("refund", 1.0, 10),
        ("card", 0.0, 10),
        ("other", 0.0, 9),
    ]
    assert {(c.target, c.answer): c.count for c in found.confusion} == {
        ("refund", "refund"): 10,
        ("card", None): 9,
        ("card", "other"): 1,
        ("other", "refund"): 9,
    }


def test_what_an_arm_cost_is_told_per_1000_questions() -> None:
    facts = Facts(
        questions=160,
        latency=Latency(0.1, 0.3),
        rate_at_edge=True,
        trials=(Trial(1e-3, 0.5, 0.1, 9, False),),
        shots_dropped=3,
        saved=Amount(seconds=2.0),
    )
    found = row(comparison([Arm("a", (marks(90, 10),), seconds=8, tuning=5, facts=facts)]), "a")
    assert found.asking_per_1000 == Amount(seconds=50.0, calls=625, peak_bytes=7)
    assert found.measured.tuning.seconds == 5
    assert (found.rate_at_edge, found.shots_dropped, found.latency) == (True, 3, Latency(0.1, 0.3))
    assert (found.saved, found.seeds[0].facts) == (Amount(seconds=2.0), facts)


STOPPED: list[tuple[int, ArmStatus]] = [(1, "failed"), (2, "running")]


def test_the_mean_bill_is_of_the_seeds_that_have_one() -> None:
    bill = Cost(tuning=Amount(seconds=3.0), asking=Amount(seconds=4.0, calls=10))
    done = ArmRecord("r", "a", 0, 0, "a", "tiny", {}, "done", measured=bill)
    failed, running = (replace(done, seed=seed, status=status, measured=Cost()) for seed, status in STOPPED)
    found = build(RUN, [done, failed, running], [], [], Accuracy())
    assert found.rows[0].measured == bill
