"""From what a run left in the store to a comparison of its arms: a finished run, or one that is still under way.

Dev chooses: the reference is the leader on dev (the cheaper one of equals), failed calls counted as wrong. The sealed
test split then gives the scores, the paired differences to the reference and the recommendation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from opportune import metrics, scoring
from opportune.cost import Amount, Cost
from opportune.metrics import short_name
from opportune.reasoned import Candidate, explained
from opportune.recommend import price, price_unit, recommend
from opportune.records import (
    ArmRecord,
    ArmStatus,
    ExampleRecord,
    Latency,
    ModelConfig,
    OutcomeRecord,
    RunRecord,
)
from opportune.rows import (
    Class,
    Comparison,
    Confusion,
    Row,
    SeedResult,
    Unit,
    Versus,
    mean_amount,
    mean_cost,
)
from opportune.schema import outcomes_json, to_json
from opportune.scoring import Sample
from opportune.shift import Shift, shift_of
from opportune.statistics import holm
from opportune.store import Store
from opportune.types import REMOTE, Example, Metric, Split


@dataclass(frozen=True, slots=True)
class _Arm:
    """One recipe over all its seeds, with what it answered."""

    records: tuple[ArmRecord, ...]
    outcomes: tuple[OutcomeRecord, ...]  # on test
    dev: Sample | None
    test: Sample | None


def of_run(store: Store, run: str) -> Comparison:
    """The comparison of a stored run, as far as it has come."""
    record = store.run(run)
    metric = metrics.metric_named(record.config["task"]["metric"])
    found = build(record, store.arms(record.id), store.examples(record.id), store.outcomes(record.id), metric)
    page = store.folder / record.id / "report.html"
    return replace(found, report=str(page)) if page.exists() else found


def show_json(store: Store, run: str) -> dict[str, Any]:
    """The object that `opportune show --json` prints: the comparison, and every outcome with its calls."""
    found = of_run(store, run)
    records = store.arms(found.run), store.examples(found.run), store.outcomes(found.run), store.calls(found.run)
    return {**to_json(found), "outcomes": outcomes_json(*records)}


def build(
    run: RunRecord,
    records: Sequence[ArmRecord],
    examples: Sequence[ExampleRecord],
    outcomes: Sequence[OutcomeRecord],
    metric: Metric,
) -> Comparison:
    """The comparison of these records, under `metric`."""
    config = run.config
    # Waiting for a server is no machine time: its calls have their own price.
    remote = {model["name"] for model in config["models"] if model["device"] == REMOTE}
    hourly = config["machine_price"]
    priced = [_priced(record, None if record.model in remote else hourly) for record in records]
    arms = _arms(metric, priced, examples, outcomes)
    rows = [_row(arm, config["task"]["labels"]) for arm in arms]
    unit = price_unit(rows)
    place = _reference(arms, rows, unit)
    rows = _explained(arms, _versus(arms, rows, place), config["models"])
    reference = None if place is None else rows[place]
    advice = recommend(rows, reference, config["tolerance"], unit, short_name(config["task"]["metric"]))
    return Comparison(
        run=run.id,
        created=run.created,
        task=config["task"],
        sizes=dict(Counter(example.split for example in examples)),
        models=tuple(config["models"]),
        seeds=tuple(config["seeds"]),
        tolerance=config["tolerance"],
        unit=unit,
        rows=tuple(rows),
        reference=None if reference is None else reference.recipe,
        recommended=advice.recipe,
        recommendation_text=advice.text,
        more_examples=advice.more_examples,
    )


def _explained(arms: Sequence[_Arm], rows: Sequence[Row], models: Sequence[ModelConfig]) -> list[Row]:
    """The rows, those whose reasoning did not help with the reason."""
    pairs = zip(arms, rows, strict=True)
    candidates = [Candidate(row, arm.test, tuple(record.facts for record in arm.records)) for arm, row in pairs]
    reasons = explained(candidates, models)
    return [replace(row, why=reasons.get(row.hash)) for row in rows]


def _priced(record: ArmRecord, price: float | None) -> ArmRecord:
    """The record with its machine time in dollars, where a price an hour is given."""
    return replace(
        record,
        predicted=record.predicted and record.predicted.priced(price),
        measured=record.measured.priced(price),
    )


def _arms(
    metric: Metric,
    records: Sequence[ArmRecord],
    examples: Sequence[ExampleRecord],
    outcomes: Sequence[OutcomeRecord],
) -> list[_Arm]:
    splits: dict[str, list[Example]] = {"dev": [], "test": []}
    for example in sorted(examples, key=lambda record: record.position):
        splits.setdefault(example.split, []).append(example.as_example())
    by_hash: dict[str, list[ArmRecord]] = {}
    for record in sorted(records, key=lambda arm: (arm.position, arm.seed)):
        by_hash.setdefault(record.hash, []).append(record)
    answered: dict[tuple[str, str], list[OutcomeRecord]] = {}
    for outcome in outcomes:
        answered.setdefault((outcome.hash, outcome.split), []).append(outcome)

    def sample(name: str, split: Split) -> Sample | None:
        return scoring.sample(metric, answered.get((name, split), []), splits[split])

    def arm(name: str, seeds: list[ArmRecord]) -> _Arm:
        return _Arm(tuple(seeds), tuple(answered.get((name, "test"), [])), sample(name, "dev"), sample(name, "test"))

    return [arm(name, seeds) for name, seeds in by_hash.items()]


def _row(arm: _Arm, labels: Sequence[str] | None) -> Row:
    first, status = arm.records[0], _status(arm.records)
    test = None if status == "failed" else arm.test
    bills = [record.predicted for record in arm.records if record.predicted is not None]
    predicted = mean_cost(bills) if bills else None
    measured = mean_cost([record.measured for record in arm.records if record.measured != Cost()])
    questions = first.facts.questions or (len(arm.test.examples) if arm.test else 0)
    per_1000 = 1000 / questions if questions else 0.0
    return Row(
        recipe=first.recipe,
        hash=first.hash,
        model=first.model,
        status=status,
        reason=next((record.reason for record in arm.records if record.reason), None),
        score=scoring.estimate(test) if test else None,
        n=len(test.examples) if test else 0,
        failed=sum(outcome.status == "failed" for outcome in arm.outcomes),
        unparsed=sum(outcome.status == "unparsed" for outcome in arm.outcomes),
        dev_score=scoring.figure(arm.dev) if arm.dev else None,
        versus=None,
        predicted=predicted,
        measured=measured,
        asking_per_1000_predicted=predicted.asking.scaled(per_1000) if predicted and questions else None,
        asking_per_1000=measured.asking.scaled(per_1000) if questions else Amount(),
        latency=_latency(arm),
        saved=_mean([record.facts.saved for record in arm.records]),
        cached=_mean([record.facts.cached for record in arm.records]),
        grading=_mean([record.facts.grading for record in arm.records]),
        shots_dropped=sum(record.facts.shots_dropped for record in arm.records),
        tokens_cut=sum(record.facts.tokens_cut for record in arm.records),
        lessons_cut=max(record.facts.lessons_cut for record in arm.records),
        seeds=_seeds(arm),
        classes=_classes(test, labels) if test and labels else (),
        confusion=_confusion(arm, test) if test and labels else (),
        shift=_shift(arm, test, labels) if test and first.model is not None else None,
    )


def _mean(amounts: Sequence[Amount | None]) -> Amount | None:
    """Of those that are known."""
    known = [amount for amount in amounts if amount is not None]
    return mean_amount(known) if known else None


def _status(records: Sequence[ArmRecord]) -> ArmStatus:
    """Of all seeds together: one that failed makes the arm fail, one that is missing keeps it from being done."""
    found = {record.status for record in records}
    if "failed" in found:
        return "failed"
    return found.pop() if len(found) == 1 else "running"


def _latency(arm: _Arm) -> Latency | None:
    found = [record.facts.latency for record in arm.records if record.facts.latency]
    if not found:
        return None
    return Latency(sum(one.p50 for one in found) / len(found), sum(one.p95 for one in found) / len(found))


def _seeds(arm: _Arm) -> tuple[SeedResult, ...]:
    test = scoring.figures(arm.test) if arm.test else {}
    dev = scoring.figures(arm.dev) if arm.dev else {}
    return tuple(
        SeedResult(record.seed, record.status, test.get(record.seed), dev.get(record.seed), record.facts)
        for record in arm.records
    )


def _classes(test: Sample, labels: Sequence[str]) -> tuple[Class, ...]:
    targets = np.array([example.target for example in test.examples])

    def recall(label: str) -> Class:
        scores = test.scores[:, targets == label]
        scores = scores[~np.isnan(scores)]
        return Class(label, float(scores.mean()) if scores.size else None, scores.size)

    return tuple(recall(label) for label in labels)


def _confusion(arm: _Arm, test: Sample) -> tuple[Confusion, ...]:
    """The answers by target, most frequent first."""
    targets = {example.id: example.target for example in test.examples}
    found = Counter(
        (targets[outcome.example], outcome.answer)
        for outcome in arm.outcomes
        if outcome.status != "failed" and outcome.example in targets
    )
    return tuple(Confusion(target, answer, count) for (target, answer), count in found.most_common())


def _shift(arm: _Arm, test: Sample, labels: Sequence[str] | None) -> Shift | None:
    return shift_of(test, arm.outcomes, labels, [record.facts.content_free for record in arm.records])


def _reference(arms: Sequence[_Arm], rows: Sequence[Row], unit: Unit) -> int | None:
    """The place of the leader on dev among the arms that are done."""

    def rank(place: int) -> tuple[float, float]:
        dev, cost = arms[place].dev, price(rows[place], unit)
        value = scoring.strict_figure(dev) if dev else None
        return -round(value or 0.0, 9), float("inf") if cost is None else cost

    able = [place for place, row in enumerate(rows) if row.status == "done" and row.score and row.dev_score is not None]
    return min(able, key=rank, default=None)


def _versus(arms: Sequence[_Arm], rows: Sequence[Row], place: int | None) -> list[Row]:
    """The rows with their paired difference to the reference, corrected for their number."""
    other = None if place is None else arms[place].test
    if other is None:
        return list(rows)
    found = {
        number: difference
        for number, (arm, row) in enumerate(zip(arms, rows, strict=True))
        if number != place and row.score and arm.test
        if (difference := scoring.difference(arm.test, other)) is not None
    }
    corrected = dict(zip(found, holm([difference.p for difference in found.values()]), strict=True))

    def versus(number: int) -> Versus | None:
        if (d := found.get(number)) is None:
            return None
        return Versus(d.value, d.low, d.high, d.p, corrected[number], d.discordant)

    return [replace(row, versus=versus(number)) for number, row in enumerate(rows)]
