"""Zero-shot: the instruction and the question, nothing else (Radford et al. 2019; Brown et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opportune.options import TextOrFile
from opportune.strategies import choosing, wording
from opportune.strategies.choosing import Calibrate, Prior
from opportune.types import Answer, Example, Flow, Format, Lesson, Prompt, Question, TaskView


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """The instruction and the question."""

    calibrate: Calibrate = "none"
    instruction: TextOrFile | None = None
    question: TextOrFile | None = None  # the wording of a question, with {input} in it
    separator: str = "\n\n"  # between instruction and question where the format is plain
    format: Format = "auto"

    summary: ClassVar[str] = "the instruction and the question, nothing else"
    source: ClassVar[str] = "Radford et al. 2019; calibration: Zhao et al. 2021, Zhou et al. 2024"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._words()

    def prepare(self, task: TaskView, seed: int) -> Flow[Prior]:
        """With calibration, one round of content-free questions or of training inputs."""
        make = lambda asked: self._prompt(asked, task)  # noqa: E731
        return (yield from choosing.settle_prior(make, task, self.calibrate, seed))

    def ask(self, question: Question, task: TaskView, prepared: Prior) -> Flow[Answer]:
        """One prompt."""
        make = lambda asked: self._prompt(asked, task)  # noqa: E731
        return (yield from choosing.ask(make, question, prepared, self.calibrate))

    def teach(self, example: Example, task: TaskView, prepared: Prior) -> list[Lesson]:
        """The example as it will be asked."""
        return [Lesson(self._prompt(example.question, task), example.target)]

    def _prompt(self, question: Question, task: TaskView) -> Prompt:
        return wording.prompt(question, task, words=self._words())

    def _words(self) -> wording.Words:
        return wording.Words(self.instruction, self.question, self.separator, self.format)
