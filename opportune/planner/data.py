"""How much is read in training, from what a user gives: tokens, examples, or a task's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opportune.errors import UsageError
from opportune.planner.architecture import Architecture, count
from opportune.planner.asking import LETTERS, made_up
from opportune.planner.catalogue import size
from opportune.planner.techniques import tokens_named
from opportune.types import Question, TaskView

EXAMPLES = 10_000  # where nothing is given
PER_PARAMETER = 20.0  # tokens of pretraining (Hoffmann et al. 2022)
CONTINUAL = 2e9  # tokens


@dataclass(frozen=True, slots=True)
class Data:
    """The training data of a plan, and what is asked."""

    tokens: float | None
    length: int | None
    view: TaskView
    questions: tuple[Question, ...] = ()
    epochs: float = 1.0  # already in `tokens`, where these are given

    def tokens_for(self, a: Architecture, method: str) -> float:
        """What was given, there or by the method itself, or what is customary for the method.

        Raises UsageError for both, and for passes over the customary tokens of a corpus, which are read once.
        """
        named = tokens_named(method)
        if named is not None and (self.tokens is not None or self.epochs != 1):
            raise UsageError(f"{method} says what is read: leave --tokens, --examples, --task and --epochs out")
        if self.tokens is not None:
            return self.tokens
        if named is not None:
            return named
        corpus = method.startswith(("pretrain", "continual"))
        if corpus and self.epochs != 1:
            raise UsageError(f"--epochs {self.epochs:g}: {method} reads tokens: say how many with --tokens instead")
        if method.startswith("pretrain"):
            return PER_PARAMETER * count(a).total
        return CONTINUAL if corpus else EXAMPLES * (self.length or 512) * self.epochs


def data_of(
    tokens: str | None,
    examples: int | None,
    epochs: float,
    task: str | None,
    length: int | None,
    reading: Mapping[str, Any] | None = None,
) -> Data:
    """`reading` is how the task is read, as `load_task` has it. Raises UsageError where two amounts are given, or what
    belongs to an amount that is not."""
    amounts = (("--tokens", tokens), ("--examples", examples), ("--task", task))
    given = [name for name, value in amounts if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: give one of them")
    if task is not None:
        return _of_task(task, epochs, length, reading or {})
    if reading:
        raise UsageError(f"--{next(iter(reading))} says how a task's file is read: name the file with --task")
    if tokens is not None and epochs != 1:
        raise UsageError(f"--epochs {epochs:g}: --tokens counts all passes together; give one of the two")
    read = None
    if tokens is not None:
        read = size(tokens, "--tokens")
    elif examples is not None:
        read = examples * (length or 512) * epochs
    return Data(read, length, made_up(length or 60, 1, 10), epochs=epochs)


def _of_task(task: str, epochs: float, length: int | None, reading: Mapping[str, Any]) -> Data:
    from opportune.tasks.load import load_task

    loaded = load_task(task, **reading)
    lengths = [_tokens(loaded.instruction + e.input + e.target) for e in loaded.train]
    longest = length or max(8, sorted(lengths)[int(0.95 * (len(lengths) - 1))])
    questions = tuple(example.question for example in loaded.dev)
    return Data(len(lengths) * longest * epochs, longest, loaded.view(), questions, epochs)  # padding is read too


def _tokens(text: str) -> int:
    return max(1, len(text) // LETTERS)
