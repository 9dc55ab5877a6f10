"""A strategy of the user's own: a Python file with a function `ask(question, task)` that yields prompts.

    from opportune import Answer, Message, Prompt

    def ask(question, task):
        (reply,) = yield [Prompt((Message("user", question.input),), max_tokens=20)]
        return Answer(reply.texts[0].strip())

It may also define `prepare(task, seed)`, a generator whose result `ask` and `teach` receive as a third argument, and
`teach(example, task)`, which returns lessons. The file is run as it is: it is the user's own code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar

from opportune import own_code
from opportune.errors import OwnCodeError, RecipeError
from opportune.strategies.sampling import changed, seeded
from opportune.types import Answer, Example, Flow, Lesson, Message, Prompt, Question, TaskView


@dataclass(frozen=True, slots=True)
class Ready:
    """What the file's `prepare` returned, where it has one, as further arguments; and the arm's seed."""

    given: tuple[Any, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Custom:
    """The functions of a file."""

    path: str = ""  # made absolute
    digest: str | None = None  # of the file; filled in, so that a changed file is another recipe

    summary: ClassVar[str] = "a strategy of your own: custom:path=FILE, Python with a function ask(question, task)"
    source: ClassVar[str] = "this project"
    needs_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.path:
            return  # the bare name: what it takes is said when it is used
        object.__setattr__(self, "path", own_code.absolute(self.path))
        if self.digest is None:
            object.__setattr__(self, "digest", own_code.digest_of("custom", self.path))
        else:
            own_code.check_digest("custom", self.path, self.digest)

    def prepare(self, task: TaskView, seed: int) -> Flow[Ready]:
        """The result of the file's `prepare`, where it has one. Raises RecipeError for a file that does not fit."""
        make = self._function("prepare", 2)
        if make is None:
            yield from ()
            return Ready((), seed)
        return Ready(((yield from self._held("prepare", make, (task, seed), seed)),), seed)

    def ask(self, question: Question, task: TaskView, prepared: Ready) -> Flow[Answer]:
        """The file's `ask`. Raises OwnCodeError where it fails."""
        ask = self._function("ask", 2 + len(prepared.given))
        if ask is None:
            raise RecipeError(f"custom:path={self.path} has no function ask(question, task)")
        answer = yield from self._held("ask", ask, (question, task, *prepared.given), prepared.seed)
        if not isinstance(answer, Answer):
            raise OwnCodeError(f"custom:path={self.path}: ask returned {answer!r:.60}, not an Answer")
        if (fault := _fault_of_answer(answer)) is not None:
            raise OwnCodeError(f"custom:path={self.path}: ask returned an Answer {fault}")
        return answer

    def teach(self, example: Example, task: TaskView, prepared: Ready) -> list[Lesson]:
        """The file's `teach`. Raises RecipeError where it has none, OwnCodeError where it fails."""
        teach = self._function("teach", 2 + len(prepared.given))
        if teach is None:
            raise RecipeError(f"custom:path={self.path} has no function teach(example, task) to follow a method with")
        with self._failing("teach"):
            lessons = list(teach(example, task, *prepared.given))
        return [self._lesson(lesson) for lesson in lessons]

    def _lesson(self, lesson: Any) -> Lesson:
        if not isinstance(lesson, Lesson) or not isinstance(lesson.target, str):
            raise OwnCodeError(f"custom:path={self.path}: teach returned {lesson!r:.60}, not a Lesson, in its list")
        return replace(lesson, prompt=self._prompt("teach", lesson.prompt))

    def _held(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], seed: int) -> Flow[Any]:
        """The conversation of one of the file's functions, its samples drawn by the arm's seed."""

        def drawn(prompt: Any) -> Prompt:
            return seeded(self._prompt(name, prompt), seed)

        with self._failing(name):
            return (yield from changed(function(*arguments), drawn))

    def _prompt(self, name: str, prompt: object) -> Prompt:
        """What one of the functions asks, lists made tuples. Raises OwnCodeError for what no model could be asked."""
        if not isinstance(prompt, Prompt):
            raise OwnCodeError(f"custom:path={self.path}: {name} yielded {prompt!r:.60}, not a Prompt, in its list")
        prompt = replace(
            prompt, messages=_tuple(prompt.messages), choices=_tuple(prompt.choices), stop=_tuple(prompt.stop)
        )
        if (fault := _fault_of_prompt(prompt)) is not None:
            raise OwnCodeError(f"custom:path={self.path}: {name} yielded a Prompt {fault}")
        return prompt

    def _failing(self, name: str) -> AbstractContextManager[None]:
        return own_code.failing(f"custom:path={self.path}: {name}() failed")

    def _function(self, name: str, arguments: int) -> Callable[..., Any] | None:
        if not self.path:
            raise RecipeError("custom needs a file: custom:path=FILE")
        found = own_code.names_of("custom", self.path, str(self.digest)).get(name)
        if found is not None and len(inspect.signature(found).parameters) != arguments:
            raise RecipeError(f"custom:path={self.path}: {name} should take {arguments} arguments")
        return found


def _fault_of_answer(answer: Any) -> str | None:
    if not isinstance(answer.text, str | None):
        return f"whose text is {answer.text!r:.60}, neither a text nor None"
    if not isinstance(answer.raw, str):
        return f"whose raw is {answer.raw!r:.60}, not a text"
    if answer.scores is not None and not (
        isinstance(answer.scores, Mapping)
        and all(isinstance(choice, str) and isinstance(score, Real) for choice, score in answer.scores.items())
    ):
        return f"whose scores are {answer.scores!r:.60}, not a number for each choice"
    return None


def _fault_of_prompt(prompt: Any) -> str | None:
    messages = prompt.messages
    if not isinstance(messages, tuple) or not messages or not all(isinstance(each, Message) for each in messages):
        return f"whose messages are {messages!r:.60}, not a tuple of Message, at least one"
    wrong = [each for each in messages if not isinstance(each.content, str)]
    if wrong:
        return f"with the content {wrong[0].content!r:.60}, not a text"
    if prompt.choices is not None and not (_are_texts(prompt.choices) and prompt.choices):
        return f"whose choices are {prompt.choices!r:.60}, not texts, at least one"
    if not _are_texts(prompt.stop):
        return f"whose stop is {prompt.stop!r:.60}, not a tuple of texts"
    for name, kinds, least in (("max_tokens", (int,), 1), ("samples", (int,), 1), ("temperature", (int, float), 0)):
        value: Any = getattr(prompt, name)
        if not (isinstance(value, kinds) and value >= least):
            return f"whose {name} is {value!r:.60}, not a number from {least} on"
    return None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
