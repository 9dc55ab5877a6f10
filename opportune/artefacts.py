"""Training an arm: its methods one after the other, each at the learning rate that dev chooses; artefacts are kept.

An artefact is keyed by the model's digest, the methods, the tokens of what they learn from and the seed: what has been
trained once is loaded, by whichever arm, run or crash comes back to it, and charged as if it had been trained anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from opportune import forgetting
from opportune.bill import Bill, read_bill, told_apart, without_foreign_scores
from opportune.corpus.material import Material
from opportune.cost import Amount
from opportune.course import Course, School
from opportune.errors import ModelError, RecipeError
from opportune.methods.common import attached
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.records import CurvePoint, Facts, LossChange
from opportune.spec import ModelRef
from opportune.store import Store
from opportune.training import checkpoint
from opportune.training.crew import order, processes
from opportune.training.packing import identity
from opportune.types import (
    Method,
    ModelInfo,
    Progress,
    digest,
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A steered model ready to be asked, and what it took."""

    model: Local
    key: str
    folder: Path
    bills: tuple[Bill, ...]  # one per method of the chain
    forgetting: LossChange | None = None  # on general text
    notes: tuple[str, ...] = ()

    @property
    def tuning(self) -> Amount:
        """The whole cost of choosing learning rates."""
        return sum((bill.tuning for bill in self.bills), Amount())

    @property
    def training(self) -> Amount:
        """The steps of the chosen rates and their evaluations."""
        return sum((bill.training for bill in self.bills), Amount())

    def add_to(self, facts: Facts) -> Facts:
        """The arm's facts with those of its training; of a chain, the last method's rate and gap."""
        last = self.bills[-1]
        return replace(
            facts,
            trainable_parameters=sum(bill.trainable for bill in self.bills),
            artefact=str(self.folder.resolve()),
            artefact_bytes=sum(file.stat().st_size for file in self.folder.glob("*/**/*") if file.is_file()),
            rate=last.rate,
            rate_at_edge=any(bill.at_edge for bill in self.bills),
            trials=tuple(trial for bill in self.bills for trial in bill.trials),
            forgetting=self.forgetting,
            gap=last.gap,
            read=tuple(bill.read for bill in self.bills if bill.read is not None),
            lessons_cut=max(bill.lessons_cut for bill in self.bills),
            notes=(*facts.notes, *self.notes, *dict.fromkeys(bill.layout for bill in self.bills if bill.layout)),
        )


def train_arm(school: School, pool: ModelPool, store: Store) -> Trained:
    """Train the arm's methods, or load what they came to before; the curve goes to the store."""
    arm, item = school.arm, school.item
    assert arm.model is not None
    model = pool.take(arm.model)
    materials = [school.material(method, model) for method in arm.methods]
    key = _key(school, model, materials)
    folder = _place(store, key)
    before, unmeasured = _general_loss(store, school, model, digest([model.info.digest, model.info.dtype]))
    with _locked(store.folder / "locks" / key, school.tell):
        if (folder / "artefact.json").exists():
            trained = _loaded(school, folder, key, arm.methods, model)
        else:
            _announce(arm.model, pool, model.info)
            trained = _trained(school, model, materials, folder, key)
    after = before and forgetting.loss(store, school.general, trained.model, key)
    notes = (*school.left_out(), *unmeasured)
    bills = told_apart(trained.bills, [part.name for part in arm.resolved.parts[: len(arm.methods)]])
    trained = replace(trained, bills=bills, forgetting=forgetting.change(school.general, before, after), notes=notes)
    store.put_curve(
        [
            CurvePoint(item.run, item.hash, item.seed, trial, step, values)
            for bill in trained.bills
            for trial, step, values in bill.points
        ]
    )
    return trained


def _general_loss(
    store: Store, school: School, model: Local, key: str
) -> tuple[forgetting.Loss | None, tuple[str, ...]]:
    """The loss on general text; where it cannot be measured, a note of why."""
    try:
        return forgetting.loss(store, school.general, model, key), ()
    except ModelError as error:
        return None, (f"forgetting is not measured: {error}",)


@contextmanager
def _locked(file: Path, tell: Progress) -> Iterator[None]:
    """Within this block no other process trains the artefact; one that does is waited for, and told of."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("waiting for another process that trains the same", 0, 1)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _announce(ref: ModelRef, pool: ModelPool, info: ModelInfo) -> None:
    """Tell the processes that train along which model it is. Raises RecipeError for one that they cannot share."""
    if info.quantise and processes() > 1:
        raise RecipeError(f"quantise={info.quantise}: packed weights are trained on by one process, without torchrun")
    trust = bool(ref.options.get("trust", pool.trust))
    order("model", path=info.path, dtype=info.dtype, device=info.device, trust=trust)


def _place(store: Store, key: str) -> Path:
    return store.folder / "artefacts" / key


def found_artefact(store: Store, kept: str) -> Path | None:
    """Where an arm's artefact is: beside its runs, which may have been moved, or where it was made, whose runs may be
    another folder of the same database. None where it is gone."""
    return next((path for path in (_place(store, Path(kept).name), Path(kept)) if path.exists()), None)


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


def _loaded(school: School, folder: Path, key: str, methods: Sequence[Method], model: Local) -> Trained:
    kept = [read_bill(value) for value in json.loads((folder / "artefact.json").read_text())]
    bills = tuple(without_foreign_scores(bill, school.judge) for bill in kept)
    return Trained(load_artefact(folder, methods, model), key, folder, bills)


def _trained(school: School, model: Local, materials: Sequence[Material], folder: Path, key: str) -> Trained:
    work, made = folder.with_suffix(".work"), folder.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    model, bills = _begun(school, model, materials, made)
    network = model.network
    for place, method in list(enumerate(school.arm.methods))[len(bills) :]:
        name, hints = str(school.arm.resolved.parts[place]), school.hints(model)
        order("attach", method=name, seed=school.item.seed, hints=(hints.text, hints.labels))
        network = attached(method, network, school.item.seed, hints)
        material = materials[place]
        if getattr(network, "virtual_tokens", 0):  # every prompt begins with them
            material = school.material(method, model.with_network(network))
        bills.append(Course(school, model, network, method, material, work / str(place)).run())
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
    if processes() > 1:  # the others attach from the beginning
        return model, []
    for length in reversed(range(1, len(materials))):
        key = _key(school, model, materials[:length])
        folder = made.with_name(key)
        if (folder / "artefact.json").exists():
            found = _loaded(school, folder, key, school.arm.methods[:length], model)
            shutil.copytree(folder, made, ignore=shutil.ignore_patterns("artefact.json"))
            return found.model, list(found.bills)
    return model, []
