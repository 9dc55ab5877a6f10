"""Small labelled data and the files that hold it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

SUBJECTS = ["kettle", "lamp", "rug", "sofa", "router", "vacuum", "pillow", "speaker", "desk", "mirror"]


def messages(count: int = 40, start: int = 0) -> Rows:
    """Messages of two intents in turn, no two alike."""
    rows = []
    for number in range(start, start + count):
        subject, other = SUBJECTS[number % 10], SUBJECTS[number // 10 % 10]
        text = (
            f"where is the {subject} for flat {number}?"
            if number % 2
            else f"{number} {other}s too many, refund my {subject}"
        )
        rows.append({"text": text, "intent": "status" if number % 2 else "refund"})
    return rows


def write_json_lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_separated(path: Path, rows: Rows, delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path
