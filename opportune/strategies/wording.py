"""How a task's instruction, examples and questions are put into words; shared by the strategies."""

from __future__ import annotations

from collections.abc import Iterable

from opportune.types import Example, Format, Message, Prompt, Question, TaskView

LABELS = "{labels}"  # in an instruction, stands for the task's labels


def system(task: TaskView, instruction: str | None) -> Message | None:
    """The instruction; where it says {labels}, they are listed. By default they are not: see docs/decisions/006."""
    text = task.instruction if instruction is None else instruction
    return Message("system", text.replace(LABELS, ", ".join(task.choices or ()))) if text else None


def question(asked: Question, task: TaskView, *, shot: bool = False) -> Message:
    """The question, its input marked as what may be shortened when the prompt is too long."""
    before, after = ("Text: ", "\nLabel:") if task.choices is not None else ("Question: ", "\nAnswer:")
    if asked.choices is not None and asked.choices != task.choices:
        after = "\nChoices:\n" + "\n".join(f"- {choice}" for choice in asked.choices) + "\nAnswer:"
    text = asked.input.strip()
    return Message("user", before + text + after, shot, (len(before), len(before) + len(text)))


def demonstration(example: Example, task: TaskView) -> tuple[Message, Message]:
    """A worked example: a question and its answer."""
    return question(ask_of(example), task, shot=True), Message("assistant", example.target, shot=True)


def ask_of(example: Example) -> Question:
    """The example without its target."""
    return Question(example.input, example.choices)


def prompt(
    asked: Question,
    task: TaskView,
    *,
    shots: Iterable[Example] = (),
    instruction: str | None = None,
    format: Format = "auto",
) -> Prompt:
    """Instruction, demonstrations, question; ranked by likelihood where the answers are a closed set."""
    head = system(task, instruction)
    messages = [] if head is None else [head]
    for shot in shots:
        messages += demonstration(shot, task)
    messages.append(question(asked, task))
    choices = (asked.choices or task.choices) if task.kind == "choice" else None
    return Prompt(tuple(messages), choices=choices, format=format)
