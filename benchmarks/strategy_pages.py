"""What was measured of each strategy, written into its page in docs/strategies/ from the result files.

Called by `python -m benchmarks.table`, which passes the results in; a page takes part where it has the two marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from opportune.report.numbers import duration

FOLDER, README = ROOT / "docs" / "strategies", ROOT / "README.md"
BEGIN, END = "<!-- measured: made by `python -m benchmarks.table` -->", "<!-- end of measured -->"
NOT_YET = "Nothing yet: `make bench` measures it."
Record = dict[str, Any]


def pages(records: Iterable[Record]) -> dict[Path, str]:
    """Every page that takes part, as it should read."""
    records = list(records)
    group = [record for record in records if record["name"] == "all-prompts" and not record["quick"]]
    readme = {README: _between(README.read_text(), _every_way(group[0]))} if group else {}
    return filled(FOLDER, lambda strategy: measured(strategy, records)) | readme


def _every_way(record: Record) -> str:
    """Every strategy with its defaults, for the README."""
    rows = [
        [
            f"`{row['recipe']}`",
            score_of(row),
            *(_number(_used(row, name)) for name in _USED),
            duration(row["seconds"]) if row["calls_per_question"] else "–",
        ]
        for row in record["rows"]
    ]
    titles = ["recipe", "accuracy [95 %]", "calls", "tokens in", "tokens out", "dev and test together"]
    return text_table(titles, rows)


def filled(folder: Path, measured: Callable[[str], str]) -> dict[Path, str]:
    """The folder's pages that have the marks, with what was measured of what they are named after between them."""
    texts = {path: path.read_text() for path in sorted(folder.glob("*.md"))}
    return {path: _between(text, measured(path.stem)) for path, text in texts.items() if BEGIN in text}


def _between(text: str, made: str) -> str:
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}"


def text_table(titles: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [" | ".join(cells) for cells in (titles, ["---"] * len(titles), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def score_of(row: Record) -> str:
    """With its interval."""
    return "failed" if row["score"] is None else f"{row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def measured(strategy: str, records: Iterable[Record]) -> str:
    """The results of one strategy, a row for each recipe and task."""
    names = {"baselines": ("majority", "tfidf")}.get(strategy, (strategy,))
    rows = [row for record in records if not record["quick"] for row in _rows(record, names)]
    if not rows:
        return NOT_YET
    titles = ["task", "recipe", "score [95 %]", "unparsed", "calls a question", "tokens in / out a question"]
    origin = "The default model; machine, commit and date of each are in [benchmarks](../benchmarks.md)."
    return f"{text_table(titles, rows)}\n\n{origin}"


def _rows(record: Record, names: tuple[str, ...]) -> list[list[str]]:
    if record["name"] == "calibration":
        return _calibrated(record) if "k-shot" in names else []
    rows = [row for row in record.get("rows", ()) if isinstance(row, dict) and "score" in row]
    found = [row for row in rows if _strategy(row.get("recipe")) in names]
    return [_row(row, row.get("task") or record["work"].split(",")[0]) for row in found]


def _row(row: Record, task: str) -> list[str]:
    none = row["score"] is None
    seeds = len(row.get("scores_by_seed") or [1])
    unparsed = "–" if none or not row["n"] else f"{row['unparsed'] / row['n'] / seeds:.0%}"
    calls, tokens_in, tokens_out = (_number(_used(row, name)) for name in _USED)
    return [task, f"`{row['recipe']}`", score_of(row), unparsed, calls, f"{tokens_in} / {tokens_out}"]


def _used(row: Record, name: str) -> float | None:
    """Of asking, for each question."""
    if "cost" not in row:
        return row.get(f"{name}_per_question")
    amount = row["cost"]["asking"]["measured"][name]
    return None if amount is None or not row["n"] else amount / row["n"]


_USED = ("calls", "tokens_in", "tokens_out")


def _calibrated(record: Record) -> list[list[str]]:
    """Means over the draws of the shots, with their standard deviation."""
    return [
        [
            row["task"],
            f"`k-shot:k={row['shots']},pick=random,format=plain,calibrate={kind}`",
            f"{row[kind]['mean']:.3f}, sd {row[kind]['sd']:.3f}, worst {row[kind]['worst']:.3f}",
            "0%",
            "1",
            "– / 0",
        ]
        for row in record["rows"]
        for kind in ("none", "contextual", "batch")
    ]


def _strategy(recipe: str | None) -> str | None:
    """The strategy of a recipe that trains nothing."""
    from opportune.spec import parse

    parts = parse(recipe).parts if recipe else ()
    return parts[0].name if len(parts) == 1 else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
