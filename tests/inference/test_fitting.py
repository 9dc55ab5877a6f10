"""What is given up, in which order, when a prompt is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import ModelError
from opportune.inference.fitting import fit
from opportune.types import Message, Prompt

WORDS = " ".join(f"w{i}" for i in range(40))
QUESTION = f"Text: {WORDS}\nLabel:"
CUT = (6, 6 + len(WORDS))


def prompt(shots: int) -> Prompt:
    pairs = [
        message
        for i in range(shots)
        for message in (Message("user", f"shot {i} a b", shot=True), Message("assistant", "x", shot=True))
    ]
    return Prompt((Message("system", "Sort this now."), *pairs, Message("user", QUESTION, cut=CUT)), choices=("x", "y"))


def count(each: Prompt) -> int:
    return sum(len(message.content.split()) for message in each.messages)


WHOLE = count(prompt(0))


def test_what_fits_is_left_alone():
    asked = prompt(3)
    fitted = fit(asked, count(asked), count)
    assert (fitted.prompt, fitted.shots_dropped, fitted.tokens_cut) == (asked, 0, 0)


def test_the_earliest_demonstrations_go_first_in_whole_pairs():
    fitted = fit(prompt(4), WHOLE + 12, count)
    assert (fitted.shots_dropped, fitted.tokens_cut) == (2, 0)
    assert [m.content for m in fitted.prompt.messages[1:-1]] == ["shot 2 a b", "x", "shot 3 a b", "x"]
    assert fitted.prompt.messages[-1].content == QUESTION


def test_then_the_middle_of_the_input():
    fitted = fit(prompt(2), WHOLE - 10, count)
    content = fitted.prompt.messages[-1].content
    assert fitted.shots_dropped == 2
    assert 10 <= fitted.tokens_cut <= 12
    assert content.startswith("Text: w0 w1 ")
    assert content.endswith(" w38 w39\nLabel:")
    assert " … " in content
    assert fitted.prompt.messages[0].content == "Sort this now."


def test_nothing_else_is_ever_cut():
    with pytest.raises(ModelError, match=r"46 tokens has 7 left .* room for 4"):
        fit(prompt(0), 4, lambda each: count(each) + 1)


@given(st.integers(0, 6), st.integers(7, 80))
def test_it_always_fits_and_gives_up_no_more_than_it_must(shots: int, limit: int):
    fitted = fit(prompt(shots), limit, count)
    assert count(fitted.prompt) <= limit
    if fitted.tokens_cut:
        assert fitted.shots_dropped == shots
        assert count(fitted.prompt) >= limit - 2
    elif fitted.shots_dropped:
        assert count(fitted.prompt) + 5 > limit
