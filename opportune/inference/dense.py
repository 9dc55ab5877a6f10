"""Attention over a whole row in one call of torch's own kernels: for a GPU, where a call a tile would leave it waiting.

Computes what the tiles compute (see `tiles`), and the rest of the square beside: meant for rows of a few thousand
tokens, where that should cost a GPU less than the hundreds of small calls a layer that it spares (not measured yet). A
row that is one chain of tokens needs no mask, which lets torch take its fastest kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from opportune.inference.tiles import Plan


def seen_by(plan: Plan, masks: Sequence[Tensor], cached: int) -> Tensor | None:
    """What each row sees, true where it does: [T, cached + T]; None for a chain of rows that see all before them.
    `masks` are the tiles' own, with what a window hides."""
    rows = len(plan.positions)
    seen = torch.zeros(rows, cached + rows, dtype=torch.bool)
    for tile, mask in zip(plan.tiles, masks, strict=True):
        common = plan.shared if tile.start >= plan.shared else 0
        columns = torch.cat([torch.arange(cached + common), torch.arange(tile.first, tile.stop) + cached])
        own = torch.ones(tile.stop - tile.start, len(columns), dtype=torch.bool)
        own[:, -mask.shape[1] :] = mask.isfinite()
        seen[tile.start : tile.stop, columns] = own
    chain = cached == 0 and int(seen.sum()) == rows * (rows + 1) // 2  # no row ever sees a later one
    return None if chain else seen


def attend_densely(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scaling: float) -> Tensor:
    """[H, T, D], [K, W, D], [K, W, D] and what each row sees -> [T, H, D]. Differentiable."""
    groups = query.shape[0] // key.shape[0]  # repeated: with a mask, torch's kernels want as many keys as queries
    keys, values = (each.repeat_interleave(groups, 0)[None] for each in (key, value))
    output: Tensor = scaled_dot_product_attention(
        query[None], keys, values, attn_mask=seen, is_causal=seen is None, scale=scaling
    )
    return output[0].transpose(0, 1)
