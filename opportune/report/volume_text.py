"""What arms cost at a volume of questions, and where training breaks even, on the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from opportune.report import numbers
from opportune.report.terminal import console
from opportune.rows import Comparison
from opportune.volume import SPREAD, at_volume, break_evens, lines, sentence


def print_volume(comparison: Comparison, volume: float) -> None:
    """Print each arm's monthly cost and the sentences on break-even points."""
    found, out = lines(comparison), console()
    write = numbers.money if comparison.unit == "dollars" else numbers.duration
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim", title_justify="left")
    for title in (f"at {volume:,.0f} questions a month", "first month", "later ones", "first month,\nno cache"):
        table.add_column(title, justify="left" if title.startswith("at ") else "right")
    for recipe, cost in at_volume(found, volume).items():
        cells = (cost["first_month"], cost["later_month"], cost["first_month_without_cache"])
        table.add_row(recipe, *map(write, cells))
    out.print()
    out.print(table)
    for one in break_evens(found):
        if one.cached or one.questions is not None:
            out.print("· " + sentence(one))
    out.print(Text(f"Measured times are taken to repeat within {SPREAD:.0%}; intervals follow from that.", style="dim"))
