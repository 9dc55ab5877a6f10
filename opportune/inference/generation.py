"""Batched decoding over the prefix cache: answers are written side by side, one row of B tokens a step.

The prompts of a group are read as one token tree. Each answer then has its own keys and values in a buffer that grows,
while those of the common prefix are there once for all (as in Hydragen, Juravsky et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opportune.inference.attention import Prefix
from opportune.inference.decoding import Request, Sample, Writer, choose
from opportune.inference.engine import Engine
from opportune.inference.tiles import hiding
from opportune.inference.tree import Item, packs, plant

_ROWS = 64
# Tokens. A buffer is used whole, for products of a part of it are slower, so it must not be long early; the prefix and
# it together are a multiple of this, over which the softmax is a fifth faster.
_GROWTH = 32
_CELLS = 16_384  # tokens of own keys and values in a group's buffers, most of the memory that decoding takes


def groups(requests: Sequence[Request], depth: int) -> list[list[Request]]:
    """Requests to decode together, of like length: at most 64 rows (one request's samples stay together), as many in
    one group as in another, for they may run side by side, and buffers within bounds. Depends on the requests alone."""
    result: list[list[Request]] = []
    rows, most = 0, _even_rows([request.rows for request in requests])
    for request in sorted(requests, key=lambda each: (-each.tokens(depth), each.index)):
        width = (result[-1][0] if result else request).tokens(depth)
        if not result or rows + request.rows > min(most, _CELLS // width):
            result.append([])
            rows = 0
        result[-1].append(request)
        rows += request.rows
    return result


def _even_rows(rows: Sequence[int]) -> int:
    """The rows of a group, where no more groups are made than need be."""
    total = sum(rows)
    return min(math.ceil(total / math.ceil(total / _ROWS)) + max(rows) - 1, _ROWS)


def generate(engine: Engine, group: Sequence[Request], prefix: Prefix | None, tokenizer: Any) -> list[list[Sample]]:
    """The samples of each request of a group."""
    writers = [[Writer(request, n, tokenizer) for n in range(request.rows)] for request in group]
    depth = prefix.length if prefix else 0
    batch = _Batch(prefix, max(len(request.ids) - depth for request in group), [w for ws in writers for w in ws])
    _read_prompts(engine, group, prefix, batch)
    while batch.live:
        ids = [writer.written[-1] for writer in batch.live]
        hidden = engine.step(ids, batch.positions(), batch, batch.pairs())
        batch.advance(choose(engine.logits(hidden), batch.live))
    return [_samples(request, rows) for request, rows in zip(group, writers, strict=True)]


def generate_plainly(engine: Engine, request: Request, tokenizer: Any) -> list[Sample]:
    """The samples of one request, one after another, as any causal network can. Networks without transformers' usual
    cache, and those that add virtual tokens to whatever they are fed, read everything again at every step."""
    writers = [Writer(request, n, tokenizer) for n in range(request.rows)]
    cached = isinstance(engine.network, PreTrainedModel)
    for writer in writers:
        past = None
        while not writer.done:
            fed = [*request.ids, *writer.written] if past is None else writer.written[-1:]
            logits, past = engine.plainly(fed, past, cached)
            writer.write(choose(logits[-1:], [writer])[0])
    return _samples(request, writers)


def _samples(request: Request, writers: Sequence[Writer]) -> list[Sample]:
    samples = [writer.sample() for writer in writers]
    return samples if request.temperature > 0 else samples * request.samples


def _read_prompts(engine: Engine, group: Sequence[Request], prefix: Prefix | None, batch: _Batch) -> None:
    """Run the group's prompts as token trees; fill the buffers and choose each row's first token."""
    depth = prefix.length if prefix else 0
    first: dict[int, list[int]] = {}
    row = 0
    for n, request in enumerate(group):
        first[n] = list(range(row, row + request.rows))
        row += request.rows
    tokens = [0] * row
    for pack in packs([Item(n, request.ids) for n, request in enumerate(group)], depth, engine.budget):
        tree = plant([item.trunk[depth:] for item in pack], depth)
        hidden, attention = engine.forward(tree, prefix, capture=True)
        logits = engine.logits(hidden[[path[-1] for path in tree.paths]])
        for n, (item, path) in enumerate(zip(pack, tree.paths, strict=True)):
            slots = first[item.index]
            batch.fill(slots, attention.keys, attention.values, path)
            chosen = choose(logits[n].expand(len(slots), -1), [batch.live[slot] for slot in slots])
            for slot, token in zip(slots, chosen, strict=True):
                tokens[slot] = token
    batch.start(tokens)


class _Batch:
    """The attention of answers being written: row b sees the common prefix and its own tokens.

    Live rows fill the front of the buffers; a finished row's place is taken by the last one. The prompts end in one
    column, so that all rows write into the same.
    """

    def __init__(self, prefix: Prefix | None, longest: int, writers: Sequence[Writer]) -> None:
        self.live = list(writers)
        self._prefix, self._depth = prefix, prefix.length if prefix else 0
        self._longest = self._at = longest  # the column of the next token
        self._width = math.ceil((self._depth + longest + 1) / _GROWTH) * _GROWTH - self._depth
        self._starts = torch.zeros(len(writers), dtype=torch.long)  # the column of each row's first token
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._masks: dict[int | None, tuple[Tensor | None, Tensor]] = {}

    def positions(self) -> Tensor:
        """The position of each live row's next token."""
        return self._depth + self._at - self._starts[: len(self.live)]

    def pairs(self) -> int:
        """What the attention of the next step computes in a layer."""
        return len(self.live) * int(self.positions().max() + 1)

    def fill(self, slots: Sequence[int], keys: Sequence[Tensor], values: Sequence[Tensor], path: Sequence[int]) -> None:
        """Put a prompt's keys and values, rows `path` of a pass, into the buffers of its samples."""
        if not self._keys:
            self._keys = [self._buffer(layer) for layer in keys]
            self._values = [self._buffer(layer) for layer in values]
        rows, start = torch.tensor(path, device=keys[0].device), self._longest - len(path)
        for buffers, layers in ((self._keys, keys), (self._values, values)):
            for buffer, layer in zip(buffers, layers, strict=True):
                buffer[slots[0] : slots[-1] + 1, :, start : self._longest] = layer[:, rows]
        self._starts[slots[0] : slots[-1] + 1] = start

    def _buffer(self, layer: Tensor) -> Tensor:
        """Zeros, for what is hidden still takes part with weight 0."""
        return layer.new_zeros(len(self.live), layer.shape[0], self._width, layer.shape[2])

    def start(self, tokens: Sequence[int]) -> None:
        """Write each row's first token, whose keys and values are not there yet."""
        self._write(tokens)

    def advance(self, tokens: Sequence[int]) -> None:
        """After a pass: the tokens fed are in the buffers, and each row has its next one."""
        self._at += 1
        self._write(tokens)

    def _write(self, tokens: Sequence[int]) -> None:
        self._masks.clear()
        for writer, token in zip(self.live, tokens, strict=True):
            writer.write(token)
        for row in reversed(range(len(self.live))):
            if self.live[row].done:
                self._drop(row)
        if self.live and self._at >= self._width:
            self._grow()

    def _grow(self) -> None:
        for buffers in (self._keys, self._values):
            for layer, buffer in enumerate(buffers):
                buffers[layer] = torch.nn.functional.pad(buffer[: len(self.live)], (0, 0, 0, _GROWTH))
        self._width += _GROWTH

    def _drop(self, row: int) -> None:
        last = len(self.live) - 1
        if row != last:
            for buffer in (*self._keys, *self._values):
                buffer[row, :, : self._at] = buffer[last, :, : self._at]
            self._starts[row] = self._starts[last]
            self.live[row] = self.live[last]
        self.live.pop()

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
        """One step of one layer, as `attention.Attending` says; T is the number of live rows."""
        heads, rows, size = query.shape
        groups = key.shape[0]
        keys, values = self._keys[layer_index][:rows], self._values[layer_index][:rows]
        keys[:, :, self._at], values[:, :, self._at] = key.transpose(0, 1), value.transpose(0, 1)
        asked = (query * scaling).view(groups, -1, rows, size)  # [K, G, B, D]
        flat = asked.permute(2, 0, 1, 3).reshape(rows * groups, -1, size)
        before, mask = self._masks_for(window, query)
        own = _scores(flat, keys.flatten(0, 1), softcap).view(rows, heads, -1).add_(mask)
        parts = [own.view(rows, groups, -1, self._width).permute(1, 2, 0, 3)]
        if self._prefix:
            common = _scores(asked.flatten(1, 2), self._prefix.keys[layer_index], softcap).view(*asked.shape[:3], -1)
            parts.insert(0, common if before is None else common.add_(before))
        weights = torch.cat(parts, -1).softmax(-1)  # [K, G, B, depth + width]
        flat = weights[..., self._depth :].permute(2, 0, 1, 3).reshape(rows * groups, -1, self._width)
        output = torch.bmm(flat, values.flatten(0, 1)).view(rows, heads, -1)
        if self._prefix:
            shares = weights.flatten(1, 2)[..., : self._depth]
            common = torch.bmm(shares, self._prefix.values[layer_index])
            output += common.view(heads, rows, -1).transpose(0, 1)
        return output

    def _masks_for(self, window: int | None, like: Tensor) -> tuple[Tensor | None, Tensor]:
        """0 or -inf over the prefix's tokens, [rows, depth], where a window hides some, and over the own ones,
        [rows, 1, width]."""
        if window not in self._masks:
            starts, columns = self._starts[: len(self.live), None], torch.arange(self._width)
            own, before = (columns < starts) | (columns > self._at), None
            if window is not None:
                own |= self._at - columns >= window
                before = hiding(self.positions()[:, None] - torch.arange(self._depth) >= window).to(like)
            self._masks[window] = before, hiding(own).to(like)[:, None]
        return self._masks[window]


def _scores(asked: Tensor, keys: Tensor, softcap: float | None) -> Tensor:
    """[N, Q, D] and [N, W, D] -> [N, Q, W]."""
    scores = torch.bmm(asked, keys.transpose(1, 2))
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap
