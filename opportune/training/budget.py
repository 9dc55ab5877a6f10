"""How long a training may be for a given number of tokens, choosing the rate included."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, takewhile

from opportune.errors import TrainingError
from opportune.training.loop import Settings, step_tokens
from opportune.training.packing import TokenLesson
from opportune.training.rates import FINALISTS, probe_steps


def affordable_steps(lessons: Sequence[TokenLesson], settings: Settings, rates: int, budget: int) -> int:
    """The most steps, up to those of the epochs, whose tokens stay within the budget when so many rates are tried: the
    finalists to the end, the others as far as their probes. Raises TrainingError where no step can be paid for."""
    spent = _spent(lessons, settings, budget)
    finalists = min(rates, FINALISTS)

    def cost(steps: int) -> int:
        return finalists * spent[steps - 1] + (rates - finalists) * spent[probe_steps(steps) - 1]

    steps = bisect_right(range(1, len(spent) + 1), budget, key=cost)
    if not steps:
        each = sum(len(lesson.ids) for lesson in lessons) * settings.batch // len(lessons)
        raise TrainingError(
            f"budget={budget} is too small: a step takes about {each} tokens, and the learning rates tried are {rates}"
        )
    return steps


def _spent(lessons: Sequence[TokenLesson], settings: Settings, budget: int) -> list[int]:
    """The tokens of the first steps together, as far as the budget goes."""
    return list(takewhile(lambda spent: spent <= budget, accumulate(step_tokens(lessons, settings))))
