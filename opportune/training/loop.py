"""The one training loop: any network, any set of moving weights, any lessons.

Each step takes the next lessons of a shuffled epoch, packs them into rows, and moves along the gradient of their mean
loss per target token (AdamW, Loshchilov & Hutter 2019; gradients clipped by norm). Order and dropout depend on the seed
and the step alone, so that a training continued from a checkpoint ends bit for bit where an undisturbed one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from opportune.errors import TrainingError
from opportune.inference.flops import Shape, backward_flops, forward_flops, pairs_of, shape_of
from opportune.training import checkpoint
from opportune.training.loss import CHUNK, row_budget, summed_loss
from opportune.training.masters import Masters
from opportune.training.packing import Pack, TokenLesson, packs
from opportune.training.schedule import rate_at
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
    patience: int = 2  # evaluations without a new best before it stops
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
    stopped_early: bool


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
    moving weights, or when the training diverges.
    """
    return _Training(network, lessons, settings, folder, evaluate, watch).run()


def total_steps(lessons: int, settings: Settings) -> int:
    """Steps of a whole training."""
    return settings.epochs * math.ceil(lessons / settings.batch)


def figures_of(network: Any, evaluate: Evaluate) -> dict[str, float]:
    """Evaluate without dropout and gradients, leaving the network's modes as they were."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    with torch.no_grad():
        figures = {name: float(value) for name, value in evaluate().items()}
    for module in training:
        module.training = True
    return figures


def key_of(lessons: Sequence[TokenLesson], settings: Settings, masters: Masters) -> str:
    """Identifies the training that a checkpoint belongs to."""
    known = asdict(settings) | {"stop_after": None, "checkpoint_seconds": None}
    return digest([known, [(lesson.ids, lesson.start) for lesson in lessons], sorted(masters.weights)])


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
        _check_lessons(lessons)
        self.network, self.lessons, self.settings = network, lessons, settings
        self.folder, self.evaluate, self.watch = folder, evaluate, watch
        self.masters = Masters(network)
        if not self.masters.weights:
            raise TrainingError("no weight of the network is set to move")
        self.optimizer = torch.optim.AdamW(
            self.masters.weights.values(), lr=settings.rate, weight_decay=settings.weight_decay, fused=True
        )
        self.state = _State()
        self.steps = total_steps(len(lessons), settings)
        self.shape = shape_of(network)
        self.key = key_of(lessons, settings, self.masters)
        self.saved = time.monotonic()

    def run(self) -> Trained:
        self._resume()
        pause = min(self.settings.stop_after or self.steps, self.steps)
        while self.state.done < pause and not self.state.stale(self.settings.patience):
            self._step()
            if self.state.done % self._epoch == 0 and self.evaluate:
                self._evaluate(self.evaluate)
            if time.monotonic() - self.saved >= self.settings.checkpoint_seconds:
                self._save()
        if pause < self.steps:
            self._save()
        else:
            self._take_best()
        early = self.state.done < pause
        return Trained(tuple(self.state.steps), tuple(self.state.evaluations), self.state.best, early)

    @property
    def _epoch(self) -> int:
        return math.ceil(len(self.lessons) / self.settings.batch)

    def _lessons_of(self, step: int) -> list[TokenLesson]:
        epoch, within = divmod(step, self._epoch)
        shuffled = torch.randperm(len(self.lessons), generator=_generator(self.settings.seed, epoch)).tolist()
        chosen = shuffled[within * self.settings.batch : (within + 1) * self.settings.batch]
        return [self.lessons[index] for index in chosen]

    def _step(self) -> None:
        began, step = time.perf_counter(), self.state.done
        lessons = self._lessons_of(step)
        targets = sum(lesson.targets for lesson in lessons)
        rate = rate_at(step, self.steps, self.settings.rate, self.settings.warmup, self.settings.decay)
        self.optimizer.param_groups[0]["lr"] = rate
        torch.manual_seed(_generator(self.settings.seed, step).initial_seed())  # of dropout
        loss = flops = 0.0
        for pack in packs(lessons, row_budget(self.network)):
            part = summed_loss(self.network, pack) / targets
            part.backward()  # type: ignore[no-untyped-call]
            self.masters.collect()
            loss += float(part.detach())
            flops += _flops(self.shape, pack)
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters.weights.values(), self.settings.clip))
        self._check(loss, norm, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.masters.publish()
        tokens = sum(len(lesson.ids) for lesson in lessons)
        seconds = time.perf_counter() - began
        self.state.steps.append(Step(step + 1, self.steps, loss, rate, tokens, seconds, norm, flops))
        self.watch(self.state.steps[-1])

    def _check(self, loss: float, norm: float, rate: float) -> None:
        """Diverged: not a number, or three times worse than guessing every token alike."""
        guess = math.log(self.network.config.get_text_config().vocab_size)
        if self.state.done == 0 and not math.isfinite(loss):
            self._refuse(
                f"the loss is {loss:g} at step 1 of {self.steps}, before any weight has moved: the learning rate is not "
                f"at fault; {_not_finite(self.network)}"
            )
        if not (math.isfinite(loss) and math.isfinite(norm) and loss < 3 * guess):
            self._refuse(
                f"the training diverged at step {self.state.done + 1} of {self.steps}: loss {loss:g}, gradient norm "
                f"{norm:g}, learning rate {rate:g}; a lower rate may help"
            )

    def _refuse(self, reason: str) -> NoReturn:
        self.optimizer.zero_grad(set_to_none=True)
        raise TrainingError(reason)

    def _evaluate(self, evaluate: Evaluate) -> None:
        evaluation = Evaluation(self.state.done, figures_of(self.network, evaluate))
        if not math.isfinite(evaluation.figures["loss"]):
            self._refuse(
                f"the loss on dev is {evaluation.figures['loss']:g} after step {self.state.done} of {self.steps}"
            )
        self.state.evaluations.append(evaluation)
        if self.state.best is self.state.evaluations[-1] and self.state.done < self.steps:
            checkpoint.save(self._best_file, self.masters.weights, {})

    def _take_best(self) -> None:
        """Put the best weights into the network, where a later step made them worse."""
        if self.evaluate is None or self.state.best is None or self.state.best.step == self.state.done:
            return
        if (found := checkpoint.load(self._best_file)) is not None:
            self.masters.restore(found[0])

    @property
    def _best_file(self) -> Path:
        return self.folder / "best.safetensors"

    def _save(self) -> None:
        weights = {f"weights/{name}": weight for name, weight in self.masters.weights.items()}
        notes = {"key": self.key, **asdict(self.state)}
        checkpoint.save(
            self.folder / "state.safetensors", weights | checkpoint.optimizer_tensors(self.optimizer), notes
        )
        self.saved = time.monotonic()

    def _resume(self) -> None:
        found = checkpoint.load(self.folder / "state.safetensors")
        if found is None or found[1]["key"] != self.key:
            return
        tensors, notes = found
        self.masters.restore({name: tensors[f"weights/{name}"] for name in self.masters.weights})
        checkpoint.restore_optimizer(self.optimizer, tensors)
        self.state.steps = [Step(**step) for step in notes["steps"]]
        self.state.evaluations = [Evaluation(**evaluation) for evaluation in notes["evaluations"]]


def _check_lessons(lessons: Sequence[TokenLesson]) -> None:
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


def _generator(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)


def _flops(shape: Shape, pack: Pack) -> float:
    tokens, pairs, rows = len(pack.ids), pairs_of(pack.plan), len(pack.rows)
    again = 2 * shape.head * rows if rows > CHUNK else 0  # the head computed again, see `summed_loss`
    return float(forward_flops(shape, tokens, pairs, rows) + backward_flops(shape, tokens, pairs, rows) + again)
