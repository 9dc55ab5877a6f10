"""From what a run left in the store to a comparison of its arms: a finished run, or one that is still under way.

Dev chooses: the reference is the leader on dev (the cheaper one of equals), failed calls counted as wrong. The sealed
test split then gives the scores, the paired differences to the reference and the recommendation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from opportune import metrics, options, scoring
from opportune.comparison import (
    Class,
    Comparison,
    Confusion,
    Row,
    SeedResult,
    Unit,
    Versus,
    mean_amount,
    mean_cost,
    scaled,
)
from opportune.cost import Amount
from opportune.records import ArmRecord, ArmStatus, ExampleRecord, Latency, OutcomeRecord, RunRecord
from opportune.recommend import mark_frontier, price, price_unit, recommend
from opportune.scoring import Sample, example_of
from opportune.statistics import holm
from opportune.store import Store
from opportune.types import Example, Metric


@dataclass(frozen=True, slots=True)
class _Arm:
    """One recipe over all its seeds, with what it answered."""

    records: tuple[ArmRecord, ...]
    outcomes: tuple[OutcomeRecord, ...]  # on test
    dev: Sample | None
    test: Sample | None


def compare(store: Store, run: str) -> Comparison:
    """The comparison of a stored run, as far as it has come."""
    record = store.run(run)
    metric: Metric = options.load(metrics.TABLE[record.config["task"]["metric"]])()
    return build(record, store.arms(record.id), store.examples(record.id), store.outcomes(record.id), metric)


def build(
    run: RunRecord,
    records: Sequence[ArmRecord],
    examples: Sequence[ExampleRecord],
    outcomes: Sequence[OutcomeRecord],
    metric: Metric,
) -> Comparison:
    """The comparison of these records, under `metric`."""
    config = run.config
    arms = _arms(records, examples, outcomes)
    rows = [_row(arm, metric, config["task"]["labels"]) for arm in arms]
    unit = price_unit(rows)
    place = _reference(arms, rows, metric, unit)
    rows = mark_frontier(_versus(arms, rows, place, metric), unit)
    reference = None if place is None else rows[place]
    advice = recommend(rows, reference, config["tolerance"], unit, config["task"]["metric"])
    return Comparison(
        run=run.id,
        created=run.created,
        finished=run.status == "finished",
        task=config["task"],
        sizes=dict(Counter(example.split for example in examples)),
        models=tuple(config["models"]),
        seeds=tuple(config["seeds"]),
        tolerance=config["tolerance"],
        unit=unit,
        rows=tuple(rows),
        reference=reference and reference.recipe,
        recommended=advice.recipe,
        recommendation_text=advice.text,
        more_examples=advice.more_examples,
    )


def _arms(
    records: Sequence[ArmRecord], examples: Sequence[ExampleRecord], outcomes: Sequence[OutcomeRecord]
) -> list[_Arm]:
    splits: dict[str, list[Example]] = {"dev": [], "test": []}
    for example in sorted(examples, key=lambda record: record.position):
        splits.setdefault(example.split, []).append(example_of(example))
    by_hash: dict[str, list[ArmRecord]] = {}
    for record in sorted(records, key=lambda arm: (arm.position, arm.seed)):
        by_hash.setdefault(record.hash, []).append(record)
    answered: dict[tuple[str, str], list[OutcomeRecord]] = {}
    for outcome in outcomes:
        answered.setdefault((outcome.hash, outcome.split), []).append(outcome)

    def arm(name: str, seeds: list[ArmRecord]) -> _Arm:
        dev, test = answered.get((name, "dev"), []), answered.get((name, "test"), [])
        return _Arm(
            tuple(seeds), tuple(test), scoring.sample(dev, splits["dev"]), scoring.sample(test, splits["test"])
        )

    return [arm(name, seeds) for name, seeds in by_hash.items()]


def _row(arm: _Arm, metric: Metric, labels: Sequence[str] | None) -> Row:
    first, status = arm.records[0], _status(arm.records)
    test = None if status == "failed" else arm.test
    begun = [record for record in arm.records if record.status != "pending"]
    bills = [record.predicted for record in arm.records if record.predicted is not None]
    predicted, measured = mean_cost(bills) if bills else None, mean_cost([record.measured for record in begun])
    questions = first.facts.questions or (len(arm.test.examples) if arm.test else 0)
    per_1000 = 1000 / questions if questions else 0.0
    latencies = [record.facts.latency for record in arm.records if record.facts.latency]
    saved = [record.facts.saved for record in arm.records if record.facts.saved]
    return Row(
        recipe=first.recipe,
        hash=first.hash,
        model=first.model,
        status=status,
        reason=next((record.reason for record in arm.records if record.reason), None),
        score=scoring.estimate(test, metric) if test else None,
        n=len(test.examples) if test else 0,
        failed=sum(outcome.status == "failed" for outcome in arm.outcomes),
        unparsed=sum(outcome.status == "unparsed" for outcome in arm.outcomes),
        dev_score=scoring.figure(arm.dev, metric) if arm.dev else None,
        versus=None,
        predicted=predicted,
        measured=measured,
        asking_per_1000_predicted=scaled(predicted.asking, per_1000) if predicted and questions else None,
        asking_per_1000=scaled(measured.asking, per_1000) if questions else Amount(),
        latency=_mean_latency(latencies),
        saved=mean_amount(saved) if saved else None,
        shots_dropped=sum(record.facts.shots_dropped for record in arm.records),
        tokens_cut=sum(record.facts.tokens_cut for record in arm.records),
        seeds=tuple(_seed(record, arm, metric) for record in arm.records),
        classes=_classes(test, labels) if test and labels else (),
        confusion=_confusion(arm) if test and labels else (),
    )
