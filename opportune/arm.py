"""One arm of a run: prepare, train where the recipe trains, ask dev and test, and write the bill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from opportune import aside, evaluate, scoring
from opportune.artefacts import Trained, train_arm
from opportune.aside import Backend, Settled
from opportune.corpus.general import General
from opportune.cost import Amount, Cost, Meter
from opportune.course import School
from opportune.evaluate import Call, Journal, NoJournal
from opportune.journal import StoreJournal, amount_of, cached_amount, key_of
from opportune.models.pool import ModelPool
from opportune.recipe import Arm, model_ref
from opportune.records import ArmRecord, Facts, OutcomeRecord
from opportune.store import Store
from opportune.types import REMOTE, Completion, Graded, Metric, Outcome, Split, Strategy, Task


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
    general: General  # text on which forgetting is measured
    tell: Tell

    def run(self, arm: Arm, item: ArmRecord) -> ArmRecord:
        """The arm's record, done and billed. What is in the store already is not repeated."""
        loading = self.pool.loading(arm.model) if arm.model else Amount()
        # A view of its own, with nothing warm: an arm is charged as if it had run alone.
        model: Backend | None = self.pool.view(arm.model) if arm.model else None
        key = key_of(model.info) if model else ""
        if len(arm.candidates) > 1:
            settled, preparing = self._search(arm, item, model, key)
        else:
            settled, preparing = self._prepare(arm.strategy, item, "prepare", model, key)
        trained: Trained | None = None
        if arm.methods:
            school = School(arm, item, self.task, settled.prepared, self.metric, self.general, self._teller(item))
            trained = train_arm(school, self.pool, self.store)
            model, key = trained.model, trained.key
            # What was calibrated on the model before its training must be calibrated anew.
            settled, again = self._prepare(arm.strategy, item, "prepare-trained", model, key)
            preparing += again
        choosing, dev = self._ask(settled, item, "dev", "dev", model, key)
        if settled.searched is not None:
            choosing = Amount()  # copied from the search, which is charged for it
        asking, outcomes = self._ask(settled, item, "test", "test", model, key)
        self._grade(item, "dev", "grading-dev", dev)
        grading = self._grade(item, "test", "grading-test", outcomes)
        cost = self._bill(loading, preparing, choosing, asking, trained, asks=model is not None)
        facts = replace(self._facts(item, settled, outcomes, model), grading=grading)
        return replace(item, status="done", measured=cost, facts=trained.add_to(facts) if trained else facts)

    def _search(self, arm: Arm, item: ArmRecord, model: Backend | None, key: str) -> tuple[Settled, Amount]:
        """The candidate that does best on dev (of equals the first); all of them are charged as tuning."""
        found: list[tuple[float, Settled]] = []
        used, failed = Amount(), 0
        for place, (strategy, part) in enumerate(zip(arm.candidates, arm.parts, strict=True)):
            settled, preparing = self._prepare(strategy, item, f"prepare-{place}", model, key)
            asking, outcomes = self._ask(settled, item, "dev", f"dev-{place}", model, key)
            self._grade(item, "dev", f"grading-dev-{place}", outcomes)
            used += preparing + asking
            asked = [one for one in self.store.outcomes(item.run, item.hash, "dev") if one.seed == item.seed]
            failed += sum(outcome.status == "failed" for outcome in asked)
            found.append((self._dev_score(asked), replace(settled, chosen=str(part))))
        best = max(found, key=lambda one: one[0])[1]
        whole = len(found) * len(self.task.dev)
        notes = (f"{failed} of the {whole} answers on dev that chose failed, and count as wrong",) if failed else ()
        return replace(best, searched={str(settled.chosen): score for score, settled in found}, notes=notes), used

    def _dev_score(self, asked: Sequence[OutcomeRecord]) -> float:
        """The metric on dev, as the comparison will read it; a failed call counts as wrong."""
        sample = scoring.sample(self.metric, asked, self.task.dev)
        return (scoring.strict_figure(sample) if sample else None) or 0.0

    def _prepare(
        self, strategy: Strategy, item: ArmRecord, stage: str, model: Backend | None, key: str
    ) -> tuple[Settled, Amount]:
        journal = self._journal(item, stage, model, key)
        with Meter() as meter:
            prepared = evaluate.prepare(strategy, self.task.view(), item.seed, model, journal)
        return Settled(strategy, prepared), self._used(item, stage, model, meter.amount)

    def _ask(
        self, settled: Settled, item: ArmRecord, split: Split, stage: str, model: Backend | None, key: str
    ) -> tuple[Amount, list[Outcome]]:
        examples = self.task.split(split)
        journal = _Counting(
            self._journal(item, stage, model, key), self._teller(item), f"asking {split}", len(examples)
        )
        with Meter() as meter:
            outcomes = evaluate.evaluate(
                settled.strategy, self.task.view(), settled.prepared, examples, model, self.metric, journal
            )
        if not isinstance(self.metric, Graded):  # else they have no score yet
            self._keep(item, split, outcomes)
        return self._used(item, stage, model, meter.amount), outcomes

    def _keep(self, item: ArmRecord, split: Split, outcomes: Sequence[Outcome]) -> None:
        self.store.put_outcomes([_outcome_record(item, split, outcome) for outcome in outcomes])

    def _grade(self, item: ArmRecord, split: Split, stage: str, answered: Sequence[Outcome]) -> Amount | None:
        """Have the answers graded, where the metric asks a model to; what that used."""
        if not isinstance(self.metric, Graded):
            return None
        judge: Backend = self.pool.view(model_ref(self.metric.model))
        graded = evaluate.grade(self.metric, answered, judge, self._journal(item, stage, judge, key_of(judge.info)))
        self._keep(item, split, graded)
        return self._used(item, stage, judge, Amount())

    def _used(self, item: ArmRecord, stage: str, model: Backend | None, metered: Amount) -> Amount:
        """What a stage used: its calls' own measures, which survive a crash, and the peak seen by this process."""
        if model is None:
            return metered
        used = model.priced(amount_of(self.store.calls(item.run, item.hash, item.seed, stage)))
        if model.info.device == REMOTE:  # what this machine needs to wait is not what the server needs
            return used
        return replace(used, peak_bytes=metered.peak_bytes, joules=metered.joules)

    @staticmethod
    def _bill(
        loading: Amount, preparing: Amount, choosing: Amount, asking: Amount, trained: Trained | None, *, asks: bool
    ) -> Cost:
        if not asks:  # a classifier's preparation is its training
            return Cost(tuning=choosing, training=preparing, asking=asking)
        if trained is None:
            return Cost(loading, preparing + choosing, Amount(), asking)
        return Cost(loading, preparing + choosing + trained.tuning, trained.training, asking)

    def _facts(self, item: ArmRecord, settled: Settled, outcomes: Sequence[Outcome], model: Backend | None) -> Facts:
        completions = [completion for outcome in outcomes for completion in outcome.completions]
        whole = self.store.calls(item.run, item.hash, item.seed)
        calls = [call for call in whole if not call.stage.startswith("grading")]
        copied, cached = [call for call in calls if call.shared], cached_amount(calls)
        view = self.task.view()
        return Facts(
            questions=len(outcomes),
            latency=aside.latency(settled, view, self.task.dev, outcomes, model, self.metric),
            saved=model.priced(amount_of(copied)) if copied and model else None,
            cached=model.priced(cached) if cached and model else None,
            dtype=model.info.dtype if model else None,
            shots_dropped=sum(completion.shots_dropped for completion in completions),
            tokens_cut=sum(completion.tokens_cut for completion in completions),
            chosen=settled.chosen,
            searched=settled.searched or {},
            notes=(*getattr(settled.prepared, "notes", ()), *settled.notes),
            content_free=aside.content_free(settled, view, outcomes, model),
            agreement=aside.agreement(outcomes),
            revised=aside.revised(outcomes, self.metric),
        )

    def _journal(self, item: ArmRecord, stage: str, model: Backend | None, key: str) -> Journal:
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
