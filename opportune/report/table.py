"""The table of a comparison: for the terminal, in Markdown and as HTML; the same columns and figures in each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from opportune.cost import Amount
from opportune.metrics import short_name
from opportune.reasoned import reviewed
from opportune.records import Facts
from opportune.report import numbers, terminal, training
from opportune.report.rendering import render
from opportune.rows import Comparison, Row
from opportune.spec import parse

RECOMMENDED, REFERENCE = "★", "◆"
_RECIPE_WIDTH = 22  # a longer recipe goes on in the next line of its cell


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure and, smaller, what belongs to it."""

    main: str
    detail: str = ""
    between: str = " "  # where both stand on one line

    @property
    def line(self) -> str:
        """Both on one line."""
        return f"{self.main}{self.between}{self.detail}" if self.detail else self.main


@dataclass(frozen=True, slots=True)
class Column:
    """One column; the one with the highest `rank` is dropped first where room is short."""

    title: Cell
    rank: int
    cell: Callable[[Row], Cell]
    wanted: Callable[[Row], bool] = lambda row: True  # shown when any row wants it


def _score(row: Row) -> Cell:
    if row.score is None:
        return Cell(row.status if row.status != "done" else numbers.UNKNOWN)
    return Cell(numbers.score(row.score.value), numbers.interval(row.score.low, row.score.high))


def _difference(row: Row) -> Cell:
    if row.versus is None:
        return Cell(numbers.UNKNOWN)
    between = numbers.interval(row.versus.low, row.versus.high, numbers.difference)
    return Cell(numbers.difference(row.versus.difference), between)


def _probability(row: Row) -> Cell:
    if row.versus is None:
        return Cell(numbers.UNKNOWN)
    return Cell(numbers.probability(row.versus.p), numbers.probability(row.versus.p_holm), " / ")


def _latency(row: Row) -> Cell:
    if row.latency is None:
        return Cell(numbers.UNKNOWN)
    return Cell(numbers.duration(row.latency.p50), numbers.duration(row.latency.p95), " / ")


COLUMNS = (
    Column(Cell("score", "[95 %]"), 0, _score),
    Column(Cell("difference", "[95 %]"), 1, _difference),
    Column(Cell("p /", "Holm"), 4, _probability),
    Column(
        Cell("failed /", "unparsed"),
        2,
        lambda row: Cell(f"{row.failed} / {row.unparsed}"),
        lambda row: row.failed + row.unparsed > 0,
    ),
    Column(
        Cell("tuning &", "training"), 3, lambda row: Cell(numbers.bill(row.measured.tuning + row.measured.training))
    ),
    Column(Cell("asking", "1,000"), 3, lambda row: Cell(numbers.bill(row.asking_per_1000))),
    Column(Cell("p50 /", "p95"), 5, _latency),
    Column(Cell("peak", "memory"), 6, lambda row: Cell(numbers.memory(row.measured.total().peak_bytes))),
)


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """The columns this comparison needs."""
    return tuple(column for column in COLUMNS if any(map(column.wanted, comparison.rows)))


def notes(row: Row, rows: Sequence[Row]) -> list[str]:
    """What a reader must know about the figures of a row, which is one of `rows`."""
    found = []
    if row.reason:
        found.append(f"failed: {row.reason}")
    if row.status == "running" and row.score is not None:
        found.append(f"not finished: {row.n:,} test examples so far")
    if row.rate_at_edge:
        rates = sorted({numbers.rate(s.facts.rate) for s in row.seeds if s.facts.rate_at_edge})
        found.append(f"the best learning rate, {', '.join(rates)}, is an end of its grid: a better one may lie outside")
    found += training.notes(row, rows)
    if row.diverged:
        found.append(f"the training diverged at the learning rate {', '.join(map(numbers.rate, row.diverged))}")
    if row.lessons_cut:
        found.append(f"{row.lessons_cut:,} lessons cut so that they fit the context")
    if row.seeds:
        found += _facts(row.seeds[0].facts)
    if row.reconsidered is not None:
        found.append(reviewed(row.reconsidered))
    if row.shots_dropped:
        found.append(f"{row.shots_dropped:,} shots dropped so that prompts fit the context")
    if row.tokens_cut:
        found.append(f"{row.tokens_cut:,} tokens cut from the middle of inputs that were too long for the context")
    if row.cached is not None:
        found.append(f"{_calls(row.cached)} answered by the response cache, not paid again")
    if row.grading is not None:
        found.append(f"graded by a model in {_calls(row.grading)}, which are on no bill")
    return found


def _calls(amount: Amount) -> str:
    """As `12 calls (3,400 tokens, $0.02)`."""
    worth = f", {numbers.money(amount.dollars)}" if amount.dollars is not None else ""
    return f"{amount.calls:,} calls ({numbers.count((amount.tokens_in or 0) + (amount.tokens_out or 0))} tokens{worth})"


def _facts(facts: Facts) -> list[str]:
    """What preparing and asking found, of the first seed."""
    found = list(facts.notes)
    if facts.chosen:
        tried = ", ".join(f"{_differing(part, facts)} ({numbers.score(s)})" for part, s in facts.searched.items())
        found.append(f"dev chose {_differing(facts.chosen, facts)} of {tried}")
    if facts.agreement is not None:
        found.append(f"{facts.agreement:.0%} of the samples agree with the answer they vote for, on average")
    return found


def _differing(part: str, facts: Facts) -> str:
    """The options of a candidate in which the candidates differ."""
    every = [parse(candidate).parts[-1].options for candidate in facts.searched]
    mine = parse(part).parts[-1].options
    return " ".join(f"{name}={value}" for name, value in mine.items() if any(o[name] != value for o in every))


def footnotes(comparison: Comparison) -> list[tuple[str, str]]:
    """(recipe, what must be known about its figures) of the rows that need one, numbered from 1."""
    rows = comparison.rows
    return [(row.recipe, "; ".join(found)) for row in rows if (found := notes(row, rows))]


def explanation(comparison: Comparison) -> str:
    """One sentence on how the figures are to be read."""
    metric = short_name(comparison.task["metric"])
    return (
        f"Score: {metric} on the sealed test split, each arm scored once, 95 % intervals. "
        "Difference: to the reference, the leader on dev, on the same examples; p as it is and after Holm's correction."
    )


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, its footnotes, the recommendation and the page's path; drops columns that do not fit."""
    # A file or a pipe has no width: whoever reads it can scroll.
    console = console or terminal.console()
    shown = list(columns(comparison))
    table = _terminal(comparison, shown)
    while len(shown) > 1 and _width(table, console) > console.width:
        shown.remove(max(reversed(shown), key=lambda column: column.rank))
        table = _terminal(comparison, shown)
    console.print(table)
    console.print(Text(explanation(comparison), style="dim"))
    for number, (recipe, note) in enumerate(footnotes(comparison), 1):
        console.print(Text(f"{number} {recipe}: {note}", style="dim"))
    console.print()
    console.print(Text(comparison.recommendation_text, style="bold"))
    if comparison.report is not None:
        console.print(Text(f"\nEvery example, prompt and answer: {comparison.report}"))


def markdown(comparison: Comparison) -> str:
    """The table as Markdown, with its footnotes and the recommendation."""
    shown = columns(comparison)
    titles = ["recipe", *(column.title.line for column in shown)]
    lines = [_markdown_row(titles), "|---|" + "--:|" * len(shown)]
    for row in comparison.rows:
        marks = _marks(comparison, row)
        words = {RECOMMENDED: "**recommended**", REFERENCE: "reference"}
        name = " ".join([f"`{row.recipe}`", *(words[mark] for mark in marks)])
        lines.append(_markdown_row([name, *(column.cell(row).line for column in shown)]))
    lines += ["", explanation(comparison), ""]
    lines += [f"{number}. `{recipe}`: {note}" for number, (recipe, note) in enumerate(footnotes(comparison), 1)]
    return "\n".join([*lines, "", comparison.recommendation_text, ""])


def html(comparison: Comparison) -> Markup:
    """The table with its footnotes as an HTML fragment, for the page and for notebooks."""
    return render(
        "table.html.j2",
        comparison=comparison,
        columns=columns(comparison),
        footnotes=footnotes(comparison),
        explanation=explanation(comparison),
        number=footnote_numbers(comparison),
    )


def footnote_numbers(comparison: Comparison) -> dict[str, int]:
    """Recipe -> the number of its footnote."""
    return {recipe: number for number, (recipe, _) in enumerate(footnotes(comparison), 1)}


def _marks(comparison: Comparison, row: Row) -> list[str]:
    wanted = ((RECOMMENDED, comparison.recommended), (REFERENCE, comparison.reference))
    return [mark for mark, recipe in wanted if row.recipe == recipe]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _width(table: Table, console: Console) -> int:
    """The columns the table would like to have."""
    return Measurement.get(console, console.options.update(max_width=1000), table).maximum


def _terminal(comparison: Comparison, shown: Sequence[Column]) -> Table:
    key = f"{RECOMMENDED} recommended\n{REFERENCE} reference"
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column(Text(key, style="dim"), no_wrap=True)
    for column in shown:
        table.add_column(Text(f"{column.title.main}\n{column.title.detail}"), justify="right", no_wrap=True)
    numbered = footnote_numbers(comparison)
    for row in comparison.rows:
        best = row.recipe == comparison.recommended
        cells = [_terminal_cell(column.cell(row), best) for column in shown]
        table.add_row(_terminal_name(comparison, row, numbered.get(row.recipe)), *cells)
    return table


def _terminal_name(comparison: Comparison, row: Row, footnote: int | None) -> Text:
    marks = "".join(_marks(comparison, row))
    lines = _folded(row.recipe)
    text = Text()
    for place, line in enumerate(lines):
        style = "bold" if row.recipe == comparison.recommended else ""
        text.append(f"{marks if place == 0 else '':<2} ", style="green").append(line, style=style)
        if place < len(lines) - 1:
            text.append("\n")
    return text.append(f" {footnote}" if footnote else "", style="dim")


def _terminal_cell(cell: Cell, best: bool) -> Text:
    return Text(cell.main, style="bold" if best else "").append(f"\n{cell.detail}" if cell.detail else "", style="dim")


def _folded(recipe: str) -> list[str]:
    """The recipe in lines of at most 22 characters where its separators allow."""
    lines = [""]
    for part in re.split(r"(?<=[,+:])|(?=@)", recipe):
        if lines[-1] and len(lines[-1]) + len(part) > _RECIPE_WIDTH:
            lines.append("")
        lines[-1] += part
    return lines
