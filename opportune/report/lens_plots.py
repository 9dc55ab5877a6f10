"""Plots of distributions: the probability of the right choice by arm, shares of labels, the likeliest tokens.

Arms are numbered, as in the table beside the plot: a long recipe would leave it no room on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from opportune.report.plots import BLUE, GREY, INK, LINE, MUTED, ORANGE, PAPER, Chart, data, finished, own

_ROW, _CELL, _LONGEST = 38, 34, 130  # pixels: an arm's height, a cell's width, a label


@dataclass(frozen=True, slots=True)
class Strip:
    """One arm's answers: their share in each bin of the probability of the right choice, and its mean."""

    spread: tuple[float, ...]
    mean: float
    low: float
    high: float
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A name with its probability, and the one it had elsewhere."""

    name: str
    value: float
    before: float | None = None


def rights(arms: Sequence[Strip], chance: float | None, *, width: int) -> Chart:
    """A small histogram for each arm, its mean with the 95 % interval beneath; dashed, what guessing gives."""
    top = max(max(arm.spread) for arm in arms)
    bins = [
        {"x": i / len(arm.spread), "x2": (i + 1) / len(arm.spread), "y": n + 0.74, "y2": n + 0.74 - 0.66 * share / top}
        for n, arm in enumerate(arms)
        for i, share in enumerate(arm.spread)
        if share
    ]
    means = [
        {"x": arm.mean, "low": arm.low, "high": arm.high, "y": n + 0.87, **_look(trained=arm.trained)}
        for n, arm in enumerate(arms)
    ]
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(title="probability of the right choice", format=".1f", tickCount=5),
    )
    middles = [n + 0.5 for n in range(len(arms))]
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[0, len(arms)], reverse=True, nice=False),
        axis=alt.Axis(title=None, values=middles, labelExpr="format(datum.value + 0.5, 'd')", grid=False, ticks=False),
    )
    layers = [
        alt.Chart(data(bins)).mark_rect(color=GREY, opacity=0.55).encode(x=x, x2="x2:Q", y=y, y2="y2:Q"),
        alt.Chart(data(means)).mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=own()),
        alt.Chart(data(means))
        .mark_point(filled=True, size=70, opacity=1)
        .encode(x=x, y=y, color=own(), shape=alt.Shape("shape:N", scale=None)),
    ]
    if chance is not None:
        rule = alt.Chart(data([{"x": chance}])).mark_rule(color=MUTED, strokeDash=[3, 4], strokeWidth=1)
        layers.append(rule.encode(x=x))
    return finished(alt.layer(*layers), width, _ROW * len(arms))


def deviations(
    shares: Mapping[int, Sequence[float]], expected: Sequence[float], labels: Sequence[str], first: str
) -> Chart:
    """Labels by arms (the arm's number -> its shares), in percent: orange where a label has more than its due, blue
    where it has less, darker the more that is. The column `first` is what is due."""
    most = max(abs(s - e) for arm in shares.values() for s, e in zip(arm, expected, strict=True))
    columns = [first, *map(str, shares)]
    rows = [
        {
            "label": label,
            "arm": column,
            "share": _percent(share),
            "strength": abs(share - due) / max(most, 0.05),
            "colour": ORANGE if share > due else BLUE,
        }
        for column, values in zip(columns, (expected, *shares.values()), strict=True)
        for label, share, due in zip(labels, values, expected, strict=True)
    ]
    x = alt.X("arm:N", sort=None, axis=alt.Axis(orient="top", labelAngle=0, title=None))
    room = min(1.2 * _LONGEST, 6.9 * max(map(len, labels))) + 8
    y = alt.Y("label:N", sort=None, axis=alt.Axis(title=None, labelLimit=_LONGEST, minExtent=room))
    base = alt.Chart(data(rows))
    cells = base.mark_rect(stroke=LINE, strokeWidth=0.5).encode(
        x=x,
        y=y,
        color=own(),
        fillOpacity=alt.FillOpacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None),
    )
    text = base.mark_text(fontSize=11).encode(
        x=x, y=y, text="share:N", color=alt.condition("datum.strength > 0.55", alt.value(PAPER), alt.value(INK))
    )
    return finished(alt.layer(cells, text), _CELL * len(columns), 24 * len(labels), grid=False)


def bars(shown: Sequence[Bar], highest: float, *, width: int = 250) -> Chart:
    """A bar for each probability, the largest first as given; a tick where it was before."""
    rows = [{"name": bar.name, "value": bar.value, "written": _written(bar.value)} for bar in shown]
    before = [{"name": bar.name, "value": bar.before} for bar in shown if bar.before is not None]
    room = min(1.2 * _LONGEST, 6.9 * max(len(bar.name) for bar in shown)) + 8
    y = alt.Y("name:N", sort=None, axis=alt.Axis(title=None, labelLimit=_LONGEST, minExtent=room, ticks=False))
    scale = alt.Scale(domain=[0, max(1.25 * highest, 1e-6)], nice=False)  # room for the number beside the longest bar
    whole = [0, 0.25, 0.5, 0.75, 1] if highest >= 0.5 else alt.Undefined
    x = alt.X("value:Q", scale=scale, axis=alt.Axis(title=None, tickCount=4, values=whole, grid=True))
    base = alt.Chart(data(rows))
    layers = [
        base.mark_bar(color=BLUE, opacity=0.75, height=13).encode(x=x, y=y),
        base.mark_text(align="left", dx=5, fontSize=11, color=INK).encode(x=x, y=y, text="written:N"),
        alt.Chart(data(before)).mark_tick(color=ORANGE, thickness=2.5, size=17).encode(x=x, y=y),
    ]
    return finished(alt.layer(*layers), width, 21 * len(rows), grid=False)


def _look(*, trained: bool) -> dict[str, Any]:
    return {"colour": ORANGE, "shape": "triangle-up"} if trained else {"colour": BLUE, "shape": "circle"}


def _written(value: float) -> str:
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def _percent(share: float) -> str:
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"
