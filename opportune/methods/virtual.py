"""Virtual tokens: learned vectors in the place of tokens, at the beginning of every prompt.

They get ids beyond the vocabulary and stand in a prompt like tokens, so that whatever shares and packs the beginnings
of prompts shares and packs them too: the token tree, the packed training step, the cached prefix of many questions.
`network.virtual_tokens` says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from opportune.errors import ModelError, RecipeError


class VirtualEmbedding(nn.Module):
    """An embedding whose ids from `size` on are learned vectors [tokens, hidden], through an encoder where there is
    one."""

    def __init__(self, base: Any, vectors: Tensor, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.base, self.size = base, int(base.weight.shape[0])
        self.vectors = nn.Parameter(vectors.to(base.weight))
        self.virtual_encoder = encoder

    @property
    def weight(self) -> Tensor:
        """The vectors of the real tokens."""
        weight: Tensor = self.base.weight
        return weight

    def table(self) -> Tensor:
        """The virtual tokens as the network reads them."""
        return self.vectors if self.virtual_encoder is None else self.vectors + self.virtual_encoder(self.vectors)

    @torch.no_grad()
    def settle(self) -> None:
        """Keep what the encoder makes, and forget the encoder."""
        self.vectors.copy_(self.table())
        self.virtual_encoder = None

    def forward(self, ids: Tensor) -> Tensor:
        """[..., T] -> [..., T, hidden]."""
        virtual = ids >= self.size
        known: Tensor = self.base(ids.masked_fill(virtual, 0))
        if not ids.is_cuda and not bool(virtual.any()):  # on a GPU, looking costs more than computing it
            return known
        learned = self.table()[(ids - self.size).clamp(min=0, max=len(self.vectors) - 1)]
        return torch.where(virtual[..., None], learned.to(known.dtype), known)


class VirtualKeyValues(nn.Module):
    """Learned keys and values of the first positions, in every layer: what the attention sees there instead of what
    virtual tokens would give. `weights` is [layers, 2, tokens, heads, size], or what an encoder makes it from."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.tokens = weights.shape[2]
        self.weights = nn.Parameter(weights)
        self.virtual_encoder: nn.Module | None = None
        self._made: Tensor | None = None  # the table of the pass under way: one for all its layers

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}  # a copy makes its own

    def table(self) -> Tensor:
        """[layers, 2, tokens, heads, size]."""
        if self.virtual_encoder is None:
            return self.weights
        made: Tensor = self.virtual_encoder(self.weights)
        return made

    @torch.no_grad()
    def settle(self) -> None:
        """Keep what the encoder makes, and forget the encoder."""
        self.weights = nn.Parameter(self.table().contiguous(), requires_grad=False)
        self.virtual_encoder = None

    def put(self, layer: int, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [heads, T, size] with those of the first positions replaced."""
        virtual = positions < self.tokens
        if not positions.is_cuda and not bool(virtual.any()):  # on a GPU, looking costs more than computing it
            return key, value
        if layer == 0 or self._made is None:
            self._made = self.table()
        at = positions.clamp(max=self.tokens - 1)
        learned = self._made[layer][:, at].transpose(1, 2).to(key.dtype)  # [2, heads, T, size]
        hidden = virtual[None, :, None]
        return torch.where(hidden, learned[0], key), torch.where(hidden, learned[1], value)


def add_tokens(network: Any, vectors: Tensor, encoder: nn.Module | None = None) -> Any:
    """The network with virtual tokens in front of every prompt, everything but them (and their encoder) frozen.

    Raises ModelError where it has virtual tokens already.
    """
    if getattr(network, "virtual_tokens", 0):
        raise ModelError("the network has virtual tokens already; one method that learns them is the most")
    network.eval().requires_grad_(False)
    embedding = VirtualEmbedding(network.get_input_embeddings(), vectors, encoder)
    network.set_input_embeddings(embedding)
    network.virtual_tokens = len(vectors)
    return network


def add_key_values(network: Any, weights: Tensor, encoder: nn.Module | None = None) -> Any:
    """The network with learned keys and values at its first positions, everything but them frozen.

    Raises ModelError where the network's attention is not Opportune's, which alone looks at them.
    """
    if weights.device.type != "meta" and network.config.get_text_config()._attn_implementation != "opportune":
        raise ModelError(f"prefix-tuning cannot reach the attention of {type(network).__name__}; prompt-tuning can")
    hidden = network.get_input_embeddings().weight.shape[1]
    add_tokens(network, torch.zeros(weights.shape[2], hidden))
    network.get_input_embeddings().vectors.requires_grad_(False)
    network.virtual_key_values = VirtualKeyValues(weights.to(network.get_input_embeddings().weight))
    network.virtual_key_values.virtual_encoder = encoder
    for module in network.modules():
        if hasattr(module, "layer_idx"):
            module.__dict__["virtual_key_values"] = network.virtual_key_values  # no second owner of the weights
    return network


@contextmanager
def set_aside(network: Any) -> Iterator[None]:
    """Within this block the network is as its architecture knows it, without virtual tokens; they come back after."""
    if not getattr(network, "virtual_tokens", 0):
        yield
        return
    embedding, learned = embedding_of(network), network._modules.pop("virtual_key_values", None)
    network.set_input_embeddings(embedding.base)
    try:
        yield
    finally:
        network.set_input_embeddings(embedding)
        if learned is not None:
            network.virtual_key_values = learned


def embedding_of(network: Any) -> VirtualEmbedding:
    """Where the virtual tokens are."""
    found: VirtualEmbedding = network.get_input_embeddings()
    return found


def cycled(vectors: Tensor, tokens: int) -> Tensor:
    """As many of the vectors as asked for, from the first again where they run out."""
    return vectors[torch.arange(tokens, device=vectors.device) % len(vectors)].clone()


def key_values_of(network: Any, ids: Sequence[int]) -> Tensor:
    """The keys and values that a network computes for these tokens: [layers, 2, tokens, heads, size]."""
    own = network.config._attn_implementation
    network.set_attn_implementation("sdpa" if network._supports_sdpa else "eager")
    try:
        with torch.no_grad():
            tokens = torch.tensor([list(ids)], device=network.get_input_embeddings().weight.device)
            cache = network(input_ids=tokens, use_cache=True).past_key_values
    finally:
        network.set_attn_implementation(own)
    kept = min(layer.keys.shape[2] for layer in cache.layers)
    if kept < len(ids):
        raise RecipeError(
            f"prefix-tuning:tokens={len(ids)} is more than a layer of this model looks back on; at most {kept} with "
            "init=text"
        )
    if any(layer.keys.shape != layer.values.shape for layer in cache.layers):
        raise RecipeError("prefix-tuning: keys and values of this model differ in width; prompt-tuning can")
    pairs = [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]
    return torch.stack(pairs).transpose(2, 3).contiguous()
