"""How much is read in training, from what a user gives: tokens, examples, or a task's file."""

from __future__ import annotations

from dataclasses import dataclass

from opportune.errors import UsageError
from opportune.planner.architecture import Architecture, count
from opportune.planner.asking import LETTERS, made_up
from opportune.planner.catalogue import size
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

    def tokens_for(self, a: Architecture, method: str) -> float:
        """What was given, or what is customary for the method."""
        if self.tokens is not None:
            return self.tokens
        if method.startswith("pretrain"):
            return PER_PARAMETER * count(a).total
        return CONTINUAL if method.startswith("continual") else float(EXAMPLES * (self.length or 512))


def data_of(tokens: str | None, examples: int | None, epochs: float, task: str | None, length: int | None) -> Data:
    """Raises UsageError where two of them are given."""
    given = [name for name, value in (("--tokens", tokens), ("--examples", examples), ("--task", task)) if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: give one of them")
    if task:
        return _of_task(task, epochs, length)
    read = size(tokens, "--tokens") if tokens else examples * (length or 512) * epochs if examples else None
    return Data(read, length, made_up(length or 60, 1, 10))


def _of_task(task: str, epochs: float, length: int | None) -> Data:
    from opportune.tasks.load import load_task

    loaded = load_task(task)
    lengths = [_tokens(loaded.instruction + e.input + e.target) for e in loaded.train]
    longest = length or max(8, sorted(lengths)[int(0.95 * (len(lengths) - 1))])
    questions = tuple(example.question for example in loaded.dev)
    return Data(sum(lengths) * epochs, longest, loaded.view(), questions)


def _tokens(text: str) -> int:
    return max(1, len(text) // LETTERS)
