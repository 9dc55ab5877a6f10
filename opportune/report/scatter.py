"""The main plot: quality against cost, on a log axis, with a name at every point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import altair as alt

from opportune.report import numbers
from opportune.report.placement import Box, place
from opportune.report.plots import BLUE, GREEN, GREY, INK, MUTED, ORANGE, PAPER, Chart, data, finished, own

Kind = Literal["baseline", "asked", "trained"]
KINDS: dict[Kind, tuple[str, str, str]] = {  # kind -> colour, shape, what the key says
    "baseline": (GREY, "square", "no language model"),
    "asked": (BLUE, "circle", "asked"),
    "trained": (ORANGE, "triangle-up", "trained, then asked"),
}
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
        alt.Chart(data([_point_row(p) for p in frontier(points)]))
        .mark_line(interpolate="step-after", strokeDash=[4, 4], color=MUTED, strokeWidth=1.2)
        .encode(x=x, y=y),
        alt.Chart(data(rows))
        .mark_rule(strokeWidth=1.6, opacity=0.6)
        .encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=own()),
        alt.Chart(data(rows))
        .mark_point(filled=True, opacity=1, size=90)
        .encode(x=x, y=y, color=own(), shape=alt.Shape("shape:N", scale=None)),
        alt.Chart(data([row for row in rows if row["recommended"]]))
        .mark_point(filled=False, shape="circle", size=320, strokeWidth=2, color=GREEN, opacity=1)
        .encode(x=x, y=y),
        *_names(names, points, spots, boxes),
    ]
    return finished(alt.layer(*layers), width, height)


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
        alt.Chart(data(leaders))
        .mark_rule(color=MUTED, strokeWidth=0.8)
        .encode(x=alt.X("px:Q", **plain), y=alt.Y("py:Q", **plain), x2="qx:Q", y2="qy:Q")
    )
    texts = [
        alt.Chart(data([row for row in rows if (row["align"], row["bold"]) == (align, bold)]))
        .mark_text(align=align, baseline="middle", fontSize=12, fontWeight="bold" if bold else "normal", **look)
        .encode(x=alt.X("px:Q", **plain), y=alt.Y("py:Q", **plain), text="name:N")
        for look in ({"stroke": PAPER, "strokeWidth": 4, "fill": PAPER}, {"fill": INK})  # a rim, then the name
        for align in ("left", "right")
        for bold in (False, True)
    ]
    return [lines, *texts]
