"""Training an arm: its methods one after the other, each at the learning rate that dev chooses; artefacts are kept.

An artefact is keyed by the model's digest, the methods, the tokens of what they learn from and the seed: what has been
trained once is loaded, by whichever arm, run or crash comes back to it, and charged as if it had been trained anew.
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

from opportune import evaluate, forgetting
from opportune.bill import Bill, amount_of_steps, points_of, read_bill, trials_of, tuning_of
from opportune.corpus.general import General
from opportune.corpus.material import Material, material_of
from opportune.cost import Amount, Meter
from opportune.evaluate import NoJournal
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.reading import Reads
from opportune.recipe import Arm
from opportune.records import ArmRecord, CurvePoint, Facts, Gap, LossChange, ReadText
from opportune.store import Store
from opportune.training import checkpoint
from opportune.training.budget import affordable_steps
from opportune.training.gap import measure_gap
from opportune.training.loop import Settings, Step, figures_of, total_steps, train
from opportune.training.loop import Trained as Run
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson, identity
from opportune.training.rates import Choice, overhead, train_at_best_rate
from opportune.types import Example, Graded, Hints, Method, Metric, Outcome, Progress, Task, digest

# Enough to rank rates and epochs; more of dev would cost more than the training.
RATE_EXAMPLES, EPOCH_EXAMPLES = 32, 256


@dataclass(frozen=True, slots=True)
class Trained:
    """A steered model ready to be asked, and what it took."""

    model: Local
    key: str
    folder: Path
    bills: tuple[Bill, ...]  # one per method of the chain
    forgetting: LossChange | None = None  # on general text

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
            forgetting=self.forgetting,
            gap=last.gap,
            read=tuple(bill.read for bill in self.bills if bill.read is not None),
        )


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

    def material(self, method: Method, model: Local) -> Material:
        """What a method learns from: raw text where it reads, else the task's lessons."""
        if isinstance(method, Reads):
            return material_of(method.reading, model.tokenizer, model.context)
        return Material(self.lessons(model, self.task.train), self.lessons(model, self.dev()))

    def lessons(self, model: Local, examples: Sequence[Example]) -> list[TokenLesson]:
        """The examples as lessons, in tokens."""
        view = self.task.view()
        taught = [lesson for e in examples for lesson in self.arm.strategy.teach(e, view, self.prepared)]
        tokens = [model.tokenise_lesson(lesson) for lesson in taught]
        return [TokenLesson(tuple(ids), start) for ids, start in tokens]

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


def train_arm(school: School, pool: ModelPool, store: Store) -> Trained:
    """Train the arm's methods, or load what they came to before; the curve goes to the store."""
    arm, item = school.arm, school.item
    assert arm.model is not None
    model = pool.take(arm.model)
    materials = [school.material(method, model) for method in arm.methods]
    key = _key(school, model, materials)
    folder = store.folder / "artefacts" / key
    before = forgetting.loss(store, school.general, model, digest([model.info.digest, model.info.dtype]))
    if (folder / "artefact.json").exists():
        trained = _loaded(folder, key, arm.methods, model)
    else:
        trained = _trained(school, model, materials, folder, key)
    after = forgetting.loss(store, school.general, trained.model, key)
    trained = replace(trained, forgetting=forgetting.change(school.general, before, after))
    store.put_curve(
        [
            CurvePoint(item.run, item.hash, item.seed, trial, step, values)
            for bill in trained.bills
            for trial, step, values in bill.points
        ]
    )
    return trained


def load_artefact(folder: Path, methods: Sequence[Method], model: Local) -> Local:
    """A base model with the artefact of a finished arm."""
    network = model.network
    for place, method in enumerate(methods):
        network = method.load(network, folder / str(place))
    return model.with_network(network)


def _key(school: School, model: Local, materials: Sequence[Material]) -> str:
    """Of the chain's first methods, as many as there are materials."""
    info = model.info
    methods = [str(part) for part in school.arm.resolved.parts[: len(materials)]]
    taught = [[identity(some) for some in (material.lessons, material.dev)] for material in materials]
    return digest([info.digest, info.dtype, info.device, methods, taught, school.item.seed])


def _loaded(folder: Path, key: str, methods: Sequence[Method], model: Local) -> Trained:
    bills = tuple(read_bill(value) for value in json.loads((folder / "artefact.json").read_text()))
    return Trained(load_artefact(folder, methods, model), key, folder, bills)


def _trained(school: School, model: Local, materials: Sequence[Material], folder: Path, key: str) -> Trained:
    work, made = folder.with_suffix(".work"), folder.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    model, bills = _begun(school, model, materials, made)
    network = model.network
    for place, method in list(enumerate(school.arm.methods))[len(bills) :]:
        network = method.attach(network, school.item.seed, school.hints(model))
        material = materials[place]
        if getattr(network, "virtual_tokens", 0):  # every prompt begins with them
            material = school.material(method, model.with_network(network))
        bills.append(_Course(school, model, network, method, material, work / str(place)).run())
        (made / str(place)).mkdir(parents=True)
        with checkpoint.writing(made):
            method.save(network, made / str(place))
    (made / "artefact.json").write_text(json.dumps([asdict(bill) for bill in bills]))
    made.rename(folder)
    shutil.rmtree(work, ignore_errors=True)
    for weight in network.parameters():
        weight.requires_grad_(False)
    return Trained(model.with_network(network.eval()), key, folder, tuple(bills))


def _begun(school: School, model: Local, materials: Sequence[Material], made: Path) -> tuple[Local, list[Bill]]:
    """The chain as far as another arm has come with the same first methods: that model, its bills, its artefacts."""
    for length in reversed(range(1, len(materials))):
        key = _key(school, model, materials[:length])
        folder = made.with_name(key)
        if (folder / "artefact.json").exists():
            found = _loaded(folder, key, school.arm.methods[:length], model)
            shutil.copytree(folder, made, ignore=shutil.ignore_patterns("artefact.json"))
            return found.model, list(found.bills)
    return model, []


class _Course:
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
        sides = measure_gap(self.network, self.lessons, self.dev)
        return Bill(
            tuning=replace(tuning_of(choice), peak_bytes=peak) if choice else Amount(),
            training=replace(amount_of_steps(done.steps, done.evaluations), peak_bytes=peak),
            rate=choice.rate if choice else self.method.rate,
            at_edge=choice.at_edge if choice else False,
            trials=trials_of(choice),
            trainable=sum(weight.numel() for weight in self.network.parameters() if weight.requires_grad),
            points=points_of(choice, done.steps, done.evaluations),
            gap=Gap(sides.train, sides.dev, sides.error, sides.opened),
            read=self._read(before, done.best.figures["loss"]) if done.best and self.material.read else None,
        )

    def _read(self, before: float, after: float) -> ReadText:
        material, passes = self.material, self.method.epochs
        assert material.read is not None
        tokens = sum(lesson.targets for lesson in self.dev)
        held_out = LossChange(material.read.corpus, tokens, before, after)
        return ReadText(passes * material.tokens, passes * material.replayed, held_out)

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
