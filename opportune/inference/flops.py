"""What a forward and a backward pass compute, in floating-point operations (a multiply-add is two).

Only matrix products count, as in torch's FlopCounterMode: norms, activations, softmax and rotary angles are left out
(about 1 % of a transformer's work). For `tokens` rows of which `rows` are read by the head, and `pairs` (query, key)
pairs computed in each attention layer:

    forward  = 2 linear tokens + 4 attention pairs + 2 head rows
    backward = the same again for the gradient of each product's input, and again for that of its weight if it moves

with `linear` the weights of all linear layers, `attention` the sum over layers of heads x head size (taken equal for
keys and values), `head` hidden size x vocabulary (Kaplan et al. 2020, Hoffmann et al. 2022 appendix F).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from opportune.inference.tiles import Plan
from opportune.widths import heads_of


@dataclass(frozen=True, slots=True)
class Shape:
    """What a network computes for each token, in weights."""

    frozen: int  # linear weights that stay
    moving: int  # linear weights that are trained: all of them, or an adapter's
    attention: int  # layers x query heads x head size
    head: int  # hidden size x vocabulary
    head_moves: bool
    idle: int = 0  # of the frozen ones, those in layers below everything that moves: nothing flows back through them
    idle_attention: int = 0  # the same of `attention`


def shape_of(network: Any) -> Shape:
    """Read off a transformers network, plain or wrapped by peft. Mixtures of experts are counted with the
    experts that a token goes to."""
    config = network.config.get_text_config()
    head = network.get_output_embeddings()
    linear = {True: 0, False: 0}
    for name, module in network.named_modules():
        # What makes virtual tokens works on those few alone.
        if isinstance(module, nn.Linear | Conv1D) and module is not head and "virtual_encoder" not in name:
            linear[module.weight.requires_grad] += _elements(module)
        for weight in module.parameters(recurse=False):
            if weight.ndim == 3 and "expert" in name:  # all experts of a mixture, stacked
                linear[weight.requires_grad] += weight.numel() * _experts_asked(config, len(weight)) // len(weight)
    heads = heads_of(config)
    width, idle = heads.queries * heads.size, _idle_layers(network, config.num_hidden_layers)
    weights = sum(_elements(m) for layer in idle for m in layer.modules() if isinstance(m, nn.Linear | Conv1D))
    return Shape(
        frozen=linear[False],
        moving=linear[True],
        attention=config.num_hidden_layers * width,
        head=head.weight.numel(),
        head_moves=head.weight.requires_grad,
        idle=weights,
        idle_attention=len(idle) * width,
    )


def _experts_asked(config: Any, count: int) -> int:
    """How many experts of so many a token goes to."""
    return int(getattr(config, "num_experts_per_tok", None) or count)


def _elements(module: Any) -> int:
    """The weights that a layer multiplies by: packed into few bits it has fewer elements."""
    if isinstance(module, nn.Linear) and not module.weight.dtype.is_floating_point:
        return module.in_features * module.out_features
    return int(module.weight.numel())


def _idle_layers(network: Any, count: int) -> list[Any]:
    """The first layers, as far as nothing in them or before them moves while something behind them does."""
    before = [network.get_input_embeddings(), getattr(network, "virtual_key_values", None)]
    if not _moves(network) or any(module is not None and _moves(module) for module in before):
        return []
    modules = network.get_decoder().modules()
    layers: Any = next((m for m in modules if isinstance(m, nn.ModuleList) and len(m) == count), [])
    return list(takewhile(lambda layer: not _moves(layer), layers))


def _moves(module: Any) -> bool:
    return any(weight.requires_grad for weight in module.parameters())


def forward_flops(shape: Shape, tokens: int, pairs: int, rows: int) -> int:
    """One forward pass."""
    return 2 * (shape.frozen + shape.moving) * tokens + 4 * shape.attention * pairs + 2 * shape.head * rows


def backward_flops(shape: Shape, tokens: int, pairs: int, rows: int) -> int:
    """The backward pass after it. Counts input gradients in every layer, although the first layer's projections need
    none while the embedding is frozen (less than 1 % from some twenty layers on)."""
    linear = 2 * (shape.frozen - shape.idle + 2 * shape.moving) * tokens
    attention = 8 * (shape.attention - shape.idle_attention) * pairs
    return linear + attention + 2 * (1 + shape.head_moves) * shape.head * rows


def pairs_of(plan: Plan, cached: int = 0) -> int:
    """The (query, key) pairs that the tiles of a plan compute, those hidden by their masks included."""
    shared = [plan.shared if tile.start >= plan.shared else 0 for tile in plan.tiles]
    widths = [cached + extra + tile.stop - tile.first for extra, tile in zip(shared, plan.tiles, strict=True)]
    return sum((tile.stop - tile.start) * width for tile, width in zip(plan.tiles, widths, strict=True))
