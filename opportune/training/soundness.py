"""What makes a training's result worthless, said by name: lessons that teach nothing, numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from opportune.errors import DivergedError, TrainingError
from opportune.training.packing import TokenLesson


def check_lessons(lessons: Sequence[TokenLesson]) -> None:
    """Raises TrainingError for none, and for one without a prompt or without targets."""
    if not lessons:
        raise TrainingError("there are no lessons to train on")
    for place, lesson in enumerate(lessons, 1):
        if lesson.start < 1 or lesson.targets < 1:
            raise TrainingError(
                f"lesson {place} of {len(lessons)} has {max(lesson.start, 0)} tokens of prompt and "
                f"{max(lesson.targets, 0)} to learn: at least one of each is needed"
            )


def _not_finite(network: Any) -> str:
    """Where numbers that are none come from."""
    wrong = [name for name, weight in network.named_parameters() if not bool(torch.isfinite(weight).all())]
    if wrong:
        return f"{len(wrong)} of the network's tensors hold values that are no numbers, first {wrong[0]}"
    return f"the weights are sound, so {network.dtype} overflows: try --dtype float32"


def step_error(network: Any, step: int, steps: int, loss: float, norm: float, rate: float) -> TrainingError | None:
    """Why a step (0, 1, ...) must not be taken: its loss or gradient norm is no number, or it is three times worse than
    guessing every token alike. None where all is well."""
    if step == 0 and not math.isfinite(loss):
        return TrainingError(
            f"the loss is {loss:g} at step 1 of {steps}, before any weight has moved: the learning rate is not at "
            f"fault; {_not_finite(network)}"
        )
    guess = math.log(network.config.get_text_config().vocab_size)
    if math.isfinite(loss) and math.isfinite(norm) and loss < 3 * guess:
        return None
    return DivergedError(
        f"the training diverged at step {step + 1} of {steps}: loss {loss:g}, gradient norm {norm:g}, learning rate "
        f"{rate:g}; a lower rate may help"
    )
