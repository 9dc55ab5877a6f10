"""Choosing the learning rate: the same rule for every method.

Each rate of the method's grid is trained for the first eighth of the run from the same start and scored by its loss on
dev; the best goes on from where its probe stopped, so its steps are not repeated (successive halving with one rung,
Jamieson & Talwalkar 2016).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from opportune.errors import TrainingError
from opportune.training import checkpoint
from opportune.training.loop import Evaluate, Settings, Step, figures_of, key_of, total_steps, train
from opportune.training.masters import Masters
from opportune.training.packing import TokenLesson

PROBE = 1 / 8  # of the run's steps


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate's probe; `figures` is empty when it diverged."""

    rate: float
    figures: dict[str, float]
    steps: tuple[Step, ...]

    @property
    def loss(self) -> float:
        """The loss on dev; a diverged rate counts as the worst."""
        loss = self.figures.get("loss", math.inf)
        return loss if math.isfinite(loss) else math.inf


@dataclass(frozen=True, slots=True)
class Choice:
    """The rate chosen, where its training goes on, and what every rate came to."""

    rate: float
    folder: Path  # to be given to `train`, with this rate
    trials: tuple[Trial, ...]  # in the order of the grid
    at_edge: bool  # the best rate is an end of the grid: a better one may lie outside


def choose_rate(
    network: Any,
    lessons: Sequence[TokenLesson],
    settings: Settings,
    rates: Sequence[float],
    folder: Path,
    evaluate: Evaluate,
    watch: Callable[[Step], None] = lambda step: None,
) -> Choice:
    """Probe each rate and choose one. The network comes as it is to be trained from and is left so.

    What `folder` knows of the same search, interrupted, is not repeated. Raises TrainingError when every rate diverges.
    """
    masters = Masters(network)
    trials = _opened(folder, key_of(lessons, replace(settings, rate=0.0), masters), masters)
    probe = replace(settings, stop_after=max(1, round(PROBE * total_steps(len(lessons), settings))))
    for rate in rates:
        if all(trial.rate != rate for trial in trials):
            place = _place(folder, rate)
            trials.append(_try(network, lessons, replace(probe, rate=rate), place, evaluate, watch))
            _note(folder, trials)
            _restore_start(folder, masters)
        _keep_best(folder, trials)
    best = min(trials, key=lambda trial: trial.loss)
    if best.loss == math.inf:
        raise TrainingError(f"every learning rate diverged: {', '.join(f'{rate:g}' for rate in rates)}")
    ordered = tuple(sorted(trials, key=lambda trial: trial.rate))
    edge = len(ordered) > 1 and best in (ordered[0], ordered[-1])
    return Choice(best.rate, _place(folder, best.rate), ordered, edge)


def _try(
    network: Any,
    lessons: Sequence[TokenLesson],
    settings: Settings,
    place: Path,
    evaluate: Evaluate,
    watch: Callable[[Step], None],
) -> Trial:
    steps: list[Step] = []

    def note(step: Step) -> None:
        steps.append(step)
        watch(step)

    try:
        trained = train(network, lessons, settings, place, evaluate, note)
    except TrainingError:
        return Trial(settings.rate, {}, tuple(steps))
    return Trial(settings.rate, figures_of(network, evaluate), trained.steps)


def _place(folder: Path, rate: float) -> Path:
    return folder / f"rate-{rate:g}"


def _opened(folder: Path, key: str, masters: Masters) -> list[Trial]:
    """The finished trials of this very search. What another one left in the folder is removed, and the start saved."""
    file = folder / "trials.json"
    start = checkpoint.load(folder / "start.safetensors")
    if start is None or start[1]["key"] != key:
        shutil.rmtree(folder, ignore_errors=True)
        checkpoint.save(folder / "start.safetensors", masters.weights, {"key": key})
    found = json.loads(file.read_text()) if file.exists() else []
    return [Trial(item["rate"], item["figures"], tuple(Step(**step) for step in item["steps"])) for item in found]


def _note(folder: Path, trials: list[Trial]) -> None:
    beside = folder / "trials.part"
    beside.write_text(json.dumps([asdict(trial) for trial in trials]))
    beside.replace(folder / "trials.json")


def _restore_start(folder: Path, masters: Masters) -> None:
    start = checkpoint.load(folder / "start.safetensors")
    if start is None:
        raise TrainingError(f"{folder / 'start.safetensors'} cannot be read any more; remove {folder} and start again")
    masters.restore(start[0])


def _keep_best(folder: Path, trials: list[Trial]) -> None:
    """Only the best state so far can still be wanted; those of full fine-tuning are large."""
    best = min(trials, key=lambda trial: trial.loss)
    for trial in trials:
        if trial is not best:
            shutil.rmtree(_place(folder, trial.rate), ignore_errors=True)
