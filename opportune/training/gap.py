"""The generalisation gap: how much better a trained network does on its own lessons than on dev."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from opportune.inference.modes import evaluating
from opportune.training.loss import lesson_losses
from opportune.training.packing import TokenLesson

LESSONS = 32  # of each side
_LEAST = 0.1  # of the loss on dev: a smaller gap is no reason to act, however certain


@dataclass(frozen=True, slots=True)
class Sides:
    """Mean losses in nats per target token, and the standard error of their difference."""

    train: float
    dev: float
    error: float | None  # None where a side has a single lesson

    @property
    def opened(self) -> bool:
        """Whether dev is worse beyond two standard errors, and by more than a tenth."""
        return self.error is not None and self.dev - self.train > max(2 * self.error, _LEAST * self.dev)


def measure_gap(network: Any, lessons: Sequence[TokenLesson], own: int, dev: Sequence[TokenLesson]) -> Sides:
    """The two losses of the network without dropout, on evenly spaced lessons of both sides: of the first `own`, which
    are of dev's kind, and of dev."""
    sides = (lessons, own), (dev, len(dev))
    with evaluating(network):
        (train, first), (held, second) = (_mean(network, _spaced(some, number)) for some, number in sides)
    return Sides(train, held, None if first is None or second is None else math.hypot(first, second))


def _spaced(lessons: Sequence[TokenLesson], number: int) -> list[TokenLesson]:
    count = min(LESSONS, number)
    return [lessons[place * number // count] for place in range(count)]


def _mean(network: Any, lessons: list[TokenLesson]) -> tuple[float, float | None]:
    """The mean loss of a target and its standard error, a lesson's targets being dependent."""
    losses = torch.tensor(lesson_losses(network, lessons), dtype=torch.float64)
    targets = torch.tensor([lesson.targets for lesson in lessons], dtype=torch.float64)
    mean = float(losses.sum() / targets.sum())
    count = len(lessons)
    if count < 2:
        return mean, None
    off = (losses - mean * targets).square().sum() * count / (count - 1)
    return mean, float(off.sqrt() / targets.sum())
