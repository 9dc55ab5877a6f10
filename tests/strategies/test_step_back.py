"""Step-back, in both senses: Zheng et al. 2023 and Madaan et al. 2023."""

from __future__ import annotations

import pytest

from opportune.models.scripted import Scripted
from opportune.strategies.step_back import ABSTRACTION, REFINE, REVIEW
from opportune.types import Question
from tests.strategies.talk import contents, sums, talk
from tests.toy import toy_task

ASKED = Question("Add 30 and 3.")


def test_the_general_question_is_asked_answered_and_built_upon():
    model = Scripted(["How are numbers added?", "Digit by digit.", "33"])
    answer = talk("step-back:sense=abstract", model, ASKED, sums())
    assert answer.text == "33"
    general, background, final = model.prompts
    assert contents(general)[0] == ("system", ABSTRACTION)
    assert contents(general)[-1] == ("user", "Question: Add 30 and 3.")
    assert contents(background) == [("user", "Question: How are numbers added?\nAnswer:")]
    assert contents(final) == [
        ("system", "Do the sum."),
        ("user", "Background: How are numbers added? Digit by digit.\n\nQuestion: Add 30 and 3.\nAnswer:"),
    ]


def test_the_abstract_sense_ranks_a_closed_set():
    model = Scripted(["What are saws?", "Tools.", "tool"])
    answer = talk("step-back", model, Question("the saw"), toy_task())
    assert answer.text == "tool"
    assert model.prompts[-1].choices == ("fruit", "tool")


def test_a_draft_is_reviewed_and_refined_until_the_model_is_content():
    model = Scripted(["32", "It is one too low.", "33", "STOP"])
    answer = talk("step-back:sense=reconsider,rounds=3", model, ASKED, sums())
    assert answer.text == "33"
    draft, review, refined, again = model.prompts
    assert contents(draft)[-1] == ("user", "Question: Add 30 and 3.\nAnswer:")
    assert contents(review)[-2:] == [("assistant", "32"), ("user", REVIEW)]
    assert contents(refined)[-2:] == [("assistant", "It is one too low."), ("user", REFINE)]
    assert contents(again)[-2:] == [("assistant", "33"), ("user", REVIEW)]


@pytest.mark.parametrize(("rounds", "calls"), [(1, 3), (2, 5)])
def test_it_ends_after_its_rounds_whatever_the_right_answer_is(rounds, calls):
    right_at_once = Scripted(lambda prompt, index: "33" if prompt.messages[-1].content != REVIEW else "not good")
    talk(f"step-back:sense=reconsider,rounds={rounds}", right_at_once, ASKED, sums())
    assert len(right_at_once.prompts) == calls


def test_the_models_own_word_ends_it_even_when_the_draft_is_wrong():
    model = Scripted(["0", "STOP"])
    assert talk("step-back:sense=reconsider", model, ASKED, sums()).text == "0"
    assert len(model.prompts) == 2
