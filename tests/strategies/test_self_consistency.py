"""Self-consistency (Wang et al. 2022): one prompt, several samples, the plurality; and conversations held as one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opportune.errors import RecipeError
from opportune.models.scripted import Scripted
from opportune.strategies.together import together
from opportune.types import Completion, Message, Prompt, Question
from tests.strategies.talk import strategy, sums, talk
from tests.toy import toy_task

ASKED = Question("Add 30 and 3.")


def test_one_prompt_with_n_samples_and_the_most_frequent_answer():
    said = ["The answer is 33.", "The answer is 30.", "who knows", "so The answer is 33.", "The answer is 3."]
    model = Scripted(said)
    answer = talk("self-consistency:n=5,of=(chain-of-thought:k=2)", model, ASKED, sums())
    (prompt,) = model.prompts
    assert (prompt.samples, prompt.temperature) == (5, 0.7)
    assert answer.text == "33"
    assert answer.scores == {"33": 0.4, "30": 0.2, "3": 0.2}
    assert "who knows" in answer.raw


def test_free_answers_that_a_metric_holds_equal_vote_together():
    said = [f"The answer is {place}." for place in ("London", "Paris", "paris", "PARIS", "London")]
    answer = talk(
        "self-consistency:n=5,of=(chain-of-thought:k=0)", Scripted(["so"] * 5 + said), ASKED, toy_task("text")
    )
    assert answer.text == "Paris"
    assert answer.scores == {"Paris": 0.6, "London": 0.4}


def test_samples_that_part_are_brought_to_their_end_each():
    thoughts = ["first", "second", "third", "33", "33", "30"]
    model = Scripted(thoughts)
    answer = talk("self-consistency:n=3,of=(chain-of-thought:k=0)", model, ASKED, sums())
    assert model.prompts[0].samples == 3
    assert [prompt.samples for prompt in model.prompts[1:]] == [1, 1, 1]
    assert answer.text == "33"
    assert answer.scores["33"] == pytest.approx(2 / 3)


def test_nothing_parsed_is_unparsed():
    assert talk("self-consistency:n=2", Scripted({"": "hm"}), ASKED, sums()).text is None


def test_the_inner_recipe_is_resolved_and_checked():
    assert "max_tokens=256" in str(strategy("self-consistency:of=chain-of-thought").of)
    for of in ("self-consistency", "(lora+zero-shot)", "nonsense", "majority"):
        with pytest.raises(RecipeError, match="self-consistency:of="):
            strategy(f"self-consistency:of={of}")


def test_equal_greedy_prompts_are_asked_once_and_flows_of_different_length_end():
    shared = Prompt((Message("user", "same"),))

    def flow(rounds):
        heard = []
        for _ in range(rounds):
            heard += yield [shared]
        return [completion.texts[0] for completion in heard]

    both = together([flow(1), flow(2), flow(0)])
    assert next(both) == [shared]
    assert both.send([Completion("", ("a",))]) == [shared]
    with pytest.raises(StopIteration) as stop:
        both.send([Completion("", ("b",))])
    assert stop.value.value == [["a"], ["a", "b"], []]


def asked(text, seed):
    model = Scripted({"": "The answer is 33."})
    talk(text, model, ASKED, sums(), seed=seed)
    return model.prompts


def test_samples_are_drawn_by_the_seed_and_nothing_else_changes_with_it():
    drawn = [asked("self-consistency:n=2,of=(chain-of-thought:k=0)", seed)[0] for seed in range(3)]
    assert len({prompt.seed for prompt in drawn}) == 3
    assert drawn[0].seed == 0
    assert len({replace(prompt, seed=0) for prompt in drawn}) == 1
    apart = abs(drawn[1].seed - drawn[2].seed)
    assert apart > 1000  # a server may draw the most samples there are from seeds that follow each other
    assert asked("zero-shot", 0) == asked("zero-shot", 7)
    assert asked("chain-of-thought:k=0", 0) == asked("chain-of-thought:k=0", 7)


def test_a_strategy_of_ones_own_draws_by_the_seed_too(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from opportune import Answer, Message, Prompt\n\ndef ask(question, task):\n"
        "    said = (Message('user', question.input),)\n"
        "    warm, cold = yield [Prompt(said, temperature=0.5), Prompt(said)]\n"
        "    return Answer(warm.texts[0])\n"
    )
    (warm, cold), (other, same) = (asked(f'custom:path="{tmp_path / "mine.py"}"', seed) for seed in (0, 1))
    assert warm.seed != other.seed
    assert cold == same
