"""What was fitted on published records, and how far off predictions were on sources left out (calibration.json).

`benchmarks/planner.py` writes the file. An interval is the prediction times the range that held 90 % of the records of
that kind when their source was left out of the fit, every source weighing the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from opportune.planner.timing import Speeds

SHIPPED = Path(__file__).with_name("calibration.json")
_GUESSED = Speeds()
Kind = Literal["memory", "step", "peft", "run"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A prediction with its 90 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """All three multiplied."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, amount: float) -> Estimate:
        """All three moved up by what is known exactly."""
        return Estimate(self.value + amount, self.low + amount, self.high + amount)


def exactly(value: float) -> Estimate:
    """A figure without uncertainty."""
    return Estimate(value, value, value)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The constants and the ranges."""

    speeds: Speeds = _GUESSED
    scale: float = 1.0  # of activations
    reserved: float = 1.05  # what the allocator holds, over what is allocated
    goodput: float = 0.85  # share of a cluster's time that ends up in the model
    share: float = 0.3  # of the peak that pretraining on clusters reaches, in the model's own operations
    alone: float = 0.97  # the same for up to eight devices in one machine
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # kind -> measured / predicted

    def around(self, value: float, kind: Kind) -> Estimate:
        """The value with the interval of its kind."""
        low, high = self.ranges.get(kind, (0.5, 2.0))
        return Estimate(value, value * low, value * high)


def read(path: Path) -> Calibration:
    """The calibration in a file."""
    return from_json(json.loads(path.read_text(encoding="utf-8")))


def from_json(found: Mapping[str, Any]) -> Calibration:
    """The calibration in an object as `calibration.json` holds it."""
    ranges = {kind: (float(low), float(high)) for kind, (low, high) in found["ranges"].items()}
    rest = {name: float(found[name]) for name in ("scale", "reserved", "goodput", "share", "alone")}
    return Calibration(speeds=Speeds(**found["speeds"]), ranges=ranges, **rest)


@cache
def shipped() -> Calibration:
    """The calibration that comes with the project."""
    return read(SHIPPED)
