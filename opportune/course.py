"""One method's training: what it is taught with, the learning rate that dev chooses, what it came to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opportune import evaluate
from opportune.bill import Bill, amount_of_steps, points_of, trials_of, tuning_of
from opportune.corpus.general import General
from opportune.corpus.material import Material, material_of
from opportune.cost import Amount, Meter
from opportune.errors import ModelError, TrainingError
from opportune.evaluate import Call
from opportune.models.local import Local
from opportune.reading import Reads
from opportune.recipe import Arm
from opportune.records import ArmRecord, Gap, LossChange, ReadText
from opportune.strategies.choosing import log_normalised, own_ranking
from opportune.strategies.lessons import lacking
from opportune.training.budget import affordable_steps
from opportune.training.gap import measure_gap
from opportune.training.loop import Evaluation, Settings, Step, chosen, figures_of, total_steps, train
from opportune.training.loop import Trained as Run
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from opportune.training.rates import Choice, overhead, train_at_best_rate
from opportune.types import (
    Completion,
    Example,
    Graded,
    Hints,
    Lesson,
    Method,
    Metric,
    Progress,
    Task,
    TaskView,
)

# Enough to rank rates and epochs; more of dev would cost more than the training.
RATE_EXAMPLES, EPOCH_EXAMPLES = 32, 256


@dataclass(frozen=True, slots=True)
class School:
    """What every method of a chain is taught with."""

    arm: Arm
    item: ArmRecord
    task: Task
    prepared: Any
    metric: Metric
    general: General
    tell: Progress

    @property
    def judge(self) -> str:
        """Whose dev scores these are: the metric and how dev is asked."""
        return f"{self.task.metric} of {self.arm.resolved.parts[-1]}"

    def material(self, method: Method, model: Local) -> Material:
        """What a method learns from: raw text where it reads, else the task's lessons."""
        if isinstance(method, Reads):
            return material_of(method.reading, model.tokenizer, model.context)
        return Material(self.lessons(model, self.task.train), self.lessons(model, self.dev()))

    def lessons(self, model: Local, examples: Sequence[Example]) -> list[TokenLesson]:
        """The examples as lessons, in tokens."""
        view = self.task.view()
        return [token_lesson(model, e, lesson) for e in examples for lesson in self._taught(e, view)]

    def _taught(self, example: Example, view: TaskView) -> list[Lesson]:
        return self.arm.strategy.teach(example, view, self.prepared)

    def left_out(self) -> list[str]:
        """What of the examples the strategy cannot teach, in a line for each split."""
        found = []
        for split in ("train", "dev"):
            examples = self.task.split(split)
            reasons = [reason for e in examples if (reason := lacking(self.arm.strategy, e)) is not None]
            if reasons:
                found.append(f"{len(reasons)} of {len(examples)} {split} examples teach nothing: none has {reasons[0]}")
        return found

    def hints(self, model: Local) -> Hints:
        """The task's instruction and labels in tokens."""

        def tokens(text: str) -> tuple[int, ...]:
            return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()

        labels = [token for label in self.task.choices or () for token in tokens(f" {label}")]
        return Hints(tokens(self.task.instruction), tuple(labels))

    def dev(self) -> tuple[Example, ...]:
        """The dev examples that epochs are chosen on; rates are on the first of them."""
        return self.task.dev[:EPOCH_EXAMPLES]

    def ask_dev(self, model: Local) -> tuple[float | None, float | None]:
        """The task's metric on dev, asked by the strategy itself (None where a model grades); and the loss, where the
        answers' scores tell it: the mean negative logarithm of the right choice's share among the choices, in nats."""
        view, dev = self.task.view(), self.dev()
        heard = _Heard()
        outcomes = evaluate.evaluate(self.arm.strategy, view, self.prepared, dev, model, self.metric, heard)
        losses = [_loss_of(heard.ranking(example), example.target) for example in dev]
        known = [loss for loss in losses if loss is not None]
        answers = [outcome.answer.text if outcome.answer else None for outcome in outcomes]
        score = None if isinstance(self.metric, Graded) else self.metric.figure(answers, dev)
        return score, sum(known) / len(known) if len(known) == len(losses) else None


@dataclass(slots=True)
class _Heard:
    """What each conversation was answered; a journal that nothing is remembered from."""

    calls: dict[str, list[tuple[Call, Completion]]] = field(default_factory=dict)  # by conversation

    def known(self, calls: Sequence[Call]) -> Mapping[int, Completion]:
        return {}

    def record(self, answered: Sequence[tuple[Call, Completion]]) -> None:
        for call, heard in answered:
            self.calls.setdefault(call.conversation, []).append((call, heard))

    def ranking(self, example: Example) -> dict[str, float] | None:
        """Each choice's log-probability for the example; None where the last that it was asked ranked none."""
        mine = self.calls.get(example.id, [])
        last = sorted((one for one in mine if one[0].round == mine[-1][0].round), key=lambda one: one[0].position)
        return own_ranking((call.round, call.prompt.choices, heard.scores) for call, heard in last)


def token_lesson(model: Local, example: Example, lesson: Lesson) -> TokenLesson:
    """A lesson in tokens. Raises TrainingError, naming the example, for one that teaches nothing or cannot fit."""
    if not lesson.target.strip():
        raise TrainingError(f"example {example.id} ({example.input[:40]!r}) has an empty target: nothing to learn from")
    try:
        tokens = model.fitted_lesson(lesson)
    except ModelError as error:
        raise TrainingError(f"example {example.id} ({example.input[:40]!r}) cannot be learned: {error}") from error
    return TokenLesson(tuple(tokens.ids), tokens.start, cut=tokens.shots_dropped + tokens.tokens_cut > 0)


class Course:
    """One method's training."""

    def __init__(
        self,
        school: School,
        model: Local,
        network: Any,
        method: Any,
        material: Material,
        work: Path,
    ) -> None:
        self.school, self.model, self.network, self.method = school, model, network, method
        self.material, self.lessons, self.dev, self.work = material, material.lessons, material.dev, work
        self.settings = Settings(
            rate=method.rate or 0.0, epochs=method.epochs, batch=method.batch, seed=school.item.seed
        )
        if method.budget is not None:
            rates = 1 if method.rate is not None else len(method.grid)
            affordable = affordable_steps(self.lessons, self.settings, rates, method.budget)
            self.settings = replace(self.settings, most_steps=affordable)
        self.steps = total_steps(len(self.lessons), self.settings)

    def run(self) -> Bill:
        """Choose the rate where none is given, train to the end, leave the network with the best weights."""
        before = figures_of(self.network, self._figures)["loss"] if self.material.read else 0.0
        with Meter() as meter:
            choice = self._chosen()
            done = choice.trial if choice else self._trained()
        peak = meter.amount.peak_bytes
        return Bill(
            tuning=replace(tuning_of(choice), peak_bytes=peak) if choice else Amount(),
            training=replace(amount_of_steps(done.steps, done.evaluations), peak_bytes=peak),
            rate=choice.rate if choice else self.method.rate,
            at_edge=choice.at_edge if choice else False,
            trials=trials_of(choice),
            trainable=sum(weight.numel() for weight in self.network.parameters() if weight.requires_grad),
            points=points_of(choice, done.steps, done.evaluations),
            gap=self._gap(),
            read=self._read(done.steps[-1].step, before, done.best) if done.best and self.material.read else None,
            lessons_cut=sum(lesson.cut for lesson in self.lessons),
            judge=self.school.judge,
            layout=done.layout,
        )

    def _gap(self) -> Gap | None:
        """None where nothing of dev's kind was read: general text alone."""
        own = self.material.fresh if self.material.read else len(self.lessons)
        if not own:
            return None
        sides = measure_gap(self.network, self.lessons, own, self.dev)
        return Gap(sides.train, sides.dev, sides.error, sides.opened)

    def _read(self, steps: int, before: float, best: Evaluation) -> ReadText:
        """What so many steps read, and what that did to the loss on documents held out."""
        material = self.material
        assert material.read is not None
        passes, rest = divmod(steps, math.ceil(len(self.lessons) / self.settings.batch))
        begun = (chosen(len(self.lessons), self.settings, step) for step in range(steps - rest, steps))
        tokens, replayed = material.read_in(place for places in begun for place in places)
        held_out = LossChange(
            material.read.corpus, sum(lesson.targets for lesson in self.dev), before, best.figures["loss"]
        )
        return ReadText(passes * material.tokens + tokens, passes * material.replayed + replayed, held_out)

    def _chosen(self) -> Choice | None:
        if self.method.rate is not None:
            return None
        return train_at_best_rate(
            self.network,
            self.lessons,
            self.settings,
            self.method.grid,
            self.work,
            self._loss,
            self._figures,
            self._watch("training at several rates", 1 + overhead(len(self.method.grid))),
            self.method.budget,
        )

    def _trained(self) -> Run:
        watch = self._watch("training", 1)
        return train(self.network, self.lessons, self.settings, self.work, self._figures, watch)

    def _watch(self, stage: str, runs: float) -> Callable[[Step], None]:
        total, seen = round(self.steps * runs), [0]

        def watch(step: Step) -> None:
            seen[0] += 1
            self.school.tell(stage, min(seen[0], total), total)

        return watch

    def _loss(self, examples: int | None = RATE_EXAMPLES) -> dict[str, float]:
        began = time.perf_counter()
        loss = lesson_loss(self.network, self.dev[:examples])
        return {"loss": loss, "seconds": time.perf_counter() - began}

    def _figures(self) -> dict[str, float]:
        if self.material.read:  # dev is asked once the whole recipe is trained
            return self._loss(None)
        began = time.perf_counter()
        score, loss = self.school.ask_dev(self.model.with_network(self.network))
        if loss is None:
            loss = lesson_loss(self.network, self.dev)
        figures = {"loss": loss, "seconds": time.perf_counter() - began}
        return figures if score is None else figures | {"score": score}


def _loss_of(scores: Mapping[str, float] | None, target: str) -> float | None:
    """The negative logarithm of the right choice's share among the choices, which have these log-probabilities."""
    if scores is None or target not in scores:
        return None
    return -log_normalised(list(scores.values()))[list(scores).index(target)]
