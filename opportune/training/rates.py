"""Choosing the learning rate: the same rule for every method.

Successive halving (Jamieson & Talwalkar 2016) in two rungs: each rate of the method's grid is trained for the first
eighth of the run from the same start and scored by its loss on dev; the best two go on to three eighths and are scored
again, for the shortest runs favour large rates; the best goes on from where it stopped, so its steps are not repeated.
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

RUNGS = (1 / 8, 3 / 8)  # of the run's steps
SECOND = 2  # rates that reach the second rung


def overhead(rates: int) -> float:
    """What choosing among so many rates takes beside the run itself, in runs."""
    if rates == 1:
        return 0.0
    return RUNGS[0] * (rates - 1) + (RUNGS[1] - RUNGS[0]) * (min(rates, SECOND) - 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate's probe, as far as rung `rung`; `figures` is empty when it diverged."""

    rate: float
    figures: dict[str, float]
    steps: tuple[Step, ...]
    rung: int = 0

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
    alive = list(rates)
    for rung, share in enumerate(RUNGS if len(rates) > 1 else RUNGS[:1]):
        probe = replace(settings, stop_after=max(1, round(share * total_steps(len(lessons), settings))))
        for rate in alive:
            if all(trial.rate != rate or trial.rung < rung for trial in trials):
                trial = _try(network, lessons, replace(probe, rate=rate), _place(folder, rate), evaluate, watch)
                trials = [*(other for other in trials if other.rate != rate), _after(trials, replace(trial, rung=rung))]
                _note(folder, trials)
                _restore_start(folder, masters)
            _keep_best(folder, [t for t in trials if t.rate in alive], SECOND)
        alive = [trial.rate for trial in _by_loss(trials, rung)[:SECOND]]
        if not alive:
            raise TrainingError(f"every learning rate diverged: {', '.join(f'{rate:g}' for rate in rates)}")
    best = _by_loss(trials, rung)[0]
    _keep_best(folder, trials, 1, best)
    ordered = tuple(sorted(trials, key=lambda trial: trial.rate))
    edge = len(ordered) > 1 and best in (ordered[0], ordered[-1])
    return Choice(best.rate, _place(folder, best.rate), ordered, edge)


def _by_loss(trials: list[Trial], rung: int) -> list[Trial]:
    """The trials that reached a rung and did not diverge, the best first."""
    return sorted((t for t in trials if t.rung == rung and t.loss < math.inf), key=lambda trial: trial.loss)


def _after(earlier: list[Trial], trial: Trial) -> Trial:
    """The trial charged with the evaluations of its earlier rung too."""
    before = sum(other.figures.get("seconds", 0.0) for other in earlier if other.rate == trial.rate)
    if not before or "seconds" not in trial.figures:
        return trial
    return replace(trial, figures={**trial.figures, "seconds": trial.figures["seconds"] + before})


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
    return [
        Trial(item["rate"], item["figures"], tuple(Step(**step) for step in item["steps"]), item["rung"])
        for item in found
    ]


def _note(folder: Path, trials: list[Trial]) -> None:
    beside = folder / "trials.part"
    beside.write_text(json.dumps([asdict(trial) for trial in trials]))
    beside.replace(folder / "trials.json")


def _restore_start(folder: Path, masters: Masters) -> None:
    start = checkpoint.load(folder / "start.safetensors")
    if start is None:
        raise TrainingError(f"{folder / 'start.safetensors'} cannot be read any more; remove {folder} and start again")
    masters.restore(start[0])


def _keep_best(folder: Path, trials: list[Trial], number: int, *best: Trial) -> None:
    """Only the best states so far can still be wanted; those of full fine-tuning are large."""
    kept = [trial.rate for trial in (best or sorted(trials, key=lambda trial: (-trial.rung, trial.loss)))][:number]
    reached = max(trial.rung for trial in trials)
    for trial in trials:
        if trial.rate not in kept and (best or reached == 0):
            shutil.rmtree(_place(folder, trial.rate), ignore_errors=True)
