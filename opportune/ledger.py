"""The ledger: what every arm was predicted to cost beside what it did, and the correction that follows.

A later prediction of the same item of the bill is multiplied by the middle of measured / predicted of the runs in the
store, shrunk towards one by two observations, so that it improves with use and one odd run does little. An arm keeps
the correction that its prediction was made with; the ratio is to the prediction as it was before.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from opportune.cost import Amount, Cost
from opportune.records import ArmRecord
from opportune.store import Store

ITEMS = ("tuning", "training", "asking")
FIGURES = ("seconds", "peak_bytes", "dollars")
_LEAST = 0.05  # seconds; what is shorter says nothing about a machine


@dataclass(frozen=True, slots=True)
class Entry:
    """One figure of one item of an arm's bill."""

    run: str
    recipe: str
    item: str
    figure: str
    predicted: float
    measured: float
    factor: float = 1.0  # the correction within `predicted`

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured / self.predicted


def read(store: Store) -> list[Entry]:
    """All entries of a store, oldest run first."""
    return [entry for run in store.list_runs() for arm in store.arms(run.id) for entry in entries(arm)]


def entries(arm: ArmRecord) -> list[Entry]:
    """What an arm that is done says; items that were not predicted or not measured are left out."""
    if arm.status != "done" or arm.predicted is None or arm.measured is None:
        return []
    found, used = [], arm.resolved.get("ledger", {})
    for item in ITEMS:
        predicted, measured = getattr(arm.predicted, item), getattr(arm.measured, item)
        for figure in FIGURES:
            one, other = getattr(predicted, figure), getattr(measured, figure)
            if one and other and (figure != "seconds" or other >= _LEAST):
                factor = used.get(item, 1.0) if figure == "seconds" else 1.0
                found.append(Entry(arm.run, arm.recipe, item, figure, float(one), float(other), factor))
    return found


def factors(found: Sequence[Entry]) -> dict[str, float]:
    """Item -> what its predicted seconds are to be multiplied by on this machine."""
    made = {}
    for item in ITEMS:
        logs = [math.log(e.ratio * e.factor) for e in found if e.item == item and e.figure == "seconds"]
        if logs:
            made[item] = math.exp(
                statistics.median([*logs, 0.0, 0.0]) if len(logs) > 4 else sum(logs) / (len(logs) + 2)
            )
    return made


def corrected(cost: Cost, by: Mapping[str, float]) -> Cost:
    """The prediction with the ledger's correction of its seconds."""

    def one(amount: Amount, factor: float) -> Amount:
        return replace(amount, seconds=None if amount.seconds is None else amount.seconds * factor)

    return replace(cost, **{item: one(getattr(cost, item), by.get(item, 1.0)) for item in ITEMS})


def errors(found: Sequence[Entry]) -> dict[str, dict[str, float]]:
    """Item and figure -> number of entries, median error and median ratio."""
    made: dict[str, dict[str, float]] = {}
    for item in ITEMS:
        for figure in FIGURES:
            ratios = [e.ratio for e in found if e.item == item and e.figure == figure]
            if ratios:
                wrong = statistics.median(abs(1 / ratio - 1) for ratio in ratios)
                made[f"{item} {figure}"] = {
                    "entries": len(ratios), "median_error": wrong, "median_ratio": statistics.median(ratios),
                }  # fmt: skip
    return made


def to_json(found: Sequence[Entry]) -> dict[str, Any]:
    """The ledger as JSON-like values."""
    rows = [asdict(entry) | {"ratio": entry.ratio} for entry in found]
    return {"entries": rows, "errors": errors(found), "factors": factors(found)}
