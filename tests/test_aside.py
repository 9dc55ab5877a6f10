"""What is measured beside the score."""

from __future__ import annotations

import pytest

from opportune.aside import agreement
from opportune.types import Answer, Example, Message, Outcome, Prompt


def outcome(scores: dict[str, float], samples: int | None) -> Outcome:
    prompts = () if samples is None else (Prompt((Message("user", "?"),), samples=samples),)
    return Outcome(Example("1", "?", "a"), Answer("a", "a", scores), "ok", 1.0, (), prompts)


def test_agreement_is_of_votes_and_not_of_probabilities():
    voted = [outcome({"a": 0.6, "b": 0.4}, 5), outcome({"a": 1.0}, 5)]
    assert agreement(voted) == pytest.approx(0.8)
    assert agreement([outcome({"a": 0.18, "b": 0.17}, None)]) is None  # a classifier without prompts
    assert agreement([outcome({"a": -0.1, "b": -2.0}, 1)]) is None  # a ranking
