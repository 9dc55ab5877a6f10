"""A whole conversation with the scripted model, for the tests of strategies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opportune import strategies
from opportune.evaluate import NoJournal, converse, prepare
from opportune.options import build
from opportune.spec import parse
from opportune.types import Example, Question, Task
from tests.toy import toy_task

SUMS = (("2 and 3", "5"), ("10 and 4", "14"), ("7 and 1", "8"), ("6 and 6", "12"), ("20 and 2", "22"), ("1 and 8", "9"))


def sums(rationales: bool = True) -> Task:
    """Adding two numbers, with worked solutions where asked for."""
    train = tuple(
        Example(f"train-{i}", f"Add {pair}.", total, rationale=f"{pair} are added." if rationales else None)
        for i, (pair, total) in enumerate(SUMS)
    )
    return replace(
        toy_task("text"),
        instruction="Do the sum.",
        train=train,
        dev=(Example("dev-0", "Add 3 and 3.", "6"),),
        test=(Example("test-0", "Add 30 and 3.", "33"),),
        metric="numeric-match",
    )


def strategy(text: str) -> Any:
    part = parse(text).parts[0]
    return build(part, strategies.TABLE[part.name])


def talk(text: str, model: Any, question: Question, task: Task, seed: int = 0) -> Any:
    """The answer to one question; `model.prompts` has everything that was asked, preparation first."""
    chosen, view = strategy(text), task.view()
    prepared = prepare(chosen, view, seed, model, NoJournal())
    return converse({"q": chosen.ask(question, view, prepared)}, model, NoJournal())["q"].result


def contents(prompt: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]
