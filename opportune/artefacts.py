"""Training an arm: its methods one after the other, each at the learning rate that dev chooses; artefacts are kept.

An artefact is keyed by the model's digest, the methods, the lessons' tokens and the seed: what has been trained once is
loaded, by whichever arm, run or crash comes back to it, and charged as if it had been trained anew.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from opportune import evaluate
from opportune.bill import Bill, amount_of_steps, points_of, read_bill, trials_of, tuning_of
from opportune.cost import Amount, Meter
from opportune.errors import ModelError, TrainingError
from opportune.evaluate import NoJournal
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.recipe import Arm
from opportune.records import ArmRecord, CurvePoint, Facts
from opportune.spec import ModelRef
from opportune.store import Store
from opportune.training import checkpoint
from opportune.training.crew import order
from opportune.training.loop import Settings, Step, total_steps, train
from opportune.training.loop import Trained as Run
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson
from opportune.training.rates import Choice, overhead, train_at_best_rate
from opportune.types import (
    Example,
    Graded,
    Hints,
    Lesson,
    Method,
    Metric,
    ModelInfo,
    Outcome,
    Progress,
    Task,
    TaskView,
    digest,
)

# Enough to rank rates and epochs; more of dev would cost more than the training.
RATE_EXAMPLES, EPOCH_EXAMPLES = 32, 256


@dataclass(frozen=True, slots=True)
class Trained:
    """A steered model ready to be asked, and what it took."""

    model: Local
    key: str
    folder: Path
    bills: tuple[Bill, ...]  # one per method of the chain

    @property
    def tuning(self) -> Amount:
        """The whole cost of choosing learning rates."""
        return sum((bill.tuning for bill in self.bills), Amount())

    @property
    def training(self) -> Amount:
        """The steps of the chosen rates and their evaluations."""
        return sum((bill.training for bill in self.bills), Amount())

    def add_to(self, facts: Facts) -> Facts:
        """The arm's facts with those of its training; of a chain, the last method's rate."""
        last = self.bills[-1]
        return replace(
            facts,
            trainable_parameters=last.trainable,
            artefact=str(self.folder),
            rate=last.rate,
            rate_at_edge=any(bill.at_edge for bill in self.bills),
            trials=tuple(trial for bill in self.bills for trial in bill.trials),
            lessons_cut=last.lessons_cut,
            notes=(*facts.notes, *dict.fromkeys(bill.layout for bill in self.bills if bill.layout)),
        )


@dataclass(frozen=True, slots=True)
class School:
    """What every method of a chain is taught with."""

    arm: Arm
    item: ArmRecord
    task: Task
    prepared: Any
    metric: Metric
    tell: Progress

    def lessons(self, model: Local, examples: Sequence[Example]) -> list[TokenLesson]:
        """The examples as lessons, in tokens."""
        view = self.task.view()
        return [token_lesson(model, e, lesson) for e in examples for lesson in self._taught(e, view)]

    def _taught(self, example: Example, view: TaskView) -> list[Lesson]:
        return self.arm.strategy.teach(example, view, self.prepared)

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
        outcomes = evaluate.evaluate(self.arm.strategy, view, self.prepared, dev, model, self.metric, NoJournal())
        losses = [_loss_of(outcome) for outcome in outcomes]
        known = [loss for loss in losses if loss is not None]
        answers = [outcome.answer.text if outcome.answer else None for outcome in outcomes]
        score = None if isinstance(self.metric, Graded) else self.metric.figure(answers, dev)
        return score, sum(known) / len(known) if len(known) == len(losses) else None


def token_lesson(model: Local, example: Example, lesson: Lesson) -> TokenLesson:
    """A lesson in tokens. Raises TrainingError, naming the example, for one that teaches nothing or cannot fit."""
    if not lesson.target.strip():
        raise TrainingError(f"example {example.id} ({example.input[:40]!r}) has an empty target: nothing to learn from")
    try:
        tokens = model.fitted_lesson(lesson)
    except ModelError as error:
        raise TrainingError(f"example {example.id} ({example.input[:40]!r}) cannot be learned: {error}") from error
    return TokenLesson(tuple(tokens.ids), tokens.start, tokens.shots_dropped + tokens.tokens_cut > 0)


def train_arm(school: School, pool: ModelPool, store: Store) -> Trained:
    """Train the arm's methods, or load what they came to before; the curve goes to the store."""
    arm, item = school.arm, school.item
    assert arm.model is not None
    model = pool.take(arm.model)
    lessons, dev = school.lessons(model, school.task.train), school.lessons(model, school.dev())
    key = _key(school, model, lessons, dev)
    folder = store.folder / "artefacts" / key
    if (folder / "artefact.json").exists():
        trained = _loaded(folder, key, arm.methods, model)
    else:
        _announce(arm.model, pool, model.info)
        trained = _trained(school, model, lessons, dev, folder, key)
    store.put_curve(
        [
            CurvePoint(item.run, item.hash, item.seed, trial, step, values)
            for bill in trained.bills
            for trial, step, values in bill.points
        ]
    )
    return trained


def _announce(ref: ModelRef, pool: ModelPool, info: ModelInfo) -> None:
    """Tell the processes that train along which model it is."""
    trust = bool(ref.options.get("trust", pool.trust))
    order("model", path=info.path, dtype=info.dtype, device=info.device, trust=trust)


def load_artefact(folder: Path, methods: Sequence[Method], model: Local) -> Local:
    """A base model with the artefact of a finished arm."""
    network = model.network
    for place, method in enumerate(methods):
        network = method.load(network, folder / str(place))
    return model.with_network(network)


def _key(school: School, model: Local, lessons: Sequence[TokenLesson], dev: Sequence[TokenLesson]) -> str:
    info = model.info
    methods = [str(part) for part in school.arm.resolved.parts[:-1]]
    taught = [[(lesson.ids, lesson.start) for lesson in some] for some in (lessons, dev)]
    return digest([info.digest, info.dtype, info.device, methods, taught, school.item.seed])


def _loaded(folder: Path, key: str, methods: Sequence[Method], model: Local) -> Trained:
    bills = tuple(read_bill(value) for value in json.loads((folder / "artefact.json").read_text()))
    return Trained(load_artefact(folder, methods, model), key, folder, bills)


def _trained(
    school: School, model: Local, lessons: list[TokenLesson], dev: list[TokenLesson], folder: Path, key: str
) -> Trained:
    work, made, network, bills = folder.with_suffix(".work"), folder.with_suffix(".part"), model.network, list[Bill]()
    shutil.rmtree(made, ignore_errors=True)
    hints = school.hints(model)
    for place, method in enumerate(school.arm.methods):
        name = str(school.arm.resolved.parts[place])
        order("attach", method=name, seed=school.item.seed, hints=(hints.text, hints.labels))
        network = method.attach(network, school.item.seed, hints)
        if getattr(network, "virtual_tokens", 0):  # every prompt begins with them
            steered = model.with_network(network)
            lessons, dev = school.lessons(steered, school.task.train), school.lessons(steered, school.dev())
        course = _Course(school, model, network, method, lessons, dev, work / str(place))
        bills.append(course.run())
        (made / str(place)).mkdir(parents=True)
        with checkpoint.writing(made):
            method.save(network, made / str(place))
    (made / "artefact.json").write_text(json.dumps([asdict(bill) for bill in bills]))
    made.rename(folder)
    shutil.rmtree(work, ignore_errors=True)
    for weight in network.parameters():
        weight.requires_grad_(False)
    return Trained(model.with_network(network.eval()), key, folder, tuple(bills))


class _Course:
    """One method's training."""

    def __init__(
        self,
        school: School,
        model: Local,
        network: Any,
        method: Any,
        lessons: list[TokenLesson],
        dev: list[TokenLesson],
        work: Path,
    ) -> None:
        self.school, self.model, self.network, self.method = school, model, network, method
        self.lessons, self.dev, self.work = lessons, dev, work
        self.settings = Settings(
            rate=method.rate or 0.0, epochs=method.epochs, batch=method.batch, seed=school.item.seed
        )
        self.steps = total_steps(len(lessons), self.settings)

    def run(self) -> Bill:
        """Choose the rate where none is given, train to the end, leave the network with the best weights."""
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
            lessons_cut=sum(lesson.cut for lesson in self.lessons),
            layout=done.layout,
        )

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

    def _loss(self) -> dict[str, float]:
        began = time.perf_counter()
        loss = lesson_loss(self.network, self.dev[:RATE_EXAMPLES])
        return {"loss": loss, "seconds": time.perf_counter() - began}

    def _figures(self) -> dict[str, float]:
        began = time.perf_counter()
        score, loss = self.school.ask_dev(self.model.with_network(self.network))
        if loss is None:
            loss = lesson_loss(self.network, self.dev)
        figures = {"loss": loss, "seconds": time.perf_counter() - began}
        return figures if score is None else figures | {"score": score}


def _loss_of(outcome: Outcome) -> float | None:
    """The negative logarithm of the right choice's share among the choices, in the answer's last ranking."""
    last, asked = outcome.completions[-1:], outcome.prompts[-1:]
    target = outcome.example.target
    if not last or last[0].scores is None or target not in (asked[0].choices or ()):
        return None
    scores = last[0].scores
    highest = max(scores)
    everything = highest + math.log(math.fsum(math.exp(score - highest) for score in scores))
    return everything - scores[(asked[0].choices or ()).index(target)]
