"""The table of results in docs/benchmarks.md, made from the JSON files beside this one.

python -m benchmarks.table [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: made by `python -m benchmarks.table` -->", "<!-- end of results -->"
Record = dict[str, Any]


def main() -> None:
    """Write the table into the page; with --check, exit 1 where it differs instead."""
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    made = f"{head}{BEGIN}\n\n{tables(_records(RESULTS))}\n{END}{rest.split(END)[1]}"
    if "--check" in sys.argv[1:]:
        sys.exit(made != page and f"{PAGE} is out of date: run `python -m benchmarks.table`")
    PAGE.write_text(made)


def tables(records: list[Record]) -> str:
    """All results as Markdown; a measurement that was made with --quick is none and is left out."""
    by_kind: dict[str, list[Record]] = {}
    for record in records:
        if not record["quick"]:
            by_kind.setdefault(record["name"].split("-")[0], []).append(record)
    makers = {"scoring": _scoring, "training": _training, "quality": _quality, "endpoint": _endpoint, "demo": _demo}
    parts = [make(by_kind[kind]) for kind, make in makers.items() if kind in by_kind]
    return "\n".join(parts) or "No results yet.\n"


def _records(folder: Path) -> list[Record]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def _scoring(records: list[Record]) -> str:
    rows = [
        [
            r["work"],
            _speed(r["peer"]),
            _speed(r["opportune"]),
            f"**{r['ratio']:.1f}**",
            f"{r['ratio_on_the_peers_questions_alone']:.1f}",
            _wanted(r),
            f"{r['agreement']['identical_predictions']} of {r['agreement']['questions']}",
            f"{r['agreement']['largest_difference']:.1e}",
        ]
        for r in records
    ]
    names = [
        "work",
        f"{records[0]['peer']['name']}, questions/s",
        "Opportune, questions/s",
        "ratio",
        "ratio on the peer's questions alone",
        "to reach",
        "same predictions",
        "largest difference of log-probabilities",
    ]
    return _table("Scoring", names, rows, records)


def _training(records: list[Record]) -> str:
    rows = [
        [
            r["work"],
            _speed(r["peer"]),
            _speed(r["opportune"]),
            f"**{r['ratio']:.2f}**",
            _wanted(r),
            f"{_gib(r['peer'])} / {_gib(r['opportune'])}",
            f"{_losses(r['peer'])} / {_losses(r['opportune'])}",
            f"{r['untrained_dev_loss']:.3f}",
        ]
        for r in records
    ]
    names = [
        "work",
        f"{records[0]['peer']['name']}, real tokens/s",
        "Opportune, real tokens/s",
        "ratio",
        "to reach",
        "peak memory, peer / Opportune",
        "loss on held-out lessons, peer / Opportune",
        "untrained",
    ]
    return _table("Training", names, rows, records)


def _quality(records: list[Record]) -> str:
    rows = [
        [
            f"`{row['recipe']}`",
            "–" if row["score"] is None else f"{row['score']:.3f}",
            "–" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}",
            "–" if row["expected_near"] is None else f"{row['expected_near']:.2f}",
        ]
        for row in records[0]["rows"]
    ]
    names = ["recipe", "accuracy", "95 % interval", "should be near"]
    return _table(f"Quality ({records[0]['work']})", names, rows, records)


def _endpoint(records: list[Record]) -> str:
    rows = [
        [
            r["work"],
            f"{r['seconds']['median']:.2f} s ({r['seconds']['lowest']:.2f} to {r['seconds']['highest']:.2f})",
            f"{r['limits_own_seconds']:.2f} s",
            f"**{r['ratio']:.3f}**",
            _wanted(r),
            f"{r['refused']['median']:.0f}",
            str(r["failed"]),
        ]
        for r in records
    ]
    names = ["work", "wall time", "the limit's own", "ratio", "at most", "calls refused (429)", "failed"]
    return _table("Endpoint", names, rows, records)


def _demo(records: list[Record]) -> str:
    rows = [[r["work"], f"{r['seconds'] / 60:.1f} min", _gib(r)] for r in records]
    return _table("Demo", ["work", "wall time", "peak memory"], rows, records)


def _table(title: str, names: list[str], rows: list[list[str]], records: list[Record]) -> str:
    lines = [" | ".join(cells) for cells in (names, ["---"] * len(names), *rows)]
    table = "\n".join(f"| {line} |" for line in lines)
    origin = "\n".join(dict.fromkeys(_origin(record) for record in records))
    return f"### {title}\n\n{table}\n\n{origin}\n"


def _origin(record: Record) -> str:
    machine, commit = record["machine"], record["commit"]
    flags = ", ".join(machine["flags"]) or "no vector flags"
    dirty = "+" * commit.endswith("+")
    return (
        f"- `{record['command']}`, commit `{commit[:9]}{dirty}`, {record['date'][:10]}: {machine['cpu']}, "
        f"{machine['cores']} cores ({flags}), {machine['memory_gib']} GiB, torch {machine['torch']}."
    )


def _wanted(record: Record) -> str:
    return "–" if record["ratio_to_reach"] is None else f"{record['ratio_to_reach']:g}"


def _speed(side: Record) -> str:
    speed = side["speed"]
    return f"{speed['median']:.3g} ({speed['lowest']:.3g} to {speed['highest']:.3g})"


def _losses(side: Record) -> str:
    return ", ".join(f"{loss:.3f}" for loss in side["dev_loss"]["repeats"])


def _gib(side: Record) -> str:
    return f"{side['peak_bytes'] / 2**30:.2f} GiB"


if __name__ == "__main__":
    main()
