"""`opportune curve`: the same recipes with more and more labelled examples, each size and draw a run in the store.

Draws are nested (a larger one holds the smaller ones) and stratified; dev and test stay the same. What never looks at
the labelled examples is measured once. Sizes, draws and recipes asked for later join what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from opportune import evaluate, labels, scoring
from opportune import recipe as recipes_
from opportune.checking import check_lessons
from opportune.errors import OpportuneError, RecipeError, TaskError
from opportune.estimate import predict
from opportune.evaluate import NoJournal
from opportune.labels import Curves, Measured
from opportune.metrics import metric_named, short_name
from opportune.models.endpoint import Remote, is_remote
from opportune.models.pool import ModelPool
from opportune.models.scripted import Scripted
from opportune.recipe import Arm
from opportune.records import OutcomeRecord
from opportune.run import Watcher, run
from opportune.scoring import Sample
from opportune.settings import Settings
from opportune.store import Store
from opportune.tasks.sampling import keep
from opportune.types import Example, Strategy, Task

SIZES, DRAWS = (16, 32, 64, 128), 3


class CurveWatcher(Watcher, Protocol):
    """Whoever shows how a curve gets on."""

    def plan(self, seconds: Sequence[float]) -> None:
        """So many runs will follow, with these predicted seconds each."""
        ...

    def cell(self, place: int, name: str) -> None:
        """The run at this place begins."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: recipes on a draw of labelled examples."""

    size: int
    draw: int
    task: Task
    arms: tuple[Arm, ...]


def curve(
    task: Task,
    settings: Settings,
    sizes: Sequence[int],
    draws: int,
    store: Store,
    watcher: CurveWatcher,
    source: str = "",
) -> Curves:
    """Measure the settings' recipes at each size and draw; one that fails there is left out there, and told. Raises
    UsageError for bad input before anything is measured, and where nothing could be."""
    sizes = _checked(sizes, draws, task)
    models = tuple(recipes_.model_ref(name) for name in settings.models)
    arms = [arm for text in recipes_.expanded(settings.recipes, task) for arm in recipes_.arms(text, models)]
    if not arms:
        raise RecipeError("no recipe: name at least one, such as lora:rank=8 or k-shot:k=8")
    flat = [arm for arm in arms if not arm.methods and not _looks(arm.strategy, task)]
    cells, notes = _cells(task, [arm for arm in arms if arm not in flat], sizes, draws)
    if flat:
        cells.insert(0, Cell(len(task.train), 0, replace(task, name=f"{task.name}, any number of labels"), tuple(flat)))
    remote = settings.remote()  # one for all runs, whose calls have their caps in common
    watcher.plan(_predicted(cells, settings, remote))
    found: dict[str, dict[int, list[tuple[str, list[OutcomeRecord]]]]] = {arm.text: {} for arm in arms}
    for place, cell in enumerate(cells):
        watcher.cell(place, cell.task.name)
        name, outcomes, failures = _measure(cell, settings, store, watcher, source, remote)
        notes += failures
        for text, answered in outcomes.items():
            found[text].setdefault(cell.size, []).append((name, answered))
    if not any(found.values()):
        raise RecipeError(f"nothing could be measured: {'; '.join(notes)}")
    measured = [_measured(arm, arm in flat, found[arm.text], task, sizes) for arm in arms]
    return labels.build(task.name, short_name(task.metric), sizes, draws, measured, notes)


def draw_train(task: Task, size: int, draw: int) -> tuple[Example, ...]:
    """So many training examples, in the task's order; of one draw, those of a smaller size are among them."""
    by_label = task.choices is not None
    targets = [example.target if by_label else "" for example in task.train]
    chosen = keep(targets, size, f"curve:{draw}", every_label=True)
    return tuple(example for place, example in enumerate(task.train) if place in chosen)


def _checked(sizes: Sequence[int], draws: int, task: Task) -> tuple[int, ...]:
    wanted = tuple(sorted(set(sizes)))
    if not wanted or wanted[0] < 1:
        raise TaskError(f"sizes: whole numbers from 1 are expected, as in 16,32,64, not {list(sizes)}")
    if wanted[-1] > len(task.train):
        raise TaskError(f"sizes: {wanted[-1]} labelled examples asked for, {len(task.train)} are in train")
    if draws < 1:
        raise TaskError(f"draws={draws} is out of range: at least 1")
    return wanted


class _Watched(tuple[Example, ...]):
    """Training examples that know whether anyone looked at them."""

    looked = False

    def __iter__(self) -> Any:
        self.looked = True
        return super().__iter__()

    def __len__(self) -> int:
        self.looked = True
        return super().__len__()

    def __getitem__(self, place: Any) -> Any:
        self.looked = True
        return super().__getitem__(place)


def _looks(strategy: Strategy, task: Task) -> bool:
    """Whether a strategy looks at the training examples when it prepares and answers a question."""
    train, model, asked = _Watched(task.train), Scripted({}), task.dev[0]
    view = replace(task.view(), train=train)
    try:
        prepared = evaluate.prepare(strategy, view, 0, model, NoJournal())
        evaluate.converse({"": strategy.ask(asked.question, view, prepared)}, model, NoJournal())
    except OpportuneError:
        return True
    return train.looked


def _cells(task: Task, arms: Sequence[Arm], sizes: Sequence[int], draws: int) -> tuple[list[Cell], list[str]]:
    """The runs, a draw after the other; without recipes that need more examples than there are, which is told."""
    cells: list[Cell] = []
    left_out: dict[str, str] = {}
    for draw in range(draws):
        for size in sizes:
            if draw and size == len(task.train):
                continue  # every draw of all examples is the same
            part = replace(
                task, train=draw_train(task, size, draw), name=f"{task.name}, {size} labels, draw {draw + 1}"
            )
            reasons = [_unable(arm, part) for arm in arms]
            left_out |= {arm.text: reason for arm, reason in zip(arms, reasons, strict=True) if reason}
            able = [arm for arm, reason in zip(arms, reasons, strict=True) if reason is None]
            if able:
                cells.append(Cell(size, draw, part, tuple(able)))
    return cells, [f"{recipe} is left out at small sizes: {reason}" for recipe, reason in left_out.items()]


def _unable(arm: Arm, task: Task) -> str | None:
    """Why a recipe cannot run on so few examples."""
    try:
        if arm.methods:
            check_lessons(arm, task)
        for strategy in arm.candidates:
            flow = strategy.prepare(task.view(), 0)
            if strategy.needs_model:
                next(flow, None)
            flow.close()
    except RecipeError as error:
        return str(error)
    return None


def _predicted(cells: Sequence[Cell], settings: Settings, remote: Remote) -> list[float]:
    """The seconds of each run. Draws of one size take alike."""
    pool = ModelPool(settings.device, settings.dtype, settings.trust_remote_code, remote)
    known: dict[tuple[int, str], float] = {}
    for cell in cells:
        for arm in cell.arms:
            if arm.model and not is_remote(arm.model) and (cell.size, arm.text) not in known:
                cost = predict(arm, cell.task, pool.base(arm.model), 0)
                known[cell.size, arm.text] = (cost.total().seconds if cost else None) or 0.0
    return [sum(known.get((cell.size, arm.text), 0.0) for arm in cell.arms) for cell in cells]


def _measure(
    cell: Cell, settings: Settings, store: Store, watcher: Watcher, source: str, remote: Remote
) -> tuple[str, dict[str, list[OutcomeRecord]], list[str]]:
    """Run a cell, or find it done; its run, the test outcomes of each recipe, and which failed."""
    asked = replace(settings, recipes=tuple(arm.text for arm in cell.arms), seeds=1, growing=True)
    record = run(cell.task, asked, store, watcher, source, remote)
    store.finish_run(record.id)
    resolved = {arm.resolved["recipe"]: arm for arm in store.arms(record.id)}
    outcomes, failures = {}, []
    for arm in cell.arms:
        item = resolved[str(arm.resolved)]
        if item.status == "done":
            outcomes[arm.text] = store.outcomes(record.id, item.hash, "test")
        else:
            failures.append(f"{arm.text} failed ({cell.task.name}): {item.reason}")
    return record.id, outcomes, failures


def _measured(
    arm: Arm,
    flat: bool,
    found: dict[int, list[tuple[str, list[OutcomeRecord]]]],
    task: Task,
    sizes: Sequence[int],
) -> Measured:
    samples = {size: _sample(task, [outcomes for _, outcomes in some]) for size, some in sorted(found.items())}
    runs = {size: tuple(name for name, _ in some) for size, some in found.items()}
    if flat and samples:
        (sample,), (names,) = samples.values(), runs.values()
        samples, runs = dict.fromkeys(sizes, sample), dict.fromkeys(sizes, names)
    return Measured(arm.text, bool(arm.methods), flat, samples, runs)


def _sample(task: Task, draws: Sequence[list[OutcomeRecord]]) -> Sample:
    """The answers of several draws as those of several seeds."""
    outcomes = [replace(outcome, seed=draw) for draw, some in enumerate(draws) for outcome in some]
    sample = scoring.sample(metric_named(task.metric), outcomes, task.test)
    assert sample is not None
    return sample
