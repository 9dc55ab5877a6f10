"""The most frequent target of the training examples, whatever is asked: the floor under every table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from opportune.errors import RecipeError
from opportune.types import Answer, Example, Flow, Lesson, Question, TaskView


@dataclass(frozen=True, slots=True)
class Majority:
    """Always the most frequent target; ties go to the alphabetically first."""

    summary: ClassVar[str] = "always the most frequent answer of the training examples"
    source: ClassVar[str] = "the constant classifier"
    needs_model: ClassVar[bool] = False

    def prepare(self, task: TaskView, seed: int) -> Flow[str]:
        """Count the targets."""
        counts = Counter(example.target for example in task.train)
        yield from ()
        return min(counts, key=lambda target: (-counts[target], target))

    def ask(self, question: Question, task: TaskView, prepared: str) -> Flow[Answer]:
        """The same answer to every question."""
        yield from ()
        return Answer(prepared, prepared)

    def teach(self, example: Example, task: TaskView, prepared: str) -> list[Lesson]:
        """Nothing to train. Raises RecipeError."""
        raise RecipeError("majority asks no model: it cannot follow a training method")
