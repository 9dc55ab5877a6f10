"""The plot of score against labelled examples: a line with its 95 % band for each recipe."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from opportune.labels import Line
from opportune.report.plots import SERIES, SHAPES, Chart, data, finished, own

_HEIGHT = 330
_DASHES = ([1, 0], [6, 3])  # solid, and dashed where the colours begin again


def look(place: int) -> tuple[str, str]:
    """Colour and shape of the line at this place."""
    return SERIES[place % len(SERIES)], SHAPES[place % len(SHAPES)]


def labels_plot(lines: Sequence[Line], sizes: Sequence[int], metric: str, *, width: int) -> Chart:
    """Sizes on a logarithmic axis; what never looks at the labels is level."""
    rows = [
        {
            "line": place,
            "size": point.size,
            "score": point.score.value,
            "low": point.score.low,
            "high": point.score.high,
            "colour": look(place)[0],
            "shape": look(place)[1],
        }
        for place, line in enumerate(lines)
        for point in line.points
    ]
    scale = alt.Scale(type="log", base=2, domain=[min(sizes), max(sizes)], nice=False, padding=12)
    axis = alt.Axis(title="labelled examples (log scale)", values=list(sizes), format=",d", grid=False)
    x = alt.X("size:Q", scale=scale, axis=axis)
    y = alt.Y("score:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=metric, format=".2f", tickCount=6))
    layers: list[Chart] = []
    for place in range(len(lines)):
        base = alt.Chart(data([row for row in rows if row["line"] == place]))
        band = base.mark_area(opacity=0.12).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=own())
        line = base.mark_line(strokeWidth=2, strokeDash=_DASHES[place // len(SERIES) % 2]).encode(x=x, y=y, color=own())
        dots = base.mark_point(filled=True, size=60, opacity=1)
        layers += [band, line, dots.encode(x=x, y=y, color=own(), shape=alt.Shape("shape:N", scale=None))]
    return finished(alt.layer(*layers), width, _HEIGHT)
