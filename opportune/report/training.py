"""What training did beside the score, in words: what was read, what was forgotten, whether it generalises."""

from __future__ import annotations

from collections.abc import Sequence

from opportune.records import LossChange
from opportune.report import numbers
from opportune.rows import Row
from opportune.spec import parse

_ALIKE = 0.06  # of the tokens read: replay at its default adds a twentieth


def notes(row: Row, rows: Sequence[Row]) -> list[str]:
    """The footnotes of a trained arm of a comparison's rows; none for the others."""
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
    found += _beyond_control(row, rows)
    if row.gap is not None and row.gap.opened:
        found.append(
            f"the generalisation gap is open: loss {row.gap.train:.2f} on its own lessons, {row.gap.dev:.2f} on dev"
        )
    return found


def _beyond_control(row: Row, rows: Sequence[Row]) -> list[str]:
    """Against the arm that read as much general text alone: what is due to the corpus, and not to training at all."""
    control = next((other for other in rows if _controls(other, row)), None)
    if control is None:
        return []
    pairs = [("documents held out", row.read[0].held_out, control.read[0].held_out)]
    if row.forgetting and control.forgetting:
        pairs.append(("general text", row.forgetting, control.forgetting))
    losses = [f"on {text} {numbers.difference(mine.after - its.after)}" for text, mine, its in pairs]
    return [f"against as much general text alone ({control.recipe}): loss {', '.join(losses)}"]


def _controls(other: Row, row: Row) -> bool:
    """Whether the other arm differs in having read general text alone, and is done."""
    if other is row or len(other.read) != 1 or len(row.read) != 1:
        return False
    mine, its = row.read[0], other.read[0]
    alone = its.replayed == its.tokens and mine.replayed < mine.tokens
    alike = mine.held_out.text == its.held_out.text and abs(mine.tokens - its.tokens) <= _ALIKE * mine.tokens
    return alone and alike and parse(other.recipe).parts[1:] == parse(row.recipe).parts[1:]


def _change(change: LossChange) -> str:
    moved = change.after - change.before
    return f"{change.before:.2f} → {change.after:.2f} nats a token ({numbers.difference(moved)})"
