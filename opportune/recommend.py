"""Which arm to use, and why, in sentences that a colleague can check against the table.

The price of an arm is what it takes to have it answer 1000 questions from nothing: loading, tuning, training and
asking; in dollars where all arms have such a price, else in seconds. The recommendation is the cheapest arm whose
paired test interval excludes losing more than the tolerance to the reference; else the reference, which led on dev.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opportune.rows import Row, Unit
from opportune.statistics import examples_to_tell_apart


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An arm, the reasons in words, and how many more test examples would settle a doubt."""

    recipe: str | None
    text: str
    more_examples: int | None = None


def price_unit(rows: Sequence[Row]) -> Unit:
    """Dollars where every arm with a score has a price in dollars, else seconds."""
    scored = [row for row in rows if row.score is not None]
    return "dollars" if scored and all(price(row, "dollars") is not None for row in scored) else "seconds"


def price(row: Row, unit: Unit) -> float | None:
    """Loading, tuning, training and asking 1000 questions; None where nothing is known of asking."""
    items = (row.measured.loading, row.measured.tuning, row.measured.training, row.asking_per_1000)
    known = [value for item in items if (value := getattr(item, unit)) is not None]
    return sum(known) if getattr(row.asking_per_1000, unit) is not None else None


def recommend(rows: Sequence[Row], reference: Row | None, tolerance: float, unit: Unit, metric: str) -> Recommendation:
    """The cheapest arm that holds up against the reference, else the reference."""
    if reference is None or reference.score is None:
        return Recommendation(None, "Nothing to recommend: no arm has been scored on both dev and test.")
    ceiling = price(reference, unit)
    cheaper = [
        (cost, row)
        for row in rows
        if row.status == "done" and row.versus and (cost := price(row, unit)) is not None
        if ceiling is not None and cost < ceiling
    ]
    holding = [(cost, row) for cost, row in cheaper if row.versus and row.versus.low >= -tolerance]
    if holding:
        chosen = min(holding, key=lambda item: item[0])[1]
        return Recommendation(chosen.recipe, _text_cheaper(chosen, reference, tolerance, unit, metric))
    rivals = sorted(cheaper, key=lambda item: (-(item[1].score.value if item[1].score else 0.0), item[0]))
    if not rivals:
        return Recommendation(reference.recipe, _text_alone(reference, unit, metric))
    return _keep_reference(reference, rivals[0][1], tolerance, unit, metric)


def _keep_reference(reference: Row, rival: Row, tolerance: float, unit: Unit, metric: str) -> Recommendation:
    versus = rival.versus
    assert versus is not None
    needed = shown = None
    if versus.high >= 0:
        needed, shown = _more_examples(versus.discordant, versus.difference, tolerance, rival.n)
    verdict = (
        f"is measurably worse: {_difference(rival)}"
        if versus.high < 0
        else f"could be more than {_points(tolerance)} points worse: {_difference(rival)}"
    )
    text = (
        f"Use {reference.recipe}: it led on dev and has {_score(reference, metric)}. "
        f"The best cheaper arm, {rival.recipe}, {verdict}; {_bill(rival, unit)} against {_bill(reference, unit)} for "
        f"loading, tuning, training and 1000 questions."
    )
    if needed is not None and shown is not None:
        text += (
            f" About {float(f'{needed:.2g}'):,.0f} more test examples would tell the two apart, if they differ by "
            f"{_points(shown)} points (80 % power)."
        )
    return Recommendation(reference.recipe, text, needed)


def _more_examples(
    discordant: float, difference: float, tolerance: float, count: int
) -> tuple[int | None, float | None]:
    """How many more examples tell two arms apart, and at which difference: the tolerance, or the one seen.

    The larger of the two is what matters; where that many examples are there already, the one that was seen.
    """
    for shown in (max(abs(difference), tolerance), abs(difference)):
        needed = examples_to_tell_apart(discordant, shown)
        if needed is not None and needed > count:
            return needed - count, shown
    return None, None


def _text_cheaper(chosen: Row, reference: Row, tolerance: float, unit: Unit, metric: str) -> str:
    return (
        f"Use {chosen.recipe}: it has {_score(chosen, metric)}. "
        f"Against {reference.recipe}, which led on dev, that is {_difference(chosen)}, which excludes losing more than "
        f"{_points(tolerance)} points. Loading, tuning, training and 1000 questions cost {_bill(chosen, unit)} against "
        f"{_bill(reference, unit)}."
    )


def _text_alone(reference: Row, unit: Unit, metric: str) -> str:
    return (
        f"Use {reference.recipe}: it led on dev and has {_score(reference, metric)}. No arm with a score is cheaper "
        f"({_bill(reference, unit)} for loading, tuning, training and 1000 questions)."
    )


def _score(row: Row, metric: str) -> str:
    assert row.score is not None
    return f"{metric} {100 * row.score.value:.1f} % on {row.n} test examples (95 % interval {row.interval})"


def _difference(row: Row) -> str:
    assert row.versus is not None
    versus = row.versus
    return f"{100 * versus.difference:+.1f} points ({100 * versus.low:+.1f} to {100 * versus.high:+.1f})"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0")


def _bill(row: Row, unit: Unit) -> str:
    value = price(row, unit)
    if value is None:
        return "an unknown amount"
    if unit == "dollars":
        return f"${value:.2g}" if value < 10 else f"${value:,.0f}"
    for size, name in ((3600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.1f} {name}"
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
