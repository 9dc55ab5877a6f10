"""The JSON of `--json`, for programs: documented in docs/json-schema.md, versioned by `SCHEMA`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from opportune.cost import Amount, Cost
from opportune.records import ArmRecord, CallRecord, ExampleRecord, ModelConfig, OutcomeRecord
from opportune.rows import Comparison, Row
from opportune.shift import Shift
from opportune.strategies.choosing import own_ranking

SCHEMA = 1


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The object that `opportune compare --json` prints."""
    task, sizes = comparison.task, comparison.sizes
    return {
        "schema": SCHEMA,
        "task": {
            "name": task["name"],
            "metric": task["metric"],
            **{split: sizes.get(split, 0) for split in ("train", "dev", "test")},
            "labels": task["labels"],
        },
        "models": [_model_json(model) for model in comparison.models],
        "seeds": list(comparison.seeds),
        "rows": [_row_json(row) for row in comparison.rows],
        "reference": comparison.reference,
        "recommended": comparison.recommended,
        "report": comparison.report,
    }


def _model_json(model: ModelConfig) -> dict[str, Any]:
    return {
        "name": model["name"],
        "path": model["path"],
        "parameters": model["parameters"] or None,
        "digest": model["digest"],
        "choosing": model.get("choosing"),
    }


def _row_json(row: Row) -> dict[str, Any]:
    versus, score = row.versus, row.score
    return {
        "recipe": row.recipe,
        "model": row.model,
        "status": row.status,
        "score": score and score.value,
        "low": score and score.low,
        "high": score and score.high,
        "n": row.n,
        "failed": row.failed,
        "unparsed": row.unparsed,
        "lessons_cut": row.lessons_cut,
        "rates_diverged": list(row.diverged),
        "dev_score": row.dev_score,
        "versus_reference": versus
        and {name: getattr(versus, name) for name in ("difference", "low", "high", "p", "p_holm")},
        "cost": {
            item.name: _pair(_item(row.predicted, item.name), _item(row.measured, item.name)) for item in fields(Cost)
        },
        "asking_per_1000": _pair(row.asking_per_1000_predicted, row.asking_per_1000),
        "latency": {"p50": row.latency and row.latency.p50, "p95": row.latency and row.latency.p95},
        "distribution": row.shift and _shift_json(row.shift),
        "forgetting": row.forgetting and asdict(row.forgetting),
        "generalisation_gap": row.gap and asdict(row.gap),
        "read": [asdict(text) for text in row.read],
        "trainable_parameters": row.trainable_parameters,
        "artefact_bytes": row.artefact_bytes,
        "reconsidered": row.reconsidered,
        "grading": row.grading and asdict(row.grading),
    }


def _shift_json(shift: Shift) -> dict[str, Any]:
    return {
        "right": asdict(shift.right),
        "entropy_bits": shift.entropy,
        "most_bits": shift.most,
        "label_bias": shift.bias,
        "content_free": None if shift.content_free is None else dict(shift.content_free),
        "content_free_bias": shift.content_free_bias,
        "content_free_bits": shift.content_free_divergence,
    }


def _item(cost: Cost | None, name: str) -> Amount:
    return Amount() if cost is None else getattr(cost, name)


def _pair(predicted: Amount | None, measured: Amount | None) -> dict[str, Any]:
    return {
        "predicted": None if predicted in (None, Amount()) else asdict(predicted),
        "measured": asdict(measured or Amount()),
    }


def outcomes_json(
    arms: Iterable[ArmRecord],
    examples: Iterable[ExampleRecord],
    outcomes: Iterable[OutcomeRecord],
    calls: Iterable[CallRecord],
) -> list[dict[str, Any]]:
    """What `opportune show --json` adds: each outcome with what was asked and answered.

    `calls` are in the order they were made.
    """
    recipes = {arm.hash: arm.recipe for arm in arms}
    known = {(example.split, example.example): example for example in examples}
    asked: dict[tuple[str, int, str, str], list[CallRecord]] = {}
    for call in calls:
        asked.setdefault((call.hash, call.seed, call.stage, call.example), []).append(call)
    return [
        {
            "recipe": recipes[outcome.hash],
            "seed": outcome.seed,
            "split": outcome.split,
            "example": outcome.example,
            "input": known[outcome.split, outcome.example].input,
            "target": known[outcome.split, outcome.example].target,
            "answer": outcome.answer,
            "status": outcome.status,
            "score": outcome.score,
            **_calls_json(asked.get((outcome.hash, outcome.seed, outcome.split, outcome.example), [])),
            "choice_scores": outcome.choice_scores,
        }
        for outcome in outcomes
    ]


def _calls_json(calls: list[CallRecord]) -> dict[str, Any]:
    return {
        "prompts": [call.prompt for call in calls],
        "completions": [text for call in calls for text in call.texts],
        "choices": own_ranking((call.round, call.choices, call.scores) for call in calls),
        "error": next((call.error for call in calls if call.error), None),
    }
