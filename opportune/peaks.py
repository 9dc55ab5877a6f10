"""How much memory an arm will take at most, before it runs: what the process holds with the model in it, and on top of
that what a pass over a pack of prompts, or a training step, keeps at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch

from opportune.inference.engine import pack_rows
from opportune.inference.ranking import HEAD_CELLS
from opportune.inference.tokens import shared_length
from opportune.inference.tree import Item
from opportune.methods.common import attached
from opportune.models.local import Local
from opportune.products import packed_bytes
from opportune.training.loss import device_of
from opportune.training.memory import TILE, layouts, need_of, resident_bytes
from opportune.training.packing import TokenLesson
from opportune.types import Method
from opportune.widths import heads_of


def without_storage(network: Any, methods: Sequence[Method]) -> Iterator[Any]:
    """A network of the same shapes on the meta device under each method of a chain; only good until the next is
    attached to it. Raises RecipeError for a chain or an option that this architecture cannot follow."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(deepcopy(network.config), dtype=network.dtype)
    for method in methods:
        with torch.device("meta"):
            made = attached(method, made, 0)
        yield made


def asking_peak(model: Local, items: Sequence[Item], written: int) -> int:
    """Bytes: the shared beginning's keys and values, and the packs that are computed side by side, of each one layer's
    numbers and the logits. Of texts to be written also the keys and values of each, and the weights laid out."""
    network = model.network
    config, size = network.config.get_text_config(), int(network.dtype.itemsize)
    device = device_of(network)
    depth = shared_length([item.trunk for item in items]) if len(items) > 1 else 0
    rows = min(pack_rows(device), max((item.tokens(depth) for item in items), default=1) * len(items))
    # The head's own numbers, those in float32, and what the softmax makes of them.
    logits = min(HEAD_CELLS, rows * config.vocab_size) * (8 if size == 4 else 8 + size)
    heads, width = heads_of(config), config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    layer = rows * (5 * width + 3 * inner + heads.queries * (depth + TILE))
    keys = 2 * heads.keys * heads.size * config.num_hidden_layers
    side_by_side = torch.get_num_threads() if device.type == "cpu" else 1
    kept = keys * (depth + (rows + written if written else 0))
    laid_out = packed_bytes(network) if written else 0
    return resident_bytes(device) + laid_out + int(size * (kept + side_by_side * layer) + side_by_side * logits)


def training_peak(model: Local, attached: Any, lessons: Sequence[TokenLesson], batch: int) -> int:
    """Bytes: gradients, moments and masters of what moves in `attached` (the network with its method on the meta
    device), and what a step's largest pack keeps for the backward pass."""
    need = need_of(attached, lessons, batch)
    return resident_bytes(device_of(model.network)) + need.of(layouts(model.network)[0])
