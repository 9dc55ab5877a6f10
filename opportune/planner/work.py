"""Floating-point operations of a step, by method. A multiply-add is two; only matrix products count, as in torch.

For T tokens of which `rows` are read by the head, and `pairs` (query, key) pairs in each attention layer:

    forward  = 2 (W + A) T + 2 (Q + V) pairs + 2 H rows
    backward = 2 W T depth + 2 W T share + 4 A T + 4 (Q + V) pairs depth + 2 H rows (+ 2 H rows where the head moves)

W linear weights that a token passes, A adapter weights, Q and V the widths of queries and of values over all layers, H
hidden size x vocabulary; `share` of the weights moves, `depth` of the layers is passed backwards (Kaplan et al. 2020;
Hoffmann et al. 2022 appendix F; for a frozen base the weights' gradients vanish and those of the inputs stay). Virtual
tokens are tokens; virtual keys are pairs. Checkpointed layers are computed forward once more.
"""

from __future__ import annotations

from dataclasses import dataclass

from opportune.planner.architecture import Architecture, count, linears
from opportune.planner.techniques import Change

READING = 0.5  # share of large products' speed that reading prompts reaches
TOGETHER = 16  # sequences that are read or written together


@dataclass(frozen=True, slots=True)
class Load:
    """What one pass carries through the network."""

    sequences: int
    length: int  # tokens of each, padding included
    rows: int | None = None  # tokens that the head reads; None: all
    causal: bool = False  # count only the pairs that a causal mask leaves, as fused attention computes them

    @property
    def tokens(self) -> int:
        """Tokens in all."""
        return self.sequences * self.length

    def under(self, change: Change) -> Load:
        """With the virtual tokens of a technique."""
        if not change.tokens:
            return self
        rows = self.tokens if self.rows is None else self.rows
        return Load(self.sequences, self.length + change.tokens, rows, self.causal)

    def pairs(self, keys: int = 0) -> float:
        """(Query, key) pairs in each layer."""
        seen = (self.length + 1) / 2 if self.causal else self.length
        return self.tokens * (seen + keys)


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of one pass."""

    forward: float
    backward: float
    again: float = 0.0  # forward once more, for checkpointing
    attention: float = 0.0  # of all of them, in attention's own products

    @property
    def total(self) -> float:
        """Everything that the hardware computes."""
        return self.forward + self.backward + self.again


def widths(a: Architecture) -> int:
    """Width of queries plus width of values, over all layers."""
    values = a.heads * a.latent.value if a.latent else a.query_width
    return a.layers * (a.query_width + values)


def flops(a: Architecture, change: Change, load: Load, recompute: float = 0.0) -> Flops:
    """Of one pass forward and backward; `recompute` is the share of the layers computed once more."""
    load = load.under(change)
    c, tokens, pairs = count(a), load.tokens, load.pairs(change.keys)
    rows = tokens if load.rows is None else load.rows
    attention = 2.0 * widths(a) * pairs
    layers = 2.0 * (c.active_linear + change.adapters) * tokens
    head = 2.0 * c.head * rows
    backward = (
        2.0 * c.active_linear * tokens * (change.depth + change.share)
        - 2.0 * _first(a, change) * tokens
        + 4.0 * change.adapters * tokens
        + 2.0 * attention * change.depth
        + head * (2 if change.head else 1)
    )
    again = recompute * (layers + attention)
    return Flops(layers + attention + head, backward, again, attention * (1 + 2 * change.depth + recompute))


def _first(a: Architecture, change: Change) -> int:
    """Weights that read the embedding, whose input needs no gradient where neither it nor a virtual token moves."""
    if not change.frozen or change.tokens:
        return 0
    readers = a.names.qkv + (a.names.up if a.parallel else ())
    return sum(m.inputs * m.outputs for m in linears(a) if m.name in readers and m.times == a.layers)


def asking_flops(a: Architecture, tokens: float, pairs: float, rows: float) -> float:
    """Of a forward pass alone: reading tokens, or writing them one by one."""
    return 2.0 * count(a).active_linear * tokens + 2.0 * widths(a) * pairs + 2.0 * count(a).head * rows
