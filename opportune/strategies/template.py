"""A prompt of the user's own, as a Jinja2 template (rendered in a sandbox: a template cannot run code).

The template sees `input`, `choices` (a list), `instruction`, `labels` (of the task) and `examples`, k demonstrations
with `input`, `target` and `rationale`. Its text is the user's message, unless it has blocks named system, user or
assistant (a beginning of the answer), which become messages of these roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from opportune.errors import RecipeError
from opportune.options import TextOrFile, within
from opportune.strategies import choosing, extracting, reasoning, wording
from opportune.strategies.extracting import Extract
from opportune.strategies.picking import Drawn, check_count, draw
from opportune.types import Answer, Example, Flow, Format, Lesson, Message, Prompt, Question, Role, TaskView

_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_SEEN = ("input", "choices", "labels", "instruction", "examples")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt written as a template."""

    path: TextOrFile = TextOrFile("{{ instruction }}\n\n{{ input }}")  # noqa: RUF009  (immutable)
    k: int = 0
    pick: Drawn = "balanced"
    final: Literal["auto", "text", "likelihood"] = "auto"  # auto: by likelihood where the answers are a closed set
    extract: Extract = "auto"
    max_tokens: int = 128
    format: Format = "auto"

    summary: ClassVar[str] = "a prompt of your own, as a Jinja2 template: template:path=FILE"
    source: ClassVar[str] = "this project; Jinja2"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("template", "k", self.k, 0, 1000)
        within("template", "max_tokens", self.max_tokens, 1, 100_000)
        extracting.check("template", self.extract)
        with self._failing():
            _environment().from_string(self.path)

    def prepare(self, task: TaskView, seed: int) -> Flow[tuple[Example, ...]]:
        """Pick the examples. Raises RecipeError when there are fewer training examples than asked for, or the template
        cannot be filled in with one of them."""
        check_count("template", self.k, task.train)
        shots = draw(task.train, self.k, seed, balanced=self.pick == "balanced" and task.kind == "choice")
        for example in task.train[:1]:
            self._render(example.question, task, shots)
        yield from ()
        return shots

    def ask(self, question: Question, task: TaskView, prepared: tuple[Example, ...]) -> Flow[Answer]:
        """One call."""
        prompt = self._prompt(question, task, prepared)
        completions = yield [prompt]
        if prompt.choices is not None:
            return choosing.answer(prompt, completions[0])
        return reasoning.read(completions[0].texts[0], question, task, self.extract, worded=False)

    def teach(self, example: Example, task: TaskView, prepared: tuple[Example, ...]) -> list[Lesson]:
        """The example as it will be asked."""
        shots = tuple(shot for shot in prepared if shot.id != example.id)
        return [Lesson(replace(self._prompt(example.question, task, shots), choices=None), example.target)]

    def _prompt(self, question: Question, task: TaskView, shots: tuple[Example, ...]) -> Prompt:
        messages = tuple(_marked(m, question.input) for m in self._render(question, task, shots))
        choices = None if self.final == "text" else wording.choices_of(question, task)
        return Prompt(messages, choices=choices, format=self.format, max_tokens=self.max_tokens)

    def _render(self, question: Question, task: TaskView, shots: tuple[Example, ...]) -> list[Message]:
        seen: Mapping[str, Any] = {
            "input": question.input,
            "choices": list(wording.choices_of(question, task) or question.choices or ()),
            "labels": list(task.choices or ()),
            "instruction": task.instruction,
            "examples": [{"input": s.input, "target": s.target, "rationale": s.rationale or ""} for s in shots],
        }
        with self._failing():
            template = _environment().from_string(self.path)
            blocks = [role for role in _ROLES if role in template.blocks]
            if not blocks:
                return [Message("user", template.render(seen).strip())]
            context = template.new_context(dict(seen))
            return [Message(role, "".join(template.blocks[role](context)).strip()) for role in blocks]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a template may do anything but run code
            line = getattr(error, "lineno", None)
            place = f" (line {line})" if line else ""
            said = " ".join(str(error).split()) or type(error).__name__
            raise RecipeError(f"template{place}: {said}; it may use {', '.join(_SEEN)}") from error


def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def _marked(message: Message, text: str) -> Message:
    """The message with the input, where it holds it, marked as what may be shortened."""
    start = message.content.find(text.strip()) if text.strip() else -1
    return message if start < 0 else replace(message, cut=(start, start + len(text.strip())))
