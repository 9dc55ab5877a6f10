"""The engine's own attention: many token sequences in one row, each token seeing only its own ancestors.

    plan = tree_plan(parents, positions)                   # rows in depth-first order; parents[i] is a row, or -1
    attention = Packed(plan, prefix)                       # prefix: cached keys and values (Prefix), or None
    hidden = packed_forward(network, ids, positions, attention)        # [T, hidden]
    logits = head(network, hidden[rows])                   # [len(rows), vocabulary]

`supports_own_attention(network)` says whether a transformers network (plain or wrapped by peft) computes the same this
way; `use_own_attention(network)` switches it over. Then anything with a method `attend` can be the active object:

    attend(layer_index, query [H, T, D], key [K, T, D], value [K, T, D], scaling, window, softcap) -> [T, H, D]

where query head h uses key head h // (H / K), `window` limits query position - key position < window, and `softcap`
squashes scores by tanh (Gemma 2). No transformers cache takes part. `Packed` (tiles.py) is the one for trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from opportune.errors import ModelError
from opportune.inference.modes import evaluating
from opportune.inference.tiles import Packed, Plan, Prefix, Tile, tree_plan

__all__ = [
    "Attending",
    "Packed",
    "Plan",
    "Prefix",
    "Tile",
    "attending",
    "current",
    "fast_norms",
    "has_own_attention",
    "head",
    "packed_forward",
    "supports_own_attention",
    "tree_plan",
    "use_own_attention",
    "windows_of",
]

NAME = "opportune"


class Attending(Protocol):
    """Whoever answers the attention calls of a forward pass."""

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
        """Attention of one layer over one row: [H, T, D], [K, T, D], [K, T, D] -> [T, H, D]."""
        ...


_ACTIVE: ContextVar[Attending | None] = ContextVar("attending", default=None)
_POSITIONS: ContextVar[Tensor] = ContextVar("positions")


@contextmanager
def attending(active: Attending) -> Iterator[None]:
    """Within this block, networks with the own attention ask `active`."""
    token = _ACTIVE.set(active)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def current() -> Attending:
    """The active object; ModelError where there is none."""
    active = _ACTIVE.get()
    if active is None:
        raise ModelError(f"a network with {NAME!r} attention was called outside of `with attending(...)`")
    return active


def _own_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: [1, H, T, D] -> [1, T, H, D]. ModelError for what it cannot express."""
    refused = {
        f"a batch of {query.shape[0]} rows": query.shape[0] != 1,
        f"attention dropout of {dropout}": dropout > 0,
        "a mask": attention_mask is not None,
        "attention sinks": others.get("s_aux") is not None,
        "a position bias": others.get("position_bias") is not None,
        "a cache or cross attention": key.shape[2] != query.shape[2],
    }
    if any(refused.values()):
        raise ModelError(f"{NAME!r} attention cannot express {', '.join(k for k, v in refused.items() if v)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    index = int(module.layer_idx)  # type: ignore[arg-type]
    learned: Any = module.__dict__.get("virtual_key_values")
    if learned is not None:
        key, value = (each[None] for each in learned.put(index, key[0], value[0], _POSITIONS.get()))
    return current().attend(index, query[0], key[0], value[0], scale, sliding_window, softcap)[None], None


AttentionInterface.register(NAME, _own_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


# ---- the network around it ------------------------------------------------------------------------------------------


def use_own_attention(network: Any) -> None:
    """Switch a transformers network (or one wrapped by peft) to this attention. ModelError where it has its own."""
    network.set_attn_implementation(NAME)
    if not has_own_attention(network):
        raise ModelError(f"{type(network).__name__} computes its attention by itself; {NAME!r} cannot replace it")


def has_own_attention(network: Any) -> bool:
    """Whether the network has been switched to this attention."""
    return bool(network.config.get_text_config()._attn_implementation == NAME)


def packed_forward(network: Any, ids: Tensor, positions: Tensor, attention: Attending) -> Tensor:
    """The last hidden states [T, hidden] of one row of tokens, without the head."""
    token = _POSITIONS.set(positions)
    try:
        with attending(attention):
            output = network.get_decoder()(input_ids=ids[None], position_ids=positions[None], use_cache=False)
    finally:
        _POSITIONS.reset(token)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def head(network: Any, hidden: Tensor) -> Tensor:
    """Hidden states [..., hidden] to logits [..., vocabulary], with the scales and caps that architectures add.

    `supports_own_attention` holds it against the network's own logits.
    """
    logits: Tensor = network.get_output_embeddings()(hidden)
    config = network.config.get_text_config()
    divisor = getattr(config, "logits_scaling", None) or 1.0  # Granite
    factor = getattr(config, "logit_scale", None) or 1.0  # Cohere
    if divisor != 1.0 or factor != 1.0:  # a pass over all logits is not free
        logits = logits / divisor * factor
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma
    return logits if cap is None else torch.tanh(logits / cap) * cap


# ---- is it right for this network? ----------------------------------------------------------------------------------


_PREFIX = 5
# A chain of three shared rows, then two branches; the first forks.
_TREE = (-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 10, 2, 12, 13, 14, 15)
_SHARED = 3
_WRONG = 0.25  # a relative error of logits that no rounding explains


class _Witness:
    """Passes attention on to `inner` and notes each layer's window."""

    def __init__(self, inner: Packed) -> None:
        self.inner = inner
        self.windows: list[int | None] = []

    def attend(self, layer_index: int, *call: Any) -> Tensor:
        self.windows.append(call[4])
        return self.inner.attend(layer_index, *call)


def supports_own_attention(network: Any) -> bool:
    """Whether this attention and `head` reproduce the network's own logits; the network is left as it was.

    First its structure (attention through transformers' interface, every layer once, windows as configured, rotary
    angles that do not depend on the length), then its numbers: a small random tree after a cached prefix against the
    same sequences run one by one.
    """
    config = network.config.get_text_config()
    if not network._can_set_attn_implementation() or {"dynamic", "longrope"} & _rope_types(config):
        return False
    own = config._attn_implementation
    plain = "sdpa" if own == NAME else own
    try:
        with evaluating(network), torch.no_grad():
            return _reproduces(network, config, plain)
    except (ModelError, TypeError, AttributeError):  # a forward pass that this interface does not fit
        return False
    finally:
        network.set_attn_implementation(own)


def _rope_types(config: Any) -> set[str]:
    """Every kind of rotary embedding in use; some models have one for each kind of layer."""
    found = getattr(config, "rope_parameters", None) or {}
    nested = [found, *(value for value in found.values() if isinstance(value, dict))]
    return {str(kinds.get("rope_type")) for kinds in nested}


def _reproduces(network: Any, config: Any, plain: str) -> bool:
    device = network.get_input_embeddings().weight.device
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (_PREFIX + len(_TREE),), generator=generator).to(device)
    paths = _paths()

    def one_by_one(implementation: str) -> list[Tensor]:
        network.set_attn_implementation(implementation)
        return [network(input_ids=ids[None, path], use_cache=False).logits[0, _PREFIX:].float() for path in paths]

    reference = one_by_one(plain)
    tolerance = 1e-4
    if network.dtype != torch.float32:
        # Rounding differs by orders of magnitude between networks: this one's own two ways tell how much is usual.
        other = {"sdpa": "eager"}.get(plain, "sdpa" if network._supports_sdpa else plain)
        tolerance = min(max(5e-2, 2 * _error(one_by_one(other), reference)), _WRONG)
    use_own_attention(network)
    logits, windows = _probe(network, ids)
    found = [logits[torch.tensor(path[_PREFIX:]) - _PREFIX] for path in paths]
    if windows != windows_of(config):
        return False
    return _error(found, reference) < tolerance


def _error(found: list[Tensor], reference: list[Tensor]) -> float:
    """The largest difference of a path's logits, relative to their spread."""
    return max(
        float((a - b).norm() / (b - b.mean(-1, keepdim=True)).norm()) for a, b in zip(found, reference, strict=True)
    )


def _paths() -> list[list[int]]:
    """The token indices, prefix included, from the beginning to each leaf."""
    paths = []
    for leaf in sorted(set(range(len(_TREE))) - set(_TREE)):
        path, row = [], leaf
        while row >= 0:
            path.append(row + _PREFIX)
            row = _TREE[row]
        paths.append([*range(_PREFIX), *reversed(path)])
    return paths


def _probe(network: Any, ids: Tensor) -> tuple[Tensor, list[int | None]]:
    """The tree's logits [T, vocabulary] after a cached prefix, and the windows the layers asked for."""
    chain = range(-1, _PREFIX - 1)
    prefix = Packed(tree_plan(chain, range(_PREFIX)), capture=True)
    packed_forward(network, ids[:_PREFIX], prefix.plan.positions.to(ids.device), prefix)
    depths: list[int] = []
    for parent in _TREE:
        depths.append(depths[parent] + 1 if parent >= 0 else _PREFIX)
    plan = tree_plan(_TREE, depths, shared=_SHARED, tile=4)
    witness = _Witness(Packed(plan, prefix.extended()))
    hidden = packed_forward(network, ids[_PREFIX:], plan.positions.to(ids.device), witness)
    return head(network, hidden).float(), witness.windows


def windows_of(config: Any) -> list[int | None] | None:
    """The window each layer asks for; None where a layer is neither full nor sliding attention."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return [window] * config.num_hidden_layers
    known = {"full_attention": None, "sliding_attention": window}
    return [known[kind] for kind in kinds] if set(kinds) <= set(known) else None


def fast_norms(network: Any) -> int:
    """Let torch's fused RMSNorm do the work of every norm module that it reproduces; returns how many.

    Held against the module itself on random input, so that Gemma's (1 + weight) is left alone.
    """
    changed = 0
    for module in network.modules():
        if not (type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")):
            continue
        weight = module.weight
        sample = torch.randn(4, weight.numel(), generator=torch.Generator().manual_seed(0)).to(weight)
        close = 1e-5 if weight.dtype == torch.float32 else 1e-2  # a rounding or two
        with torch.no_grad():
            if torch.allclose(module(sample), _rms_norm(module, sample), rtol=close, atol=close):
                module.forward = MethodType(_rms_norm, module)
                changed += 1
    return changed


def _rms_norm(module: Any, hidden: Tensor) -> Tensor:
    return torch.nn.functional.rms_norm(hidden, module.weight.shape, module.weight, module.variance_epsilon)
