"""k-shot, in-context learning: k demonstrations before the question (Brown et al. 2020).

Demonstrations are picked once for all questions (balanced, random), so that they are computed once, or for each
question (nearest). Calibration asks the same prompt about content-free inputs (Zhao et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.errors import RecipeError
from opportune.options import within
from opportune.strategies import choosing, wording
from opportune.strategies.choosing import Calibrate, Prior
from opportune.strategies.picking import Nearest, Pick, draw
from opportune.types import Answer, Example, Flow, Format, Lesson, Prompt, Question, TaskView


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is settled before the first question: the demonstrations, or how to find them, and the prior."""

    shots: tuple[Example, ...] = ()
    nearest: Nearest | None = None
    prior: Prior = None


@dataclass(frozen=True, slots=True)
class KShot:
    """k demonstrations, then the question."""

    k: int = 8
    pick: Pick = "balanced"
    calibrate: Calibrate = "none"
    instruction: str | None = None
    format: Format = "auto"

    summary: ClassVar[str] = "k worked examples before the question"
    source: ClassVar[str] = "Brown et al. 2020; calibration: Zhao et al. 2021"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("k-shot", "k", self.k, 1, 100_000)

    def prepare(self, task: TaskView, seed: int) -> Flow[Prepared]:
        """Pick the demonstrations; with calibration, one round of content-free questions.

        Raises RecipeError when there are fewer training examples than demonstrations.
        """
        if self.k > len(task.train):
            raise RecipeError(f"k-shot:k={self.k} needs {self.k} training examples; the task has {len(task.train)}")
        if self.pick == "nearest":
            return Prepared(nearest=Nearest(task.train))
        # Targets of free text are no labels: balancing them would say nothing.
        shots = draw(task.train, self.k, seed, balanced=self.pick == "balanced" and task.kind == "choice")
        prior = yield from choosing.settle_prior(lambda q: self._prompt(q, task, shots), task, self.calibrate)
        return Prepared(shots, prior=prior)

    def ask(self, question: Question, task: TaskView, prepared: Prepared) -> Flow[Answer]:
        """One prompt; with calibration and demonstrations of its own, three content-free ones beside it."""
        shots = prepared.nearest(question.input, self.k) if prepared.nearest else prepared.shots
        make = lambda asked: self._prompt(asked, task, shots)  # noqa: E731
        return (yield from choosing.ask(make, question, prepared.prior, self.calibrate))

    def teach(self, example: Example, task: TaskView, prepared: Prepared) -> list[Lesson]:
        """The example as it will be asked, never with itself among the demonstrations."""
        if prepared.nearest:
            shots = prepared.nearest(example.input, self.k, without=example.id)
        else:
            shots = tuple(shot for shot in prepared.shots if shot.id != example.id)
        return [Lesson(self._prompt(wording.ask_of(example), task, shots), example.target)]

    def _prompt(self, question: Question, task: TaskView, shots: Sequence[Example]) -> Prompt:
        return wording.prompt(question, task, shots=shots, instruction=self.instruction, format=self.format)
