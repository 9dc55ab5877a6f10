"""What a forward pass keeps for the backward pass, in bytes a token: an account of every kept tensor of a layer.

Autograd keeps a product's input where the weight moves, a factor where the other factor needs a gradient, and what an
activation function or norm computes its derivative from. With `e` bytes an element and widths h (hidden), q (queries),
k (keys), f (feed-forward), a gated layer under full training keeps 8h + eh (float32 copies for two RMS norms, and the
normed input of each set of products twice), e(2q + 2k) in attention, and 4ef in the feed-forward part; with a frozen
base the inputs of products and the last f go. Korthikanti et al. (2022) count the same for GPT-3's layer: 34 h.
Tested against torch's saved tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

from opportune.planner.architecture import Architecture
from opportune.planner.stacks import Stack
from opportune.planner.techniques import Change


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes that stay for the backward pass."""

    layer: float  # a token, in one layer
    boundary: float  # a token, in one layer that is checkpointed: its input alone
    outside: float  # a token, after the last layer, without logits


def kept(a: Architecture, change: Change, stack: Stack, element: int = 2, *, quantised: bool = False) -> Kept:
    """The account for one architecture, technique and program; `element` is 2 for 16-bit activations, 4 for float32."""
    wide = 4 if quantised and stack.float32_over_quantised else element
    layer = _norms(a, change, stack, wide) + _attention(a, change, stack, wide)
    layer += _feed_forward(a, change, stack, wide) + _added(a, change, stack, wide)
    share = max(change.depth, 1e-9)
    return Kept(
        layer * share, wide * a.hidden * share, _one_norm(a, stack, wide) + (2 * a.hidden if change.head else 0)
    )


def _one_norm(a: Architecture, stack: Stack, e: int) -> float:
    """What one norm over the hidden size keeps: its input, which an unfused RMS norm holds in float32."""
    unfused = a.norm in ("rms", "none") and not stack.fused_norms  # OLMo's norm without weights is computed so too
    return a.hidden * (4 if unfused else e) + 8


def _norms(a: Architecture, change: Change, stack: Stack, e: int) -> float:
    each = _one_norm(a, stack, e)
    if a.norm == "rms" and change.norms and not stack.fused_norms:
        each += (4 if a.scaled_norm else e) * a.hidden  # the normed input, for the gradient of the norm's own weight
    return a.norms * each


def _attention(a: Architecture, change: Change, stack: Stack, e: int) -> float:
    key: float = a.query_width if stack.repeats_keys else a.key_width
    if a.latent is not None:
        key = a.heads * (a.latent.plain + a.latent.rotary + a.latent.value) / 2
    total: float = e * (2 * a.query_width + 2 * key) + 4 * a.heads
    if a.head_norms:  # norms of queries and keys, as the others
        total += (a.query_width + a.key_width) * (e if stack.fused_norms else 4 + e * change.norms)
    if len(a.names.qkv) == 1 and not a.positions:
        total += e * (a.query_width + a.key_width)  # values are a view of all three, which rotation copies
    if change.share:
        total += e * a.hidden
        if a.latent is not None:
            total += 2 * e * ((a.latent.query_rank or 0) + a.latent.key_value_rank)
    return total


def _feed_forward(a: Architecture, change: Change, stack: Stack, e: int) -> float:
    if a.experts is None:
        return _block(a, a.ffn, change, stack, e)
    experts = a.experts
    sparse = (a.layers - experts.dense) / a.layers
    routed = experts.active * (_block(a, experts.ffn, change, stack, e) + e * a.hidden * (1 + bool(change.share)))
    shared = _block(a, experts.shared, change, stack, e) if experts.shared else 0.0
    return sparse * (routed + shared) + (1 - sparse) * _block(a, a.ffn, change, stack, e)


def _block(a: Architecture, ffn: int, change: Change, stack: Stack, e: int) -> float:
    inputs = 0 if not change.share or (a.parallel and a.norms == 1) else e * a.hidden
    if not a.gated:
        copies = 4 if a.activation == "composed" and stack.composed_gelu else 1
        return e * ffn * (copies + (bool(change.share) and a.activation != "relu")) + inputs
    copies = 2 if stack.fused_gate else 3
    return e * ffn * (copies + (bool(change.share) and not stack.fused_gate)) + inputs


def _added(a: Architecture, change: Change, stack: Stack, e: int) -> float:
    """What adapters keep beside the base: the inputs of their first matrices, and what lies between the two."""
    size = 4 if stack.adapters_in_float32 else e
    total, held = 0.0, set[str]()
    for module in change.adapted:
        site = module.part if module.part == "attention" and module.name in a.names.qkv else module.name
        site = "inputs" if module.name in a.names.up and not change.dropout else site
        shared = site in held and not stack.adapters_in_float32 and (not change.dropout or not stack.own_dropout)
        held.add(site)
        each = module.inputs * module.times / a.layers
        if change.dropout:
            total += 0 if shared else (size + 1) * each
        elif stack.adapters_in_float32 and e < 4:
            total += size * each  # a copy of its own
        else:
            total += 0 if shared else e * each
    for width in change.scaled:
        total += e * width
    return total
