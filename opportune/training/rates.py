"""Choosing the learning rate: the same rule for every method.

Each rate of the method's grid is trained for the first eighth of the run from the same start and scored by its loss on
dev (successive halving, Jamieson & Talwalkar 2016). The best two are trained to the end, for short runs favour large
rates and only the decay at the end tells how a rate really does; the one with the lowest loss on dev is the training.
No step is repeated: both go on from where their probes stopped. Where both diverge the next best follow, one by one and
from the start, for states of probes that fell behind are not kept, until one comes to its end.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opportune.errors import DivergedError, TrainingError
from opportune.training import checkpoint
from opportune.training.loop import (
    Evaluate,
    Evaluation,
    Settings,
    Step,
    Trained,
    figures_of,
    key_of,
    step_tokens,
    total_steps,
    train,
)
from opportune.training.packing import TokenLesson

PROBE = 1 / 8  # of the run's steps
FINALISTS = 2  # rates that are trained to the end


def overhead(rates: int) -> float:
    """What choosing among so many rates takes beside the run itself, in runs."""
    return PROBE * (rates - 1) + (1 - PROBE) * (min(rates, FINALISTS) - 1)


def probe_steps(steps: int) -> int:
    """The steps of a rate's probe, of a run of so many."""
    return max(1, round(PROBE * steps))


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate as far as it was trained: its probe, and of a finalist the whole run."""

    rate: float
    probe: dict[str, float]  # figures on dev after the probe; empty when it diverged
    steps: tuple[Step, ...]
    evaluations: tuple[Evaluation, ...] = ()  # after each epoch
    finished: bool = False
    diverged: bool = False  # after its probe
    layout: str | None = None  # how its steps were cut up, where the memory demanded it

    @property
    def promise(self) -> float:
        """The loss on dev after the probe; a diverged rate counts as the worst."""
        return _known(self.probe.get("loss"))

    @property
    def best(self) -> Evaluation | None:
        """Where a finalist's run was best; None of all others and of one that diverged."""
        if not self.finished or self.diverged:
            return None
        known = [each for each in self.evaluations if _known(each.figures.get("loss")) < math.inf]
        return min(known, key=lambda each: each.figures["loss"], default=None)

    @property
    def loss(self) -> float:
        """The loss on dev there; without it the worst."""
        return self.best.figures["loss"] if self.best else math.inf


@dataclass(frozen=True, slots=True)
class Choice:
    """The rate chosen, and what every rate came to."""

    trial: Trial
    trials: tuple[Trial, ...]  # in the order of their rates

    @property
    def rate(self) -> float:
        """The rate chosen."""
        return self.trial.rate

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is an end of the grid: a better one may lie outside."""
        return len(self.trials) > 1 and self.trial in (self.trials[0], self.trials[-1])


def train_at_best_rate(
    network: Any,
    lessons: Sequence[TokenLesson],
    settings: Settings,
    rates: Sequence[float],
    folder: Path,
    probe: Evaluate,
    evaluate: Evaluate,
    watch: Callable[[Step], None] = lambda step: None,
    budget: int | None = None,
) -> Choice:
    """Train at every rate as far as it deserves, and leave the network as the best of them left it.

    `probe` scores the probes, `evaluate` looks at every run after each epoch. What `folder` knows of the same search,
    interrupted, is not repeated. Raises TrainingError when every rate diverges, or every one that the `budget` (tokens
    in all) pays for.
    """
    search = _Search(network, lessons, settings, folder, watch)
    for rate in rates:
        if rate not in search.trials:
            search.note(search.probed(rate, probe, evaluate))
            search.keep(_first(search.trials.values(), FINALISTS))
    for place, trial in enumerate(_first(search.trials.values(), len(rates))):
        if place >= FINALISTS and not trial.finished and (search.come_to_an_end() or search.spent_with_another(budget)):
            break
        if not trial.finished:
            search.note(search.finished(trial, evaluate))
    ordered = tuple(search.trials[rate] for rate in sorted(search.trials))
    best = min(ordered, key=lambda trial: trial.loss)
    if best.loss == math.inf:
        tried = [trial for trial in ordered if trial.finished or trial.promise == math.inf]
        which = "every learning rate" if len(tried) == len(ordered) else "every learning rate that the budget pays for"
        raise TrainingError(f"{which} diverged: {', '.join(f'{trial.rate:g}' for trial in tried)}")
    search.restore(search.place(best.rate) / "final.safetensors")
    return Choice(best, ordered)


def _first(trials: Iterable[Trial], number: int) -> list[Trial]:
    """The most promising trials, the best first, without those that diverged."""
    alive = [trial for trial in trials if trial.promise < math.inf]
    return sorted(alive, key=lambda trial: trial.promise)[:number]


def _known(loss: float | None) -> float:
    return loss if loss is not None and math.isfinite(loss) else math.inf


class _Search:
    """The trials of one search, in memory and on disk."""

    def __init__(
        self,
        network: Any,
        lessons: Sequence[TokenLesson],
        settings: Settings,
        folder: Path,
        watch: Callable[[Step], None],
    ) -> None:
        self.network, self.lessons, self.settings, self.folder, self.watch = network, lessons, settings, folder, watch
        self.trials: dict[float, Trial] = {}
        self._open(key_of(lessons, replace(settings, rate=0.0), self._moving()))

    def place(self, rate: float) -> Path:
        """Where a rate's checkpoints are."""
        return self.folder / f"rate-{rate:g}"

    def probed(self, rate: float, probe: Evaluate, evaluate: Evaluate) -> Trial:
        """The first eighth of the run at this rate, evaluated where an epoch ends in it."""
        steps: list[Step] = []
        stop = probe_steps(total_steps(len(self.lessons), self.settings))
        try:
            done = self._train(replace(self.settings, rate=rate, stop_after=stop), evaluate, steps)
            trial = Trial(rate, figures_of(self.network, probe), done.steps, done.evaluations)
        except DivergedError:
            trial = Trial(rate, {}, self._taken(rate, steps))
        self.restore(self.folder / "start.safetensors")
        return trial

    def finished(self, trial: Trial, evaluate: Evaluate) -> Trial:
        """The run at this rate, from where its probe stopped (from the start where that is not kept) to the end; the
        weights it came to are kept."""
        steps: list[Step] = []
        try:
            done = self._train(replace(self.settings, rate=trial.rate), evaluate, steps)
            checkpoint.save(self.place(trial.rate) / "final.safetensors", self._moving(), {})
            taken = done.steps
            trial = replace(trial, evaluations=done.evaluations, layout=done.layout)
        except DivergedError:
            taken, trial = self._taken(trial.rate, steps), replace(trial, diverged=True)
        self.restore(self.folder / "start.safetensors")
        continued = taken[: len(trial.steps)] == trial.steps
        return replace(trial, steps=taken if continued else (*trial.steps, *taken), finished=True)

    def _taken(self, rate: float, watched: Sequence[Step]) -> tuple[Step, ...]:
        """All steps of a run that diverged, those before it was interrupted and resumed among them."""
        notes = checkpoint.notes_of(self.place(rate))
        kept = [Step(**step) for step in notes["steps"]] if notes else []
        return (*kept, *(step for step in watched if step.step > len(kept)))

    def come_to_an_end(self) -> bool:
        """Whether a rate was trained to the end without diverging."""
        return any(trial.loss < math.inf for trial in self.trials.values())

    def spent_with_another(self, budget: int | None) -> bool:
        """Whether one more run would take more tokens than there are for all."""
        if budget is None:
            return False
        spent = sum(step.tokens for trial in self.trials.values() for step in trial.steps)
        return spent + sum(step_tokens(self.lessons, self.settings)) > budget

    def note(self, trial: Trial) -> None:
        """Remember a trial, across a crash too."""
        self.trials[trial.rate] = trial
        beside = self.folder / "trials.part"
        beside.write_text(json.dumps([asdict(each) for each in self.trials.values()]))
        beside.replace(self.folder / "trials.json")

    def keep(self, wanted: Sequence[Trial]) -> None:
        """Remove the states of all others: those of full fine-tuning are large."""
        for rate in self.trials.keys() - {trial.rate for trial in wanted}:
            shutil.rmtree(self.place(rate), ignore_errors=True)

    def restore(self, file: Path) -> None:
        """Set the network to weights kept in the folder."""
        found = checkpoint.load(file)
        if found is None:
            raise TrainingError(f"{file} cannot be read any more; remove {self.folder} and start again")
        with torch.no_grad():
            for name, weight in self._moving().items():
                weight.copy_(found[0][name])

    def _moving(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}

    def _train(self, settings: Settings, evaluate: Evaluate, steps: list[Step]) -> Trained:
        def note(step: Step) -> None:
            steps.append(step)
            self.watch(step)

        return train(self.network, self.lessons, settings, self.place(settings.rate), evaluate, note)

    def _open(self, key: str) -> None:
        """Read the trials of this very search. What another one left in the folder is removed, and the start saved."""
        start = checkpoint.load(self.folder / "start.safetensors")
        if start is None or start[1]["key"] != key:
            shutil.rmtree(self.folder, ignore_errors=True)
            checkpoint.save(self.folder / "start.safetensors", self._moving(), {"key": key})
        file = self.folder / "trials.json"
        for item in json.loads(file.read_text()) if file.exists() else []:
            steps = tuple(Step(**step) for step in item["steps"])
            evaluations = tuple(Evaluation(**evaluation) for evaluation in item["evaluations"])
            self.trials[item["rate"]] = Trial(**item | {"steps": steps, "evaluations": evaluations})
