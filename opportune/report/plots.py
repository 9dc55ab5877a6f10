"""The looks of all plots, and those of labels and of training: altair charts, and SVG that needs no script or network.

Names from the data appear as data only, never in a sort order or an expression: those become code that Vega parses.
Colours are those of Okabe and Ito (2008), a little darker for contrast; every group has a shape of its own as well.
`svg` turns them into the page's CSS variables, so that a plot follows light and dark.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt
import vl_convert
from markupsafe import Markup

Chart: TypeAlias = Any  # altair's charts have no common type that mypy would know

# hexadecimal colour -> the page's variable
_VARIABLES = {
    "#0072b2": "blue",
    "#c4500a": "orange",
    "#00805c": "green",
    "#a0407c": "purple",
    "#6e7781": "grey",
    "#1f2328": "ink",
    "#59636e": "muted",
    "#d8dee4": "line",
    "#fefefe": "paper",
}
BLUE, ORANGE, GREEN, PURPLE, GREY, INK, MUTED, LINE, PAPER = _VARIABLES
SERIES = (BLUE, ORANGE, GREEN, PURPLE)
SHAPES = ("circle", "triangle-up", "square", "diamond")
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
_LONGEST = 130  # pixels of a label; a longer one is cut


@dataclass(frozen=True, slots=True)
class Curve:
    """What training one arm at one learning rate looked like: step -> value."""

    name: str
    chosen: bool
    train_loss: Mapping[int, float]
    dev_loss: Mapping[int, float]
    dev_score: Mapping[int, float]


def svg(chart: Chart, description: str, classes: str = "plot") -> Markup:
    """The chart as an SVG element for the page, with `description` for those who cannot see it."""
    text: str = vl_convert.vegalite_to_svg(chart.to_dict())
    for colour, variable in _VARIABLES.items():
        text = text.replace(f'"{colour}"', f'"var(--{variable}, {colour})"')
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r' (role|aria-\w+)="[^"]*"', "", text)
    label = html.escape(description, quote=True)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{label}" class="{classes}" ', 1))


def variable(colour: str) -> str:
    """The page's CSS variable for a colour."""
    return _VARIABLES[colour]


def learning_curves(curves: Sequence[Curve], metric: str, *, width: int = 285) -> Chart:
    """Training and dev loss above, the dev score beneath; the rates that were tried and dropped faint."""
    losses, scores = [], []
    for curve in curves:
        rest = {"name": curve.name, "opacity": 1.0 if curve.chosen else 0.22}
        for colour, series, loss in ((GREY, "train", curve.train_loss), (BLUE, "dev", curve.dev_loss)):
            line = {"line": f"{curve.name} {series}", "colour": colour, "dot": 22 if series == "dev" else 0, **rest}
            losses += [{"step": s, "value": v, **line} for s, v in loss.items() if math.isfinite(v)]
        line = {"line": curve.name, "colour": ORANGE, "dot": 22, **rest}
        scores += [{"step": s, "value": v, **line} for s, v in curve.dev_score.items()]
    panels = [
        _curve_panel(rows, title, width, height, last)
        for rows, title, height, last in ((losses, "loss", 150, not scores), (scores, f"dev {metric}", 110, True))
        if rows
    ]
    return _configured(alt.vconcat(*panels, spacing=12, background="transparent").resolve_scale(x="shared"))


def confusion(counts: Sequence[Sequence[int]], targets: Sequence[str], answers: Sequence[str]) -> Chart:
    """Rows are what was right, columns what was answered; a cell is darker the larger its share of its row."""
    rows = [
        {
            "target": target,
            "answer": answer,
            "count": str(counts[i][j] or ""),
            "share": counts[i][j] / max(1, sum(counts[i])),
            "colour": (BLUE if target == answer else ORANGE),
        }
        for i, target in enumerate(targets)
        for j, answer in enumerate(answers)
    ]
    cell = 26
    x = alt.X(
        "answer:N",
        sort=None,
        axis=alt.Axis(
            orient="top", labelAngle=-45, title="answered", labelLimit=_LONGEST, minExtent=0.72 * _extent(answers)
        ),
    )
    y = alt.Y("target:N", sort=None, axis=alt.Axis(title="expected", labelLimit=_LONGEST, minExtent=_extent(targets)))
    base = alt.Chart(data(rows))
    cells = base.mark_rect(stroke=LINE, strokeWidth=0.5).encode(
        x=x,
        y=y,
        color=own(),
        fillOpacity=alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None),
    )
    text = base.mark_text(fontSize=11).encode(
        x=x, y=y, text="count:N", color=alt.condition("datum.share > 0.55", alt.value(PAPER), alt.value(INK))
    )
    return finished(alt.layer(cells, text), cell * len(answers), cell * len(targets), grid=False)


def recalls(
    by_arm: Mapping[str, Sequence[float | None]], labels: Sequence[str], counts: Sequence[int], *, width: int
) -> Chart:
    """The share of each label's examples that each arm got right; the label's number of examples beside it."""
    names = [f"{label} ({count})" for label, count in zip(labels, counts, strict=True)]
    rows = [
        {"label": name, "recall": value, "colour": SERIES[i % 4], "shape": SHAPES[i % 4]}
        for place, name in enumerate(names)
        for i, values in enumerate(by_arm.values())
        if (value := values[place]) is not None
    ]
    base = alt.Chart(data(rows))
    y = alt.Y("label:N", sort=None, axis=alt.Axis(title=None, labelLimit=_LONGEST, grid=True, minExtent=_extent(names)))
    x = alt.X("recall:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(title="recall", format=".1f", tickCount=5))
    lines = base.mark_rule(color=LINE, strokeWidth=2).encode(y=y, x=alt.X("min(recall):Q"), x2="max(recall):Q")
    marks = base.mark_point(filled=True, size=75, opacity=0.9).encode(
        x=x, y=y, color=own(), shape=alt.Shape("shape:N", scale=None)
    )
    return finished(alt.layer(lines, marks), width, max(60, 24 * len(labels)))


def _curve_panel(rows: list[dict[str, Any]], title: str, width: int, height: int, last: bool) -> Chart:
    base = alt.Chart(data(rows)).encode(
        x=alt.X("step:Q", axis=alt.Axis(title="step" if last else None, labels=last, tickCount=5)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=title, tickCount=4)),
        color=own(),
        opacity=alt.Opacity("opacity:Q", scale=None),
        detail="line:N",
    )
    dots = base.mark_point(filled=True).encode(size=alt.Size("dot:Q", scale=None))
    layers = alt.layer(base.mark_line(strokeWidth=1.4), dots)
    return layers.properties(width=width, height=height)


def _extent(labels: Sequence[str]) -> float:
    """Room for these labels in whatever font the reader has: a browser's may be wider than the one measured with."""
    return min(1.2 * _LONGEST, 6.9 * max(map(len, labels), default=0)) + 8


def own() -> Any:
    """The colour written in the row."""
    return alt.Color("colour:N", scale=None, legend=None)


def data(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a chart's own data."""
    return alt.InlineData(values=[dict(row) for row in rows])


def finished(chart: Chart, width: int, height: int, *, grid: bool = True) -> Chart:
    """The chart at this size of its plotting area, in the house style."""
    sized = chart.properties(width=width, height=height, background="transparent")
    return _configured(sized, grid=grid)


def _configured(chart: Chart, *, grid: bool = True) -> Chart:
    return (
        chart.configure(font=_FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=MUTED,
            titleColor=MUTED,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            domainColor=LINE,
            tickColor=LINE,
            gridColor=LINE,
            gridOpacity=0.7,
            grid=grid,
        )
    )
