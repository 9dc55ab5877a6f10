"""Which plots a comparison gets, and what they show: from rows and records to altair charts with words beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import Markup

from opportune.metrics import short_name
from opportune.recommend import price
from opportune.records import CurvePoint, Facts, Trial
from opportune.report import numbers, plots, scatter
from opportune.report.plots import Chart, Curve
from opportune.report.scatter import Kind, Point
from opportune.report.transcript import ArmKey
from opportune.rows import Comparison, Row

MOST_LABELS = 20  # of a confusion matrix
_MOST_ARMS = 3  # that get a confusion matrix
_WIDE, _NARROW = 900, 285  # pixels of the plotting area: a desk, a phone


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot as SVG; `narrow` is drawn anew for a phone, not shrunk."""

    title: str
    caption: str
    svg: Markup
    narrow: Markup | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """counts[i][j]: examples of targets[i] that were answered answers[j]."""

    targets: tuple[str, ...]
    answers: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def kind_of(row: Row) -> Kind:
    """Whether the arm asks no model, asks one as it is, or trains one first."""
    if row.model is None:
        return "baseline"
    return "trained" if row.measured.training.seconds else "asked"


def best_rows(comparison: Comparison) -> list[Row]:
    """The recommended arm, the reference, and the next best on dev: three at most."""
    by_dev = sorted(comparison.rows, key=lambda row: -(row.dev_score or 0.0))
    wanted = [comparison.row(comparison.recommended), comparison.row(comparison.reference), *by_dev]
    rows = {row.hash: row for row in wanted if row is not None and row.score is not None}
    return list(rows.values())[:_MOST_ARMS]


def points(comparison: Comparison) -> list[Point]:
    """The arms with a score and a cost, in the table's order."""
    found = []
    for row in comparison.rows:
        cost = price(row, comparison.unit)
        if row.score is not None and cost:
            best = row.recipe == comparison.recommended
            found.append(Point(row.recipe, kind_of(row), cost, row.score.value, row.score.low, row.score.high, best))
    return found


def quality_against_cost(comparison: Comparison) -> Figure | None:
    """The main plot; None before any arm has a score."""
    shown = points(comparison)
    if not shown:
        return None

    def draw(width: int, height: int) -> Chart:
        return scatter.quality_against_cost(
            shown, short_name(comparison.task["metric"]), comparison.unit, width=width, height=height
        )

    write: Callable[[float], str] = numbers.duration if comparison.unit == "seconds" else numbers.money
    told = "; ".join(f"{p.name}: {numbers.score(p.score)} for {write(p.cost)}" for p in shown)
    caption = (
        "Score on the sealed test split with its 95 % interval, over the cost of loading, tuning, training and "
        "asking 1,000 questions. The dashed line joins the arms that no cheaper one equals; the ring marks the "
        "recommended arm."
    )
    return Figure(
        "Quality against cost",
        caption,
        plots.svg(draw(_WIDE, 400), f"Quality against cost. {told}", "wide"),
        plots.svg(draw(_NARROW, 330), f"Quality against cost. {told}", "narrow"),
    )


def recalls(comparison: Comparison) -> Figure | None:
    """How often each label was got right by the best arms; None for free text."""
    rows = [row for row in best_rows(comparison) if row.classes]
    if not rows:
        return None
    labels = [item.label for item in rows[0].classes]
    counts = [item.count for item in rows[0].classes]
    by_arm = {row.recipe: [item.recall for item in row.classes] for row in rows}
    wide, narrow = (plots.recalls(by_arm, labels, counts, width=width) for width in (300, 165))
    caption = "The share of each label's test examples that was answered right; in parentheses how many there are."
    worst = min(rows[0].classes, key=lambda item: 1.0 if item.recall is None else item.recall)
    told = f"Recall by label. Lowest for {rows[0].recipe}: {worst.label}, {numbers.score(worst.recall)}."
    return Figure("Recall per label", caption, plots.svg(wide, told, "wide"), plots.svg(narrow, told, "narrow"))


def matrix(row: Row) -> Matrix:
    """The arm's confusion matrix; of more than 20 labels the 20 most confused. The unparsed have a column."""
    counts = {(item.target, item.answer): item.count for item in row.confusion}
    labels = [item.label for item in row.classes]
    confused: Counter[str | None] = Counter()
    for (target, answer), count in counts.items():
        if target != answer:
            confused.update({target: count})
            confused.update({answer: count})
    most = set(sorted(labels, key=lambda label: -confused[label])[:MOST_LABELS])
    shown = [label for label in labels if label in most]
    columns: list[str | None] = [*shown, *([None] if confused[None] else [])]
    return Matrix(
        tuple(shown),
        tuple("(unparsed)" if label is None else label for label in columns),
        tuple(tuple(counts.get((target, answer), 0) for answer in columns) for target in shown),
    )


def confusions(comparison: Comparison) -> list[Figure]:
    """A confusion matrix for each of the best arms; none for free text."""
    found = []
    for row in best_rows(comparison):
        if row.classes:
            shown = matrix(row)
            some = f"the {MOST_LABELS} most confused of {len(row.classes)} labels" if _partly(row) else "all labels"
            chart = plots.confusion(shown.counts, shown.targets, shown.answers)
            worst = [c for c in row.confusion if c.answer != c.target][:3]
            told = "; ".join(f"{c.target} answered {c.answer or '(unparsed)'}: {c.count}" for c in worst)
            svg = plots.svg(chart, f"Confusion of {row.recipe}. Most frequent: {told or 'none'}")
            found.append(Figure(row.recipe, f"Rows: expected; columns: answered; {some}.", svg))
    return found


def learning_curves(comparison: Comparison, arms: dict[ArmKey, str], stored: Iterable[CurvePoint]) -> list[Figure]:
    """A plot for each trained arm and seed, of a chain for each of its methods."""
    by_arm: dict[ArmKey, dict[str, list[CurvePoint]]] = {}
    for point in stored:
        method, _, trial = point.trial.rpartition(": ")
        mine = by_arm.setdefault((point.hash, point.seed), {}).setdefault(method, [])
        mine.append(replace(point, trial=trial))
    found = []
    for key, name in arms.items():
        for method, points in by_arm.get(key, {}).items():
            curves, title = _curves(points), f"{name}: {method}" if method else name
            if any(curve.train_loss or curve.dev_loss for curve in curves):
                chart = plots.learning_curves(curves, short_name(comparison.task["metric"]))
                found.append(Figure(title, "", plots.svg(chart, f"Learning curves of {title}")))
    return found


def rates_tried(facts: Facts) -> list[tuple[Trial, str]]:
    """Each learning rate that was tried, with what became of it."""
    found = []
    for _, group in groupby(facts.trials, lambda trial: trial.method):
        trials = list(group)
        found += [(trial, _fate(trial, facts.rate, trials[0], trials[-1])) for trial in trials]
    return found


def _fate(trial: Trial, rate: float | None, *ends: Trial) -> str:
    if trial.rate == rate if trial.chosen is None else trial.chosen:
        return "chosen, an end of the grid" if trial in ends else "chosen"
    return "dropped after the probe" if trial.stopped else "trained to the end"


def _partly(row: Row) -> bool:
    return len(row.classes) > MOST_LABELS


def _curves(stored: Sequence[CurvePoint]) -> list[Curve]:
    def series(trial: str, value: str) -> dict[int, float]:
        found = ((point.step, point.values.get(value)) for point in stored if point.trial == trial)
        return {step: number for step, number in found if number is not None}

    return [
        Curve(trial, trial == "final", series(trial, "loss"), series(trial, "dev_loss"), series(trial, "dev_score"))
        for trial in dict.fromkeys(point.trial for point in stored)
    ]
