"""The plots, as altair charts and as SVG that needs neither scripts nor a network.

Colours are those of Okabe and Ito (2008), a little darker for contrast; every group has a shape of its own as well.
`svg` turns them into the page's CSS variables, so that a plot follows light and dark.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import altair as alt
import vl_convert
from markupsafe import Markup

from opportune.report import numbers
from opportune.report.placement import Box, place

Chart: TypeAlias = Any  # altair's charts have no common type that mypy would know
Kind = Literal["baseline", "asked", "trained"]

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
KINDS: dict[Kind, tuple[str, str, str]] = {  # kind -> colour, shape, what the key says
    "baseline": (GREY, "square", "no language model"),
    "asked": (BLUE, "circle", "asked"),
    "trained": (ORANGE, "triangle-up", "trained, then asked"),
}
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
_LONGEST = 150  # pixels of a label; a longer one is cut
_TICKS_SECONDS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36000.0, 360000.0)
_TICKS_DOLLARS = tuple(10.0**power for power in range(-6, 6))


@dataclass(frozen=True, slots=True)
class Point:
    """One arm in the plot of quality against cost."""

    name: str
    kind: Kind
    cost: float
    score: float
    low: float
    high: float
    recommended: bool = False


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


def frontier(points: Sequence[Point]) -> list[Point]:
    """The arms that no cheaper arm equals in score, cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return best


def quality_against_cost(
    points: Sequence[Point], metric: str, unit: Literal["seconds", "dollars"], *, width: int = 900, height: int = 380
) -> Chart:
    """Score with its 95 % interval over total cost, on a log axis; the frontier dashed.

    Names stand beside the points when the plot is wide; in a narrow one (below 600 px) the points have their numbers.
    """
    xs = _log_scale([point.cost for point in points], width)
    low, high = _span([value for p in points for value in (p.low, p.high, p.score)])
    spots = [(xs.pixel(p.cost), height * (high - p.score) / (high - low)) for p in points]
    lines = [
        Box(x - 1, height * (high - p.high) / (high - low), x + 1, height * (high - p.low) / (high - low))
        for p, (x, _) in zip(points, spots, strict=True)
    ]
    best = [spots[points.index(p)] for p in frontier(points)]
    lines += [Box(x, y - 1, after, y + 1) for (x, y), (after, _) in pairwise(best)]
    narrow = width < 600
    names = [str(i) if narrow else p.name for i, p in enumerate(points, 1)]
    boxes = place(spots, names, lines, Box(2, 2, width - 2, height - 2))
    x = alt.X("cost:Q", scale=alt.Scale(type="log", domain=xs.domain, nice=False), axis=xs.axis(unit))
    y = alt.Y("score:Q", scale=alt.Scale(domain=[low, high], nice=False), axis=alt.Axis(format=".1f", title=metric))
    rows = [_point_row(p) for p in points]
    layers = [
        alt.Chart(_data([_point_row(p) for p in frontier(points)]))
        .mark_line(interpolate="step-after", strokeDash=[4, 4], color=MUTED, strokeWidth=1.2)
        .encode(x=x, y=y),
        alt.Chart(_data(rows)).mark_rule(strokeWidth=1.6, opacity=0.6).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=_own()),
        alt.Chart(_data(rows))
        .mark_point(filled=True, opacity=1, size=90)
        .encode(x=x, y=y, color=_own(), shape=alt.Shape("shape:N", scale=None)),
        alt.Chart(_data([row for row in rows if row["recommended"]]))
        .mark_point(filled=False, shape="circle", size=320, strokeWidth=2, color=GREEN, opacity=1)
        .encode(x=x, y=y),
        *_names(names, points, spots, boxes),
    ]
    return _finished(alt.layer(*layers), width, height)


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
        "answer:N", sort=list(answers), axis=alt.Axis(orient="top", labelAngle=-45, title="answered", labelLimit=_LONGEST, minExtent=0.72 * _extent(answers))
    )
    y = alt.Y("target:N", sort=list(targets), axis=alt.Axis(title="expected", labelLimit=_LONGEST, minExtent=_extent(targets)))
    base = alt.Chart(_data(rows))
    cells = base.mark_rect(stroke=LINE, strokeWidth=0.5).encode(
        x=x, y=y, color=_own(), fillOpacity=alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None)
    )
    text = base.mark_text(fontSize=11).encode(
        x=x, y=y, text="count:N", color=alt.condition("datum.share > 0.55", alt.value(PAPER), alt.value(INK))
    )
    return _finished(alt.layer(cells, text), cell * len(answers), cell * len(targets), grid=False)


def recalls(
    by_arm: Mapping[str, Sequence[float | None]], labels: Sequence[str], counts: Sequence[int], *, width: int
) -> Chart:
    """The share of each label's examples that each arm got right; the label's number of examples beside it."""
    names = [f"{label} ({count})" for label, count in zip(labels, counts, strict=True)]
    rows = [
        {"label": name, "recall": value, "colour": SERIES[i % 4], "shape": SHAPES[i % 4]}
        for i, values in enumerate(by_arm.values())
        for name, value in zip(names, values, strict=True)
        if value is not None
    ]
    base = alt.Chart(_data(rows))
    y = alt.Y("label:N", sort=names, axis=alt.Axis(title=None, labelLimit=_LONGEST, grid=True, minExtent=_extent(names)))
    x = alt.X("recall:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(title="recall", format=".1f", tickCount=5))
    lines = base.mark_rule(color=LINE, strokeWidth=2).encode(y=y, x=alt.X("min(recall):Q"), x2="max(recall):Q")
    marks = base.mark_point(filled=True, size=75, opacity=0.9).encode(
        x=x, y=y, color=_own(), shape=alt.Shape("shape:N", scale=None)
    )
    return _finished(alt.layer(lines, marks), width, max(60, 24 * len(labels)))


@dataclass(frozen=True, slots=True)
class _LogScale:
    domain: list[float]
    width: float

    def pixel(self, value: float) -> float:
        low, high = map(math.log, self.domain)
        return self.width * (math.log(max(value, self.domain[0])) - low) / (high - low)

    def axis(self, unit: Literal["seconds", "dollars"]) -> Any:
        ticks = _TICKS_SECONDS if unit == "seconds" else _TICKS_DOLLARS
        write = numbers.duration if unit == "seconds" else numbers.money
        inside = [tick for tick in ticks if self.domain[0] <= tick <= self.domain[1]]
        names = [write(tick).replace(" 00 s", "").replace(" 00 min", "").replace(".0 ", " ") for tick in inside]
        title = "cost of loading, tuning, training and 1,000 questions (log scale)"
        return alt.Axis(
            values=inside,
            labelExpr=f"{names}[indexof({inside}, datum.value)]",
            title=title if self.width > 600 else "cost, with 1,000 questions (log scale)",
        )


def _log_scale(values: Sequence[float], width: float) -> _LogScale:
    low, high = min(values), max(values)
    room = max((high / low) ** 0.08, 1.5)
    return _LogScale([low / room, high * room], width)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(0.05, 0.06 * (high - low))
    return max(0.0, low - room), high + room


def _point_row(point: Point) -> dict[str, Any]:
    colour, shape, _ = KINDS[point.kind]
    return {
        "cost": point.cost,
        "score": point.score,
        "low": point.low,
        "high": point.high,
        "colour": colour,
        "shape": shape,
        "recommended": point.recommended,
    }


def _names(
    names: Sequence[str], points: Sequence[Point], spots: Sequence[tuple[float, float]], boxes: Sequence[Box]
) -> list[Chart]:
    rows, leaders = [], []
    for name, point, (x, y), box in zip(names, points, spots, boxes, strict=True):
        left_of = box.right < x
        middle = (box.top + box.bottom) / 2
        rows.append({"name": name, "px": box.right if left_of else box.left, "py": middle, "bold": point.recommended})
        rows[-1]["align"] = "right" if left_of else "left"
        if abs(middle - y) > 16:
            nearest = box.right + 2 if left_of else box.left - 2 if box.left > x else x
            edge = middle + (7 if middle < y else -7) if nearest == x else middle
            leaders.append({"px": x, "py": y, "qx": nearest, "qy": edge})
    plain = {"scale": None, "axis": None}
    lines = (
        alt.Chart(_data(leaders))
        .mark_rule(color=MUTED, strokeWidth=0.8)
        .encode(x=alt.X("px:Q", **plain), y=alt.Y("py:Q", **plain), x2="qx:Q", y2="qy:Q")
    )
    texts = [
        alt.Chart(_data([row for row in rows if (row["align"], row["bold"]) == (align, bold)]))
        .mark_text(align=align, baseline="middle", fontSize=12, fontWeight="bold" if bold else "normal", **look)
        .encode(x=alt.X("px:Q", **plain), y=alt.Y("py:Q", **plain), text="name:N")
        for look in ({"stroke": PAPER, "strokeWidth": 4, "fill": PAPER}, {"fill": INK})  # a rim, then the name
        for align in ("left", "right")
        for bold in (False, True)
    ]
    return [lines, *texts]


def _curve_panel(rows: list[dict[str, Any]], title: str, width: int, height: int, last: bool) -> Chart:
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("step:Q", axis=alt.Axis(title="step" if last else None, labels=last, tickCount=5)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=title, tickCount=4)),
        color=_own(),
        opacity=alt.Opacity("opacity:Q", scale=None),
        detail="line:N",
    )
    dots = base.mark_point(filled=True).encode(size=alt.Size("dot:Q", scale=None))
    layers = alt.layer(base.mark_line(strokeWidth=1.4), dots)
    return layers.properties(width=width, height=height)


def _extent(labels: Sequence[str]) -> float:
    """Room for these labels in whatever font the reader has: a browser's may be wider than the one measured with."""
    return min(_LONGEST, 6.9 * max(map(len, labels), default=0)) + 8


def _own() -> Any:
    """The colour written in the row."""
    return alt.Color("colour:N", scale=None, legend=None)


def _data(rows: Sequence[Mapping[str, Any]]) -> Any:
    return alt.InlineData(values=[dict(row) for row in rows])


def _finished(chart: Chart, width: int, height: int, *, grid: bool = True) -> Chart:
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
