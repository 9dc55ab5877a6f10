"""k-shot, in-context learning: k demonstrations before the question (Brown et al. 2020).

Demonstrations are picked once for all questions (balanced, random), so that they are computed once, or for each
question (nearest, diverse). Calibration asks the same prompt about other inputs (Zhao et al. 2021, Zhou et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.errors import RecipeError
from opportune.options import TextOrFile, within
from opportune.strategies import choosing, similarity, wording
from opportune.strategies.choosing import Calibrate, Prior
from opportune.strategies.picking import Order, Pick, check_count, diverse, draw, nearest, ordered
from opportune.strategies.similarity import Index, Similarity
from opportune.types import Answer, Example, Flow, Format, Lesson, Prompt, Question, TaskView


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is settled before the first question: the demonstrations, or how to find them, and the prior."""

    shots: tuple[Example, ...] = ()
    index: Index | None = None
    prior: Prior = None


@dataclass(frozen=True, slots=True)
class KShot:
    """k demonstrations, then the question."""

    k: int = 8
    pick: Pick = "balanced"
    similarity: Similarity = "bm25"  # of pick=nearest and pick=diverse
    order: Order = "auto"  # interleaved for balanced picks, nearest-last for nearest and diverse ones
    calibrate: Calibrate = "none"
    instruction: TextOrFile | None = None
    question: TextOrFile | None = None  # the wording of a question, with {input} in it
    separator: str = "\n\n"  # between demonstrations where the format is plain
    format: Format = "auto"

    summary: ClassVar[str] = "k worked examples before the question"
    source: ClassVar[str] = "Brown et al. 2020; Liu et al. 2022; calibration: Zhao et al. 2021, Zhou et al. 2024"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("k-shot", "k", self.k, 1, 100_000)
        if self.order == "nearest-last" and not self._searches:
            raise RecipeError(f"k-shot:order=nearest-last needs pick=nearest or diverse, not pick={self.pick}")
        if self._searches and self.calibrate == "batch":
            raise RecipeError(f"k-shot:calibrate=batch needs one prompt for all questions, not pick={self.pick}")
        self._words()

    @property
    def _searches(self) -> bool:
        return self.pick in ("nearest", "diverse")

    def prepare(self, task: TaskView, seed: int) -> Flow[Prepared]:
        """Pick the demonstrations; with calibration, one round of calls; with embeddings, one of a call an example.

        Raises RecipeError when there are fewer training examples than demonstrations.
        """
        check_count("k-shot", self.k, task.train)
        if self._searches:
            return Prepared(index=(yield from similarity.build(task.train, self.similarity)))
        # Targets of free text are no labels: balancing them would say nothing.
        shots = draw(task.train, self.k, seed, balanced=self.pick == "balanced" and task.kind == "choice")
        shots = ordered(shots, self.order, seed)
        make = lambda asked: self._prompt(asked, task, shots)  # noqa: E731
        prior = yield from choosing.settle_prior(make, task, self.calibrate, seed)
        return Prepared(shots, prior=prior)

    def ask(self, question: Question, task: TaskView, prepared: Prepared) -> Flow[Answer]:
        """One prompt; with calibration and demonstrations of its own, three content-free ones beside it."""
        shots = prepared.shots
        if prepared.index is not None:
            shots = self._found(prepared.index, (yield from prepared.index.scores(question.input)))
        make = lambda asked: self._prompt(asked, task, shots)  # noqa: E731
        return (yield from choosing.ask(make, question, prepared.prior, self.calibrate))

    def teach(self, example: Example, task: TaskView, prepared: Prepared) -> list[Lesson]:
        """The example as it will be asked, never with itself among the demonstrations."""
        shots = tuple(shot for shot in prepared.shots if shot.id != example.id)
        if prepared.index is not None:
            place = prepared.index.train.index(example)
            likeness = prepared.index.likeness(place, range(len(prepared.index.train)))
            shots = self._found(prepared.index, likeness, without=example.id)
        return [Lesson(self._prompt(example.question, task, shots), example.target)]

    def _found(self, index: Index, scores: Sequence[float], without: str | None = None) -> tuple[Example, ...]:
        pick = nearest if self.pick == "nearest" else diverse
        return ordered(pick(index, scores, self.k, without), self.order, seed=0)

    def _prompt(self, question: Question, task: TaskView, shots: Sequence[Example]) -> Prompt:
        return wording.prompt(question, task, shots=shots, words=self._words())

    def _words(self) -> wording.Words:
        return wording.Words(self.instruction, self.question, self.separator, self.format)
