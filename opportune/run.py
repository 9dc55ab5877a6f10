"""The run: every arm of a comparison on the same examples, each step stored as it ends, so that nothing is lost.

The same task, recipes, models and seeds are the same run: asked for again, it goes on where it stopped.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from opportune import recipe as recipes_
from opportune.arm import ArmRunner, Stage
from opportune.errors import OpportuneError, RecipeError, StoreError
from opportune.estimate import predict
from opportune.metrics import metric_named, resolved_name
from opportune.models.pool import ModelPool
from opportune.recipe import Arm
from opportune.records import ArmRecord, ExampleRecord, ModelConfig, RunConfig, RunRecord
from opportune.store import Store
from opportune.types import ModelInfo, Split, Task, digest

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
DEFAULT_MODEL = "smollm2-135m"


class Watcher(Protocol):
    """Whoever shows how a run gets on."""

    def begin(self, run: RunRecord, arms: Sequence[ArmRecord]) -> None:
        """The run begins or goes on, with these arms in this order."""
        ...

    def stage(self, arm: ArmRecord, stage: Stage) -> None:
        """An arm is this far."""
        ...

    def end(self, arm: ArmRecord) -> None:
        """An arm is done or failed."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What a comparison is asked to do, beside the task."""

    recipes: tuple[str, ...] = ()  # none: the defaults
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    seeds: int = 1
    device: str | None = None  # None: the best there is
    dtype: str | None = None  # None: the fastest the device computes well in
    trust_remote_code: bool = False
    tolerance: float = 0.03  # how much worse than the reference a cheaper arm may be, as a share
    machine_price: float | None = None  # dollars per hour
    runs: Path = field(default_factory=lambda: Path("opportune-runs"))

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise RecipeError(f"seeds={self.seeds} is out of range: at least 1")
        if not 0 <= self.tolerance < 1:
            raise RecipeError(f"tolerance={self.tolerance} is out of range: 0 to 1 (3 points are 0.03)")
        if self.machine_price is not None and self.machine_price < 0:
            raise RecipeError(f"machine price {self.machine_price} is out of range: 0 or more dollars an hour")


def run(task: Task, settings: Settings, store: Store, watcher: Watcher, source: str = "") -> RunRecord:
    """Run every arm that is not done yet; returns the run. Raises UsageError before anything is measured."""
    metric = metric_named(task.metric)
    task = replace(task, metric=resolved_name(metric))  # with what the metric reads from files
    pool = ModelPool(settings.device, settings.dtype, settings.trust_remote_code)
    arms = _arms(task, settings)
    _check(arms, task)
    digests = {str(arm.model): pool.info(arm.model).digest for arm in arms if arm.model}
    hashes = [arm.hash(digests.get(str(arm.model))) for arm in arms]
    key = digest([task.fingerprint(), hashes, settings.seeds, _placement(pool, arms)])
    record = store.begin_run(key, task.name, _config(task, settings, pool, arms, source))
    with store.lock_run(record.id):
        store.put_examples(_examples(record.id, task))
        pending = _pending(store, record, task, arms, hashes, settings, pool)
        watcher.begin(record, [item for _, item in pending])
        for arm, item in pending:
            if item.status != "done":
                _run_arm(ArmRunner(store, pool, task, metric, watcher.stage), arm, item, watcher)
    return record


def _run_arm(runner: ArmRunner, arm: Arm, item: ArmRecord, watcher: Watcher) -> None:
    """One arm; what goes wrong in it is its own failure, and the run goes on."""
    item = replace(item, status="running", reason=None)
    runner.store.put_arm(item)
    try:
        item = runner.run(arm, item)
    except StoreError:
        raise
    except (OpportuneError, MemoryError) as error:
        item = replace(item, status="failed", reason=str(error) or "out of memory")
    runner.store.put_arm(item)
    watcher.end(item)


def _arms(task: Task, settings: Settings) -> list[Arm]:
    models = tuple(recipes_.model_ref(name) for name in settings.models)
    texts = recipes_.expanded(settings.recipes, task) if settings.recipes else recipes_.defaults(task)
    arms = [arm for text in texts for arm in recipes_.arms(text, models)]
    unique = {str(arm.resolved): arm for arm in arms}
    # One model after the other, so that none is loaded again and again; arms without a model first.
    order = {str(model): place for place, model in enumerate(models)}
    return sorted(unique.values(), key=lambda arm: order.get(str(arm.model), len(order)) if arm.model else -1)


def _check(arms: Sequence[Arm], task: Task) -> None:
    """Start every asking strategy once without a model, so that a k larger than train is said before anything runs."""
    for strategy in (strategy for arm in arms for strategy in arm.candidates if strategy.needs_model):
        flow = strategy.prepare(task.view(), 0)
        next(flow, None)
        flow.close()


def _placement(pool: ModelPool, arms: Sequence[Arm]) -> list[str]:
    """Device and number format change results in the last digits, so they are part of a run's identity."""
    infos = [pool.info(arm.model) for arm in arms if arm.model]
    return sorted({f"{info.digest} {info.device} {info.dtype}" for info in infos})


def _pending(
    store: Store,
    run: RunRecord,
    task: Task,
    arms: Sequence[Arm],
    hashes: Sequence[str],
    settings: Settings,
    pool: ModelPool,
) -> list[tuple[Arm, ArmRecord]]:
    """Every arm under every seed, as far as it has come; new ones are written as pending."""
    there = {(item.hash, item.seed): item for item in store.arms(run.id)}
    rows: list[tuple[Arm, ArmRecord]] = []
    for seed in range(settings.seeds):
        for arm, name in zip(arms, hashes, strict=True):
            fresh = ArmRecord(
                run=run.id,
                hash=name,
                seed=seed,
                position=len(rows),
                recipe=arm.text,
                model=pool.info(arm.model).name if arm.model else None,
                resolved={"recipe": str(arm.resolved)},
            )
            item = there.get((name, seed), fresh)
            if item is fresh:
                predicted = predict(arm, task, pool.base(arm.model), seed) if arm.model else None
                item = replace(fresh, predicted=predicted)
                store.put_arm(item)
            rows.append((arm, item))
    return rows


def _config(task: Task, settings: Settings, pool: ModelPool, arms: Sequence[Arm], source: str) -> RunConfig:
    models = {str(arm.model): pool.info(arm.model) for arm in arms if arm.model}
    options: dict[str, Any] = asdict(settings) | {"runs": str(settings.runs), "recipes": [arm.text for arm in arms]}
    return RunConfig(
        task={
            "name": task.name,
            "source": source,
            "kind": task.kind,
            "instruction": task.instruction,
            "metric": task.metric,
            "labels": list(task.choices) if task.choices else None,
            "notes": list(task.notes),
        },
        models=[_model_config(info) for info in models.values()],
        seeds=list(range(settings.seeds)),
        tolerance=settings.tolerance,
        machine_price=settings.machine_price,
        versions=_versions(),
        options=options,
    )


def _model_config(info: ModelInfo) -> ModelConfig:
    return ModelConfig(
        name=info.name,
        path=info.path,
        parameters=info.parameters,
        digest=info.digest,
        dtype=info.dtype,
        device=info.device,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in ("opportune", "torch", "transformers", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _examples(run: str, task: Task) -> list[ExampleRecord]:
    return [
        ExampleRecord(run, split, place, item.id, item.input, item.target, item.choices, item.group, item.rationale)
        for split in SPLITS
        for place, item in enumerate(task.split(split))
    ]
