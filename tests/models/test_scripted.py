"""The stand-in answers as written down, and keeps the promises of a real model."""

from __future__ import annotations

from math import exp
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.models.scripted import Scripted
from opportune.types import Completion, Message, Prompt


def prompt(text, **options):
    return Prompt((Message("system", "be brief"), Message("user", text)), **options)


def ask(model, prompts, known=None):
    return dict(model.complete(prompts, known or {}))


def test_a_function_sees_the_prompt_and_the_number_of_the_answer():
    model = Scripted(lambda prompt, index: f"{prompt.messages[-1].content} {index}")
    assert ask(model, [prompt("a"), prompt("b")])[1].texts == ("b 1",)
    assert ask(model, [prompt("c")])[0].texts == ("c 2",)


def test_a_mapping_answers_by_the_first_key_in_the_last_message():
    model = Scripted({"refund": "billing", "card": "cards"})
    answers = ask(model, [prompt("my card"), prompt("a refund to my card"), prompt("hello"), prompt("be brief")])
    assert [answers[index].texts for index in range(4)] == [("cards",), ("billing",), ("",), ("",)]


def test_a_sequence_answers_in_order_and_samples_are_answers_of_their_own():
    model = Scripted(["first", "second", "third", "fourth"])
    answers = ask(model, [prompt("a"), prompt("b", samples=2), prompt("c")])
    assert [answers[index].texts for index in range(3)] == [("first",), ("second", "third"), ("fourth",)]


def test_choices_are_ranked_with_the_answer_first():
    scores = ask(Scripted(["pear"]), [prompt("a", choices=("fig", "pear", "plum"))])[0].scores
    assert max(scores) == scores[1]
    assert sum(map(exp, scores)) == pytest.approx(1)


def test_an_answer_that_is_no_choice_leaves_them_alike():
    assert len(set(ask(Scripted({}), [prompt("a", choices=("fig", "pear"))])[0].scores)) == 1


def test_scores_can_be_written_down():
    model = Scripted({}, score=lambda choice: -float(len(choice)))
    answer = ask(model, [prompt("a", choices=("fig", "pear"))])[0]
    assert answer.scores == (-3.0, -4.0)
    assert answer.texts == ()


def test_a_text_ends_before_its_earliest_stop():
    assert ask(Scripted(["one. two; three"]), [prompt("a", stop=(";", "."))])[0].texts == ("one",)


def test_words_are_counted():
    usage = ask(Scripted(["two words"]), [prompt("what is this", samples=1)])[0].usage
    assert (usage.tokens_in, usage.tokens_out, usage.calls) == (5, 2, 1)


def test_everything_asked_is_remembered_in_order():
    model = Scripted({})
    prompts = [prompt("a"), prompt("b", choices=("x", "y"))]
    ask(model, prompts)
    ask(model, prompts[:1])
    assert model.prompts == [*prompts, prompts[0]]


@given(share=st.integers(0, 10), calls=st.integers(1, 60))
def test_the_given_share_fails(share, calls):
    answers = ask(Scripted({}, fail=share / 10), [prompt("a")] * calls)
    failed = [answer for answer in answers.values() if answer.error]
    assert abs(len(failed) - calls * share / 10) < 1
    assert all(answer.texts == () and answer.scores is None for answer in failed)


@given(known=st.sets(st.integers(0, 9)), samples=st.lists(st.integers(1, 3), min_size=10, max_size=10))
def test_what_is_known_is_not_asked_again_and_changes_no_other_answer(known, samples):
    prompts = [prompt(f"q{index}", samples=count) for index, count in enumerate(samples)]
    whole = ask(Scripted(lambda _, index: str(index), fail=0.3), prompts)
    resumed = Scripted(lambda _, index: str(index), fail=0.3)
    rest = ask(resumed, prompts, {index: Completion("") for index in known})
    assert rest == {index: answer for index, answer in whole.items() if index not in known}
    assert len(resumed.prompts) == 10 - len(known)


def test_the_example_in_the_documentation_runs():
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    exec(text.partition("```python\n")[2].partition("```")[0], {})
