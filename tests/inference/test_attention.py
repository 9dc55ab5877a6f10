"""The tiled attention against torch's own under a block mask, and whole networks against one-by-one forward passes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from opportune.errors import ModelError
from opportune.inference.attention import (
    Packed,
    Prefix,
    fast_norms,
    head,
    packed_forward,
    supports_own_attention,
    tree_plan,
    use_own_attention,
)

torch.set_num_threads(1)

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT: dict[str, Any] = {"vocab_size": 97, "bos_token_id": 1, "eos_token_id": 2}
FITTING = {
    "llama": transformers.LlamaConfig(**SMALL),
    "qwen2": transformers.Qwen2Config(**SMALL),
    "qwen3": transformers.Qwen3Config(head_dim=8, **SMALL),
    "mistral": transformers.MistralConfig(sliding_window=6, head_dim=8, **SMALL),
    "gemma2": transformers.Gemma2Config(sliding_window=6, head_dim=8, **SMALL),
    "gemma3": transformers.Gemma3TextConfig(
        sliding_window=6, head_dim=8, layer_types=["sliding_attention", "full_attention"], **SMALL
    ),
    "granite": transformers.GraniteConfig(logits_scaling=3.0, **SMALL),
    "cohere": transformers.CohereConfig(logit_scale=0.2, **SMALL),
    "gpt2": transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **GPT),
}
UNFIT = {
    "bloom": transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **GPT),  # ALiBi
    "gpt-oss": transformers.GptOssConfig(  # attention sinks
        num_local_experts=2, num_experts_per_tok=1, head_dim=8, sliding_window=6, rope_parameters=None, **SMALL
    ),
    "dynamic": transformers.LlamaConfig(
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, **SMALL
    ),
}


def network_of(config: Any) -> Any:
    """A network with weights large enough that what a token sees shows in its logits."""
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return network


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[int], int]:
    """A random tree in depth-first order, with a shared chain in front."""
    shared = draw(st.sampled_from([0, 0, 1, 5]))
    parents = list(range(-1, shared - 1))
    path: list[int] = []
    for row in range(shared, shared + draw(st.integers(1, 40))):
        # The next row's parent is any row on the path to the last one, or the root.
        depth = draw(st.integers(0, len(path)))
        path = path[:depth]
        parents.append(path[-1] if path else shared - 1)
        path.append(row)
    return parents, shared


def ancestors(parents: list[int]) -> Tensor:
    seen = torch.eye(len(parents), dtype=torch.bool)
    for row, parent in enumerate(parents):
        if parent >= 0:
            seen[row] |= seen[parent]
    return seen


def depths(parents: list[int], start: int) -> list[int]:
    found: list[int] = []
    for parent in parents:
        found.append(found[parent] + 1 if parent >= 0 else start)
    return found


@settings(max_examples=60, deadline=None)
@given(trees(), st.sampled_from([0, 7]), st.sampled_from([2, 8, 128]), st.sampled_from([None, 3]), st.booleans())
def test_tiles_equal_masked_attention_and_all_gradients(
    tree: tuple[list[int], int], cached: int, tile: int, window: int | None, capped: bool
) -> None:
    parents, shared = tree
    rows, softcap = len(parents), 2.0 if capped else None
    torch.manual_seed(rows)
    positions = depths(parents, cached)
    q, k, v = (torch.randn(heads, rows, 8, requires_grad=True) for heads in (4, 2, 2))
    old_k, old_v = torch.randn(2, cached, 8), torch.randn(2, cached, 8)
    prefix = Prefix([old_k], [old_v], cached) if cached else None
    out = Packed(tree_plan(parents, positions, shared, tile), prefix).attend(0, q, k, v, 0.3, window, softcap)

    keys, values = (torch.cat([a, b], 1).repeat_interleave(2, 0) for a, b in ((old_k, k), (old_v, v)))
    at = torch.tensor(positions)
    seen = torch.cat([torch.ones(rows, cached, dtype=torch.bool), ancestors(parents)], 1)
    if window is not None:
        seen &= at[:, None] - torch.cat([torch.arange(cached), at]) < window
    scores = q @ keys.transpose(1, 2) * 0.3
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    expected = (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values).transpose(0, 1)

    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    toward = torch.randn_like(out)
    found = torch.autograd.grad((out * toward).sum(), (q, k, v))
    wanted = torch.autograd.grad((expected * toward).sum(), (q, k, v))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_long_chain_and_full_tiles_cover_every_row_once() -> None:
    parents = [-1, *range(299), *[-1] * 200]
    plan = tree_plan(parents, [0] * 500)
    assert [(tile.start, tile.stop, tile.first) for tile in plan.tiles] == [
        (0, 128, 0),
        (128, 300, 0),
        (300, 428, 300),
        (428, 500, 428),
    ]


@pytest.mark.parametrize(("parents", "shared"), [([1, -1], 0), ([-1, 0, -1, 0], 0), ([-1, -1], 2), ([-1, 0, 0], 2)])
def test_rows_out_of_order_are_refused(parents: list[int], shared: int) -> None:
    with pytest.raises(ValueError, match="row"):
        tree_plan(parents, [0] * len(parents), shared)


@pytest.mark.parametrize("name", FITTING)
def test_architectures_that_fit(name: str) -> None:
    network = network_of(FITTING[name])
    before = network.config._attn_implementation
    assert supports_own_attention(network)
    assert network.config._attn_implementation == before
    assert supports_own_attention(copy.deepcopy(network).bfloat16())


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_architectures_that_do_not_fit_are_detected(name: str, dtype: torch.dtype) -> None:
    assert not supports_own_attention(copy.deepcopy(network_of(UNFIT[name])).to(dtype))


def test_a_network_that_rounds_strongly_is_told_from_one_that_does_not_fit() -> None:
    network = copy.deepcopy(network_of(FITTING["llama"]))
    with torch.no_grad():
        for weight in network.get_decoder().layers.parameters():
            weight.mul_(3)
    assert supports_own_attention(network.bfloat16())
    network.config.logits_scaling = 2.0
    assert not supports_own_attention(network)


def test_a_head_with_an_unknown_scale_is_detected() -> None:
    network = network_of(FITTING["llama"])
    network.config.logits_scaling = 2.0  # what `head` would apply and this network does not
    assert not supports_own_attention(network)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gemma2", "gemma3"])
@settings(max_examples=8, deadline=None)
@given(tree=trees(), cached=st.sampled_from([0, 4]))
def test_every_row_of_a_tree_gets_the_logits_of_its_own_sequence(
    name: str, tree: tuple[list[int], int], cached: int
) -> None:
    parents, shared = tree
    network = network_of(FITTING[name])
    ids = torch.randint(0, 97, (cached + len(parents),), generator=torch.Generator().manual_seed(len(parents)))
    seen = ancestors(parents)
    with torch.no_grad():
        wanted = []
        for row in range(len(parents)):
            path = torch.cat([torch.arange(cached), cached + seen[row].nonzero()[:, 0]])
            wanted.append(network(input_ids=ids[None, path], use_cache=False).logits[0, -1])
        use_own_attention(network)
        prefix = None
        if cached:
            chain = Packed(tree_plan(range(-1, cached - 1), range(cached)), capture=True)
            packed_forward(network, ids[:cached], torch.arange(cached), chain)
            prefix = chain.extended()
        plan = tree_plan(parents, depths(parents, cached), shared, tile=8)
        hidden = packed_forward(network, ids[cached:], plan.positions, Packed(plan, prefix))
        torch.testing.assert_close(head(network, hidden), torch.stack(wanted), atol=1e-4, rtol=1e-4)


def test_a_call_without_an_active_object_or_with_a_batch_is_an_error() -> None:
    network = network_of(FITTING["llama"])
    use_own_attention(network)
    with pytest.raises(ModelError, match="outside"):
        network(input_ids=torch.tensor([[1, 2]]), use_cache=False)
    with pytest.raises(ModelError, match="batch of 2"):
        network(input_ids=torch.tensor([[1, 2], [3, 4]]), use_cache=False)


def test_own_attention_on_a_network_that_computes_its_own_is_an_error() -> None:
    with pytest.raises(ModelError, match="Bloom"):
        use_own_attention(network_of(UNFIT["bloom"]))


def test_fast_norms_change_speed_only_and_leave_gemma_alone() -> None:
    ids = torch.tensor([[1, 2, 3]])
    network = network_of(FITTING["llama"])
    before = network(input_ids=ids).logits
    assert fast_norms(network) == 5
    torch.testing.assert_close(network(input_ids=ids).logits, before, atol=1e-5, rtol=1e-5)
    assert fast_norms(network_of(FITTING["gemma2"])) == 0
