"""A new network: a Llama of a given size, its weights drawn at random."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from opportune.inference.attention import fast_norms, use_own_attention
from opportune.pretraining.sizing import Size
from opportune.products import use_own_products


def new_network(size: Size, context: int, end: int, seed: int, dtype: Any, device: str) -> Any:
    """A transformers Llama of this size, ready to be trained: every weight moves, all drawn from the seed.

    Weights are drawn with the deviation sqrt(2 / (5 width)) (Nguyen & Salazar 2019).
    """
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=context,
        initializer_range=math.sqrt(2 / (5 * size.width)),
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LlamaForCausalLM(config)
    network = network.to(device).eval()
    for weight in network.parameters():  # not the buffers: the angles of positions are float32 in what is loaded again
        weight.data = weight.data.to(dtype)
    use_own_attention(network)
    fast_norms(network)
    use_own_products(network)
    return network.requires_grad_(True)
