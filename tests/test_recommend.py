"""What is recommended, and how it is said."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune import statistics
from opportune.records import ArmStatus
from opportune.schema import to_json
from tests.made_up import Arm, comparison, marks, row


def test_dev_chooses_the_reference_and_the_cheaper_of_equals() -> None:
    best_on_test = Arm("x", (marks(99, 1),), dev=("1100",))
    dear, cheap = Arm("y", (marks(60, 40),), dev=("1110",), seconds=9), Arm("z", (marks(61, 39),), dev=("0111",))
    assert comparison([best_on_test, dear, cheap]).reference == "z"
    lucky = Arm("w", (marks(50, 50),), dev=("1fff",))  # the only call that succeeded was right
    assert row(comparison([lucky, cheap]), "w").dev_score == 1.0
    assert comparison([lucky, cheap]).reference == "z"


def test_the_cheapest_arm_that_holds_up_is_recommended() -> None:
    reference = Arm("lora", (marks(270, 30),), seconds=3, tuning=1200)
    holds = Arm("k-shot", (marks(269, 31),), dev=("0",), seconds=30)
    holds_dearer = Arm("k-shot-2", (marks(275, 25),), dev=("0",), seconds=60)
    loses = Arm("zero-shot", (marks(200, 100),), dev=("0",), seconds=1)
    found = comparison([reference, loses, holds_dearer, holds])
    assert (found.reference, found.recommended, found.more_examples) == ("lora", "k-shot", None)
    assert found.recommendation_text == (
        "Use k-shot: it has accuracy 89.7 % on 300 test examples (95 % interval 85.7 to 92.6). Against lora, which led "
        "on dev, that is -0.3 points (-1.9 to +0.9), which excludes losing more than 3 points. Loading, tuning, "
        "training and 1000 questions cost 1.7 min against 20.2 min."
    )


def test_else_the_reference_with_how_many_examples_would_tell() -> None:
    reference = Arm("lora", ("1" * 90 + "0" * 10 + "1" * 40 + "0" * 10,), seconds=3, tuning=1200)
    rival = Arm("k-shot", ("1" * 80 + "0" * 10 + "1" * 10 + "1" * 35 + "0" * 15,), dev=("0",), seconds=30)
    poor = Arm("zero-shot", (marks(20, 130),), dev=("0",))
    found = comparison([poor, rival, reference])
    versus = row(found, "k-shot").versus
    assert versus is not None
    needed = statistics.examples_to_tell_apart(versus.discordant, versus.difference)
    assert needed is not None
    assert (found.recommended, found.more_examples) == ("lora", needed - 150)
    assert "The best cheaper arm, k-shot, could be more than 3 points worse: -3.3 points (" in found.recommendation_text
    said = found.recommendation_text.partition("About ")[2].partition(" more test examples would tell the two apart")[0]
    assert int(said.replace(",", "")) == pytest.approx(needed - 150, rel=0.05)


def test_equals_on_a_small_test_need_as_many_as_show_the_tolerance() -> None:
    found = comparison([Arm("ref", ("1110" * 20,), seconds=9), Arm("b", ("0111" * 20,), dev=("0",))])
    needed = statistics.examples_to_tell_apart(0.5, 0.03)
    assert needed is not None
    assert (found.recommended, found.more_examples) == ("ref", needed - 80)
    found = comparison([Arm("ref", ("1110" * 20,), seconds=9), Arm("b", ("0111" * 20,), dev=("0",))], tolerance=0.0)
    assert (found.recommended, found.more_examples) == ("ref", None)


def test_a_clear_loss_needs_no_more_examples() -> None:
    found = comparison([Arm("ref", (marks(90, 10),), seconds=9), Arm("b", (marks(50, 50),), dev=("0",))])
    assert (found.recommended, found.more_examples) == ("ref", None)
    assert "b, is measurably worse: -40.0 points" in found.recommendation_text
    alone = comparison([Arm("ref", (marks(90, 10),)), Arm("b", (marks(50, 50),), dev=("0",), seconds=9)])
    assert "No arm with a score is cheaper" in alone.recommendation_text


def test_failed_and_unfinished_arms_are_rows_but_never_chosen() -> None:
    good = marks(100, 0)
    arms = [
        Arm("failed", (good,), seconds=0.1, status="failed"),
        Arm("running", (marks(30, 0),), seconds=0.1, status="running"),
        Arm("pending", (), (), seconds=0.1, status="pending"),
        Arm("done", (marks(60, 40),), dev=("0",), seconds=9),
    ]
    found = comparison(arms)
    assert [(r.recipe, r.status, r.score is not None, r.n) for r in found.rows] == [
        ("failed", "failed", False, 0),
        ("running", "running", True, 30),
        ("pending", "pending", False, 0),
        ("done", "done", True, 100),
    ]
    assert row(found, "failed").reason == "out of memory"
    assert (found.reference, found.recommended) == ("done", "done")
    assert row(found, "running").versus is not None  # on the 30 examples that both have
    nothing = comparison(arms[:3])
    assert (nothing.reference, nothing.recommended) == (None, None)
    assert "Nothing to recommend" in nothing.recommendation_text


def test_dollars_count_where_all_have_a_price() -> None:
    dear_but_quick = Arm("dear", (marks(300, 0),), seconds=1, dollars=3.0, dev=("0",))
    reference = Arm("ref", (marks(300, 0),), seconds=50, dollars=0.3)
    found = comparison([dear_but_quick, reference])
    assert (found.unit, found.recommended) == ("dollars", "ref")
    assert "$1 for" in found.recommendation_text
    found = comparison([dear_but_quick, replace(reference, dollars=None)])
    assert (found.unit, found.recommended) == ("seconds", "dear")


@given(st.randoms(use_true_random=False), st.integers(1, 5), st.sampled_from([0.0, 0.03, 0.3]))
@settings(deadline=None, max_examples=60)
def test_a_recommendation_keeps_its_promise(chance: random.Random, number: int, tolerance: float) -> None:
    statuses: list[ArmStatus] = ["done", "done", "done", "failed", "running"]
    arms = [
        Arm(
            *(f"a{n}", ("".join(chance.choices("110uf", k=40)),), ("".join(chance.choices("110f", k=10)),)),
            *(chance.uniform(0.1, 9), chance.uniform(0, 9), chance.choice(statuses)),
        )
        for n in range(number)
    ]
    found = comparison(arms, tolerance=tolerance)
    to_json(found)
    if found.recommended is None:
        assert all(arm.status != "done" or row(found, arm.recipe).score is None for arm in arms)
        return
    chosen = row(found, found.recommended)
    assert chosen.status == "done"
    assert found.recommended in found.recommendation_text
    if found.recommended != found.reference:
        assert chosen.versus is not None
        assert chosen.versus.low >= -tolerance
        assert found.more_examples is None
