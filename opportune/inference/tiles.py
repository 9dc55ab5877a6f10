"""Attention over a tree of tokens in one row, cut into tiles that compute only what is seen.

A mask over a whole pack costs the square of its length although lessons and questions are short. Here the pack is cut
into tiles of about 128 queries that look only at what they may see: a cached prefix, rows shared by the whole pack, and
the rows of their own subtree (block sparsity as in FlexAttention, Dong et al. 2024, for trees of tokens).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opportune.errors import ModelError
from opportune.inference.dense import attend_densely, seen_by

# ---- what each row sees ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows start:stop see every cached position, the plan's shared rows, and rows first:stop under an additive mask.

    A tile that begins within the shared rows (start < shared) has first = 0, so that they are among its own.
    """

    start: int
    stop: int
    first: int
    mask: Tensor  # [stop - start, stop - first], 0 or -inf, float32


@dataclass(frozen=True, slots=True)
class Plan:
    """How a pack of T rows attends: its tiles in order, how many first rows all others see, and positions [T]."""

    tiles: tuple[Tile, ...]
    shared: int
    positions: Tensor


def tree_plan(parents: Sequence[int], positions: Sequence[int], shared: int = 0, tile: int = 128) -> Plan:
    """Plan a tree of tokens given in depth-first order.

    parents[i] is the row of i's parent, or -1 for a child of the cached prefix. The first `shared` rows are one chain
    that every later row sees, so a later root's parent may be -1 or the chain's end. Whole subtrees are gathered into
    tiles of about `tile` rows, the shared rows into the first; a larger subtree is cut into chunks of queries.
    ValueError if not depth first.
    """
    ends = _subtree_ends(parents, shared)
    bounds = torch.tensor(ends)
    bounds[:shared] = len(parents)
    tiles = []
    for first, last in _groups(parents, ends, shared, tile):
        for start, stop in _chunks(first, last, tile):
            rows, columns = torch.arange(start, stop)[:, None], torch.arange(first, stop)
            # In depth-first order the subtree of row j is j:ends[j], so j is i or its ancestor iff j <= i < ends[j].
            seen = (columns <= rows) & (rows < bounds[first:stop])
            tiles.append(Tile(start, stop, first, hiding(~seen)))
    return Plan(tuple(tiles), shared, torch.as_tensor(positions, dtype=torch.long))


def hiding(hidden: Tensor) -> Tensor:
    """An additive mask: -inf where hidden, else 0, float32."""
    return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))


def _subtree_ends(parents: Sequence[int], shared: int) -> list[int]:
    """One past the last row of each row's subtree; the shared chain counts as a subtree of its own."""
    ends = [len(parents)] * len(parents)
    ends[:shared] = [shared] * shared
    path: list[int] = []
    for row, parent in enumerate(parents):
        if row < shared and parent != row - 1:
            raise ValueError(f"row {row} is shared and must follow row {row - 1}, not {parent}")
        if row >= shared and parent == shared - 1:
            parent = -1
        if row == shared:
            path.clear()
        while path and path[-1] != parent:
            ends[path.pop()] = row
        if not path and parent != -1:
            raise ValueError(f"row {row} has parent {parent}: rows must come in depth-first order")
        path.append(row)
    return ends


def _groups(parents: Sequence[int], ends: list[int], shared: int, tile: int) -> list[tuple[int, int]]:
    """Runs of whole top subtrees of at most `tile` rows together, or one larger subtree; the shared rows come first."""
    groups = []
    row, first = shared, 0
    while row < len(parents):
        if row > first and ends[row] - first > tile:
            groups.append((first, row))
            first = row
        row = ends[row]
    return [*groups, (first, row)] if row > first else groups


def _chunks(first: int, last: int, tile: int) -> Iterator[tuple[int, int]]:
    """Cut first:last into pieces of `tile`, the last one up to half as long again."""
    start = first
    while last - start >= 1.5 * tile:
        yield start, start + tile
        start += tile
    yield start, last


# ---- attention over a plan ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prefix:
    """The cached keys and values, one [K, P, D] a layer, of positions 0 to P - 1. No gradient flows into it."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int


class Packed:
    """Attends over a plan, after an optional cached prefix. With `capture`, `keys` and `values` keep this pass's, one
    [K, T, D] a layer."""

    def __init__(self, plan: Plan, prefix: Prefix | None = None, capture: bool = False) -> None:
        self.plan, self.prefix, self.capture = plan, prefix, capture
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._masks: dict[Any, list[Tensor]] = {}
        self._seen: dict[Any, Tensor | None] = {}

    def attend(
        self,
        layer_index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """See the module."""
        if self.capture:
            if layer_index != len(self.keys):
                raise ModelError(f"layer {layer_index} attended after {len(self.keys)} layers")
            self.keys.append(key.detach().contiguous())  # not a view of more than is kept
            self.values.append(value.detach().contiguous())
        cached = (self.prefix.keys[layer_index], self.prefix.values[layer_index]) if self.prefix else None
        if query.is_cuda and softcap is None:
            return self.attend_densely(query, key, value, cached, scaling, window)
        masks = self._masks_for(window, query)
        if softcap is None:
            return _TiledAttention.apply(query, key, value, cached, self.plan, masks, scaling)  # type: ignore
        return _attend(query, key, value, cached, self.plan, masks, scaling, softcap)[0]

    def attend_densely(
        self, query: Tensor, key: Tensor, value: Tensor, cached: Cached, scaling: float, window: int | None
    ) -> Tensor:
        """The same in one call of torch's kernels, which suits a GPU."""
        if window not in self._seen:
            length = self.prefix.length if self.prefix else 0
            seen = seen_by(self.plan, [_windowed(self.plan, tile, length, window) for tile in self.plan.tiles], length)
            self._seen[window] = None if seen is None else seen.to(query.device)
        if cached is not None:
            key, value = torch.cat([cached[0], key], 1), torch.cat([cached[1], value], 1)
        return attend_densely(query, key, value, self._seen[window], scaling)

    def extended(self) -> Prefix:
        """The prefix followed by all rows of this pass, which was one chain and captured."""
        if self.prefix is None:
            return Prefix(self.keys, self.values, len(self.plan.positions))
        join = [[torch.cat(pair, 1) for pair in zip(a, b, strict=True)] for a, b in self._pairs(self.prefix)]
        return Prefix(join[0], join[1], self.prefix.length + len(self.plan.positions))

    def _pairs(self, prefix: Prefix) -> list[tuple[list[Tensor], list[Tensor]]]:
        return [(prefix.keys, self.keys), (prefix.values, self.values)]

    def _masks_for(self, window: int | None, like: Tensor) -> list[Tensor]:
        """A mask per tile over its last columns, or over all of them where the window cuts something off."""
        if window not in self._masks:
            cached = self.prefix.length if self.prefix else 0
            masks = [_windowed(self.plan, tile, cached, window) for tile in self.plan.tiles]
            self._masks[window] = [mask.to(like) for mask in masks]
        return self._masks[window]


def _windowed(plan: Plan, tile: Tile, cached: int, window: int | None) -> Tensor:
    """The tile's mask with the columns hidden that are `window` or more positions back."""
    if window is None:
        return tile.mask
    common = plan.positions[: plan.shared if tile.start >= plan.shared else 0]
    columns = torch.cat([torch.arange(cached), common, plan.positions[tile.first : tile.stop]])
    hidden = plan.positions[tile.start : tile.stop, None] - columns >= window
    if not hidden.any():
        return tile.mask
    mask = torch.zeros(hidden.shape)
    mask[:, -tile.mask.shape[1] :] = tile.mask
    return mask.masked_fill_(hidden, float("-inf"))


Cached = tuple[Tensor, Tensor] | None


def _columns(rows: Tensor, cached: Tensor | None, plan: Plan, tile: Tile) -> Tensor:
    """What the tile's queries look at, in order: cached, shared, own. [K, T, D] -> [K, W, D]."""
    parts = [] if cached is None else [cached]
    if 0 < plan.shared <= tile.start:
        parts.append(rows[:, : plan.shared])
    parts.append(rows[:, tile.first : tile.stop])
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cached: Cached,
    plan: Plan,
    masks: list[Tensor],
    scaling: float,
    softcap: float | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Attention tile by tile: the output [T, H, D] and each tile's probabilities [K, G n, W]. Differentiable."""
    heads, groups = query.shape[0], key.shape[0]
    outputs, probabilities = [], []
    query = query * scaling
    for tile, mask in zip(plan.tiles, masks, strict=True):
        rows = tile.stop - tile.start
        keys = _columns(key, cached[0] if cached else None, plan, tile)
        values = _columns(value, cached[1] if cached else None, plan, tile)
        asked = query[:, tile.start : tile.stop].reshape(groups, -1, query.shape[-1])
        scores = torch.bmm(asked, keys.transpose(1, 2))
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores.view(heads, rows, -1)[..., -mask.shape[1] :].add_(mask)
        weights = torch.softmax(scores, -1)
        outputs.append(torch.bmm(weights, values).view(heads, rows, -1).transpose(0, 1))
        probabilities.append(weights)
    return torch.cat(outputs), probabilities


class _TiledAttention(torch.autograd.Function):
    """`_attend` with its backward written out: it reuses the probabilities and adds into one gradient a tensor."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, cached: Cached, plan: Plan, masks: Any, scaling: float
    ) -> Tensor:
        output, probabilities = _attend(query, key, value, cached, plan, masks, scaling)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(query, key, value, *probabilities)
            ctx.cached, ctx.plan, ctx.scaling = cached, plan, scaling
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, *probabilities = ctx.saved_tensors
        plan, cached, groups = ctx.plan, ctx.cached, key.shape[0]
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for tile, weights in zip(plan.tiles, probabilities, strict=True):
            span = slice(tile.start, tile.stop)
            keys = _columns(key, cached[0] if cached else None, plan, tile)
            values = _columns(value, cached[1] if cached else None, plan, tile)
            gradient = gradients[0][span].transpose(0, 1).reshape(groups, -1, value.shape[-1])
            d_scores = torch.bmm(gradient, values.transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_scores, weights, -1, weights.dtype)
            d_query[:, span] = torch.bmm(d_scores, keys).view(query.shape[0], -1, query.shape[-1])
            asked = query[:, span].reshape(groups, -1, query.shape[-1])
            _add_columns(d_key, d_scores, asked, plan, tile)
            _add_columns(d_value, weights, gradient, plan, tile)
        return d_query.mul_(ctx.scaling), d_key.mul_(ctx.scaling), d_value, None, None, None, None


def _add_columns(total: Tensor, weights: Tensor, rows: Tensor, plan: Plan, tile: Tile) -> None:
    """Add weights^T rows to the columns that are rows of the pack (the cached ones take no gradient)."""
    own = tile.stop - tile.first
    common = plan.shared if tile.start >= plan.shared else 0
    added = torch.bmm(weights[..., weights.shape[-1] - own - common :].transpose(1, 2), rows)
    if common:
        total[:, :common] += added[:, :common]
    total[:, tile.first : tile.stop] += added[:, common:]
