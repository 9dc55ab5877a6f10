"""Least-to-most (Zhou et al. 2022): decompose, then solve in order, each answer in the context of the next."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import RecipeError
from opportune.models.scripted import Scripted
from opportune.strategies.least_to_most import TOLD, prefixes, subquestions
from opportune.types import Question
from tests.strategies.talk import contents, strategy, sums, talk
from tests.toy import toy_task

ASKED = Question("Ann has 3 pens, Bo has 2 more. How many have they?")


def test_sub_questions_are_asked_in_order_and_their_answers_built_upon():
    model = Scripted(
        ["1. How many has Bo?\n2) How many together?\nthank you", "Bo has 5.", "8 in all.", "3 + 5. The answer is 8."]
    )
    answer = talk("least-to-most:k=2", model, ASKED, sums())
    assert answer.text == "8"
    reduction, first, second, last = model.prompts
    assert contents(reduction)[-1] == ("user", f"Question: {ASKED.input}\n{TOLD}")
    assert [role for role, _ in contents(reduction)[:-1]] == ["user", "assistant"] * 2
    assert contents(reduction)[1][1].startswith("1. ")
    assert contents(first)[-1] == ("user", f"{ASKED.input}\n\nQuestion: How many has Bo?\nAnswer:")
    assert contents(second)[-3:] == [
        contents(first)[-1],
        ("assistant", "Bo has 5."),
        ("user", "Question: How many together?\nAnswer:"),
    ]
    assert contents(last)[-3:] == [
        ("user", "Question: How many together?\nAnswer:"),
        ("assistant", "8 in all."),
        ("user", f"Question: {ASKED.input}\nAnswer:"),
    ]
    assert contents(last)[: len(contents(first))] == contents(first)


def test_of_the_first_step_the_problem_may_be_shortened_and_the_questions_never():
    model = Scripted(["1. How many has Bo?\n2. How many together?", "5.", "8.", "The answer is 8."])
    talk("least-to-most:k=0", model, ASKED, sums())
    _, first, second, _ = model.prompts
    cuts = [(m.content[slice(*m.cut)] if m.cut else None) for m in (first.messages[-1], second.messages[-1])]
    assert cuts == [ASKED.input, None]


def test_a_last_answer_that_announces_nothing_is_brought_to_it_by_one_more_call():
    asked = Question('Take the last letters of the words in "Ann Bo" and concatenate them.')
    model = Scripted(['"n" and "o" lead to "no".', "no."])
    answer = talk("least-to-most:decompose=prefixes,k=0", model, asked, toy_task("text"))
    assert answer.text == "no"
    last = model.prompts[-1].messages
    assert (last[-1].role, last[-1].content) == ("assistant", '"n" and "o" lead to "no".\nTherefore, the answer is')
    assert last[:-1] == model.prompts[0].messages


def test_prefixes_need_no_decomposing_call():
    asked = Question('Take the last letters of the words in "Ann Bo Cy Di" and concatenate them.')
    model = Scripted(["The answer is no.", "The answer is noy.", "The answer is noyi."])
    answer = talk("least-to-most:decompose=prefixes,k=2", model, asked, toy_task("text"))
    assert answer.text == "noyi"
    assert '"Ann Bo"' in contents(model.prompts[0])[-1][1]
    assert '"Ann Bo Cy"' in contents(model.prompts[1])[-1][1]
    assert '"Ann Bo Cy Di"' in contents(model.prompts[2])[-1][1]
    assert len(model.prompts) == 3


@given(st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=8))
def test_prefixes_grow_by_a_word_and_leave_the_rest_alone(words):
    found = prefixes(f'Join "{" ".join(words)}" now.')
    assert found == [f'Join "{" ".join(words[:n])}" now.' for n in range(2, len(words))]


def test_a_reply_without_a_list_asks_the_question_itself():
    assert subquestions("I do not know", "q?") == []
    assert subquestions("1. Same?\n- Same?\n* Q?", "q") == ["Same?"]
    model = Scripted(["no list", "The answer is 8."])
    assert talk("least-to-most", model, ASKED, sums()).text == "8"
    assert len(model.prompts) == 2


def test_the_last_step_ranks_a_closed_set():
    model = Scripted(["1. What is it for?", "Cutting.", "tool"])
    answer = talk("least-to-most:k=1", model, Question("the saw"), toy_task())
    assert answer.text == "tool"
    assert model.prompts[-1].choices == ("fruit", "tool")


def test_a_library_of_the_users_own(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"question": "Big?", "steps": [{"question": "Small?", "answer": "Yes."}]}))
    model = Scripted({"": "1. First?"})
    talk(f'least-to-most:library="{file}",k=3', model, ASKED, sums())
    assert contents(model.prompts[0])[:2] == [("user", f"Question: Big?\n{TOLD}"), ("assistant", "1. Small?")]
    file.write_text('{"question": "Big?"}')
    with pytest.raises(RecipeError, match="library: line 1"):
        strategy(f'least-to-most:library="{file}"')
    with pytest.raises(RecipeError, match="cannot be read"):
        strategy(f'least-to-most:library="{tmp_path}/none.jsonl"')
