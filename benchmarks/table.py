"""The tables of results in docs/benchmarks.md and docs/strategies/, made from the JSON files beside this one.

python -m benchmarks.table [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import method_pages, strategy_pages, training_tables
from benchmarks.common import RESULTS, ROOT
from opportune.report.numbers import duration

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: made by `python -m benchmarks.table` -->", "<!-- end of results -->"
Record = dict[str, Any]


def main() -> None:
    """Write the tables into the pages; with --check, exit 1 where one differs instead."""
    for path, made in pages(_records(RESULTS)).items():
        if "--check" not in sys.argv[1:]:
            path.write_text(made)
        elif made != path.read_text():
            sys.exit(f"{path} is out of date: run `python -m benchmarks.table`")


def pages(records: list[Record]) -> dict[Path, str]:
    """Every page with results in it, as it should read."""
    head, rest = PAGE.read_text().split(BEGIN)
    made = f"{head}{BEGIN}\n\n{tables(records)}\n{END}{rest.split(END)[1]}"
    return {PAGE: made} | strategy_pages.pages(records) | method_pages.pages(records)


def tables(records: list[Record]) -> str:
    """All results as Markdown; a measurement that was made with --quick is none and is left out."""
    by_kind: dict[str, list[Record]] = {}
    for record in records:
        if not record["quick"]:
            by_kind.setdefault(_kind(record), []).append(record)
    makers = {
        "scoring": _scoring,
        "generation": _generation,
        "training": _training,
        "quality": _quality,
        "calibration": _calibration,
        "retrieval": _retrieval,
        "reasoning": _reasoning,
        "endpoint": _endpoint,
        "demo": _demo,
        "all": _groups,
    }
    parts = [make(by_kind[kind]) for kind, make in makers.items() if kind in by_kind]
    for kind, (title, make) in _OF_TRAINING.items():
        parts += [
            f"### {title} ({record['work'] if isinstance(record['work'], str) else _spelt(record['work'])})\n\n"
            f"{make(record)}\n\n{_origin(record)}\n"
            for record in by_kind.get(kind, ())
        ]
    return "\n".join(parts) or "No results yet.\n"


_OF_TRAINING = {
    "equal-budget": ("Equal tuning budgets", training_tables.equal_budget),
    "continual": ("Continual pretraining", training_tables.continual),
    "reasoning-by-training": ("Reasoning by training", training_tables.reasoning_by_training),
    "flexibility": ("Ranks against full fine-tuning", training_tables.flexibility),
}


def _kind(record: Record) -> str:
    name = str(record["name"])
    return next((kind for kind in _OF_TRAINING if name.startswith(kind)), name.split("-")[0])


def _spelt(work: Record) -> str:
    return ", ".join(f"{name} {value}" for name, value in work.items())


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


def _generation(records: list[Record]) -> str:
    rows = [
        [
            r["work"],
            _speed(r["opportune"]),
            *(cell for peer in _WRITERS for cell in (_speed(r[peer]), f"**{r['ratio'][peer]:.1f}**")),
            ", ".join(f"{r['ratio_to_reach'][peer]:g}" for peer in _WRITERS),
            f"{r['identical_answers']['same_as_transformers']} of {r['identical_answers']['of']}",
        ]
        for r in records
    ]
    peers = [cell for peer in _WRITERS for cell in (f"{peer}, new tokens/s", "ratio")]
    names = ["work", "Opportune, new tokens/s", *peers, "to reach", "same answers as transformers"]
    many = records[0]["self_consistency"]
    times = [f"{many[name]:g} times" for name in ("seconds_ratio", "new_tokens_ratio", "prompt_tokens_computed_ratio")]
    note = (
        f"{many['samples']} samples of each of {many['questions']} prompts, against one: {times[0]} the seconds, "
        f"{times[1]} the new tokens, {times[2]} the prompt's.\n"
    )
    return f"{_table('Generation', names, rows, records)}\n{note}"


_WRITERS = ("transformers", "llama.cpp")


def _calibration(records: list[Record]) -> str:
    kinds = ("none", "contextual", "batch")
    rows = [
        [row["task"], str(row["shots"]), *(cell for kind in kinds for cell in _drawn(row[kind]))]
        for row in records[0]["rows"]
    ]
    words = {"none": "plain", "contextual": "contextual", "batch": "batch"}
    names = ["task", "shots", *(cell for kind in kinds for cell in (f"{words[kind]}: mean ± sd", "worst"))]
    return _table(f"Calibration ({records[0]['work']})", names, rows, records)


def _drawn(spread: Record) -> tuple[str, str]:
    return f"{spread['mean']:.3f} ± {spread['sd']:.3f}", f"{spread['worst']:.3f}"


def _retrieval(records: list[Record]) -> str:
    return _table(f"Retrieval ({records[0]['work']})", _ASKED, list(map(_asked, records[0]["rows"])), records)


def _reasoning(records: list[Record]) -> str:
    rows = [[row["task"], *_asked(row)] for row in records[0]["rows"]]
    return _table(f"Reasoning on a small model ({records[0]['work']})", ["task", *_ASKED], rows, records)


_ASKED = ["recipe", "score", "95 % interval", "unparsed", "calls a question", "tokens in / out"]


def _asked(row: Record) -> list[str]:
    """A row of a comparison."""
    scored = row["score"] is not None
    return [
        f"`{row['recipe']}`",
        f"{row['score']:.3f}" if scored else row["status"],
        f"{row['low']:.3f} to {row['high']:.3f}" if scored else "–",
        f"{row['unparsed']} of {row['n'] * max(len(row['scores_by_seed']), 1)}",
        "–" if row["calls_per_question"] is None else f"{row['calls_per_question']:g}",
        f"{row['tokens_in_per_question']:.0f} / {row['tokens_out_per_question']:.0f}",
    ]


def _training(records: list[Record]) -> str:
    rows = [
        [
            r["work"],
            peer["name"],
            _speed(peer),
            _speed(r["opportune"]),
            f"**{peer['ratio']:.2f}**",
            _wanted(r) if place == 0 else "–",
            f"{_gib(peer)} / {_gib(r['opportune'])}",
            f"{_losses(peer)} / {_losses(r['opportune'])}",
            f"{r['untrained_dev_loss']:.3f}",
        ]
        for r in records
        for place, peer in enumerate(r["peers"])
    ]
    names = [
        "work",
        "peer",
        "its real tokens/s",
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
    rows = [[r["work"], f"{r['seconds'] / 60:.1f} min", _gib(r), *_foreseen(r["arms"])] for r in records]
    return _table("Demo", ["work", "wall time", "peak memory", *_FORESEEN], rows, records)


_FORESEEN = ["arms' time, measured / predicted", "their memory, measured / predicted"]


def _foreseen(arms: list[Record]) -> list[str]:
    """The middle ratio over the arms and its range."""
    cells = []
    for known, told in (("seconds", "predicted_seconds"), ("peak_bytes", "predicted_bytes")):
        ratios = sorted(arm[known] / arm[told] for arm in arms if arm[told] and arm[known])
        cells.append(f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else "–")
    return cells


def _groups(records: list[Record]) -> str:
    """Each group's time, then its arms."""
    parts = []
    for r in records:
        times = [f"{r[name] / 60:.1f} min" for name in ("seconds", "seconds_at_most")]
        names = ["work", "wall time", "at most", *_FORESEEN]
        whole = _table(f"`--try {r['name']}`", names, [[r["work"], *times, *_foreseen(r["rows"])]], [r])
        arms = [[f"`{row['recipe']}`", strategy_pages.score_of(row), duration(row["seconds"])] for row in r["rows"]]
        parts.append(
            whole + "\n" + strategy_pages.text_table(["recipe", "score [95 %]", "time on its own"], arms) + "\n"
        )
    return "\n".join(parts)


def _table(title: str, names: list[str], rows: list[list[str]], records: list[Record]) -> str:
    origin = "\n".join(dict.fromkeys(_origin(record) for record in records))
    return f"### {title}\n\n{strategy_pages.text_table(names, rows)}\n\n{origin}\n"


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
