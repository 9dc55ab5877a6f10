"""What training an artefact took and came to: kept beside it, so that it is charged to whoever comes back to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from opportune.cost import Amount
from opportune.records import Gap, ReadText, Trial, read_text
from opportune.training.loop import Evaluation, Step
from opportune.training.rates import Choice
from opportune.training.rates import Trial as Tried


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
    gap: Gap | None = None
    read: ReadText | None = None  # where it read raw text
    lessons_cut: int = 0  # lessons that lost something to the length limit
    judge: str | None = None  # whose dev scores these are: the metric and how dev was asked
    layout: str | None = None  # how steps were cut up, where the memory demanded it


def amount_of_steps(steps: Sequence[Step], evaluations: Sequence[Evaluation] = ()) -> Amount:
    """What these steps and evaluations used."""
    evaluated = sum(evaluation.figures.get("seconds", 0.0) for evaluation in evaluations)
    return Amount(
        seconds=sum(step.seconds for step in steps) + evaluated,
        tokens_in=sum(step.tokens for step in steps),
        flops=sum(step.flops for step in steps),
    )


def tuning_of(choice: Choice) -> Amount:
    """The runs at the rates not chosen, and the looks at all probes; the chosen run is the training."""
    others = [trial for trial in choice.trials if trial.rate != choice.rate]
    looks = [Evaluation(0, trial.probe) for trial in choice.trials]
    return sum((amount_of_steps(each.steps, each.evaluations) for each in others), amount_of_steps((), looks))


def trials_of(choice: Choice | None) -> tuple[Trial, ...]:
    """Every rate tried, for the records."""
    if choice is None:
        return ()
    return tuple(_trial(trial) for trial in choice.trials)


def _trial(trial: Tried) -> Trial:
    best = trial.best
    return Trial(
        rate=trial.rate,
        dev_score=best.figures.get("score") if best else None,
        dev_loss=best.figures["loss"] if best else None,
        steps=len(trial.steps),
        stopped=not trial.finished,
        probe_loss=trial.promise if trial.promise < math.inf else None,
    )


def points_of(
    choice: Choice | None, steps: Sequence[Step], evaluations: Sequence[Evaluation]
) -> tuple[tuple[str, int, dict[str, float | None]], ...]:
    """Learning curves: the chosen training as "final", those of the other rates by their rate."""
    curves = {"final": (steps, evaluations)}
    if choice:
        curves |= {f"rate={t.rate:g}": (t.steps, t.evaluations) for t in choice.trials if t.rate != choice.rate}
    values: dict[tuple[str, int], dict[str, float | None]] = {}
    for name, (taken, looks) in curves.items():
        values |= {(name, step.step): {"loss": step.loss, "rate": step.rate} for step in taken}
        for look in looks:
            point = values.setdefault((name, look.step), {})
            point |= {"dev_loss": look.figures["loss"], "dev_score": look.figures.get("score")}
    return tuple((name, step, value) for (name, step), value in values.items())


def without_foreign_scores(bill: Bill, judge: str) -> Bill:
    """The bill for an arm that judges so: without dev scores of another metric or way of asking."""
    if bill.judge in (None, judge):
        return bill
    trials = tuple(replace(trial, dev_score=None) for trial in bill.trials)
    points = tuple(
        (trial, step, {name: value for name, value in values.items() if name != "dev_score"})
        for trial, step, values in bill.points
    )
    return replace(bill, trials=trials, points=points)


def told_apart(bills: Sequence[Bill], methods: Sequence[str]) -> tuple[Bill, ...]:
    """The bills of a chain, the trials and curves of each under its method's place and name; one alone needs none."""
    if len(bills) == 1:
        return tuple(bills)
    return tuple(
        _named(bill, f"{place} {name}") for place, (bill, name) in enumerate(zip(bills, methods, strict=True), 1)
    )


def _named(bill: Bill, method: str) -> Bill:
    trials = tuple(replace(trial, method=method, chosen=trial.rate == bill.rate) for trial in bill.trials)
    points = tuple((f"{method}: {trial}", step, values) for trial, step, values in bill.points)
    return replace(bill, trials=trials, points=points)


def read_bill(value: dict[str, Any]) -> Bill:
    """A bill from its JSON."""
    amounts = {name: Amount(**value[name]) for name in ("tuning", "training")}
    trials = tuple(Trial(**trial) for trial in value["trials"])
    gap, read = value.get("gap"), value.get("read")
    known = {"gap": gap and Gap(**gap), "read": read and read_text(read)}
    return Bill(**value | amounts | known | {"trials": trials, "points": tuple(map(tuple, value["points"]))})
