"""Which demonstrations are picked, in which order; by words and by embeddings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opportune.errors import RecipeError
from opportune.evaluate import NoJournal, converse, prepare
from opportune.models.scripted import Scripted
from opportune.strategies import picking
from opportune.strategies.similarity import Vectors
from opportune.types import Example, Question
from tests.strategies.talk import strategy, talk
from tests.toy import toy_task

TASK = toy_task()


def shots_of(prompt):
    return [m.content.removeprefix("Text: ").removesuffix("\nLabel:") for m in prompt.messages if m.shot][::2]


def test_embeddings_are_asked_of_the_model_once_an_example_and_once_a_question():
    model = Scripted({"": "tool"})
    talk("k-shot:k=2,pick=nearest,similarity=embedding", model, Question("a hammer 1"), TASK)
    embedded = [prompt for prompt in model.prompts if prompt.embed]
    assert len(embedded) == len(TASK.train) + 1
    assert embedded[-1].messages[-1].content == "a hammer 1"
    assert shots_of(model.prompts[-1])[-1] == "a hammer 1"


def nearest(texts, question, pick="nearest", k=1):
    model = Scripted({"": "tool"})
    train = tuple(Example(str(place), text, "tool") for place, text in enumerate(texts))
    talk(f"k-shot:k={k},pick={pick}", model, Question(question), replace(TASK, train=train))
    return shots_of(model.prompts[-1])


@pytest.mark.parametrize("pick", ["nearest", "diverse"])
def test_words_of_one_digit_count_and_texts_without_a_word_are_no_error(pick):
    assert nearest(["1 + 4 = ?", "3 + 2 = ?", "5 + 0 = ?"], "2 + 3 = ?", pick) == ["3 + 2 = ?"]
    assert len(nearest(["?!", "...", "a"], "!!", pick, k=2)) == 2


def test_sentences_without_spaces_are_compared_by_their_characters():
    texts = ["我的包裹在哪里", "退款什么时候到账", "我忘记了密码", "如何取消订单"]
    assert nearest(texts, "请问退款多久到账") == [texts[1]]
    assert nearest(texts, "密码被我忘记了") == [texts[2]]


def test_diverse_picks_are_like_the_question_and_unlike_each_other():
    train = [Example(str(i), str(i), "a") for i in range(4)]
    index = Vectors(train, [(1.0, 0.0, 0.0), (0.99, 0.1, 0.0), (0.6, 0.0, 0.8), (-1.0, 0.0, 0.0)])
    scores = [1.0, 0.98, 0.8, 0.1]
    assert [shot.id for shot in picking.nearest(index, scores, 2)] == ["1", "0"]
    assert [shot.id for shot in picking.diverse(index, scores, 2)] == ["2", "0"]
    assert [shot.id for shot in picking.nearest(index, scores, 2, without="0")] == ["2", "1"]


@pytest.mark.parametrize("similarity", ["bm25", "embedding"])
@pytest.mark.parametrize("pick", ["nearest", "diverse"])
def test_searched_picks_never_teach_an_example_by_itself(similarity, pick):
    chosen = strategy(f"k-shot:k=3,pick={pick},similarity={similarity}")
    view = TASK.view()
    prepared = prepare(chosen, view, 0, Scripted({}), NoJournal())
    for example in TASK.train[:5]:
        (lesson,) = chosen.teach(example, view, prepared)
        shots = shots_of(lesson.prompt)
        assert len(set(shots)) == 3
        assert example.input not in shots


def test_orders():
    shots = [Example(str(i), "w " * length, label) for i, (length, label) in enumerate([(3, "b"), (1, "a"), (2, "b")])]
    assert [s.id for s in picking.ordered(shots, "simple-first", 0)] == ["1", "2", "0"]
    assert [s.id for s in picking.ordered(shots, "by-label", 0)] == ["1", "0", "2"]
    assert [s.id for s in picking.ordered(shots, "auto", 0)] == ["0", "1", "2"]
    assert sorted(s.id for s in picking.ordered(shots, "random", 3)) == ["0", "1", "2"]
    labels = [s.target for s in picking.ordered(shots, "interleaved", 0)]
    assert labels in (["b", "a", "b"], ["a", "b", "b"])


def test_none_is_a_word_where_it_is_one_of_the_values():
    assert strategy("k-shot:calibrate=none") == strategy("k-shot")


def test_what_does_not_go_together_is_refused():
    with pytest.raises(RecipeError, match="nearest-last needs pick=nearest or diverse"):
        strategy("k-shot:order=nearest-last")
    with pytest.raises(RecipeError, match="batch needs one prompt for all"):
        strategy("k-shot:pick=nearest,calibrate=batch")
    with pytest.raises(RecipeError, match=r"should hold \{input\} once"):
        strategy('zero-shot:question="What?"')


def test_the_wording_of_questions_and_the_separator_are_the_users():
    model = Scripted({"saw": "tool"})
    talk('k-shot:k=2,question="{input} =>",separator="\\n",format=plain', model, Question("the saw"), TASK)
    prompt = model.prompts[0]
    assert prompt.messages[-1].content == "the saw =>"
    assert prompt.messages[1].content.endswith(" =>")
    assert prompt.separator == "\n"


def test_batch_calibration_divides_by_the_mean_over_training_inputs():
    model = Scripted({}, score=lambda choice: -0.2 if choice == "fruit" else -2.0)
    answer = talk("zero-shot:calibrate=batch", model, Question("the saw"), TASK)
    assert len(model.prompts) == len(TASK.train) + 1
    # The question gets what all inputs get: after calibration nothing is left of the lean to "fruit".
    assert answer.scores["fruit"] == pytest.approx(answer.scores["tool"])
    assert not any("the saw" in p.messages[-1].content for p in model.prompts[:-1])


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("zero-shot:calibrate=batch", "choice", "choices that all questions share"),
        ("k-shot:k=2,calibrate=batch", "choice", "choices that all questions share"),
        ("zero-shot:calibrate=contextual", "text", "free text"),
    ],
)
def test_a_calibration_that_would_do_nothing_is_refused(text, kind, said):
    task = replace(toy_task(kind), choices=None)
    with pytest.raises(RecipeError, match=said):
        talk(text, Scripted({"": "tool"}), Question("the saw", ("saw", "tool")), task)


def test_a_file_can_hold_the_instruction(tmp_path):
    file = tmp_path / "told.txt"
    file.write_text("Sort it.\n")
    model = Scripted({"saw": "tool"})
    talk(f'zero-shot:instruction="{file}"', model, Question("the saw"), TASK)
    assert model.prompts[0].messages[0].content == "Sort it."


def test_questions_with_choices_of_their_own_list_them():
    task = replace(TASK, choices=None)
    model = Scripted({"": "b"})
    flow = strategy("zero-shot").ask(Question("which?", ("a", "b")), task.view(), None)
    converse({"q": flow}, model, NoJournal())
    assert model.prompts[0].messages[-1].content == "Question: which?\nChoices:\n- a\n- b\nAnswer:"
