"""What was measured of each training method, written into its page in docs/methods/ from the result files.

Called by `python -m benchmarks.table`, which passes the results in; a page takes part where it has the two marks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import training_tables
from benchmarks.common import ROOT
from benchmarks.strategy_pages import NOT_YET, Record, filled, score_of, text_table
from opportune import methods
from opportune.report.numbers import count, duration, memory

FOLDER = ROOT / "docs" / "methods"
_TITLES = ["task", "recipe", "score [95 %]", "learning rate", "lesson tokens", "time, choosing included", "peak memory"]
_TITLES += ["forgetting", "loss on dev less on own lessons"]


def pages(records: Iterable[Record]) -> dict[Path, str]:
    """Every page that takes part, as it should read."""
    records = list(records)
    return filled(FOLDER, lambda method: measured(method, records))


def measured(method: str, records: Iterable[Record]) -> str:
    """The results of one method, a row for each recipe and task."""
    found = [row for record in records if not record["quick"] for row in record.get("rows", ()) if _is_of(row, method)]
    equal = _at_equal_budgets(method, records)
    if not found:
        return equal or NOT_YET
    rows = [
        [
            row["task"],
            f"`{row['recipe']}`",
            score_of(row),
            "–" if row["rate"] is None else f"{row['rate']:g}" + " (end of the grid)" * row["rate_at_edge"],
            count(row["training_tokens"]),
            duration(row["training_seconds"]),
            memory(row["peak_bytes"]),
            *("–" if row[name] is None else f"{row[name]:+.2f}" for name in ("forgetting", "gap")),
        ]
        for row in found
    ]
    said = (
        "\n\nThe default model; forgetting and gap in nats a token; lesson tokens of the last training alone. Machine, "
        "commit and date of each are in [benchmarks](../benchmarks.md)."
    )
    return text_table(_TITLES, rows) + said + (f"\n\n{equal}" if equal else "")


def _at_equal_budgets(method: str, records: Iterable[Record]) -> str:
    """What `benchmarks.equal_budget` found, all methods having read as much; nothing where it did not come to it."""
    found = [
        row
        for record in records
        if record["name"] == "equal-budget" and not record["quick"]
        for row in record["rows"]
        if row["method"] == method and "rate" in row
    ]
    if not found:
        return ""
    rows = [[str(row["labels"]), *training_tables.trained(row)] for row in found]
    return "At 20,000 training tokens on TREC, three seeds at the best of four rates:\n\n" + text_table(
        ["labels", *training_tables.TRAINED], rows
    )


def _is_of(row: Any, method: str) -> bool:
    """Whether a result is of a recipe that trains, first of all, with the method."""
    from opportune.spec import parse

    if not isinstance(row, dict) or not {"training_seconds", "task"} <= row.keys() or not row.get("recipe"):
        return False
    first = parse(row["recipe"]).parts[0].name
    return first == method and first in methods.TABLE
