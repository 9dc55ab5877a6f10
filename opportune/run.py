"""The run: every arm of a comparison on the same examples, each step stored as it ends, so that nothing is lost.

The same task, recipes, models and seeds are the same run: asked for again, it goes on where it stopped.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from opportune import ledger
from opportune import recipe as recipes_
from opportune.arm import ArmRunner, Stage
from opportune.budget import dollar_limit, left_out, time_limit
from opportune.checking import check_arms, check_metric
from opportune.corpus.general import general_text
from opportune.corpus.material import digests as digests_of
from opportune.cost import Cost
from opportune.errors import OpportuneError, StoreError, out_of_memory
from opportune.estimate import predict
from opportune.fits import cannot_fit
from opportune.metrics import metric_named, resolved_name
from opportune.models.budget import Spend
from opportune.models.endpoint import Endpoint, Remote, is_remote
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.recipe import Arm
from opportune.records import ArmRecord, CallRecord, ExampleRecord, RunConfig, RunRecord, model_config
from opportune.settings import Settings
from opportune.store import Store
from opportune.types import Graded, Metric, Split, Task, digest

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class Watcher(Protocol):
    """Whoever shows how a run gets on."""

    def begin(self, run: RunRecord, arms: Sequence[ArmRecord]) -> None:
        """The run begins or goes on, with these arms in this order."""
        ...

    def note(self, text: str) -> None:
        """Something that the user should know before it goes on."""
        ...

    def stage(self, arm: ArmRecord, stage: Stage) -> None:
        """An arm is this far."""
        ...

    def end(self, arm: ArmRecord) -> None:
        """An arm is done or failed."""
        ...


def run(
    task: Task, settings: Settings, store: Store, watcher: Watcher, source: str = "", remote: Remote | None = None
) -> RunRecord:
    """Run every arm that is not done yet; returns the run. Runs that share caps are given one `remote`. Raises
    UsageError before anything is measured."""
    metric = metric_named(task.metric)
    task = replace(task, metric=resolved_name(metric))  # with what the metric reads from files
    pool = ModelPool(settings.device, settings.dtype, settings.trust_remote_code, remote or settings.remote())
    arms = _arms(task, settings)
    check_arms(arms, task)
    check_metric(metric, task, pool)
    general = general_text(settings.general)
    texts = digests_of(method for arm in arms for method in arm.methods)  # a broken line is said before anything runs
    texts += [general.digest] if settings.general else []
    digests = {str(arm.model): pool.info(arm.model).digest for arm in arms if arm.model}
    hashes = [arm.hash(digests.get(str(arm.model))) for arm in arms]
    named = [] if settings.growing else hashes
    key = digest([task.fingerprint(), named, settings.seeds, _placement(pool, arms), *texts])
    plan = _Plan(task, settings, pool, arms, hashes, _judge(metric, pool), ledger.factors(ledger.read(store)))
    before = next((record.id for record in store.list_runs() if record.key == key), None)
    plan.greet(store, before)
    record = store.begin_run(key, task.name, _config(task, settings, pool, arms, source))
    with store.lock_run(record.id):
        store.put_examples(_examples(record.id, task))
        pending = plan.pending(store, record)
        watcher.begin(record, [item for _, item in pending])
        for text in plan.notes():
            watcher.note(text)
        skipped = plan.skipped(store, [item for _, item in pending], watcher)
        for arm, item in pending:
            if (item.hash, item.seed) in skipped:
                _leave_out(store, item, skipped[item.hash, item.seed], watcher)
            elif item.status != "done":
                _run_arm(ArmRunner(store, pool, task, metric, general, watcher.stage), arm, item, watcher)
    return record


def _run_arm(runner: ArmRunner, arm: Arm, item: ArmRecord, watcher: Watcher) -> None:
    """One arm; what goes wrong in it is its own failure, and the run goes on."""
    item = replace(item, status="running", reason=None)
    runner.store.put_arm(item)
    try:
        item = runner.run(arm, item)
    except StoreError:
        raise
    except OpportuneError as error:
        item = replace(item, status="failed", reason=str(error))
    except (MemoryError, RuntimeError) as error:
        if (reason := out_of_memory(error)) is None:
            raise
        item = replace(item, status="failed", reason=reason)
    runner.store.put_arm(item)
    watcher.end(item)


def _leave_out(store: Store, item: ArmRecord, reason: str, watcher: Watcher) -> None:
    """An arm that does not run fails, unless it was measured before: then only its failed calls are not made again."""
    if item.measured != Cost():  # the bill is written when an arm is done
        store.put_arm(replace(item, status="done", reason=None))
        watcher.note(f"{item.recipe}: its score stays, its failed calls are not made again ({reason})")
    else:
        store.put_arm(item := replace(item, status="failed", reason=reason))
        watcher.end(item)


def _arms(task: Task, settings: Settings) -> list[Arm]:
    models = tuple(recipes_.model_ref(name) for name in settings.models)
    texts = recipes_.expanded(settings.recipes, task) if settings.recipes else recipes_.defaults(task)
    arms = [arm for text in texts for arm in recipes_.arms(text, models)]
    if not settings.recipes:  # of the defaults, what trains is left out where there is nothing to train
        arms = [arm for arm in arms if not (arm.methods and arm.model and is_remote(arm.model))]
    unique = {str(arm.resolved): arm for arm in arms}
    # One model after the other, so that none is loaded again and again; arms without a model first.
    order = {str(model): place for place, model in enumerate(models)}
    return sorted(unique.values(), key=lambda arm: order.get(str(arm.model), len(order)) if arm.model else -1)


def _placement(pool: ModelPool, arms: Sequence[Arm]) -> list[str]:
    """Device and number format change results in the last digits, so they are part of a run's identity."""
    infos = [pool.info(arm.model) for arm in arms if arm.model]
    return sorted({f"{info.digest} {info.device} {info.dtype}" for info in infos})


def _judge(metric: Metric, pool: ModelPool) -> Endpoint | None:
    """The endpoint that gives the grades, where one does."""
    ref = recipes_.model_ref(metric.model) if isinstance(metric, Graded) else None
    return pool.endpoint(ref) if ref is not None and is_remote(ref) else None


@dataclass(frozen=True, slots=True)
class _Plan:
    """The arms of a run, and how far it is with them."""

    task: Task
    settings: Settings
    pool: ModelPool
    arms: Sequence[Arm]
    hashes: Sequence[str]
    judge: Endpoint | None
    factors: Mapping[str, float]  # the ledger's correction of predicted seconds

    def pending(self, store: Store, run: RunRecord) -> list[tuple[Arm, ArmRecord]]:
        """Every arm under every seed, as far as it has come; new ones are written as pending."""
        there = {(item.hash, item.seed): item for item in store.arms(run.id)}
        failed = self._failed(store, run.id)
        rows: list[tuple[Arm, ArmRecord]] = []
        for seed in range(self.settings.seeds):
            for arm, name in zip(self.arms, self.hashes, strict=True):
                item = there.get((name, seed)) or self._fresh(run, arm, name, seed, len(rows))
                if (name, seed) not in there:
                    store.put_arm(item)
                rows.append((arm, replace(item, status="pending") if (name, seed) in failed else item))
        return rows

    def _fresh(self, run: RunRecord, arm: Arm, name: str, seed: int, position: int) -> ArmRecord:
        ref = arm.model
        model = None if ref is None else self.pool.endpoint(ref) if is_remote(ref) else self.pool.base(ref)
        info = model.info if model else None
        told = {"digest": info.digest, "placement": [info.dtype, info.device]} if info else {}
        return ArmRecord(
            run=run.id,
            hash=name,
            seed=seed,
            position=position,
            recipe=arm.text,
            model=info.name if info else None,
            resolved={"recipe": str(arm.resolved), "ledger": dict(self.factors), **told},
            predicted=self._predicted(arm, model, seed) if model else None,
        )

    def _predicted(self, arm: Arm, model: Local | Endpoint, seed: int) -> Cost | None:
        cost = predict(arm, self.task, model, seed)
        return cost and ledger.corrected(cost, self.factors)

    def _failed(self, store: Store, run: str) -> set[tuple[str, int]]:
        """Arms with calls to an endpoint that came to nothing: these calls, and only they, are made again."""
        remote = self._remote()
        if not (remote or self.judge):
            return set()
        failed = {(item.hash, item.seed) for item in store.outcomes(run) if item.status == "failed"}
        # The calls that chose among candidates have left no outcome.
        failed |= {(call.hash, call.seed) for call in store.calls(run) if call.error is not None}
        return {(name, seed) for name, seed in failed if self.judge or name in remote}

    def _remote(self) -> dict[str, Endpoint]:
        """The endpoint of each arm that asks one."""
        pairs = zip(self.arms, self.hashes, strict=True)
        return {name: self.pool.endpoint(arm.model) for arm, name in pairs if arm.model and is_remote(arm.model)}

    def greet(self, store: Store, before: str | None) -> None:
        """Make sure of every endpoint that will be asked, and count what earlier sittings have spent on them."""
        remote, done = self._remote(), set[str]()
        if before is not None:
            if (budget := self.pool.remote.budget).capped:
                for _, spend in self._spending(store, before):
                    budget.count(spend)
            failed = self._failed(store, before)
            open_ = {a.hash for a in store.arms(before) if a.status != "done" or (a.hash, a.seed) in failed}
            done = {arm.hash for arm in store.arms(before)} - open_
        asked = [endpoint for name, endpoint in remote.items() if name not in done]
        if self.judge is not None and set(self.hashes) - done:
            asked.append(self.judge)
        for endpoint in dict.fromkeys(asked):
            endpoint.greet(choices=self.task.kind == "choice" and endpoint in remote.values())

    def _spending(self, store: Store, run: str) -> Iterator[tuple[CallRecord, Spend]]:
        """The calls that endpoints were paid for, and what each cost."""
        remote = self._remote()
        for call in store.calls(run) if remote or self.judge else ():
            endpoint = self.judge if call.stage.startswith("grading") else remote.get(call.hash)
            if endpoint is not None and not call.shared:
                yield call, endpoint.spend(call.tokens_in - call.cached_in, call.tokens_out - call.cached_out)

    def notes(self) -> list[str]:
        """What to know of the endpoints, and of what is left out, before anything runs."""
        endpoints = dict.fromkeys([*self._remote().values(), *([self.judge] if self.judge else [])])
        found = [f"model {endpoint.info.name}: {endpoint.describe()}" for endpoint in endpoints]
        if wanting := recipes_.wanting(self.settings.recipes, self.task):
            found.append(f"left out, for {len(self.task.train)} training examples are too few: {', '.join(wanting)}")
        return found

    def skipped(self, store: Store, items: Sequence[ArmRecord], watcher: Watcher) -> dict[tuple[str, int], str]:
        """(hash, seed) -> why an arm does not run: it cannot fit the memory, or would pass a limit."""
        unfit = {(item.hash, item.seed): reason for item in items if (reason := self._cannot_fit(item)) is not None}
        for item in items:
            if (item.hash, item.seed) in unfit:
                watcher.note(f"{item.recipe}: {unfit[item.hash, item.seed]}")
        limits = [time_limit(self.settings.budget)] if self.settings.budget else []
        if self.settings.max_dollars is not None:
            paid = defaultdict[tuple[str, int], float](float)
            for call, spend in self._spending(store, items[0].run):
                paid[call.hash, call.seed] += spend.dollars
            limits.append(dollar_limit(self.settings.max_dollars, self.pool.remote.budget.spent.dollars, paid))
        return unfit | left_out([item for item in items if (item.hash, item.seed) not in unfit], limits)

    def _cannot_fit(self, item: ArmRecord) -> str | None:
        """Of an arm that is still to train what the memory will not hold."""
        arm = next(arm for arm, name in zip(self.arms, self.hashes, strict=True) if name == item.hash)
        if item.status == "done" or arm.model is None:
            return None
        reasons = (cannot_fit(method, self.pool.base(arm.model)) for method in arm.methods)
        return next((reason for reason in reasons if reason is not None), None)


def _config(task: Task, settings: Settings, pool: ModelPool, arms: Sequence[Arm], source: str) -> RunConfig:
    models = {str(arm.model): arm.model for arm in arms if arm.model}
    options: dict[str, Any] = asdict(settings) | {
        "runs": str(settings.runs),
        "prices": settings.prices and str(settings.prices),
        "recipes": [arm.text for arm in arms],
    }
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
        models=[
            model_config(pool.info(ref), pool.endpoint(ref).choosing if is_remote(ref) else None)
            for ref in models.values()
        ],
        seeds=list(range(settings.seeds)),
        tolerance=settings.tolerance,
        machine_price=settings.machine_price,
        versions=_versions(),
        options=options,
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
