"""The tables of what training does, for docs/benchmarks.md: equal budgets, continual pretraining, reasoning, ranks."""

from __future__ import annotations

from typing import Any

from benchmarks.strategy_pages import score_of, text_table
from opportune.report.numbers import count, duration, memory

Record = dict[str, Any]


def equal_budget(record: Record) -> str:
    """Every method with so many labels, and what soft prompts hang on."""
    titles = ["labels", "method", *TRAINED]
    rows = [
        [str(row["labels"]), f"`{row['method']}`", *(trained(row) if "rate" in row else ["every rate failed"])]
        for row in record["rows"]
    ]
    rows = [row + ["–"] * (len(titles) - len(row)) for row in rows]
    soft = [[row["what"], score_of(row)] for row in record["soft"]]
    parts = [text_table(titles, rows)]
    if soft:
        parts += ["", "Prompt tuning at its best rate:", "", text_table(["what", "score [95 %]"], soft)]
    return "\n".join(parts)


TRAINED = (
    "learning rate",
    "score [95 %]",
    "by seed",
    "weights that move",
    "time of a training",
    "peak memory",
    "forgetting",
)


def trained(row: Record) -> list[str]:
    """The cells of `TRAINED`."""
    return [
        _rate(row),
        score_of(row),
        ", ".join(f"{score:.3f}" for score in row["scores_by_seed"] if score is not None),
        count(row["trainable"]),
        duration(row["training_seconds"]),
        memory(row["peak_bytes"]),
        "–" if row["forgetting"] is None else f"{row['forgetting']:+.2f}",
    ]


def continual(record: Record) -> str:
    """Loss on the texts read and on general text, and answers about them."""
    asked = ("plain", "typos", "paraphrase")
    titles = ["replay", "loss on held-out proposals", "loss on general text"]
    titles += [f"questions, {variant}" for variant in asked]
    rows = [
        [
            "before"
            if row["replay"] is None
            else "general text alone"
            if row["replay"] == 1
            else f"{row['replay']:.0%}",
            *(_change(row[name]) for name in ("target", "general")),
            *(f"{row['questions'][variant]['accuracy']:.3f} of {row['questions'][variant]['n']}" for variant in asked),
        ]
        for row in record["rows"]
    ]
    return text_table(titles, rows)


def _change(loss: Record | None) -> str:
    return "–" if loss is None else f"{loss['before']:.3f} → {loss['after']:.3f}"


def reasoning_by_training(record: Record) -> str:
    """Accuracy by length, for each sort of lessons."""
    arms = record["arms"]
    lengths = sorted({part["at"] for arm in arms.values() for part in arm["by_length"]})
    return text_table(
        ["lessons", "all [95 %]", *(f"up to {length}" for length in lengths)],
        [[what, score_of(arm), *_by_length(arm, lengths)] for what, arm in arms.items()],
    )


def flexibility(record: Record) -> str:
    """LoRA's ranks against full fine-tuning."""
    lengths = sorted({part["at"] for row in record["rows"] for part in row["by_length"]})
    titles = ["recipe", "learning rate", "score [95 %]", "weights that move", "training"]
    rows = [
        [
            f"`{row['recipe']}`",
            _rate(row),
            score_of(row),
            count(row["trainable"]),
            duration(row["training_seconds"]),
            *_by_length(row, lengths),
        ]
        for row in record["rows"]
    ]
    return text_table([*titles, *(f"up to {length}" for length in lengths)], rows)


def _by_length(arm: Record, lengths: list[int]) -> list[str]:
    found = {part["at"]: f"{part['accuracy']:.2f}" for part in arm["by_length"]}
    return [found.get(length, "–") for length in lengths]


def _rate(row: Record) -> str:
    return f"{row['rate']:g}" + " (end of the grid)" * bool(row["rate_at_edge"])
