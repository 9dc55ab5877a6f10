"""Curves of score against labelled examples shown: in the terminal and as one self-contained page."""

from __future__ import annotations

import math
from pathlib import Path

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from opportune.labels import Advantage, Curves, Line, Overtaking
from opportune.report import label_plots, numbers, plots
from opportune.report.figures import Figure
from opportune.report.rendering import asset, policy, render, write_whole
from opportune.report.terminal import console

_WIDE, _NARROW = 820, 285  # pixels of the plotting area: a desk, a phone


def print_curves(curves: Curves) -> None:
    """Print the scores by size, and what follows from them."""
    out = console()
    out.print(Text(_title(curves), style="bold"))
    out.print(_table(curves))
    out.print(Text(explanation(curves), style="dim"))
    for text in sentences(curves):
        out.print(Text(text), soft_wrap=True)


def _title(curves: Curves) -> str:
    return f"{curves.task}: {curves.metric} by number of labelled examples"


def explanation(curves: Curves) -> str:
    """What the intervals cover."""
    drawn = f"{curves.draws} draws of the labels and " if curves.draws > 1 else "one draw of the labels, "
    text = f"95 % intervals over {drawn}{curves.test} test examples."
    if any(line.flat for line in curves.lines):
        text += " = : never looks at the labels, measured once."
    return text


def _table(curves: Curves) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("recipe")
    for size in curves.sizes:
        table.add_column(f"{size:,}", justify="right", no_wrap=True)
    for line in curves.lines:
        table.add_row(Text(line.recipe), *(cell(line, size, place) for place, size in enumerate(curves.sizes)))
    return table


def cell(line: Line, size: int, place: int) -> str:
    """A score with its interval beneath."""
    point = next((point for point in line.points if point.size == size), None)
    if point is None:
        return numbers.UNKNOWN
    if line.flat and place:
        return "="
    return f"{numbers.score(point.score.value)}\n{numbers.interval(point.score.low, point.score.high)}"


def sentences(curves: Curves) -> list[str]:
    """Where training overtakes prompting, what recipes are worth in labels, and what was left out."""
    found = [_overtaken(one, curves) for one in curves.overtakings]
    return [*found, *(_worth(one) for one in curves.advantages), *curves.notes]


def _overtaken(found: Overtaking, curves: Curves) -> str:
    sizes, pair = curves.sizes, f"{found.trained} {{}} {found.asked}"
    if math.isinf(found.labels):
        text = f"{pair.format('does not overtake')} within {sizes[-1]:,} labels"
    elif found.labels == 0:
        text = f"{pair.format('is at least as good as')} from {sizes[0]:,} labels on"
    else:
        text = f"{pair.format('overtakes')} at about {found.labels:,.0f} labels"
    text += f" (95 %: {_count(found.low, sizes)} to {_count(found.high, sizes)})"
    measured = "nowhere measurably better" if found.measurably is None else f"measurably from {found.measurably:,} on"
    return f"{text}, {measured}."


def _count(labels: float, sizes: tuple[int, ...]) -> str:
    if labels == 0:
        return f"{sizes[0]:,} or fewer"
    return f"more than {sizes[-1]:,}" if math.isinf(labels) else f"{labels:,.0f}"


def _worth(found: Advantage) -> str:
    known = found.low is not None and found.high is not None
    between = f"95 %: {found.low:,.0f} to {found.high:,.0f}" if known else "interval unknown: too few scores in common"
    return f"{found.first} is worth {found.labels:,.0f} labels over {found.second} ({between})."


# ---- the page -------------------------------------------------------------------------------------------------------


def write_page(curves: Curves, path: Path) -> Path:
    """Write the curves as one page that loads nothing; returns its path."""
    return write_whole(path, page(curves))


def page(curves: Curves) -> str:
    """The page's text."""
    style = asset("report.css")
    return render(
        "curve.html.j2",
        curves=curves,
        title=_title(curves),
        figure=figure(curves),
        key=[
            (line.recipe, plots.variable(label_plots.look(i)[0]), label_plots.look(i)[1]) for i, line in _placed(curves)
        ],
        rows=[(line, [cell(line, size, i) for i, size in enumerate(curves.sizes)]) for line in curves.lines],
        sentences=sentences(curves),
        explanation=explanation(curves),
        style=style,
        policy=policy(style),
    )


def figure(curves: Curves) -> Figure:
    """The plot, drawn for a desk and for a phone."""
    told = "; ".join(
        f"{line.recipe} {', '.join(f'{point.size}: {numbers.score(point.score.value)}' for point in line.points)}"
        for line in curves.lines
    )

    def drawn(width: int, classes: str) -> Markup:
        chart = label_plots.labels_plot(curves.lines, curves.sizes, curves.metric, width=width)
        return plots.svg(chart, f"{_title(curves)}: {told}", classes)

    return Figure("Score by labelled examples", explanation(curves), drawn(_WIDE, "wide"), drawn(_NARROW, "narrow"))


def _placed(curves: Curves) -> list[tuple[int, Line]]:
    return list(enumerate(curves.lines))
