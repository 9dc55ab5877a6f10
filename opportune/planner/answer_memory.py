"""Memory of a device that answers: weights, the keys and values of what it reads and writes, and one layer at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

from opportune.planner.architecture import Architecture
from opportune.planner.calibration import Calibration, Estimate
from opportune.planner.hardware import Cluster
from opportune.planner.job import Base
from opportune.planner.layout import Verdict, held, judged
from opportune.planner.memory import base_weights
from opportune.planner.stacks import STACKS
from opportune.planner.work import TOGETHER


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes on one device at the peak."""

    weights: float
    cache: float  # keys and values
    passing: float  # one layer's activations while prompts are read, and the logits of their ends

    @property
    def total(self) -> float:
        """All of them."""
        return float(sum(astuple(self)))


@dataclass(frozen=True, slots=True)
class Fit:
    """How the model is spread, and what that takes of a device."""

    held: Held
    split: int  # devices that share one copy of the model
    together: int  # sequences read and written together
    allocated: Estimate
    reserved: Estimate
    available: float
    verdict: Verdict


def hold(a: Architecture, read: float, written: float, base: Base, split: int, together: int) -> Held:
    """Of so many sequences, each of `read` tokens with `written` to follow, the model split over some devices."""
    each = 4.0 if base == "float32" else 2.0
    cache = together * (read + written) * 2 * each * a.layers * a.key_width
    widest = a.experts.active * a.experts.ffn + a.experts.shared if a.experts else a.ffn
    layer = together * read * each * (4 * a.hidden + 2 * a.query_width + 3 * widest)
    logits = together * 4.0 * a.vocabulary
    return Held(base_weights(a, base, STACKS["transformers"]) / split, cache / split, (layer + logits) / split)


def settle(a: Architecture, read: float, written: float, base: Base, cluster: Cluster, calibration: Calibration) -> Fit:
    """The fewest devices to a copy on which it fits, then the most sequences together; else what needs least."""
    found = _fit(a, read, written, base, cluster, calibration, 1, TOGETHER)
    for split, together in _ways(a, cluster.count):
        found = _fit(a, read, written, base, cluster, calibration, split, together)
        if found.verdict == "fits":
            break
    return found


def _ways(a: Architecture, devices: int) -> Iterator[tuple[int, int]]:
    for split in (1, 2, 4, 8, 16, 32, 64):
        if devices % split == 0 and split <= a.layers:
            for together in (TOGETHER, 8, 4, 2, 1):
                yield split, together


def _fit(
    a: Architecture, read: float, written: float, base: Base, cluster: Cluster, calibration: Calibration,
    split: int, together: int,
) -> Fit:  # fmt: skip
    found = hold(a, read, written, base, split, together)
    allocated = calibration.around(found.total, "memory")
    reserved, available = held(allocated, cluster, calibration), cluster.device.memory
    return Fit(found, split, together, allocated, reserved, available, judged(reserved, available))
