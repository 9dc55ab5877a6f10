"""Scores of choices: the summed log-probability of each one's tokens after its question."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opportune.inference.attention import Prefix
from opportune.inference.engine import Engine
from opportune.inference.tree import Item, Read, plant_choices

HEAD_CELLS = 16_000_000  # logits computed at a time: 64 MB in float32


def rank(engine: Engine, pack: Sequence[Item], prefix: Prefix | None) -> list[list[float]]:
    """Score the choices of a pack of questions in one pass over their token tree: one list an item."""
    tree, reads = plant_choices(pack, prefix.length if prefix else 0)
    hidden, _ = engine.forward(tree, prefix)
    return _summed(pack, reads, _log_probabilities(engine, hidden, reads))


def rank_plainly(engine: Engine, item: Item) -> list[float]:
    """Score the choices of a question one by one, as any causal network can. Choices that differ in their last token
    only share a pass."""
    known: dict[tuple[int, ...], Tensor] = {}
    scores = []
    for branch in item.branches:
        fed = (*item.trunk, *branch[:-1])
        if fed not in known:
            logits, _ = engine.plainly(fed)
            known[fed] = logits[-max(1, len(branch)) :].log_softmax(-1)
        scores.append(sum(float(known[fed][i, token]) for i, token in enumerate(branch)))
    return scores


def _log_probabilities(engine: Engine, hidden: Tensor, reads: Sequence[Read]) -> list[float]:
    """The log-probability of each read; the head runs once for every row that is read, some rows at a time."""
    rows = sorted({read.row for read in reads})
    place = {row: n for n, row in enumerate(rows)}
    chunk = max(1, HEAD_CELLS // engine.network.config.get_text_config().vocab_size)
    values = [0.0] * len(reads)
    for start in range(0, len(rows), chunk):
        some = rows[start : start + chunk]
        logits = engine.logits(hidden[some])
        here = [n for n, read in enumerate(reads) if some[0] <= read.row <= some[-1]]
        at = torch.tensor([place[reads[n].row] - start for n in here], device=logits.device)
        tokens = torch.tensor([reads[n].token for n in here], device=logits.device)
        found = logits[at, tokens] - logits.logsumexp(-1)[at]
        for n, value in zip(here, found.tolist(), strict=True):
            values[n] = value
    return values


def _summed(pack: Sequence[Item], reads: Sequence[Read], values: Sequence[float]) -> list[list[float]]:
    scores = [[0.0] * len(item.branches) for item in pack]
    for read, value in zip(reads, values, strict=True):
        scores[read.item][read.branch] += value
    return scores
