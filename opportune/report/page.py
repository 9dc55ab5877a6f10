"""The page: one self-contained file that needs no network, readable on a phone, in light and dark, and in print.

Its Content-Security-Policy names the one style sheet and the one script by their hashes and allows nothing else, so
that nothing in the data or in a model's output could act even if it were not escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from opportune.comparison import of_run
from opportune.cost import Amount
from opportune.models.endpoint_choosing import SAID
from opportune.records import CallRecord
from opportune.report import crossing, figures, lens_section, plots, scatter, table
from opportune.report.rendering import asset, policy, render, write_whole
from opportune.report.transcript import ArmKey, inert_json, name_arms, transcript
from opportune.rows import Comparison
from opportune.store import Store
from opportune.types import REMOTE

MOST_EXAMPLES = 1000  # shown on the page; the store has them all


def write_report(store: Store, run: str, path: Path) -> Path:
    """Write the page of a run, as far as it has come; returns its path. An old page stays until the new is whole."""
    return write_whole(path, build(store, run))


def build(store: Store, run: str) -> str:
    """The page's text."""
    comparison = of_run(store, run)
    record = store.run(run)
    arms = store.arms(record.id)
    names = name_arms(arms)
    totals = [
        (row.recipe, row.predicted.total() if row.predicted else Amount(), row.measured.total())
        for row in comparison.rows
    ]
    style, script = asset("report.css"), asset("report.js")
    return render(
        "report.html.j2",
        comparison=comparison,
        policy=policy(style, script),
        style=style,
        script=script,
        over=all(row.status in ("done", "failed") for row in comparison.rows),
        date=_date(comparison.created),
        versions=record.config["versions"],
        table=table.html(comparison),
        reasons=[row.why for row in comparison.rows if row.why],
        quality=figures.quality_against_cost(comparison),
        kinds=_kinds(comparison),
        points=figures.points(comparison),
        recalls=figures.recalls(comparison),
        recall_key=[(row.recipe, *_series(i)) for i, row in enumerate(figures.best_rows(comparison))],
        confusions=figures.confusions(comparison),
        shift=lens_section.html(comparison),
        crossing=crossing.figure(comparison),
        curves=figures.learning_curves(comparison, names, store.curves(record.id)),
        known={
            "energy": any(row.measured.total().joules is not None for row in comparison.rows),
            "trial_scores": any(trial.dev_score is not None for arm in arms for trial in arm.facts.trials),
            "shared": any(row.saved is not None for row in comparison.rows),
            "cached": any(row.cached is not None for row in comparison.rows),
            "artefacts": any(row.trainable_parameters is not None for row in comparison.rows),
            "priced": any(amount.dollars is not None for _, *amounts in totals for amount in amounts),
        },
        remote=REMOTE,
        ways=SAID,
        totals=totals,
        trained=[(names[arm.hash, arm.seed], figures.rates_tried(arm.facts)) for arm in arms if arm.facts.trials],
        arms=arms,
        data=Markup(inert_json(_transcript(store, record.id, names))),
        most_examples=MOST_EXAMPLES,
    )


def fragment(comparison: Comparison) -> str:
    """The recommendation, the table and the main plot as HTML for a notebook."""
    return render(
        "fragment.html.j2",
        comparison=comparison,
        table=table.html(comparison),
        quality=figures.quality_against_cost(comparison),
    )


def _transcript(store: Store, run: str, names: dict[ArmKey, str]) -> dict[str, Any]:
    examples = store.examples(run, "test")[:MOST_EXAMPLES]
    shown = {example.example for example in examples}
    calls: list[CallRecord] = []
    for hash, seed in names:
        calls += [call for call in store.calls(run, hash, seed, "test") if call.example in shown]
    outcomes = [outcome for outcome in store.outcomes(run, split="test") if outcome.example in shown]
    return transcript(examples, names, outcomes, calls)


def _date(created: str) -> str:
    return f"{datetime.fromisoformat(created):%-d %B %Y, %H:%M} UTC"


def _kinds(comparison: Comparison) -> Sequence[tuple[str, str, str]]:
    """(colour variable, shape, words) of the kinds of arms in the plot."""
    there = {point.kind for point in figures.points(comparison)}
    return [(plots.variable(c), shape, words) for kind, (c, shape, words) in scatter.KINDS.items() if kind in there]


def _series(place: int) -> tuple[str, str]:
    return plots.variable(plots.SERIES[place]), plots.SHAPES[place]
