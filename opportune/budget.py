"""A limit on the time of a run: which arms are left out because their prediction does not fit beside the others."""

from __future__ import annotations

import re
from collections.abc import Sequence

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


def left_out(items: Sequence[ArmRecord], budget: float) -> dict[tuple[str, int], str]:
    """(hash, seed) -> why it does not run: with what comes before it, its prediction would pass the budget."""
    spent, reasons = 0.0, dict[tuple[str, int], str]()
    for item in items:
        if item.status == "done":
            continue
        expected = (item.predicted.total().seconds or 0.0) if item.predicted else 0.0
        if spent + expected > budget:
            reasons[item.hash, item.seed] = (
                f"not run: {expected / 60:.1f} min predicted, with {spent / 60:.1f} min before it more than the budget "
                f"of {budget / 60:g} min"
            )
        else:
            spent += expected
    return reasons
