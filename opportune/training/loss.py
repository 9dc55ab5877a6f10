"""The loss on target tokens: the head and the cross-entropy run on the rows that are read, a chunk at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from opportune.inference.attention import Packed, has_own_attention, head, packed_forward
from opportune.training.packing import Pack, TokenLesson, packs

CHUNK = 256  # rows of logits held at a time: 50 MB in float32 for a vocabulary of 49152


def row_budget(network: Any) -> int:
    """Tokens in one row. On a CPU, speed is flat above 500 and memory is not; a GPU wants more at a time, but computes
    the square of the row (`inference.dense`).

    A network that computes its attention by itself gets one lesson a row.
    """
    if not has_own_attention(network):
        return 0
    return 512 if device_of(network).type == "cpu" else 4096


def device_of(network: Any) -> torch.device:
    """Where the network's input belongs."""
    device: torch.device = network.get_input_embeddings().weight.device
    return device


def summed_loss(network: Any, pack: Pack) -> Tensor:
    """The negative log-likelihood of the pack's targets, summed, float32. Differentiable."""
    return row_losses(network, pack).sum()


def row_losses(network: Any, pack: Pack) -> Tensor:
    """The negative log-likelihood of each target of a pack: [rows], float32. Differentiable."""
    device = device_of(network)
    ids, rows, labels = pack.ids.to(device), pack.rows.to(device), pack.labels.to(device)
    if not has_own_attention(network):
        if reads_rows(network):
            logits = network(input_ids=ids[None], use_cache=False, logits_to_keep=rows).logits[0]
        else:
            logits = network(input_ids=ids[None], use_cache=False).logits[0, rows]
        return cross_entropy(logits.float(), labels, reduction="none")
    hidden = packed_forward(network, ids, pack.plan.positions.to(device), Packed(pack.plan))[rows]
    if len(rows) <= CHUNK or not torch.is_grad_enabled():
        return _chunks(network, hidden, labels, _chunk_losses)
    # With many rows the logits are computed again in the backward pass instead of being kept.
    return _chunks(network, hidden, labels, partial(checkpoint, _chunk_losses, use_reentrant=False))


def reads_rows(network: Any) -> bool:
    """Whether the network's own forward pass can run its head on some rows only."""
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def _chunks(network: Any, hidden: Tensor, labels: Tensor, losses: Callable[..., Any]) -> Tensor:
    parts = zip(torch.split(hidden, CHUNK), torch.split(labels, CHUNK), strict=True)
    return torch.cat([losses(network, rows, wanted) for rows, wanted in parts])


def _chunk_losses(network: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(head(network, hidden).float(), labels, reduction="none")


def lesson_losses(network: Any, lessons: Sequence[TokenLesson]) -> list[float]:
    """The negative log-likelihood of each lesson's targets, summed, in nats. The network is taken as it stands."""
    with torch.no_grad():
        rows = torch.cat([row_losses(network, pack) for pack in packs(lessons, row_budget(network))])
    return [float(own.sum()) for own in torch.split(rows.double(), [lesson.targets for lesson in lessons])]


def lesson_loss(network: Any, lessons: Sequence[TokenLesson]) -> float:
    """The mean negative log-likelihood of a target token, in nats. The network is taken as it stands (eval or not)."""
    with torch.no_grad():
        total = sum(float(summed_loss(network, pack)) for pack in packs(lessons, row_budget(network)))
    return total / sum(lesson.targets for lesson in lessons)
