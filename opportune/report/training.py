"""What training did beside the score, in words: what was read, what was forgotten, whether it generalises."""

from __future__ import annotations

from opportune.records import LossChange
from opportune.report import numbers
from opportune.rows import Row


def notes(row: Row) -> list[str]:
    """The footnotes of a trained arm; none for the others."""
    found = []
    if row.trainable_parameters is not None:
        size = f", artefact of {numbers.memory(row.artefact_bytes)}" if row.artefact_bytes is not None else ""
        found.append(f"{numbers.count(row.trainable_parameters)} parameters trained{size}")
    found += [
        f"read {text.tokens:,} tokens{f', {text.replayed:,} of them general text' if text.replayed else ''}: "
        f"loss on documents held out {_change(text.held_out)}"
        for text in row.read
    ]
    if row.forgetting is not None:
        found.append(f"loss on general text {_change(row.forgetting)}")
    if row.gap is not None and row.gap.opened:
        found.append(
            f"the generalisation gap is open: loss {row.gap.train:.2f} on its own lessons, {row.gap.dev:.2f} on dev"
        )
    return found


def _change(change: LossChange) -> str:
    moved = change.after - change.before
    return f"{change.before:.2f} → {change.after:.2f} nats a token ({numbers.difference(moved)})"
