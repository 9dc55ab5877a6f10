"""The one training loop: any network, any set of moving weights, any lessons.

Each step takes the next lessons of a shuffled epoch, packs them into rows, and moves along the gradient of their mean
loss per target token (AdamW, Loshchilov & Hutter 2019; gradients clipped by norm). Order and dropout depend on the seed
and the step alone, so that a training continued from a checkpoint ends bit for bit where an undisturbed one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from opportune.cost import return_free_memory
from opportune.errors import DivergedError, TrainingError, out_of_memory
from opportune.inference.flops import Shape, backward_flops, forward_flops, pairs_of, shape_of
from opportune.inference.modes import evaluating
from opportune.training.crew import abandon, followed, order, processes, rank
from opportune.training.heap import keeping_freed_memory
from opportune.training.loss import CHUNK
from opportune.training.memory import Budget, Layout
from opportune.training.packing import Keyed, Pack, TokenLesson, identity
from opportune.training.recomputing import recomputing
from opportune.training.replica import Alone, Replica
from opportune.training.schedule import rate_at
from opportune.training.sharding import Shards
from opportune.training.soundness import check_lessons, step_error
from opportune.types import digest

Evaluate = Callable[[], Mapping[str, float]]
"""Figures of the network as it is, on dev; "loss" decides which state is the best, all are logged."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a training goes. Everything here but the last two decides its result."""

    rate: float
    epochs: int = 3
    batch: int = 8  # lessons a step
    seed: int = 0
    warmup: float = 0.05  # fraction of the steps
    decay: float = 0.5  # fraction of the steps
    clip: float = 1.0  # norm of the gradient
    weight_decay: float = 0.0
    every: int | None = None  # steps between evaluations, which end with one; None: an epoch
    patience: int = 2  # evaluations without a new best before it stops
    most_steps: int | None = None  # shortens the run that the epochs would make
    stop_after: int | None = None  # pause after so many steps; the same call without it goes on
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    step: int  # 1, 2, ...
    steps: int  # of the whole training
    loss: float  # mean per target token, nats
    rate: float
    tokens: int  # of the lessons, each counted whole
    seconds: float
    norm: float  # of the gradient, before clipping
    flops: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures on dev after a step."""

    step: int
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Trained:
    """A training's record. The network holds the weights of `best`, or the last ones where nothing was evaluated."""

    steps: tuple[Step, ...]
    evaluations: tuple[Evaluation, ...]
    best: Evaluation | None
    layout: str | None = None  # how steps were cut up, where the memory demanded it


@dataclass(slots=True)
class _State:
    """Where a training is, beside its weights."""

    steps: list[Step] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.steps)

    @property
    def best(self) -> Evaluation | None:
        return min(self.evaluations, key=lambda item: item.figures["loss"], default=None)

    def stale(self, patience: int) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        recent = self.evaluations[-patience:]
        return len(self.evaluations) > patience and self.best not in recent


def train(
    network: Any,
    lessons: Sequence[TokenLesson],
    settings: Settings,
    folder: Path,
    evaluate: Evaluate | None = None,
    watch: Callable[[Step], None] = lambda step: None,
) -> Trained:
    """Train the weights that require gradients, in place, and leave the network with the best of them.

    Modules in training mode (an adapter's dropout) are so during steps only. `folder` holds the checkpoints; one that
    belongs to other lessons or settings is ignored. Evaluates after each epoch. Raises TrainingError without lessons or
    moving weights, or when the training diverges or cannot fit the memory.

    Where torch.distributed has several processes, all of them call this alike (or follow, see `opportune.together`) and
    train together; only the leading one evaluates.
    """
    if followed():
        _order(lessons, settings, folder, evaluate is not None)
    training = _Training(network, lessons, settings, folder, evaluate, watch)
    with keeping_freed_memory(training.replica.weights.values()):
        return training.run()


def total_steps(lessons: int, settings: Settings) -> int:
    """Steps of a whole training."""
    steps = settings.epochs * math.ceil(lessons / settings.batch)
    return steps if settings.most_steps is None else min(steps, settings.most_steps)


def chosen(lessons: int, settings: Settings, step: int) -> list[int]:
    """Which lessons a step takes, by their places."""
    epoch, within = divmod(step, math.ceil(lessons / settings.batch))
    shuffled = torch.randperm(lessons, generator=_generator(settings.seed, epoch)).tolist()
    return shuffled[within * settings.batch : (within + 1) * settings.batch]


def step_tokens(lessons: Sequence[TokenLesson], settings: Settings) -> Iterator[int]:
    """The tokens of each step of a whole training, every lesson counted whole."""
    for step in range(total_steps(len(lessons), settings)):
        yield sum(len(lessons[place].ids) for place in chosen(len(lessons), settings, step))


def figures_of(network: Any, evaluate: Evaluate) -> dict[str, float]:
    """Evaluate without dropout and gradients, leaving the network's modes as they were."""
    return_free_memory()  # what steps and evaluations leave behind must not add up
    with evaluating(network), torch.no_grad():
        figures = {name: float(value) for name, value in evaluate().items()}
    return_free_memory()
    return figures


def key_of(lessons: Sequence[TokenLesson], settings: Settings, moving: Iterable[str]) -> str:
    """Identifies the training that a checkpoint belongs to."""
    known = asdict(settings) | {"stop_after": None, "checkpoint_seconds": None}
    return digest([known, identity(lessons), sorted(moving)])


class _Training:
    """One call of `train`."""

    def __init__(
        self,
        network: Any,
        lessons: Sequence[TokenLesson],
        settings: Settings,
        folder: Path,
        evaluate: Evaluate | None,
        watch: Callable[[Step], None],
    ) -> None:
        check_lessons(lessons)
        self.network, self.lessons, self.settings = network, lessons, settings
        self.folder, self.evaluate, self.watch = folder, evaluate, watch
        if not any(weight.requires_grad for weight in network.parameters()):
            raise TrainingError("no weight of the network is set to move")
        self.budget = Budget(network, lessons, settings.batch)
        self.replica: Replica = Shards(network) if processes() > 1 else Alone(network)
        self.optimizer = torch.optim.AdamW(
            self.replica.weights.values(), lr=settings.rate, weight_decay=settings.weight_decay, fused=True
        )
        self.state = _State()
        self.steps = total_steps(len(lessons), settings)
        self.shape = shape_of(network)
        self.key = key_of(lessons, settings, self.replica.weights)
        self.saved, self.due = time.monotonic(), False

    def run(self) -> Trained:
        self._resume()
        pause = min(self.settings.stop_after or self.steps, self.steps)
        while self.state.done < pause and not self.state.stale(self.settings.patience):
            with self.budget.watched():
                self._step()
            due = self.state.done % (self.settings.every or self._epoch) == 0 or self.state.done == self.steps
            if due and self.evaluate:
                self._evaluate(self.evaluate)
            if self.due:
                self._save()
        if self.settings.stop_after is not None:
            self._save()
        self.replica.finish(self._best_file if pause == self.steps and self._worsened else None)
        steps, evaluations = tuple(self.state.steps), tuple(self.state.evaluations)
        return Trained(steps, evaluations, self.state.best, self.budget.compromise)

    @property
    def _epoch(self) -> int:
        return math.ceil(len(self.lessons) / self.settings.batch)

    def _step(self) -> None:
        began, step = time.perf_counter(), self.state.done
        lessons = [self.lessons[place] for place in chosen(len(self.lessons), self.settings, step)]
        rate = rate_at(step, self.steps, self.settings.rate, self.settings.warmup, self.settings.decay)
        self.optimizer.param_groups[0]["lr"] = rate
        torch.manual_seed(_generator(self.settings.seed, step).initial_seed())  # of dropout
        loss, flops = self._gradients(lessons)
        norm = self.replica.clip(self.settings.clip)
        if (error := step_error(self.network, step, self.steps, loss, norm, rate)) is not None:
            self._refuse(error)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.replica.publish()
        tokens = sum(len(lesson.ids) for lesson in lessons)
        seconds = time.perf_counter() - began
        self.state.steps.append(Step(step + 1, self.steps, loss, rate, tokens, seconds, norm, flops))
        self.watch(self.state.steps[-1])

    def _gradients(self, lessons: Sequence[TokenLesson]) -> tuple[float, float]:
        """Compute them, pack by pack; the mean loss per target token and the FLOPs."""
        try:
            return self._accumulated(lessons)
        except (MemoryError, RuntimeError) as error:
            if (reason := out_of_memory(error)) is None:
                raise
            if processes() > 1:
                abandon(f"{reason} (process {rank()} of {processes()}); the same command goes on where it stopped")
            self.optimizer.zero_grad(set_to_none=True)
            self.network.zero_grad(set_to_none=True)  # where masters move, half a backward pass is still in it
            self.budget.shrink(reason)
        return self._gradients(lessons)

    def _accumulated(self, lessons: Sequence[TokenLesson]) -> tuple[float, float]:
        targets = sum(lesson.targets for lesson in lessons)
        losses, flops = [], 0.0
        with recomputing(self.replica.network, self.budget.layout.checkpointed):
            for each in self.replica.share(lessons, self.budget.layout.row):
                part = self.replica.loss(each.pack) * each.weight / targets
                part.backward()  # type: ignore[no-untyped-call]
                self.replica.collect()
                losses.append(part.detach())
                flops += each.weight * _flops(self.shape, each.pack)
                self.budget.computed(len(each.pack.ids))
        # Read at the end, all at once: on a GPU every look at a number waits for all that was asked before.
        late = self.replica.leads and time.monotonic() - self.saved >= self.settings.checkpoint_seconds
        loss, flops, due = self.replica.total([sum(torch.stack(losses).tolist()), flops, late])
        self.due = due > 0
        return loss, flops

    def _refuse(self, error: TrainingError) -> NoReturn:
        self.optimizer.zero_grad(set_to_none=True)
        raise error

    def _evaluate(self, evaluate: Evaluate) -> None:
        figures = self.replica.figures(lambda: figures_of(self.network, evaluate))
        evaluation = Evaluation(self.state.done, figures)
        if not math.isfinite(loss := figures["loss"]):
            self._refuse(DivergedError(f"the loss on dev is {loss:g} after step {self.state.done} of {self.steps}"))
        self.state.evaluations.append(evaluation)
        if self.state.best is self.state.evaluations[-1] and self.state.done < self.steps:
            self.replica.save_best(self._best_file)

    @property
    def _worsened(self) -> bool:
        """Whether a later step made the best weights worse."""
        return self.evaluate is not None and self.state.best is not None and self.state.best.step != self.state.done

    @property
    def _best_file(self) -> Path:
        return self.folder / "best.safetensors"

    def _save(self) -> None:
        notes = {"key": self.key, "layout": asdict(self.budget.layout), **asdict(self.state)}
        self.replica.save(self.folder, self.optimizer, notes)
        self.saved = time.monotonic()

    def _resume(self) -> None:
        notes = self.replica.load(self.folder, self.optimizer, self.key)
        if notes is None:
            return
        self.budget.go_on(Layout(**notes["layout"]))
        self.state.steps = [Step(**step) for step in notes["steps"]]
        self.state.evaluations = [Evaluation(**evaluation) for evaluation in notes["evaluations"]]


def _order(lessons: Sequence[TokenLesson], settings: Settings, folder: Path, evaluates: bool) -> None:
    """Have the processes that wait take part: told the lessons one by one, or where they are to be read."""
    kept = lessons.told(folder) if isinstance(lessons, Keyed) else None
    listed = None if kept is not None else [(each.ids, each.start, each.breaks) for each in lessons]
    order("train", listed=listed, kept=kept, settings=asdict(settings), folder=str(folder), evaluates=evaluates)


def _generator(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)


def _flops(shape: Shape, pack: Pack) -> float:
    tokens, pairs, rows = len(pack.ids), pairs_of(pack.plan), len(pack.rows)
    again = 2 * shape.head * rows if rows > CHUNK else 0  # the head computed again, see `summed_loss`
    return float(forward_flops(shape, tokens, pairs, rows) + backward_flops(shape, tokens, pairs, rows) + again)
