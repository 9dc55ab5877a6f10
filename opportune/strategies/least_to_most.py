"""Least-to-most: break the question into simpler ones, then solve them in order, each answer in the context of the next
(Zhou et al. 2022).

Decompositions are learned from a small library of worked ones, which a file of the user's can replace; or a script
makes them: decompose=prefixes turns a question about a quoted list of words into the same question about its first two,
three, ... words, as the paper does for last-letter concatenation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import ClassVar, Literal

from opportune.errors import RecipeError
from opportune.options import TextOrFile, within
from opportune.strategies import choosing, extracting, reasoning, wording
from opportune.strategies.extracting import Extract
from opportune.strategies.picking import draw
from opportune.types import Answer, Example, Flow, Format, Lesson, Message, Prompt, Question, TaskView
from opportune.words import words

TOLD = "To answer this question, which simpler questions should be answered first, the simplest first?"
_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s*(.+?)\s*$")
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”')


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A worked example: a question and the simpler ones that lead to its answer, which comes with the last one."""

    question: str
    steps: tuple[tuple[str, str], ...]  # question and answer


@dataclass(frozen=True, slots=True)
class Prepared:
    """The worked decompositions, and with scripted ones the worked examples of the task."""

    library: tuple[Decomposition, ...]
    shots: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class LeastToMost:
    """Simple questions first, their answers built upon."""

    decompose: Literal["model", "prefixes"] = "model"
    k: int = 4  # worked decompositions; with prefixes: worked examples of the task
    steps: int = 6  # simpler questions at most, of those that the model names
    library: TextOrFile | None = None  # JSONL of {"question", "steps": [{"question", "answer"}]}
    extract: Extract = "auto"
    max_tokens: int = 128  # of each call
    instruction: TextOrFile | None = None
    format: Format = "auto"

    summary: ClassVar[str] = "break the question into simpler ones, answer them in order, build on their answers"
    source: ClassVar[str] = "Zhou et al. 2022"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("least-to-most", "k", self.k, 0, 1000)
        within("least-to-most", "steps", self.steps, 1, 100)
        within("least-to-most", "max_tokens", self.max_tokens, 1, 100_000)
        extracting.check("least-to-most", self.extract)
        self._library()

    def _library(self) -> tuple[Decomposition, ...]:
        text = self.library
        if text is None:
            text = TextOrFile((files("opportune.strategies") / "decompositions.jsonl").read_text(encoding="utf-8"))
        return tuple(_read(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip())

    def prepare(self, task: TaskView, seed: int) -> Flow[Prepared]:
        """The library; with prefixes, k worked examples of the task, the simplest first."""
        yield from ()
        if self.decompose == "model":
            return Prepared(self._library()[: self.k])
        worked = [example for example in task.train if example.rationale] or list(task.train)
        shots = draw(worked, min(self.k, len(worked)), seed, balanced=False)
        return Prepared((), tuple(sorted(shots, key=lambda shot: len(shot.input.split()))))

    def ask(self, question: Question, task: TaskView, prepared: Prepared) -> Flow[Answer]:
        """One call to decompose (none with prefixes), then one for each simpler question and one for the question."""
        if self.decompose == "prefixes":
            parts: Sequence[str] = prefixes(question.input)
        else:
            completions = yield [self._reduction(question, prepared.library)]
            parts = subquestions(completions[0].texts[0], question.input)[: self.steps]
        messages = self._beginning(task, prepared)
        for place, part in enumerate(parts):
            asked = self._step(question, part, first=place == 0)
            completions = yield [self._prompt([*messages, asked])]
            messages += [asked, reasoning.said_by_model(completions[0].texts[0], "unknown")]
        prompt = self._prompt([*messages, reasoning.question(question, task)])
        choices = wording.choices_of(question, task)
        completions = yield [prompt if choices is None else replace(prompt, choices=choices)]
        if choices is not None:
            return choosing.answer(replace(prompt, choices=choices), completions[0])
        text = completions[0].texts[0]
        answer = reasoning.read(text, question, task, self.extract)
        if answer.text is not None:
            return answer
        # Answered as the steps before it, which announce no answer.
        return (yield from reasoning.conclude(prompt, text, question, task, self.extract, self.max_tokens))

    def _step(self, question: Question, part: str, *, first: bool) -> Message:
        """A simpler question; the first one after the problem it comes from, unless it holds that itself."""
        if self.decompose == "prefixes":
            return wording.marked("Question: ", part, "\nAnswer:")
        step = f"Question: {part}\nAnswer:"
        return wording.marked("", question.input.strip(), f"\n\n{step}") if first else Message("user", step)

    def lacks(self, example: Example) -> str | None:
        """What an example would have to have to be taught by."""
        if self._decomposed(example) is not None:
            return None
        return 'a decomposition: a rationale that is a list of {"question", "answer"}, one for each simpler question'

    def _decomposed(self, example: Example) -> tuple[list[tuple[str, str]], str] | None:
        """The simpler questions as they will be asked with their answers, and the reasoning of the last step; None for
        an example without them."""
        steps = reasoning.steps_of(example)
        answers = {_plain(question): answer for question, answer in steps}
        own = answers.pop(_plain(example.input), "")
        parts = [question for question, _ in steps if _plain(question) in answers][: self.steps]
        if self.decompose == "prefixes":
            parts = prefixes(example.input)
        if not steps or not all(_plain(part) in answers for part in parts):
            return None
        return [(part, answers[_plain(part)]) for part in parts], own

    def teach(self, example: Example, task: TaskView, prepared: Prepared) -> list[Lesson]:
        """Decomposing (but not with prefixes), each simpler question after those before it, and the question itself;
        nothing for an example without a decomposition."""
        if (decomposed := self._decomposed(example)) is None:
            return []
        parts, own = decomposed
        asked, lessons = example.question, list[Lesson]()
        if self.decompose == "model":
            listed = "\n".join(f"{number}. {part}" for number, (part, _) in enumerate(parts, 1))
            lessons.append(Lesson(self._reduction(asked, prepared.library), listed or f"1. {example.input}"))
        others = tuple(shot for shot in prepared.shots if shot.id != example.id)
        messages = self._beginning(task, replace(prepared, shots=others))
        for place, (part, answer) in enumerate(parts):
            step = self._step(asked, part, first=place == 0)
            lessons.append(Lesson(self._prompt([*messages, step]), answer))
            messages += [step, reasoning.said_by_model(answer)]
        last = self._prompt([*messages, reasoning.question(asked, task)])
        choices = wording.choices_of(asked, task)
        if choices is not None:
            return [*lessons, Lesson(replace(last, choices=choices), example.target)]
        return [*lessons, Lesson(last, reasoning.concluded(own, example))]

    def _beginning(self, task: TaskView, prepared: Prepared) -> list[Message]:
        messages = reasoning.head(task, self.instruction)
        for worked in prepared.library:
            for number, (step, answer) in enumerate(worked.steps):
                context = f"{worked.question}\n\n" if number == 0 else ""
                messages.append(Message("user", f"{context}Question: {step}\nAnswer:", shot=True))
                messages.append(Message("assistant", answer, shot=True))
        for shot in prepared.shots:
            messages += reasoning.demonstration(shot, task)
        return messages

    def _reduction(self, question: Question, library: Sequence[Decomposition]) -> Prompt:
        messages: list[Message] = []
        for worked in library:
            listed = "\n".join(f"{number}. {step}" for number, (step, _) in enumerate(worked.steps, 1))
            messages.append(Message("user", f"Question: {worked.question}\n{TOLD}", shot=True))
            messages.append(Message("assistant", listed, shot=True))
        messages.append(wording.marked("Question: ", question.input.strip(), f"\n{TOLD}"))
        return self._prompt(messages)

    def _prompt(self, messages: Sequence[Message]) -> Prompt:
        return Prompt(tuple(messages), format=self.format, max_tokens=self.max_tokens, stop=reasoning.STOP)


def subquestions(text: str, question: str) -> list[str]:
    """The questions of a numbered or bulleted list, the original one left out, each once."""
    found = [match.group(1) for line in text.splitlines() if (match := _NUMBERED.match(line))]
    return [part for part in dict.fromkeys(found) if _plain(part) != _plain(question)]


def prefixes(question: str) -> list[str]:
    """The question asked about the first two, three, ... of its quoted words, all of them left out."""
    match = _QUOTED.search(question)
    if match is None:
        return []
    listed = (match.group(1) or match.group(2)).split()
    start, end = match.start() + 1, match.end() - 1
    return [question[:start] + " ".join(listed[:n]) + question[end:] for n in range(2, len(listed))]


def _plain(text: str) -> str:
    return " ".join(words(text.casefold()))


def _read(line: str, number: int) -> Decomposition:
    try:
        value = json.loads(line)
        steps = tuple((str(step["question"]), str(step["answer"])) for step in value["steps"])
        found = Decomposition(str(value["question"]), steps)
    except (ValueError, KeyError, TypeError) as error:
        wanted = '{"question", "steps": [{"question", "answer"}]}'
        raise RecipeError(f"least-to-most:library: line {number} is not {wanted}: {error!r}") from error
    if not steps:
        raise RecipeError(f"least-to-most:library: line {number} has no steps")
    return found
