"""Step-back prompting, in both senses in use.

sense=abstract (Zheng et al. 2023): ask the more general question first, answer it, ground the answer in it.
sense=reconsider (Madaan et al. 2023, Self-Refine): draft, let the model criticise its draft, refine; it ends when the
model itself finds nothing to change, never by the right answer (Huang et al. 2024 on what that would hide).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from opportune.options import TextOrFile, within
from opportune.strategies import choosing, extracting, reasoning, wording
from opportune.strategies.extracting import Extract
from opportune.types import Answer, Completion, Example, Flow, Format, Lesson, Message, Prompt, Question, TaskView

ABSTRACTION = (
    "Step back and turn the question into a more general one about the principle or the background behind it, which is "
    "easier to answer."
)
ABSTRACTED = (
    ("Could the members of The Police perform lawful arrests?", "What can the members of The Police do?"),
    ("Jan was born in which country?", "What is Jan's personal history?"),
    (
        "What happens to the pressure of a gas if its temperature doubles and its volume grows by eight?",
        "Which law of physics relates the pressure, the volume and the temperature of a gas?",
    ),
    ("my parcel says delivered but nothing is here!!", "What kinds of problems do customers have with deliveries?"),
)  # the first two are the paper's own
REVIEW = (
    "Review the answer above. Say concretely what is wrong or missing in it. If nothing has to be changed, say only "
    "STOP."
)
REFINE = "Answer the question again, improved by this review."
_STOP = re.compile(r"\bSTOP\b")
_GENERAL_TOKENS = 48  # for the more general question


@dataclass(frozen=True, slots=True)
class StepBack:
    """Step back from the question, or from the answer."""

    sense: Literal["abstract", "reconsider"] = "abstract"
    rounds: int = 2  # reviews at most, of sense=reconsider
    extract: Extract = "auto"
    max_tokens: int = 128  # of each call
    instruction: TextOrFile | None = None
    format: Format = "auto"

    summary: ClassVar[str] = "first the more general question (abstract), or review and refine the answer (reconsider)"
    source: ClassVar[str] = "abstract: Zheng et al. 2023; reconsider: Madaan et al. 2023"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("step-back", "rounds", self.rounds, 1, 20)
        within("step-back", "max_tokens", self.max_tokens, 1, 100_000)
        extracting.check("step-back", self.extract)

    def prepare(self, task: TaskView, seed: int) -> Flow[None]:
        """Nothing."""
        yield from ()

    def ask(self, question: Question, task: TaskView, prepared: None) -> Flow[Answer]:
        """Three calls (abstract), or a draft and two calls a round (reconsider)."""
        return (yield from (self._abstract if self.sense == "abstract" else self._reconsider)(question, task))

    def _abstract(self, question: Question, task: TaskView) -> Flow[Answer]:
        shots = [
            message
            for asked, general in ABSTRACTED
            for message in (Message("user", f"Question: {asked}", shot=True), Message("assistant", general, shot=True))
        ]
        told = [Message("system", ABSTRACTION), *shots, wording.marked("Question: ", question.input.strip())]
        completions = yield [self._prompt(told, max_tokens=_GENERAL_TOKENS)]
        general = " ".join(completions[0].texts[0].split()) or "What is the background of this question?"
        asked = wording.marked("Question: ", general, "\nAnswer:")
        completions = yield [self._prompt([asked])]
        background = " ".join(completions[0].texts[0].split())
        context = f"Background: {general} {background}\n\n"
        return (yield from self._answer([reasoning.question(question, task, context=context)], question, task))

    def _reconsider(self, question: Question, task: TaskView) -> Flow[Answer]:
        messages: list[Message] = [reasoning.question(question, task)]
        draft = answer = yield from self._answer(messages, question, task)
        for _ in range(self.rounds):
            messages += [reasoning.said_by_model(answer.raw, "I do not know."), Message("user", REVIEW)]
            completions = yield [self._prompt([*reasoning.head(task, self.instruction), *messages])]
            review = completions[0].texts[0].strip()
            if not review or _STOP.search(review):
                break
            messages += [reasoning.said_by_model(review), Message("user", REFINE)]
            answer = yield from self._answer(messages, question, task)
        return replace(answer, draft=draft.text)

    def _answer(self, messages: Sequence[Message], question: Question, task: TaskView) -> Flow[Answer]:
        """The answer after these messages: the likeliest choice, or what is written."""
        choices = wording.choices_of(question, task)
        prompt = replace(self._prompt([*reasoning.head(task, self.instruction), *messages]), choices=choices)
        completions: list[Completion] = yield [prompt]
        if choices is not None:
            return choosing.answer(prompt, completions[0])
        return reasoning.read(completions[0].texts[0], question, task, self.extract, worded=False)

    def teach(self, example: Example, task: TaskView, prepared: None) -> list[Lesson]:
        """The answer, asked directly: the general question and the reviews are the model's own."""
        asked = [*reasoning.head(task, self.instruction), reasoning.question(example.question, task)]
        return [Lesson(self._prompt(asked), example.target)]

    def _prompt(self, messages: Sequence[Message], max_tokens: int | None = None) -> Prompt:
        limit = max_tokens or self.max_tokens
        return Prompt(tuple(messages), format=self.format, max_tokens=limit, stop=reasoning.STOP)
