"""The page's section on distributions: what each arm's prompts do to the probabilities of the choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from opportune.report import lens_plots, numbers, plots
from opportune.report.figures import MOST_LABELS, Figure, kind_of
from opportune.report.lens_plots import Strip
from opportune.report.rendering import render
from opportune.rows import Comparison, Row
from opportune.shift import LabelShare, Shift

_WIDE, _NARROW = 560, 285  # pixels of the plotting area: a desk, a phone


@dataclass(frozen=True, slots=True)
class Numbered:
    """An arm whose answers came with probabilities, under the number that stands for it in the plots."""

    number: int
    row: Row
    shift: Shift


def html(comparison: Comparison) -> Markup | None:
    """The section; None where no arm's answers came with a probability for each choice."""
    arms = numbered(comparison)
    if not arms:
        return None
    return render(
        "shift.html.j2",
        arms=arms,
        rights=rights(arms),
        answered=answered(arms),
        content_free=content_free(arms),
        trained=any(kind_of(arm.row) == "trained" for arm in arms),
        interval=numbers.interval,
    )


def numbered(comparison: Comparison) -> list[Numbered]:
    """The arms that have something to show, in the table's order."""
    found = [(row, row.shift) for row in comparison.rows if row.shift is not None and row.status != "failed"]
    return [Numbered(number, row, shift) for number, (row, shift) in enumerate(found, 1)]


def rights(arms: Sequence[Numbered]) -> Figure:
    """How probable the right choice was, answer by answer."""
    strips = [
        Strip(a.shift.spread, a.shift.right.value, a.shift.right.low, a.shift.right.high, kind_of(a.row) == "trained")
        for a in arms
    ]
    counts = {round(2**arm.shift.most, 6) for arm in arms}
    number = counts.pop() if len(counts) == 1 else None
    chance = 1 / number if number and math.isclose(number, round(number), rel_tol=1e-6) else None
    caption = (
        "Grey: the share of answers by the probability of their right choice, to the same scale for all arms. The mark "
        "is the mean with its 95 % interval."
    )
    if chance is not None:
        caption += f" Dashed: {numbers.score(chance)}, all choices equally likely."
    told = "; ".join(f"{a.number}, {a.row.recipe}: {numbers.score(a.shift.right.value)}" for a in arms)
    wide, narrow = (lens_plots.rights(strips, chance, width=width) for width in (_WIDE, _NARROW))
    described = f"Probability of the right choice by arm. Means: {told}"
    return Figure(
        "Probability of the right choice",
        caption,
        plots.svg(wide, described, "wide"),
        plots.svg(narrow, described, "narrow"),
    )


def answered(arms: Sequence[Numbered]) -> Figure | None:
    """What was answered how often, beside what was right how often; None without labels that all questions share."""
    able = [arm for arm in arms if arm.shift.labels]
    if not able or len(able) < len(arms):
        return None
    labels = able[0].shift.labels
    places = _most([[abs(s - e.expected) for s, e in zip(_answers(a.shift), labels, strict=True)] for a in able])
    shares = {arm.number: [_answers(arm.shift)[place] for place in places] for arm in able}
    expected = [labels[place].expected for place in places]
    chart = lens_plots.deviations(shares, expected, [labels[place].label for place in places], "right")
    told = "; ".join(f"{a.number}, {a.row.recipe}: {numbers.score(a.shift.bias)}" for a in able)
    caption = (
        "Percent of the answers by label; the first column is how often the label is right. Orange: answered too "
        f"often, blue: too seldom.{_some(places, labels)}"
    )
    svg = plots.svg(chart, f"Labels answered against labels expected. Share that would have to move: {told}")
    return Figure("Labels answered", caption, svg)


def content_free(arms: Sequence[Numbered]) -> Figure | None:
    """Which labels each arm likes when there is nothing to answer; None where no arm was asked that."""
    able = [(arm, shares) for arm in arms if (shares := arm.shift.content_free) is not None]
    if not able:
        return None
    labels = able[0][0].shift.labels
    even = 1 / len(labels)
    known = [[shares[one.label] for one in labels] for _, shares in able]
    places = _most([[abs(share - even) for share in values] for values in known])
    by_arm = {arm.number: [values[p] for p in places] for (arm, _), values in zip(able, known, strict=True)}
    chart = lens_plots.deviations(by_arm, [even] * len(places), [labels[p].label for p in places], "even")
    told = "; ".join(f"{a.number}, {a.row.recipe}: {numbers.score(a.shift.content_free_bias)}" for a, _ in able)
    caption = (
        "Percent of the probability that each label gets when the input is “N/A”, empty or “[MASK]”: a prompt without "
        f"bias would give every label the same. Orange: more than that, blue: less.{_some(places, labels)}"
    )
    svg = plots.svg(chart, f"Label bias on inputs that say nothing. Share that would have to move: {told}")
    return Figure("Label bias on inputs that say nothing", caption, svg)


def _answers(shift: Shift) -> list[float]:
    return [one.answered for one in shift.labels]


def _most(deviations: Sequence[Sequence[float]]) -> list[int]:
    """The places of the labels with the largest deviation in any arm, 20 at most, in the task's order."""
    largest = [max(column) for column in zip(*deviations, strict=True)]
    return sorted(sorted(range(len(largest)), key=lambda place: -largest[place])[:MOST_LABELS])


def _some(places: Sequence[int], labels: Sequence[LabelShare]) -> str:
    if len(places) == len(labels):
        return ""
    return f" The {len(places)} of {len(labels)} labels that deviate most."
