"""The widths of a decoder-only transformer, and its parameters counted tensor by tensor. Pure arithmetic.

A layer holds attention (query, key, value and output projections), a feed-forward part (plain or gated; or a router
over experts, with experts shared by all tokens where the architecture has them) and its norms. `tensors` lists them
all; the counts are exact and tested against transformers for every family of `families.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Part = Literal["embedding", "attention", "feed-forward", "expert", "router", "norm", "bias", "head"]


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear module: `outputs` x `inputs` weights, `times` in the whole network."""

    name: str  # as transformers names the module
    inputs: int
    outputs: int
    times: int
    part: Part
    bias: bool = False
    module: bool = True  # False: a stacked parameter, which adapters of linear modules do not reach

    @property
    def weights(self) -> int:
        """Weights of all of them, without biases."""
        return self.inputs * self.outputs * self.times


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, 2024): keys and values pass through a narrow vector."""

    query_rank: int | None  # None: queries are projected directly
    key_value_rank: int
    rotary: int  # per head, beside the part without positions
    plain: int
    value: int


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in every layer from `dense` on."""

    number: int
    active: int  # per token
    ffn: int
    shared: int = 0  # width of the expert that every token passes
    shared_gate: bool = False
    dense: int = 0  # layers in front without experts
    router_bias: bool = False
    adapted: bool = False  # peft's "all-linear" reaches experts and router, the fused pair with twice the rank


@dataclass(frozen=True, slots=True)
class Names:
    """How a family names and fuses its linear modules: `qkv` and `gate_up` may be one module each."""

    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    out: str = "o_proj"
    up: tuple[str, ...] = ("gate_proj", "up_proj")
    down: str = "down_proj"
    scaled: tuple[str, ...] = ()  # modules that peft's IA3 rescales; none: keys and values


@dataclass(frozen=True, slots=True)
class Architecture:
    """What decides a network's parameters and work."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    context: int = 4096
    gated: bool = True
    tied: bool = False
    norm: Literal["rms", "layer", "layer-without-bias", "none"] = "rms"
    norms: int = 2  # per layer, of the hidden size
    head_norms: int = 0  # weights per layer of norms on queries and keys
    embedding_norm: bool = False
    positions: int = 0  # rows of a learned position table
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False
    head_bias: bool = False
    parallel: bool = False  # attention and feed-forward read the same input
    sinks: bool = False  # a learned logit per head
    activation: Literal["one", "relu", "composed"] = "one"  # composed: in steps, each of which keeps a copy
    scaled_norm: bool = False  # norms multiply by one plus their weight, in float32 (Gemma)
    experts: Experts | None = None
    latent: Latent | None = None
    names: Names = Names()

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        """Width of all key heads together (values have the same, save with latent attention)."""
        return self.kv_heads * self.head_size


@lru_cache(maxsize=4096)
def linears(a: Architecture) -> tuple[Linear, ...]:
    """All linear modules but the head, in the order of a layer."""
    return tuple(_attention(a)) + tuple(_feed_forward(a))


def _attention(a: Architecture) -> Iterator[Linear]:
    if a.latent is not None:
        yield from _latent_attention(a, a.latent)
        return
    widths: tuple[int, ...] = (a.query_width, a.key_width, a.key_width)
    if len(a.names.qkv) == 1:
        widths = (sum(widths),)
    for name, width in zip(a.names.qkv, widths, strict=True):
        yield Linear(name, a.hidden, width, a.layers, "attention", a.qkv_bias)
    yield Linear(a.names.out, a.query_width, a.hidden, a.layers, "attention", a.out_bias)


def _latent_attention(a: Architecture, latent: Latent) -> Iterator[Linear]:
    queries = a.heads * (latent.plain + latent.rotary)
    if latent.query_rank is None:
        yield Linear("q_proj", a.hidden, queries, a.layers, "attention")
    else:
        yield Linear("q_a_proj", a.hidden, latent.query_rank, a.layers, "attention", a.qkv_bias)
        yield Linear("q_b_proj", latent.query_rank, queries, a.layers, "attention")
    narrow = latent.key_value_rank + latent.rotary
    yield Linear("kv_a_proj_with_mqa", a.hidden, narrow, a.layers, "attention", a.qkv_bias)
    wide = a.heads * (latent.plain + latent.value)
    yield Linear("kv_b_proj", latent.key_value_rank, wide, a.layers, "attention")
    yield Linear("o_proj", a.heads * latent.value, a.hidden, a.layers, "attention", a.out_bias)


def _feed_forward(a: Architecture) -> Iterator[Linear]:
    dense = a.layers if a.experts is None else a.experts.dense
    if dense:
        yield from _block(a, a.ffn, dense, "feed-forward", module=True)
    if a.experts is not None:
        sparse, e = a.layers - dense, a.experts
        yield Linear("gate", a.hidden, e.number, sparse, "router", e.router_bias, module=False)
        yield from _block(a, e.ffn, sparse * e.number, "expert", module=False)
        if e.shared:
            yield from _block(a, e.shared, sparse, "feed-forward", module=True)
        if e.shared_gate:
            yield Linear("shared_expert_gate", a.hidden, 1, sparse, "router")


def _block(a: Architecture, ffn: int, times: int, part: Part, *, module: bool) -> Iterator[Linear]:
    ups = a.names.up if a.gated else a.names.up[-1:]
    width = 2 * ffn if a.gated and len(ups) == 1 else ffn
    for name in ups:
        yield Linear(name, a.hidden, width, times, part, a.ffn_bias, module)
    yield Linear(a.names.down, ffn, a.hidden, times, part, a.ffn_bias, module)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Tensors of one name: their size, and how often they occur."""

    name: str
    size: int
    times: int
    part: Part

    @property
    def parameters(self) -> int:
        """All of them together."""
        return self.size * self.times


def tensors(a: Architecture) -> tuple[Tensor, ...]:
    """Every parameter tensor. Tied embeddings are listed once."""
    found = [Tensor("embedding", a.vocabulary * a.hidden, 1, "embedding")]
    if a.positions:
        found.append(Tensor("positions", a.positions * a.hidden, 1, "embedding"))
    for linear in linears(a):
        found.append(Tensor(linear.name, linear.inputs * linear.outputs, linear.times, linear.part))
        if linear.bias:
            found.append(Tensor(f"{linear.name}.bias", linear.outputs, linear.times, "bias"))
    if a.sinks:
        found.append(Tensor("sinks", a.heads, a.layers, "attention"))
    found += _norms(a)
    if not a.tied:
        found.append(Tensor("head", a.vocabulary * a.hidden, 1, "head"))
    if a.head_bias:
        found.append(Tensor("head.bias", a.vocabulary, 1, "bias"))
    return tuple(found)


def _norms(a: Architecture) -> list[Tensor]:
    each = {"rms": 1, "layer-without-bias": 1, "layer": 2, "none": 0}[a.norm] * a.hidden
    found = [Tensor("norm", each, a.norms * a.layers + 1 + a.embedding_norm, "norm")]
    if a.head_norms:
        found.append(Tensor("head norms", a.head_norms, a.layers, "norm"))
    if a.latent is not None:
        ranks = (a.latent.query_rank or 0) + a.latent.key_value_rank
        found.append(Tensor("latent norms", ranks, a.layers, "norm"))
    return found


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters of a network by what they are for."""

    total: int
    embedding: int  # tables that are looked up, not multiplied
    head: int  # weights multiplied to make the logits (the embedding where tied)
    linear: int  # weights of linear layers, all experts
    active_linear: int  # of which one token passes
    expert: int  # weights of all experts
    norm: int
    bias: int
    layer: int  # one layer, the mean where they differ
    last_norm: int  # of the norm after the last layer

    @property
    def active(self) -> int:
        """Parameters that one token passes, as model cards count them: embeddings, head, norms included."""
        return self.total - self.linear + self.active_linear


@lru_cache(maxsize=4096)
def count(a: Architecture) -> Counts:
    """Count all parameters."""
    by_part: dict[Part, int] = {}
    for tensor in tensors(a):
        by_part[tensor.part] = by_part.get(tensor.part, 0) + tensor.parameters
    linear = sum(by_part.get(part, 0) for part in ("attention", "feed-forward", "expert", "router"))
    idle = 0
    if a.experts is not None:
        idle = round(by_part["expert"] * (1 - a.experts.active / a.experts.number))
    total = sum(by_part.values())
    final = sum(t.size * (t.times - a.norms * a.layers) for t in tensors(a) if t.name == "norm")
    outside = by_part["embedding"] + by_part.get("head", 0) + final + a.head_bias * a.vocabulary
    return Counts(
        total=total,
        embedding=by_part["embedding"],
        head=a.vocabulary * a.hidden,
        linear=linear,
        active_linear=linear - idle,
        expert=by_part.get("expert", 0),
        norm=by_part.get("norm", 0),
        bias=by_part.get("bias", 0),
        layer=round((total - outside) / a.layers),
        last_norm=next((t.size for t in tensors(a) if t.name == "norm"), 0),
    )
