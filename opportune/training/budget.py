"""How long a training may be for a given number of tokens, choosing the rate included."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, takewhile
from math import ceil

from opportune.errors import TrainingError
from opportune.training.loop import Settings, chosen, total_steps
from opportune.training.packing import TokenLesson
from opportune.training.rates import overhead


def affordable_steps(lessons: Sequence[TokenLesson], settings: Settings, rates: int, budget: int) -> int:
    """The most steps, up to those of the epochs, whose tokens stay within the budget when so many rates are tried.

    A rate's trial is a beginning of the run, in whole steps: it is charged a step more than its share, at the tokens a
    step of the fullest beginning. Raises TrainingError where not even one step can be paid for.
    """
    spent = _spent(lessons, settings, budget)

    def cost(steps: int) -> int:
        density = max(spent[done - 1] / done for done in range(max(1, steps // 8), steps + 1))
        late = 0.0 if rates == 1 else rates * density
        return spent[steps - 1] + ceil(overhead(rates) * steps * density + late)

    steps = bisect_right(range(1, len(spent) + 1), budget, key=cost)
    while steps and cost(steps) > budget:  # costs hardly ever fall with the steps, but they may
        steps -= 1
    if not steps:
        each = sum(len(lesson.ids) for lesson in lessons) * settings.batch // len(lessons)
        raise TrainingError(
            f"budget={budget} is too small: a step takes about {each} tokens, and {rates} learning rates are tried"
        )
    return steps


def _spent(lessons: Sequence[TokenLesson], settings: Settings, budget: int) -> list[int]:
    """The tokens of the first steps together, as far as the budget goes."""
    steps = range(total_steps(len(lessons), settings))
    tokens = (sum(len(lessons[place].ids) for place in chosen(len(lessons), settings, step)) for step in steps)
    return list(takewhile(lambda spent: spent <= budget, accumulate(tokens)))
