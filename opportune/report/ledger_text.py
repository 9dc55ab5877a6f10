"""The ledger on the terminal: predicted beside measured, and the correction that follows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from opportune.ledger import Entry, errors, factors
from opportune.report import numbers
from opportune.report.terminal import console

_WRITE = {"seconds": numbers.duration, "peak_bytes": numbers.memory, "dollars": numbers.money}
_SHOWN = 40  # the latest


def print_ledger(found: Sequence[Entry]) -> None:
    """Print the entries, the errors by item, and the factors."""
    out = console()
    if not found:
        out.print("no arm in this store has both a prediction and a measurement yet: run opportune compare first")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for title in ("recipe", "item", "predicted", "measured", "measured / predicted"):
        table.add_column(title, justify="left" if title in ("recipe", "item") else "right")
    for entry in found[-_SHOWN:]:
        write = _WRITE[entry.figure]
        what = f"{entry.item} {'memory' if entry.figure == 'peak_bytes' else entry.figure}"
        table.add_row(entry.recipe, what, write(entry.predicted), write(entry.measured), f"{entry.ratio:.2f}")
    out.print(table)
    for name, figure in errors(found).items():
        count, wrong = figure["entries"], figure["median_error"]
        out.print(f"{name}: median error {wrong:.0%} over {count:g}; median ratio {figure['median_ratio']:.2f}")
    for item, factor in factors(found).items():
        out.print(Text(f"the next prediction of {item} is multiplied by {factor:.2f}", style="dim"))
