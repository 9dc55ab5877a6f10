"""The comparison of ways to train as one self-contained page: the table and four plots, every figure predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
from markupsafe import Markup

from opportune.planner.calibration import Estimate
from opportune.planner.grid import Row, assumptions
from opportune.report import plots
from opportune.report.plan_text import TITLES, columns, parameters
from opportune.report.rendering import asset, policy, render, write_whole

_SERIES = (plots.BLUE, plots.ORANGE, plots.GREEN)


def write_page(rows: Sequence[Row], path: Path) -> Path:
    """Write the page; returns its path."""
    style = asset("report.css")
    page = render(
        "plan.html.j2",
        style=style,
        policy=policy(style),
        sizes=_by_size(rows),
        titles=TITLES,
        columns=columns,
        trainable=lambda row: parameters(row.plan.change.moving),
        plots=_plots(rows),
        key=[(plots.variable(c), s, size) for c, s, size in zip(_SERIES, plots.SHAPES, _by_size(rows), strict=False)],
        assumptions=assumptions(rows),
    )
    return write_whole(path, page)


def _by_size(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.size, []).append(row)
    return found


def _plots(rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    wanted: list[tuple[str, Any]] = [
        ("Memory of all GPUs together, GiB", lambda r: r.plan.fit.reserved.times(r.plan.job.cluster.count / 1024**3)),
        ("Hours on the GPUs", lambda r: r.plan.seconds.times(1 / 3600)),
        ("Energy, kWh", lambda r: r.plan.joules.times(1 / 3.6e6)),
        ("Dollars", lambda r: r.plan.dollars),
    ]
    return [(title, _plot(rows, title, value)) for title, value in wanted]


def _plot(rows: Sequence[Row], title: str, value: Any) -> Markup:
    sizes = list(_by_size(rows))
    data = []
    for row in rows:
        found: Estimate | None = value(row)
        if found is not None:
            place = sizes.index(row.size)
            data.append({"way": row.way.title, "value": found.value, "low": found.low, "high": found.high,
                         "colour": _SERIES[place % 3], "shape": plots.SHAPES[place % 3]})  # fmt: skip
    base = alt.Chart(plots.data(data))
    order = list(dict.fromkeys(row.way.title for row in rows))
    y = alt.Y("way:N", sort=order, axis=alt.Axis(title=None, labelLimit=150, minExtent=140))
    scale = alt.Scale(type="log", nice=True)
    rules = base.mark_rule(strokeWidth=2.5, opacity=0.55).encode(
        y=y, x=alt.X("low:Q", scale=scale, axis=alt.Axis(title=title, tickCount=6, format="~s")), x2="high:Q",
        color=plots.own(),
    )  # fmt: skip
    marks = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=y, x=alt.X("value:Q", scale=scale), color=plots.own(), shape=alt.Shape("shape:N", scale=None)
    )
    words = "; ".join(f"{d['way']} {d['value']:.3g}" for d in data)
    return plots.svg(plots.finished(alt.layer(rules, marks), 300, 190), f"{title}: {words}")
