"""Limits on the time and the dollars of a run: which arms are left out because their prediction does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opportune.cost import Cost
from opportune.errors import UsageError
from opportune.records import ArmRecord

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_SECONDS = {None: 60.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """`20m`, `90s`, `1.5h`; a bare number is minutes. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--budget {text!r} is not a time: a number with s, m, h or d, such as 20m")
    return float(found[1]) * _SECONDS[found[2]]


@dataclass(frozen=True, slots=True)
class Limit:
    """What all arms together may take of one thing, and how much of it each is charged for."""

    most: float
    spent: float  # before anything runs now
    expected: Callable[[ArmRecord], float]  # of an arm, beyond what is spent
    told: Callable[[float, float, float], str]  # (expected, before it, most) -> why it does not run


def time_limit(budget: float) -> Limit:
    """Of seconds. Every arm counts what was predicted, whether it is done or not: so the same arms run however often a
    run is interrupted, and whatever they took."""
    return Limit(budget, 0.0, lambda item: _seconds(item.predicted), _told_time)


def dollar_limit(cap: float, spent: float, paid: Mapping[tuple[str, int], float]) -> Limit:
    """Of dollars that endpoints cost. `spent` is what earlier sittings paid, `paid` the part of it of each arm (hash,
    seed), which an arm begun before does not pay again."""

    def expected(item: ArmRecord) -> float:
        if item.status == "done" or item.predicted is None:
            return 0.0
        return max(0.0, (item.predicted.total().dollars or 0.0) - paid.get((item.hash, item.seed), 0.0))

    return Limit(cap, spent, expected, _told_dollars)


def left_out(items: Sequence[ArmRecord], limits: Sequence[Limit]) -> dict[tuple[str, int], str]:
    """(hash, seed) -> why an arm that is not done does not run: with what comes before it, its prediction would pass a
    limit."""
    spent, reasons = [limit.spent for limit in limits], dict[tuple[str, int], str]()
    for item in items:
        expected = [limit.expected(item) for limit in limits]
        over = [
            limit.told(more, before, limit.most)
            for limit, more, before in zip(limits, expected, spent, strict=True)
            if more and before + more > limit.most
        ]
        if not over:
            spent = [before + more for before, more in zip(spent, expected, strict=True)]
        elif item.status != "done":
            reasons[item.hash, item.seed] = over[0]
    return reasons


def _seconds(bill: Cost | None) -> float:
    return (bill.total().seconds or 0.0) if bill else 0.0


def _told_time(expected: float, before: float, most: float) -> str:
    return (
        f"not run: {expected / 60:.1f} min predicted, with {before / 60:.1f} min before it more than the budget of "
        f"{most / 60:g} min"
    )


def _told_dollars(expected: float, before: float, most: float) -> str:
    return (
        f"not run: ${expected:.2g} predicted, with ${before:.2g} before it more than the cap of ${most:g}; run again "
        "with a higher --max-dollars"
    )
