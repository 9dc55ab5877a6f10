"""Chain of thought: the model reasons in words before it answers.

With demonstrations (Wei et al. 2022): worked examples, their rationales from the task or written by the model itself
for training examples that it then gets right (Zelikman et al. 2022, STaR; Zhang et al. 2022, Auto-CoT). Without (k=0;
Kojima et al. 2022): two calls, "Let's think step by step" and then the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from opportune.options import TextOrFile, within
from opportune.strategies import extracting, reasoning, wording
from opportune.strategies.extracting import Extract, Shape
from opportune.strategies.picking import Drawn, Order, check_count, draw, ordered
from opportune.strategies.together import together
from opportune.types import Answer, Example, Flow, Format, Lesson, Message, Prompt, Question, TaskView
from opportune.values import last_number, normalise

TRIGGER = "Let's think step by step."
WRITTEN = 4  # training examples that the model tries for each demonstration it is to write

Final = Literal["auto", "text", "likelihood"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The demonstrations, and what a reader must know about them."""

    shots: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainOfThought:
    """Reason first, then answer."""

    k: int = 4  # demonstrations; 0: "Let's think step by step"
    pick: Drawn = "balanced"
    order: Order = "auto"
    final: Final = "auto"  # text: read off the text; likelihood: the likeliest choice after it; auto: text when k > 0
    extract: Extract = "auto"
    max_tokens: int = 256
    instruction: TextOrFile | None = None
    format: Format = "auto"

    summary: ClassVar[str] = "reason in words, then answer"
    source: ClassVar[str] = "Wei et al. 2022; Kojima et al. 2022; rationales: Zelikman et al. 2022"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("chain-of-thought", "k", self.k, 0, 1000)
        within("chain-of-thought", "max_tokens", self.max_tokens, 1, 100_000)
        extracting.check("chain-of-thought", self.extract)

    def prepare(self, task: TaskView, seed: int) -> Flow[Prepared]:
        """Pick the demonstrations; where too few have rationales, the model writes the others: two rounds of calls.

        Raises RecipeError when there are fewer training examples than demonstrations.
        """
        check_count("chain-of-thought", self.k, task.train)
        balanced = self.pick == "balanced" and task.kind == "choice"
        worked = [example for example in task.train if example.rationale]
        if self.k == 0 or len(worked) >= self.k:
            return Prepared(ordered(draw(worked, self.k, seed, balanced=balanced), self.order, seed))
        missing, plain = self.k - len(worked), [example for example in task.train if not example.rationale]
        tried = draw(plain, min(WRITTEN * missing, len(plain)), seed, balanced=balanced)
        written = yield from self._written(tried, task)
        own = draw(written, min(missing, len(written)), seed, balanced=balanced)
        shots = (*draw(worked, len(worked), seed, balanced=balanced), *own)
        note = (
            f"{len(own)} of {self.k} demonstrations written by the model, which got {len(written)} of {len(tried)} "
            f"training examples right{'' if shots else ': asked without demonstrations'}"
        )
        return Prepared(ordered(shots, self.order, seed), (note,))

    def _written(self, tried: tuple[Example, ...], task: TaskView) -> Flow[list[Example]]:
        """The examples that the model gets right by reasoning, with the reasoning it wrote."""
        answers = yield from together([self._unaided(example.question, task) for example in tried])
        shape = extracting.shape_of(task)
        return [
            replace(example, rationale=" ".join(answer.raw.split()))
            for example, answer in zip(tried, answers, strict=True)
            if answer.text is not None and _same(answer.text, example.target, shape)
        ]

    def ask(self, question: Question, task: TaskView, prepared: Prepared) -> Flow[Answer]:
        """One call where the answer is read off the text, else two."""
        if not prepared.shots:
            return (yield from self._unaided(question, task))
        prompt = self._prompt(question, task, prepared.shots)
        completions = yield [prompt]
        text = completions[0].texts[0]
        if self.final == "likelihood" and wording.choices_of(question, task) is not None:
            return (yield from reasoning.conclude(prompt, text, question, task, self.extract))
        return reasoning.read(text, question, task, self.extract)

    def _unaided(self, question: Question, task: TaskView) -> Flow[Answer]:
        """Kojima et al.'s two calls, or the first of them with final=text."""
        prompt = self._triggered(question, task)
        completions = yield [prompt]
        said = f"{TRIGGER} {completions[0].texts[0].strip()}"
        if self.final == "text":
            return reasoning.read(said, question, task, self.extract)
        return (yield from reasoning.conclude(prompt, said, question, task, self.extract))

    def lacks(self, example: Example) -> str | None:
        """What an example would have to have to be taught by."""
        return None if example.rationale else "a worked solution: a column rationale, or the one --rationale names"

    def teach(self, example: Example, task: TaskView, prepared: Prepared) -> list[Lesson]:
        """The example's worked solution, and where a second call gives the answer that too; nothing for an example
        without one."""
        if not example.rationale:
            return []
        asked, solution = example.question, reasoning.solution(example)
        if prepared.shots:
            shots = tuple(shot for shot in prepared.shots if shot.id != example.id)
            prompt, said = self._prompt(asked, task, shots), solution
            concludes = self.final == "likelihood" and wording.choices_of(asked, task) is not None
        else:
            prompt, said = self._triggered(asked, task), f"{TRIGGER} {solution}"
            concludes = self.final != "text"
        lessons = [Lesson(prompt, solution)]
        if concludes:
            lessons.append(Lesson(reasoning.closing(prompt, said, asked, task), example.target))
        return lessons

    def _triggered(self, question: Question, task: TaskView) -> Prompt:
        prompt = self._prompt(question, task, ())
        return replace(prompt, messages=(*prompt.messages, Message("assistant", TRIGGER)))

    def _prompt(self, question: Question, task: TaskView, shots: tuple[Example, ...]) -> Prompt:
        messages = reasoning.head(task, self.instruction)
        for shot in shots:
            messages += reasoning.demonstration(shot, task)
        messages.append(reasoning.question(question, task))
        return Prompt(tuple(messages), format=self.format, max_tokens=self.max_tokens, stop=reasoning.STOP)


def _same(answer: str, target: str, shape: Shape) -> bool:
    """An answer is read in its plainest form; a target is as the task writes it."""
    if shape == "number":
        return last_number(answer) == last_number(target)
    return normalise(answer) == normalise(target)
