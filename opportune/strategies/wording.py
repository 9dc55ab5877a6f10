"""How a task's instruction, examples and questions are put into words; shared by the strategies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opportune.errors import RecipeError
from opportune.types import Example, Format, Message, Prompt, Question, TaskView

LABELS = "{labels}"  # in an instruction, stands for the task's labels
INPUT = "{input}"  # in the wording of a question, stands for its input


@dataclass(frozen=True, slots=True)
class Words:
    """What a recipe may say in its own words; None and "auto" leave it to the task."""

    instruction: str | None = None
    question: str | None = None  # the wording of a question, with {input} in it
    separator: str = "\n\n"
    format: Format = "auto"

    def __post_init__(self) -> None:
        if self.question is not None and self.question.count(INPUT) != 1:
            raise RecipeError(f"question={self.question!r} should hold {INPUT} once, where the input goes")


PLAIN_WORDS = Words()


def system(task: TaskView, instruction: str | None) -> Message | None:
    """The instruction; where it says {labels}, they are listed. By default they are not: see docs/decisions/006."""
    text = task.instruction if instruction is None else instruction
    return Message("system", text.replace(LABELS, ", ".join(task.choices or ()))) if text else None


def question(asked: Question, task: TaskView, *, shot: bool = False, wording: str | None = None) -> Message:
    """The question, its input marked as what may be shortened when the prompt is too long."""
    pattern = wording or (f"Text: {INPUT}\nLabel:" if task.choices is not None else f"Question: {INPUT}\nAnswer:")
    before, _, after = pattern.partition(INPUT)
    if asked.choices is not None and asked.choices != task.choices:
        head, _, cue = after.rpartition("\n")
        after = f"{head}\nChoices:\n{listed(asked.choices)}\n{cue}"
    return marked(before, asked.input.strip(), after, shot=shot)


def marked(before: str, text: str, after: str = "", *, shot: bool = False) -> Message:
    """A message of the user whose `text` may be shortened when the prompt is too long."""
    return Message("user", before + text + after, shot, (len(before), len(before) + len(text)))


def listed(choices: Sequence[str]) -> str:
    """Choices, one a line."""
    return "\n".join(f"- {choice}" for choice in choices)


def demonstration(example: Example, task: TaskView, wording: str | None = None) -> tuple[Message, Message]:
    """A worked example: a question and its answer."""
    asked = question(example.question, task, shot=True, wording=wording)
    return asked, Message("assistant", example.target, shot=True)


def prompt(asked: Question, task: TaskView, *, shots: Iterable[Example] = (), words: Words = PLAIN_WORDS) -> Prompt:
    """Instruction, demonstrations, question; ranked by likelihood where the answers are a closed set."""
    head = system(task, words.instruction)
    messages = [] if head is None else [head]
    for shot in shots:
        messages += demonstration(shot, task, words.question)
    messages.append(question(asked, task, wording=words.question))
    return Prompt(tuple(messages), choices=choices_of(asked, task), format=words.format, separator=words.separator)


def choices_of(asked: Question, task: TaskView) -> tuple[str, ...] | None:
    """The closed set of answers to a question; None where the answer is free text."""
    return (asked.choices or task.choices) if task.kind == "choice" else None
