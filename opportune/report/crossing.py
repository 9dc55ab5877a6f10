"""The crossing lines: what the best asked and the best trained arms cost after so many questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from markupsafe import Markup

from opportune.report import plots
from opportune.rows import Comparison
from opportune.volume import Line, break_evens, lines, sentence

_QUESTIONS = [10 ** (power / 4) for power in range(4, 29)]  # ten to ten million
_WIDE, _NARROW = 900, 285


@dataclass(frozen=True, slots=True)
class Crossing:
    """The plot, its key, and the break-even points in words."""

    svg: Markup
    narrow: Markup
    key: tuple[tuple[str, str, str], ...]
    sentences: tuple[str, ...]


def figure(comparison: Comparison) -> Crossing | None:
    """None where no arm was trained or none was asked as it is."""
    shown = _shown(comparison)
    if not any(line.trained for line in shown) or all(line.trained for line in shown):
        return None
    said = [sentence(one) for one in break_evens(shown) if one.cached or one.questions is not None]
    words = "; ".join(said)
    unit = "dollars" if comparison.unit == "dollars" else "seconds"
    return Crossing(
        svg=plots.svg(_chart(shown, unit, _WIDE, 320), words, "plot wide"),
        narrow=plots.svg(_chart(shown, unit, _NARROW, 300), words, "plot narrow"),
        key=tuple(
            (plots.variable(plots.SERIES[i % 4]), plots.SHAPES[i % 4], line.recipe) for i, line in enumerate(shown)
        ),
        sentences=tuple(said),
    )


def _shown(comparison: Comparison) -> list[Line]:
    """The two trained arms and the two asked arms that did best on dev."""
    scores = {row.recipe: row.dev_score or 0.0 for row in comparison.rows}
    ordered = sorted(lines(comparison), key=lambda line: -scores[line.recipe])
    return [line for trained in (True, False) for line in [x for x in ordered if x.trained is trained][:2]]


def _chart(shown: Sequence[Line], unit: str, width: int, height: int) -> Any:
    rows = [
        {"questions": n, "cost": line.total(n, cached=cached), "colour": plots.SERIES[i % 4],
         "line": f"{i} {cached}", "dash": [1, 0] if cached else [5, 4]}
        for i, line in enumerate(shown)
        for cached in (True, False)
        for n in _QUESTIONS
        if line.total(n, cached=cached) > 0
    ]  # fmt: skip
    chart = alt.Chart(plots.data(rows)).mark_line(strokeWidth=1.8).encode(
        x=alt.X("questions:Q", scale=alt.Scale(type="log"), axis=alt.Axis(title="questions", format="~s", tickCount=7)),
        y=alt.Y("cost:Q", scale=alt.Scale(type="log"), axis=alt.Axis(title=unit, format="~s", tickCount=6)),
        color=plots.own(), detail="line:N", strokeDash=alt.StrokeDash("dash:N", scale=None),
    )  # fmt: skip
    return plots.finished(chart, width, height)
