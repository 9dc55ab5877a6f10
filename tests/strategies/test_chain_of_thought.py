"""Chain of thought: what is asked, against Wei et al. 2022 and Kojima et al. 2022."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opportune.errors import RecipeError
from opportune.evaluate import NoJournal, prepare
from opportune.models.scripted import Scripted
from opportune.strategies.chain_of_thought import TRIGGER
from opportune.types import Question
from tests.strategies.talk import contents, strategy, sums, talk
from tests.toy import toy_task

ASKED = Question("Add 30 and 3.")


def test_demonstrations_show_the_rationale_and_then_the_answer():
    model = Scripted({"30 and 3": "We put 30 and 3 together. The answer is 33."})
    answer = talk("chain-of-thought:k=2", model, ASKED, sums())
    assert answer.text == "33"
    assert answer.raw.startswith("We put")
    (prompt,) = model.prompts
    turns = contents(prompt)
    assert turns[0] == ("system", "Do the sum.")
    assert turns[-1] == ("user", "Question: Add 30 and 3.\nAnswer:")
    shots = turns[1:-1]
    assert [role for role, _ in shots] == ["user", "assistant"] * 2
    for (_, asked), (_, worked) in zip(shots[::2], shots[1::2], strict=True):
        pair = asked.removeprefix("Question: Add ").removesuffix(".\nAnswer:")
        assert worked.startswith(f"{pair} are added. The answer is ")
    assert prompt.choices is None
    assert prompt.temperature == 0


def test_without_demonstrations_it_takes_two_calls():
    model = Scripted(["30 and 3 make 33", " 33."])
    answer = talk("chain-of-thought:k=0", model, ASKED, sums())
    assert answer.text == "33"
    first, second = model.prompts
    assert contents(first)[-2:] == [("user", "Question: Add 30 and 3.\nAnswer:"), ("assistant", TRIGGER)]
    role, said = contents(second)[-1]
    assert role == "assistant"
    assert said == f"{TRIGGER} 30 and 3 make 33\nTherefore, the answer (arabic numerals) is"
    assert contents(second)[:-1] == contents(first)[:-1]
    assert second.max_tokens <= 32


def test_a_closed_set_is_told_and_the_answer_forced_by_likelihood():
    model = Scripted(["It cuts wood.", "tool"])
    answer = talk("chain-of-thought:k=0", model, Question("the saw"), toy_task())
    assert answer.text == "tool"
    assert set(answer.scores) == {"fruit", "tool"}
    assert "fruit, tool" in contents(model.prompts[0])[0][1]
    assert model.prompts[1].choices == ("fruit", "tool")
    assert contents(model.prompts[1])[-1][1].endswith("Therefore, the answer is")


def test_a_text_without_an_answer_is_unparsed_and_kept():
    answer = talk("chain-of-thought:k=2", Scripted({"": "I cannot say."}), ASKED, sums())
    assert answer.text is None
    assert answer.raw == "I cannot say."


def test_likelihood_can_follow_the_reasoning_of_demonstrations():
    task = toy_task()
    task = replace(task, train=tuple(replace(e, rationale=f"it is a {e.target}") for e in task.train))
    model = Scripted(["It has teeth", "tool"])
    answer = talk("chain-of-thought:k=2,final=likelihood", model, Question("the saw"), task)
    assert answer.text == "tool"
    assert model.prompts[1].choices == ("fruit", "tool")


def test_the_model_writes_rationales_for_examples_that_it_then_gets_right():
    totals = {"2 and 3": "5", "10 and 4": "14", "30 and 3": "33"}  # the others it gets wrong

    def answer(prompt, index):
        asked = next(m.content for m in reversed(prompt.messages) if m.role == "user")
        total = next((total for pair, total in totals.items() if pair in asked), "0")
        closing = prompt.messages[-1].content.endswith("is")
        return total if closing else f"I add them. The answer is {total}."

    model = Scripted(answer)
    result = talk("chain-of-thought:k=2", model, ASKED, sums(rationales=False))
    assert result.text == "33"
    final = contents(model.prompts[-1])
    worked = [content for role, content in final if role == "assistant"]
    assert len(worked) == 2
    assert all("I add them." in text for text in worked)
    assert {text[-2:] for text in worked} <= {"5.", "4."}
    # Six examples were tried in two rounds of calls, before the question.
    assert len(model.prompts) == 2 * 6 + 1


def test_solutions_that_are_there_are_shown_and_only_the_others_written():
    task = sums()
    task = replace(
        task, train=tuple(replace(e, rationale=e.rationale if i < 3 else None) for i, e in enumerate(task.train))
    )
    model = Scripted({"": "12"})  # right about one of the three others
    prepared = prepare(strategy("chain-of-thought:k=4"), task.view(), 0, model, NoJournal())
    assert {shot.target for shot in prepared.shots} == {"5", "14", "8", "12"}
    assert prepared.notes == ("1 of 4 demonstrations written by the model, which got 1 of 3 training examples right",)
    none = prepare(strategy("chain-of-thought:k=4"), task.view(), 0, Scripted({"": "0"}), NoJournal())
    assert len(none.shots) == 3
    assert "asked without" not in none.notes[0]


def test_what_the_model_writes_for_numbers_is_right_whatever_their_spelling():
    task = sums(rationales=False)
    task = replace(task, train=tuple(replace(e, target=f"${e.target},000.0") for e in task.train))
    model = Scripted({"": "12000"})
    prepared = prepare(strategy("chain-of-thought:k=2"), task.view(), 0, model, NoJournal())
    assert [shot.target for shot in prepared.shots] == ["$12,000.0"]


def test_where_it_gets_none_right_it_is_asked_without_demonstrations_and_that_is_said():
    model = Scripted({"": "0"})
    chosen = strategy("chain-of-thought:k=2")
    prepared = prepare(chosen, sums(rationales=False).view(), 0, model, NoJournal())
    assert prepared.shots == ()
    assert "0 of 2 demonstrations" in prepared.notes[0]
    talk("chain-of-thought:k=2", model, ASKED, sums(rationales=False))
    assert contents(model.prompts[-2])[-1] == ("assistant", TRIGGER)


def test_it_teaches_worked_solutions_never_with_the_example_itself():
    task = sums()
    chosen = strategy("chain-of-thought:k=6")
    prepared = prepare(chosen, task.view(), 0, None, NoJournal())
    (lesson,) = chosen.teach(task.train[0], task.view(), prepared)
    assert lesson.target == "2 and 3 are added. The answer is 5."
    assert not any("2 and 3" in m.content for m in lesson.prompt.messages if m.shot)
    assert chosen.teach(replace(task.train[0], rationale=None), task.view(), prepared) == []


def test_options_out_of_range_are_refused():
    with pytest.raises(RecipeError, match="k=7 needs 7 training examples; the task has 6"):
        talk("chain-of-thought:k=7", Scripted({}), ASKED, sums())
    with pytest.raises(RecipeError, match="pick=nearest is not one of balanced"):
        strategy("chain-of-thought:pick=nearest")
