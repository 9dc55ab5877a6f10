"""What an arm costs at a volume of questions, and from how many questions on training is cheaper than prompting.

An arm costs its tuning and training once and its asking for every question. Two arms break even where the lines
cross. Timings repeat within about a tenth, so each measured figure is taken to be known to that much, independently;
the interval of a crossing follows from the ends. "Without a cache" is what an asked arm would cost if the beginnings
that its prompts share were computed anew each time: its tokens over those that were computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opportune.errors import UsageError
from opportune.rows import Comparison, Row

SPREAD = 0.1  # of a measured time, as a share


@dataclass(frozen=True, slots=True)
class Line:
    """An arm's cost in dollars or seconds: `once`, and `each` for a question."""

    recipe: str
    once: float
    each: float
    each_uncached: float
    trained: bool

    def total(self, questions: float, *, cached: bool = True) -> float:
        """After so many questions."""
        return self.once + questions * (self.each if cached else self.each_uncached)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """From how many questions on the trained arm is the cheaper; None: never, or not within the interval."""

    trained: str
    asked: str
    questions: float | None
    low: float | None
    high: float | None
    cached: bool


def check(volume: float) -> None:
    """Raises UsageError for what is no number of questions a month."""
    if not 1 <= volume < math.inf:
        raise UsageError(f"volume {volume} is out of range: 1 or more questions a month")


def lines(comparison: Comparison) -> list[Line]:
    """One for each arm with a model and a measured cost."""
    return [line for row in comparison.rows if row.model and (line := _line(row, comparison)) is not None]


def _line(row: Row, comparison: Comparison) -> Line | None:
    money = comparison.unit == "dollars"
    fixed = row.measured.tuning + row.measured.training
    once = (fixed.dollars if money else fixed.seconds) or 0.0
    asking = row.asking_per_1000.dollars if money else row.asking_per_1000.seconds
    if asking is None or row.status != "done":
        return None
    again = _recomputed(row, comparison)
    return Line(row.recipe, once, asking / 1000, asking / 1000 * again, bool(row.measured.training.seconds))


def _recomputed(row: Row, comparison: Comparison) -> float:
    """Work without shared beginnings over the work that was done."""
    asking = row.measured.asking
    parameters = next((m["parameters"] for m in comparison.models if m["name"] == row.model), 0)
    if not asking.flops or not asking.tokens_in or not parameters:
        return 1.0
    return max(1.0, 2.0 * parameters * asking.tokens_in / asking.flops)


def break_evens(found: Sequence[Line]) -> list[BreakEven]:
    """Every trained arm against every asked arm, with a shared-prefix cache, then without."""
    made = []
    for cached in (True, False):
        for trained in (line for line in found if line.trained):
            for asked in (line for line in found if not line.trained):
                made.append(_crossing(trained, asked, cached))
    return made


def _crossing(trained: Line, asked: Line, cached: bool) -> BreakEven:
    more, each = trained.once - asked.once, (asked.each if cached else asked.each_uncached)
    mine = trained.each if cached else trained.each_uncached
    middle = _ratio(more, each - mine)
    low = _ratio((1 - SPREAD) * trained.once - (1 + SPREAD) * asked.once, (1 + SPREAD) * each - (1 - SPREAD) * mine)
    high = _ratio((1 + SPREAD) * trained.once - (1 - SPREAD) * asked.once, (1 - SPREAD) * each - (1 + SPREAD) * mine)
    return BreakEven(trained.recipe, asked.recipe, middle, low, high, cached)


def _ratio(more: float, saved: float) -> float | None:
    """Questions until what is saved on each has paid for what was spent more; 0 where nothing was, None: never."""
    if saved <= 0:
        return None
    return max(0.0, more / saved)


def at_volume(found: Sequence[Line], volume: float) -> dict[str, dict[str, float]]:
    """Recipe -> the cost of the first month and of each later one, with a shared-prefix cache and without."""
    return {
        line.recipe: {
            "first_month": line.total(volume),
            "later_month": volume * line.each,
            "first_month_without_cache": line.total(volume, cached=False),
            "later_month_without_cache": volume * line.each_uncached,
        }
        for line in found
    }


def sentence(one: BreakEven) -> str:
    """In words."""
    where = "" if one.cached else " without a shared-prefix cache"
    if one.questions is None:
        return f"{one.trained} never becomes cheaper than {one.asked}{where}: asking it costs as much or more"
    high = "without end" if one.high is None else f"{_whole(one.high)}"
    low = "0" if one.low is None else _whole(one.low)
    return (
        f"{one.trained} is cheaper than {one.asked} from {_whole(one.questions)} questions on ({low} to {high}){where}"
    )


def _whole(number: float) -> str:
    """To two digits that count."""
    return f"{round(number, 2 - len(str(int(number)))):,.0f}" if number >= 100 else f"{number:.0f}"


def to_json(comparison: Comparison, volume: float) -> dict[str, Any]:
    """What `--volume` adds to the JSON."""
    found = lines(comparison)
    return {
        "questions_a_month": volume,
        "unit": comparison.unit,
        "arms": at_volume(found, volume),
        "break_even": [asdict(one) for one in break_evens(found)],
    }
