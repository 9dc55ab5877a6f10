"""Lessons are the conversation itself: a model that answers as it was taught is asked exactly what it was taught."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opportune.api import compare, task_from_records
from opportune.errors import RecipeError, TaskError
from opportune.evaluate import NoJournal, converse, prepare
from opportune.inference.prompts import Preparer
from opportune.models.scripted import Scripted
from opportune.strategies import reasoning
from opportune.strategies.least_to_most import prefixes
from opportune.types import Example, Question
from tests.inference.tiny import CHATML, plain_network_of, tokenizer_of
from tests.strategies.talk import strategy, sums
from tests.toy import toy_task

WORDS = 'Take the last letters of the words in "Ann Bo Cy Di" and concatenate them.'


def decomposed(kind="text"):
    """A task whose examples carry decompositions: prefixes of a list of words."""
    parts = prefixes(WORDS)
    steps = [(part, f"The last letters so far give {'noyi'[: n + 2]}.") for n, part in enumerate(parts)]
    rationale = json.dumps(
        [{"question": q, "answer": a} for q, a in [*steps, (WORDS, "One more letter, i, makes noyi.")]]
    )
    example = Example("mine", WORDS, "noyi", rationale=rationale)
    return replace(
        toy_task(kind), train=(*toy_task(kind).train, example), choices=None if kind == "text" else ("noyi", "x")
    )


def solved(kind="text"):
    task = sums()
    return task if kind == "text" else replace(task, kind="choice", choices=("5", "14", "8", "12", "22", "9"))


CASES = [
    ("chain-of-thought:k=0", solved()),
    ("chain-of-thought:k=0,final=text", solved()),
    ("chain-of-thought:k=0", solved("choice")),
    ("chain-of-thought:k=0,final=text", solved("choice")),
    ("chain-of-thought:k=3", solved()),
    ("chain-of-thought:k=3,final=likelihood", solved("choice")),
    ("least-to-most", decomposed()),
    ("least-to-most:k=0", decomposed("choice")),
    ("least-to-most:k=0,decompose=prefixes", decomposed()),
]


@pytest.mark.parametrize(("text", "task"), CASES, ids=[f"{text}-{task.kind}" for text, task in CASES])
def test_a_model_that_answers_as_taught_is_asked_what_it_was_taught(text, task):
    chosen, view = strategy(text), task.view()
    prepared = prepare(chosen, view, 0, None, NoJournal())
    shots = {shot.id for shot in getattr(prepared, "shots", ())}
    example = next(e for e in reversed(task.train) if e.id not in shots and e.rationale)
    lessons = chosen.teach(example, view, prepared)
    taught = {lesson.prompt.messages: lesson.target for lesson in lessons}
    model = Scripted(lambda prompt, _: taught[prompt.messages])
    talk = converse({"q": chosen.ask(Question(example.input, example.choices), view, prepared)}, model, NoJournal())[
        "q"
    ]
    assert talk.result.text == example.target
    assert model.prompts == [lesson.prompt for lesson in lessons]


def test_self_consistency_teaches_what_it_repeats():
    task = solved()
    chosen, inner = strategy("self-consistency:of=(chain-of-thought:k=0)"), strategy("chain-of-thought:k=0")
    prepared = prepare(chosen, task.view(), 0, None, NoJournal())
    assert chosen.teach(task.train[0], task.view(), prepared) == inner.teach(task.train[0], task.view(), prepared[1])
    assert chosen.lacks(replace(task.train[0], rationale=None)).startswith("a worked solution")


def test_what_has_no_rationale_teaches_nothing():
    task = decomposed()
    bare = Example("bare", "What is it?", "a thing", rationale="It is plain.")
    for text in ("least-to-most", "least-to-most:decompose=prefixes"):
        chosen = strategy(text)
        prepared = prepare(chosen, task.view(), 0, None, NoJournal())
        assert chosen.teach(bare, task.view(), prepared) == []
        assert "decomposition" in chosen.lacks(bare)
        assert chosen.lacks(task.train[-1]) is None


def test_a_decomposition_is_a_worked_solution_too():
    example = decomposed().train[-1]
    assert reasoning.solution(example) == (
        "The last letters so far give no. The last letters so far give noy. One more letter, i, makes noyi. "
        "The answer is noyi."
    )


# ---- the user's data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["chain-of-thought:k=1", "least-to-most:k=0"])
def test_the_answers_of_a_decomposition_may_be_numbers(text):
    rationale = json.dumps([{"question": "How many has Bo?", "answer": 4}])
    task = sums()
    task = replace(task, train=tuple(replace(example, rationale=rationale) for example in task.train))
    prepared = prepare(strategy(text), task.view(), 0, None, NoJournal())
    lessons = strategy(text).teach(task.train[0], task.view(), prepared)
    assert any(lesson.target.startswith("4") for lesson in lessons)


def rows(**more):
    return [
        {"question": f"Add {n} and 1.", "answer": str(n + 1)} | {k: v(n) for k, v in more.items()} for n in range(40)
    ]


def test_a_column_may_hold_decompositions():
    task = task_from_records(rows(why=lambda n: [{"question": "?", "answer": n}]), rationale="why")
    assert reasoning.steps_of(task.train[0])[0][0] == "?"
    with pytest.raises(TaskError, match="column 'why' holds a list; its items are"):
        task_from_records(rows(why=lambda n: ["first", "second"]), rationale="why")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    plain_network_of("llama").save_pretrained(folder)
    tokenizer_of(template=CHATML).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            "lora:rank=2+chain-of-thought",
            "no train example has a worked solution: a column rationale, or the one --rat",
        ),
        ("lora:rank=2+self-consistency", "no train example has a worked solution"),
        ("lora:rank=2+least-to-most", "no train example has a decomposition"),
    ],
)
def test_a_task_without_rationales_is_refused_before_anything_runs(recipe, expected, model, tmp_path):
    with pytest.raises(RecipeError, match=f"has nothing to teach by: {expected}"):
        compare(task_from_records(rows()), recipes=[recipe], models=[model], runs=tmp_path)


def test_rationales_that_dev_lacks_are_missed_too(model, tmp_path):
    split = {"train": rows(rationale=lambda n: "Because.")[:20], "dev": rows()[20:30], "test": rows()[30:]}
    with pytest.raises(RecipeError, match="no dev example has a worked solution"):
        compare(task_from_records(split), recipes=["lora+chain-of-thought"], models=[model], runs=tmp_path)


@pytest.mark.parametrize(
    "strategy_", ["chain-of-thought:k=0,final=text,max_tokens=4", "least-to-most:k=0,max_tokens=4"]
)
def test_training_to_reason_works_end_to_end(strategy_, model, tmp_path):
    task = task_from_records(
        rows(rationale=lambda n: [{"question": f"What is {n}?", "answer": f"It is {n}."}]), limit={"test": 4, "dev": 4}
    )
    recipe = f"lora:rank=2,rate=1e-2,epochs=1,batch=8+{strategy_}"
    (row,) = compare(task, recipes=[recipe], models=[model], dtype="float32", runs=tmp_path).rows
    assert row.status == "done", row.reason
    assert row.measured.training.flops > 0


@pytest.mark.parametrize("template", [CHATML, None])
def test_a_lesson_ends_with_what_ends_its_answer(template):
    """In chat the turn's end; in plain text the string that generation stops at."""
    tokenizer = tokenizer_of(template=template)
    lesson = strategy("chain-of-thought:k=0,final=text").teach(
        sums().train[0], sums().view(), prepare(strategy("chain-of-thought:k=0"), sums().view(), 0, None, NoJournal())
    )[0]
    taught = Preparer(tokenizer, None, range(0)).lesson(lesson)
    ids, start = taught.ids, taught.start
    answer = tokenizer.decode(ids[start:])
    assert answer.strip().startswith("2 and 3 are added. The answer is 5.")
    assert answer.endswith("<|im_end|>" if template else "\nQuestion:")
