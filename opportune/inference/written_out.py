"""The decoder of Llama's build written out, for passes of writing: what its modules compute, in a third of the calls.

A step of writing has few rows, so that a fifth of its time lies between torch's operators and in Python. Here queries,
keys and values are one product, the rotation is one for queries and keys, and the activation, the product of gate and
up and both sums with what was there are done by oneDNN within its products, on weights laid out once. A norm is torch's
layer norm of the numbers and their negatives, whose mean is nought: one pass instead of ten.

`follows(network)` says whether a network is of this build and computes the same this way, by its numbers; `Decoder`
is such a network's, good while its weights stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from opportune.inference.attention import Attending, Packed, packed_forward, tree_plan, windows_of
from opportune.products import OwnLinear, Product, can_be_packed

_KNOWN = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer"}
_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
_ROWS = 24  # of the check


@torch.no_grad()
def follows(network: Any) -> bool:
    """Whether `Decoder` computes what the network's own decoder does. Its attention is the engine's already."""
    decoder = network.get_decoder()
    if not all(_is_llamas(layer) for layer in getattr(decoder, "layers", [None])):
        return False
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, network.config.get_text_config().vocab_size, (_ROWS,), generator=generator)
    plan = tree_plan(range(-1, _ROWS - 1), range(_ROWS))
    try:
        written = Decoder(network, _ROWS)(ids, plan.positions, Packed(plan))
    except (AttributeError, RuntimeError, TypeError):  # something beside the layers is built otherwise
        return False
    own = packed_forward(network, ids, plan.positions, Packed(plan))
    close = 1e-4 if own.dtype == torch.float32 else 0.1
    return bool((written - own).float().norm() < close * own.float().norm())


def _is_llamas(layer: Any) -> bool:
    """By its class and its parts, none of which may be wrapped, hooked or changed: an adapter that has learned nothing
    yet computes what its base does, and in bfloat16 the numbers of untrained networks tell builds apart badly."""
    if type(layer).__name__ not in _KNOWN or _names(layer) != _LAYER:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    if (_names(attention), _names(mlp)) != (_ATTENTION, _MLP) or "virtual_key_values" in attention.__dict__:
        return False
    linears = [part for module in (attention, mlp) for name, part in module.named_children() if name != "act_fn"]
    norms = layer.input_layernorm, layer.post_attention_layernorm
    return (
        all(type(part) is OwnLinear and can_be_packed(part) for part in linears)
        and all(type(norm).__name__.endswith("RMSNorm") for norm in norms)
        and not any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())
        and not any("forward" in module.__dict__ for module in (layer, attention, mlp, *linears))
    )


def _names(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


class Decoder:
    """Embedding, layers and last norm, for passes of about so many rows without gradients."""

    def __init__(self, network: Any, rows: int) -> None:
        decoder = network.get_decoder()
        self._embed, self._angles, self._norm = decoder.embed_tokens, decoder.rotary_emb, _Norm(decoder.norm)
        windows = windows_of(network.config.get_text_config()) or []
        self._layers = [_Layer(layer, window, rows) for layer, window in zip(decoder.layers, windows, strict=True)]

    def __call__(self, ids: Tensor, positions: Tensor, attention: Attending) -> Tensor:
        """As `packed_forward`: the last hidden states [T, hidden] of one row of tokens."""
        hidden: Tensor = self._embed(ids[None])[0]
        cosine, sine = (angles[0, :, None] for angles in self._angles(hidden[None], positions[None]))
        first, second = sine.chunk(2, -1)
        sine = torch.cat([-first, second], -1)  # of the halves changed over, the first is taken off
        for layer in self._layers:
            hidden = layer(hidden, cosine, sine, attention)
        return self._norm(hidden)


class _Layer:
    def __init__(self, layer: Any, window: int | None, rows: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        inner = attention.q_proj, attention.k_proj, attention.v_proj
        self._index, self._scaling, self._window = attention.layer_idx, attention.scaling, window
        self._size = attention.head_dim
        self._queries = attention.q_proj.out_features // self._size
        self._turned = self._queries + attention.k_proj.out_features // self._size
        self._before, self._after = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self._heads, self._out = Product(inner, rows), Product([attention.o_proj], rows)
        self._gate, self._up, self._down = (
            Product([module], rows) for module in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        )

    def __call__(self, hidden: Tensor, cosine: Tensor, sine: Tensor, attention: Attending) -> Tensor:
        heads = self._heads(self._before(hidden)).view(len(hidden), -1, self._size)
        turned, values = heads[:, : self._turned], heads[:, self._turned :]
        turned = torch.addcmul(turned * cosine, turned.roll(self._size // 2, -1), sine).transpose(0, 1)
        queries, keys = turned[: self._queries], turned[self._queries :]
        seen = attention.attend(self._index, queries, keys, values.transpose(0, 1), self._scaling, self._window, None)
        hidden = self._out.plus(seen.reshape(len(hidden), -1), hidden)
        normed = self._after(hidden)
        return self._down.plus(self._up.times(normed, self._gate.silu(normed)), hidden)


class _Norm:
    def __init__(self, norm: Any) -> None:
        weight = norm.weight.detach()
        self._twice, self._epsilon = torch.cat([weight, weight]), norm.variance_epsilon

    def __call__(self, hidden: Tensor) -> Tensor:
        both, width = torch.cat([hidden, -hidden], -1), self._twice.shape
        normed = nn.functional.layer_norm(both, width, self._twice, None, self._epsilon)
        return normed[..., : hidden.shape[-1]]
