"""How dev decides while a method is trained: the losses it is told."""

from __future__ import annotations

import math
from typing import Any

import pytest

from opportune.course import School
from opportune.evaluate import NoJournal, prepare
from opportune.metrics import metric_named
from opportune.models.scripted import Scripted
from opportune.recipe import arms
from opportune.spec import ModelRef
from tests.toy import FRUIT, TOOL, toy_task

# Right with a probability of 0.9 each time, and undecided where an input says nothing.
KNOWING = dict.fromkeys(FRUIT, "fruit") | dict.fromkeys(TOOL, "tool")


def school(recipe: str) -> School:
    task, (arm,) = toy_task(), arms(recipe, (ModelRef("m"),))
    prepared = prepare(arm.strategy, task.view(), 0, Scripted(KNOWING), NoJournal())
    nothing: Any = None
    return School(arm, nothing, task, prepared, metric_named("accuracy"), nothing, lambda *told: None)


@pytest.mark.parametrize(
    "recipe",
    [
        "zero-shot",
        "k-shot:k=2,calibrate=contextual",
        "k-shot:k=2,pick=nearest,calibrate=contextual",
        "k-shot:k=2,pick=nearest,similarity=embedding,calibrate=contextual",
    ],
)
def test_the_loss_on_dev_is_that_of_the_questions_own_prompt(recipe: str) -> None:
    model: Any = Scripted(KNOWING)
    score, loss = school(recipe).ask_dev(model)
    assert score == 1.0
    assert loss == pytest.approx(-math.log(0.9))


@pytest.mark.parametrize("recipe", ["chain-of-thought:k=0,final=text", "step-back:sense=reconsider"])
def test_no_loss_where_the_answer_is_written_in_the_end(recipe: str) -> None:
    model: Any = Scripted(KNOWING)
    assert school(recipe).ask_dev(model)[1] is None
