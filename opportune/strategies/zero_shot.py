"""Zero-shot: the instruction and the question, nothing else (Radford et al. 2019; Brown et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opportune.strategies import choosing, wording
from opportune.strategies.choosing import Calibrate, Prior
from opportune.types import Answer, Example, Flow, Format, Lesson, Prompt, Question, TaskView


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """The instruction and the question."""

    calibrate: Calibrate = "none"
    instruction: str | None = None
    format: Format = "auto"

    summary: ClassVar[str] = "the instruction and the question, nothing else"
    source: ClassVar[str] = "Radford et al. 2019; calibration: Zhao et al. 2021"
    needs_model: ClassVar[bool] = True

    def prepare(self, task: TaskView, seed: int) -> Flow[Prior]:
        """With calibration, one round of content-free questions."""
        return (yield from choosing.settle_prior(lambda asked: self._prompt(asked, task), task, self.calibrate))

    def ask(self, question: Question, task: TaskView, prepared: Prior) -> Flow[Answer]:
        """One prompt."""
        make = lambda asked: self._prompt(asked, task)  # noqa: E731
        return (yield from choosing.ask(make, question, prepared, self.calibrate))

    def teach(self, example: Example, task: TaskView, prepared: Prior) -> list[Lesson]:
        """The example as it will be asked."""
        return [Lesson(self._prompt(wording.ask_of(example), task), example.target)]

    def _prompt(self, question: Question, task: TaskView) -> Prompt:
        return wording.prompt(question, task, instruction=self.instruction, format=self.format)
