"""Whole conversations against the scripted model: what is asked, in structure; what is made of the answers."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from opportune import strategies
from opportune.errors import RecipeError
from opportune.evaluate import NoJournal, converse, evaluate, prepare
from opportune.metrics import metric_named
from opportune.models.scripted import Scripted
from opportune.options import build, load, resolved
from opportune.recipe import arms
from opportune.spec import ModelRef, Part, parse
from opportune.types import Example, Question, Strategy
from tests.strategies.talk import talk
from tests.toy import SECRET, toy_task

TASK = toy_task()
VIEW = TASK.view()


def strategy(text):
    part = parse(text).parts[0]
    return build(part, strategies.TABLE[part.name])


def ask(text, model, question="the saw", seed=0):
    """The answer to one question and the prompts asked for it, preparation first."""
    chosen = strategy(text)
    prepared = prepare(chosen, VIEW, seed, model, NoJournal())
    talk = converse({"q": chosen.ask(Question(question), VIEW, prepared)}, model, NoJournal())["q"]
    return talk.result


def contents(prompt):
    return [(message.role, message.content) for message in prompt.messages]


@pytest.mark.parametrize("name", strategies.TABLE)
def test_every_entry_of_the_table_is_a_strategy(name):
    kind = load(strategies.TABLE[name])
    assert isinstance(kind(), Strategy)
    assert kind.summary
    assert kind.source


def test_zero_shot_asks_instruction_and_question():
    model = Scripted({"saw": "tool"})
    assert ask("zero-shot", model).text == "tool"
    (prompt,) = model.prompts
    assert contents(prompt) == [("system", "Fruit or tool?"), ("user", "Text: the saw\nLabel:")]
    assert prompt.choices == ("fruit", "tool")
    start, stop = prompt.messages[-1].cut
    assert prompt.messages[-1].content[start:stop] == "the saw"


def test_an_instruction_of_the_recipe_takes_the_place_of_the_tasks():
    model = Scripted({"saw": "tool"})
    ask('zero-shot:instruction="Sort it into {labels}."', model)
    assert contents(model.prompts[0])[0] == ("system", "Sort it into fruit, tool.")


def test_k_shot_interleaves_balanced_demonstrations():
    model = Scripted({"saw": "tool"})
    ask("k-shot:k=6", model)
    turns = contents(model.prompts[0])
    answers = [content for role, content in turns if role == "assistant"]
    assert sorted(answers) == ["fruit"] * 3 + ["tool"] * 3
    assert all(a != b for a, b in pairwise(answers)), "two of a label in a row"
    assert turns[-1] == ("user", "Text: the saw\nLabel:")


def test_the_seed_draws_other_demonstrations():
    first, again, other = Scripted({"": "tool"}), Scripted({"": "tool"}), Scripted({"": "tool"})
    ask("k-shot:k=4", first, seed=1)
    ask("k-shot:k=4", again, seed=1)
    ask("k-shot:k=4", other, seed=2)
    assert first.prompts == again.prompts
    assert first.prompts != other.prompts


def test_nearest_demonstrations_end_with_the_most_similar():
    model = Scripted({"": "tool"})
    ask("k-shot:k=3,pick=nearest", model, question="a saw 11")
    shots = [message.content for message in model.prompts[0].messages if message.role == "user"][:-1]
    assert len(shots) == 3
    assert "saw" in shots[-1]


def test_nearest_never_teaches_an_example_by_itself():
    chosen = strategy("k-shot:k=3,pick=nearest")
    prepared = prepare(chosen, VIEW, 0, None, NoJournal())
    example = TASK.train[3]
    (lesson,) = chosen.teach(example, VIEW, prepared)
    shots = [m.content for m in lesson.prompt.messages if m.shot and m.role == "user"]
    assert len(shots) == 3
    assert not any(example.input in shot for shot in shots)
    assert lesson.target == example.target


def test_balanced_never_teaches_an_example_by_itself():
    chosen = strategy("k-shot:k=16")
    prepared = prepare(chosen, VIEW, 0, None, NoJournal())
    for example in TASK.train:
        (lesson,) = chosen.teach(example, VIEW, prepared)
        shots = [m.content for m in lesson.prompt.messages if m.shot and m.role == "user"]
        assert len(shots) == 15
        assert f"Text: {example.input}\nLabel:" not in shots


def test_calibration_divides_by_what_content_free_questions_get():
    # The model always leans to "fruit" by 0.8; the question moves it to 0.7: after calibration that is "tool".
    def score(choice):
        lean = 0.7 if asked_for_real() else 0.8
        return math.log(lean if choice == "fruit" else 1 - lean)

    model = Scripted({}, score=score)

    def asked_for_real():
        return "saw" in model.prompts[-1].messages[-1].content

    plain = ask("k-shot:k=4", model)
    calibrated = ask("k-shot:k=4,calibrate=contextual", model)
    assert plain.text == "fruit"
    assert calibrated.text == "tool"
    assert math.exp(calibrated.scores["tool"]) == pytest.approx((0.3 / 0.2) / (0.3 / 0.2 + 0.7 / 0.8))
    content_free = [prompt.messages[-1].content for prompt in model.prompts[1:4]]
    assert content_free == ["Text: N/A\nLabel:", "Text: \nLabel:", "Text: [MASK]\nLabel:"]
    assert all(prompt.messages[:-1] == model.prompts[0].messages[:-1] for prompt in model.prompts[1:4])


def test_nearest_is_calibrated_question_by_question():
    model = Scripted({}, score=lambda choice: math.log(0.5))
    ask("k-shot:k=2,pick=nearest,calibrate=contextual", model)
    assert len(model.prompts) == 4
    assert len({prompt.messages[:-1] for prompt in model.prompts}) == 1


def test_k_larger_than_train_is_refused():
    with pytest.raises(RecipeError, match="k=17 needs 17 training examples; the task has 16"):
        ask("k-shot:k=17", Scripted({}))


@pytest.mark.parametrize(
    "name", ["zero-shot:calibrate=contextual", "k-shot:k=4,calibrate=contextual", "k-shot:k=4,pick=nearest"]
)
def test_no_prompt_holds_a_test_target(name):
    model = Scripted({"": "tool"})
    chosen = strategy(name)
    prepared = prepare(chosen, VIEW, 0, model, NoJournal())
    evaluate(chosen, VIEW, prepared, TASK.test, model, metric_named("accuracy"), NoJournal())
    assert len(model.prompts) >= len(TASK.test)
    assert not any(SECRET in message.content for prompt in model.prompts for message in prompt.messages)


def test_baselines_learn_from_train_alone():
    assert ask("majority", None).text == "fruit"
    assert ask("tfidf", None, question="a hammer").text == "tool"
    assert ask("tfidf", None, question="a plum").text == "fruit"


def test_the_classifier_reads_sentences_without_spaces():
    rows = [("我的包裹在哪里", "fruit"), ("忘记了密码", "tool"), ("包裹没有到", "fruit"), ("密码不对", "tool")]
    train = tuple(Example(str(place), text, label) for place, (text, label) in enumerate(rows))
    for question, label in (("请问包裹呢", "fruit"), ("怎么改密码", "tool")):
        answer = talk("tfidf", None, Question(question), replace(TASK, train=train))
        assert (answer.text, answer.scores[label] > math.log(0.55)) == (label, True)


@pytest.mark.parametrize(
    ("rows", "said"),
    [([("a plum", "fruit"), ("a fig", "fruit")], "two labels"), ([("!", "fruit"), ("?", "tool")], "empty vocabulary")],
)
def test_what_a_classifier_cannot_learn_from_is_one_line(rows, said):
    train = tuple(Example(str(place), text, label) for place, (text, label) in enumerate(rows))
    with pytest.raises(RecipeError, match=said):
        prepare(strategy("tfidf"), replace(TASK, train=train).view(), 0, None, NoJournal())


def test_baselines_refuse_methods_and_models():
    for text in ("lora+majority", "tfidf@smollm2-135m"):
        with pytest.raises(RecipeError, match="asks no model"):
            arms(text, (ModelRef("m"),))


def test_an_option_out_of_range_or_unknown_is_named():
    with pytest.raises(RecipeError, match="k-shot:k=0 is out of range: 1 to"):
        strategy("k-shot:k=0")
    with pytest.raises(RecipeError, match="unknown option 'kk'; it has k, pick"):
        strategy("k-shot:kk=3")
    with pytest.raises(RecipeError, match="balanced, random, nearest"):
        strategy("k-shot:pick=best")
    with pytest.raises(RecipeError, match="should be a whole number"):
        build(Part("k-shot", {"k": "many"}), strategies.TABLE["k-shot"])


def test_the_page_of_strategies_has_every_option_with_its_default():
    page = (Path(__file__).parents[2] / "docs" / "strategies" / "README.md").read_text()
    for name, place in strategies.TABLE.items():
        options = resolved(Part(name), build(Part(name), place))
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        if name == "self-consistency":
            options = Part(name, {**options.options, "of": parse("chain-of-thought")})
        if name != "custom":
            assert str(options).removeprefix(name).removeprefix(":") in row
