"""The table of a comparison: for the terminal, in Markdown and as HTML; the same columns and figures in each."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opportune.comparison import Comparison, Row
from opportune.report import numbers


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure and, smaller, what belongs to it."""

    main: str
    detail: str = ""

    def line(self) -> str:
        """Both on one line."""
        return f"{self.main} {self.detail}".strip()


@dataclass(frozen=True, slots=True)
class Column:
    """One column; those with a higher `rank` are dropped first where room is short."""

    title: Cell
    rank: int
    cell: Callable[[Comparison, Row], Cell]
    wanted: Callable[[Comparison], bool] = lambda comparison: True


def _score(comparison: Comparison, row: Row) -> Cell:
    if row.score is None:
        return Cell(row.status if row.status != "done" else numbers.UNKNOWN)
    return Cell(numbers.score(row.score), numbers.interval(row.low, row.high))


def _difference(comparison: Comparison, row: Row) -> Cell:
    if row.recipe == comparison.reference:
        return Cell("reference")
    if (versus := row.versus_reference) is None:
        return Cell(numbers.UNKNOWN)
    between = numbers.interval(versus.low, versus.high, numbers.difference)
    return Cell(numbers.difference(versus.difference), between)


def _probability(comparison: Comparison, row: Row) -> Cell:
    versus = row.versus_reference
    if versus is None or row.recipe == comparison.reference:
        return Cell("")
    return Cell(numbers.probability(versus.p), numbers.probability(versus.p_holm))


def _latency(comparison: Comparison, row: Row) -> Cell:
    if row.latency is None:
        return Cell(numbers.UNKNOWN)
    return Cell(numbers.duration(row.latency.p50), numbers.duration(row.latency.p95))


def _making(comparison: Comparison, row: Row) -> Cell:
    return Cell(numbers.bill(row.cost.tuning + row.cost.training))


COLUMNS = (
    Column(Cell("score", "95 %"), 0, _score),
    Column(Cell("difference", "95 %"), 1, _difference),
    Column(Cell("p", "Holm"), 4, _probability),
    Column(
        Cell("failed", "unparsed"),
        3,
        lambda _, row: Cell(str(row.failed), str(row.unparsed)),
        lambda comparison: any(row.failed or row.unparsed for row in comparison.rows),
    ),
    Column(Cell("tuning,", "training"), 2, _making),
    Column(Cell("asking", "1,000"), 2, lambda _, row: Cell(numbers.bill(row.asking_per_1000))),
    Column(Cell("p50", "p95"), 5, _latency),
    Column(Cell("peak", "memory"), 6, lambda _, row: Cell(numbers.memory(row.cost.total().peak_bytes))),
)


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The columns this comparison needs."""
    return tuple(column for column in COLUMNS if column.wanted(comparison))


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, its footnotes and the recommendation; columns are dropped until it fits the console."""
    console = console or Console(highlight=False)
    shown = list(columns(comparison))
    table = _terminal(comparison, shown)
    while len(shown) > 1 and console.measure(table).minimum > console.width:
        shown.remove(max(shown, key=lambda column: column.rank))
        table = _terminal(comparison, shown)
    console.print(table)
    for number, note in enumerate(footnotes(comparison), 1):
        console.print(Text(f"{number} {note}", style="dim"))
