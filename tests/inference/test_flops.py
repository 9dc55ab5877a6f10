"""The formula against torch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode, addmm_flop

from opportune.inference.attention import Packed, head, packed_forward, tree_plan, use_own_attention
from opportune.inference.flops import backward_flops, forward_flops, pairs_of, shape_of
from opportune.methods.full import Full
from opportune.methods.lora import Lora

torch.set_num_threads(1)
TOKENS, ROWS = 40, 7


def in_place(one: Any, two: Any, three: Any, out_shape: Any, **scales: float) -> int:
    """A product that torch's counter forgets."""
    return int(addmm_flop(one, two, three))


def llama(layers: int) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    network = transformers.LlamaForCausalLM(config).eval()
    use_own_attention(network)
    return network


def counted(network: Any, parents: list[int], shared: int) -> tuple[int, int, int]:
    """(forward, backward, pairs) of a pack of TOKENS rows of which ROWS are read."""
    plan = tree_plan(parents, [0] * TOKENS, shared, tile=8)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter:
        hidden = packed_forward(network, torch.zeros(TOKENS, dtype=torch.long), plan.positions, Packed(plan))
        loss = head(network, hidden[:ROWS]).sum()
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter:
        loss.backward()
    return forward, counter.get_total_flops(), pairs_of(plan)


CHAIN = list(range(-1, TOKENS - 1))
PLANS = {"chain": (CHAIN, 0), "branches": ([-1, *[0] * (TOKENS - 1)], 1)}


@pytest.mark.parametrize(("parents", "shared"), PLANS.values(), ids=PLANS)
def test_full_fine_tuning_to_the_last_product(parents: list[int], shared: int) -> None:
    network = Full().attach(llama(2), 0)
    forward, backward, pairs = counted(network, parents, shared)
    shape = shape_of(network)
    assert forward == forward_flops(shape, TOKENS, pairs, ROWS)
    assert backward == backward_flops(shape, TOKENS, pairs, ROWS)


@pytest.mark.parametrize(("parents", "shared"), PLANS.values(), ids=PLANS)
def test_lora_but_for_the_first_layers_input(parents: list[int], shared: int) -> None:
    network = Lora(rank=4).attach(llama(4), 0)
    forward, backward, pairs = counted(network, parents, shared)
    shape = shape_of(network)
    assert forward == forward_flops(shape, TOKENS, pairs, ROWS)
    first = 2 * TOKENS * (32 * (32 + 16 + 16) + 3 * 4 * 32)  # query, key and value: no gradient of their input
    assert backward == backward_flops(shape, TOKENS, pairs, ROWS) - first


@pytest.mark.parametrize(("parents", "shared"), PLANS.values(), ids=PLANS)
def test_nothing_flows_back_below_the_last_layers(parents: list[int], shared: int) -> None:
    network = Full(last=1).attach(llama(4), 0)
    forward, backward, pairs = counted(network, parents, shared)
    shape = shape_of(network)
    assert forward == forward_flops(shape, TOKENS, pairs, ROWS)
    assert backward == backward_flops(shape, TOKENS, pairs, ROWS)
