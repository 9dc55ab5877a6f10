"""One arm of a run: prepare, train where the recipe trains, ask dev and test, and write the bill."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from opportune import evaluate
from opportune.artefacts import School, Trained, train_arm
from opportune.cost import Amount, Cost, Meter
from opportune.evaluate import Call, Journal, NoJournal
from opportune.journal import StoreJournal, amount_of
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.recipe import Arm
from opportune.records import ArmRecord, Facts, Latency, OutcomeRecord
from opportune.store import Store
from opportune.types import Completion, Example, Metric, Outcome, Split, Task

LATENCY_QUESTIONS = 6


@dataclass(frozen=True, slots=True)
class Stage:
    """How far an arm is: what it does, and how much of that is done."""

    name: str
    done: int
    total: int


Tell = Callable[[ArmRecord, Stage], None]


@dataclass(frozen=True, slots=True)
class ArmRunner:
    """Runs arms of one task; `tell` hears how each gets on."""

    store: Store
    pool: ModelPool
    task: Task
    metric: Metric
    tell: Tell

    def run(self, arm: Arm, item: ArmRecord) -> ArmRecord:
        """The arm's record, done and billed. What is in the store already is not repeated."""
        loading = self.pool.loading(arm.model) if arm.model else Amount()
        # A view of its own, with nothing warm: an arm is charged as if it had run alone.
        model = self.pool.view(arm.model) if arm.model else None
        key = model.info.digest if model else ""
        prepared, preparing = self._prepare(arm, item, "prepare", model, key)
        trained: Trained | None = None
        if arm.methods:
            school = School(arm, item, self.task, prepared, self.metric, self._teller(item))
            trained = train_arm(school, self.pool, self.store)
            model, key = trained.model, trained.key
            # What was calibrated on the model before its training must be calibrated anew.
            prepared, again = self._prepare(arm, item, "prepare-trained", model, key)
            preparing += again
        choosing, _ = self._ask(arm, item, "dev", model, key, prepared)
        asking, outcomes = self._ask(arm, item, "test", model, key, prepared)
        latency = self._latency(arm, model, prepared)
        cost = self._bill(loading, preparing, choosing, asking, trained, asks=model is not None)
        return replace(item, status="done", measured=cost, facts=self._facts(item, outcomes, latency, model, trained))

    def _prepare(self, arm: Arm, item: ArmRecord, stage: str, model: Local | None, key: str) -> tuple[Any, Amount]:
        journal = self._journal(item, stage, model, key)
        with Meter() as meter:
            prepared = evaluate.prepare(arm.strategy, self.task.view(), item.seed, model, journal)
        return prepared, self._used(item, stage, model, meter.amount)

    def _ask(
        self, arm: Arm, item: ArmRecord, split: Split, model: Local | None, key: str, prepared: Any
    ) -> tuple[Amount, list[Outcome]]:
        examples = self.task.split(split)
        journal = _Counting(
            self._journal(item, split, model, key), self._teller(item), f"asking {split}", len(examples)
        )
        with Meter() as meter:
            outcomes = evaluate.evaluate(
                arm.strategy, self.task.view(), prepared, examples, model, self.metric, journal
            )
        self.store.put_outcomes([_outcome_record(item, split, outcome) for outcome in outcomes])
        return self._used(item, split, model, meter.amount), outcomes

    def _used(self, item: ArmRecord, stage: str, model: Local | None, metered: Amount) -> Amount:
        """What a stage used: its calls' own measures, which survive a crash, and the peak seen by this process."""
        if model is None:
            return metered
        used = amount_of(self.store.calls(item.run, item.hash, item.seed, stage))
        return replace(used, peak_bytes=metered.peak_bytes, joules=metered.joules)

    def _latency(self, arm: Arm, model: Local | None, prepared: Any) -> Latency:
        """Seconds of a dev question asked alone, the prompt's shared head being warm."""

        def seconds_of(examples: Sequence[Example]) -> float:
            began = time.perf_counter()
            evaluate.evaluate(arm.strategy, self.task.view(), prepared, examples, model, self.metric, NoJournal())
            return time.perf_counter() - began

        with model.reusing() if model else nullcontext():
            seconds_of(self.task.dev[:2])  # what two questions share is what gets warm
            seconds = [seconds_of([example]) for example in self.task.dev[:LATENCY_QUESTIONS]]
        ordered = sorted(seconds)
        return Latency(p50=_quantile(ordered, 0.5), p95=_quantile(ordered, 0.95))

    @staticmethod
    def _bill(
        loading: Amount, preparing: Amount, choosing: Amount, asking: Amount, trained: Trained | None, *, asks: bool
    ) -> Cost:
        if not asks:  # a classifier's preparation is its training
            return Cost(tuning=choosing, training=preparing, asking=asking)
        if trained is None:
            return Cost(loading, preparing + choosing, Amount(), asking)
        return Cost(loading, preparing + choosing + trained.tuning, trained.training, asking)

    def _facts(
        self,
        item: ArmRecord,
        outcomes: Sequence[Outcome],
        latency: Latency,
        model: Local | None,
        trained: Trained | None,
    ) -> Facts:
        completions = [completion for outcome in outcomes for completion in outcome.completions]
        copied = [call for call in self.store.calls(item.run, item.hash, item.seed) if call.shared]
        facts = Facts(
            questions=len(outcomes),
            latency=latency,
            saved=amount_of(copied) if copied else None,
            dtype=model.info.dtype if model else None,
            shots_dropped=sum(completion.shots_dropped for completion in completions),
            tokens_cut=sum(completion.tokens_cut for completion in completions),
        )
        return trained.add_to(facts) if trained else facts

    def _journal(self, item: ArmRecord, stage: str, model: Local | None, key: str) -> Journal:
        if model is None:
            return NoJournal()
        return StoreJournal(self.store, item.run, item.hash, item.seed, stage, key)

    def _teller(self, item: ArmRecord) -> Callable[[str, int, int], None]:
        return lambda name, done, total: self.tell(item, Stage(name, done, total))


@dataclass(slots=True)
class _Counting:
    """A journal that tells how many conversations have been answered."""

    journal: Journal
    tell: Callable[[str, int, int], None]
    stage: str
    total: int
    done: int = 0

    def known(self, calls: Sequence[Call]) -> Mapping[int, Completion]:
        found = self.journal.known(calls)
        self._count([calls[index] for index in found])
        return found

    def record(self, answered: Sequence[tuple[Call, Completion]]) -> None:
        self.journal.record(answered)
        self._count([call for call, _ in answered])

    def _count(self, calls: Sequence[Call]) -> None:
        self.done = min(self.total, self.done + sum(call.position == 0 and call.round == 0 for call in calls))
        self.tell(self.stage, self.done, self.total)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def _outcome_record(item: ArmRecord, split: Split, outcome: Outcome) -> OutcomeRecord:
    answer = outcome.answer
    return OutcomeRecord(
        run=item.run,
        hash=item.hash,
        seed=item.seed,
        split=split,
        example=outcome.example.id,
        answer=answer.text if answer else None,
        raw=answer.raw if answer else "",
        status=outcome.status,
        score=outcome.score,
        choice_scores=dict(answer.scores) if answer and answer.scores is not None else None,
    )
