"""What training an artefact took and came to: kept beside it, so that it is charged to whoever comes back to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from opportune.cost import Amount
from opportune.records import Trial
from opportune.training.loop import Evaluation, Step
from opportune.training.rates import Choice


@dataclass(frozen=True, slots=True)
class Bill:
    """What an artefact took and came to; stored beside it."""

    tuning: Amount
    training: Amount
    rate: float
    at_edge: bool
    trials: tuple[Trial, ...]
    trainable: int
    points: tuple[tuple[str, int, dict[str, float | None]], ...]  # (trial, step, values) of the learning curves
    lessons_cut: int = 0  # lessons that lost something to the length limit


def amount_of_steps(steps: Sequence[Step], evaluations: Sequence[Evaluation] = ()) -> Amount:
    """What these steps and evaluations used."""
    evaluated = sum(evaluation.figures.get("seconds", 0.0) for evaluation in evaluations)
    return Amount(
        seconds=sum(step.seconds for step in steps) + evaluated,
        tokens_in=sum(step.tokens for step in steps),
        flops=sum(step.flops for step in steps),
    )


def tuning_of(choice: Choice | None, metered: Amount) -> Amount:
    """The probes of the rates not chosen, and the evaluations of all; the chosen probe belongs to the training."""
    if choice is None:
        return Amount()
    others = [step for trial in choice.trials if trial.rate != choice.rate for step in trial.steps]
    looks = [Evaluation(0, trial.figures) for trial in choice.trials]
    return replace(amount_of_steps(others, looks), peak_bytes=metered.peak_bytes)


def trials_of(choice: Choice | None) -> tuple[Trial, ...]:
    """Every rate tried, for the records."""
    if choice is None:
        return ()
    return tuple(
        Trial(
            rate=trial.rate,
            dev_score=None,
            dev_loss=trial.loss if trial.loss < math.inf else None,
            steps=len(trial.steps),
            stopped=trial.rate != choice.rate,
        )
        for trial in choice.trials
    )


def points_of(
    choice: Choice | None, steps: Sequence[Step], evaluations: Sequence[Evaluation]
) -> tuple[tuple[str, int, dict[str, float | None]], ...]:
    """Learning curves: the chosen training as "final", the probes of the other rates by their rate."""
    curves = {"final": tuple(steps)}
    if choice:
        curves |= {f"rate={t.rate:g}": t.steps for t in choice.trials if t.rate != choice.rate}
    values: dict[tuple[str, int], dict[str, float | None]] = {
        (name, step.step): {"loss": step.loss, "rate": step.rate} for name, curve in curves.items() for step in curve
    }
    for evaluation in evaluations:
        point = values.setdefault(("final", evaluation.step), {})
        point |= {"dev_loss": evaluation.figures["loss"], "dev_score": evaluation.figures.get("score")}
    return tuple((name, step, value) for (name, step), value in values.items())


def read_bill(value: dict[str, Any]) -> Bill:
    """A bill from its JSON."""
    amounts = {name: Amount(**value[name]) for name in ("tuning", "training")}
    trials = tuple(Trial(**trial) for trial in value["trials"])
    return Bill(**value | amounts | {"trials": trials, "points": tuple(map(tuple, value["points"]))})
