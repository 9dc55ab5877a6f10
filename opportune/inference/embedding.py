"""A text as a vector: the mean of the network's last hidden states over its tokens, of length 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opportune.inference.engine import Engine
from opportune.inference.tree import Item, plant


def embed(engine: Engine, pack: Sequence[Item]) -> list[list[float]]:
    """The vectors of a pack of texts, in one pass over their token tree."""
    tree = plant([item.trunk for item in pack], 0)
    hidden, _ = engine.forward(tree, None)
    return [_vector(hidden[torch.tensor(path, device=hidden.device)]) for path in tree.paths]


def embed_plainly(engine: Engine, item: Item) -> list[float]:
    """The vector of one text, as any causal network can."""
    return _vector(engine.states(item.trunk))


def _vector(hidden: Tensor) -> list[float]:
    mean: list[float] = torch.nn.functional.normalize(hidden.float().mean(0), dim=0).tolist()
    return [round(value, 6) for value in mean]  # it is stored as text
