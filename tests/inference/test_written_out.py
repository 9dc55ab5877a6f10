"""The decoder written out computes what the network does, for networks of its build and for no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from opportune.inference.attention import Packed, packed_forward, tree_plan
from opportune.inference.engine import Engine
from opportune.inference.generation import generate, groups
from opportune.inference.written_out import Decoder, follows
from opportune.methods.adapter import Adapter
from opportune.methods.bias import Bias
from opportune.methods.ia3 import IA3
from opportune.methods.lora import Lora
from opportune.methods.prefix_tuning import PrefixTuning
from opportune.methods.prompt_tuning import PromptTuning
from opportune.products import favoured
from tests.inference.test_generation import HEAD, TOKENIZER, expected, request, tails
from tests.inference.tiny import SMALL, TREE, network_of, plain_network_of

pytestmark = pytest.mark.skipif(not favoured(), reason="nothing is laid out on this processor")
KINDS = ["sliding_attention", "full_attention"]
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "mistral": lambda: transformers.MistralConfig(sliding_window=7, **SMALL),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL),  # biases on queries, keys and values alone
    "qwen2 with windows": lambda: transformers.Qwen2Config(
        use_sliding_window=True, sliding_window=7, layer_types=KINDS, **SMALL
    ),
    "gelu": lambda: transformers.LlamaConfig(hidden_act="gelu", **SMALL),
    "granite": lambda: transformers.GraniteConfig(residual_multiplier=0.5, **SMALL),  # by its parts a Llama
    "qwen3": lambda: transformers.Qwen3Config(head_dim=8, **SMALL),
    "helium": lambda: transformers.HeliumConfig(head_dim=8, **SMALL),  # by its parts a Llama, turned otherwise
    "gemma": lambda: transformers.GemmaConfig(head_dim=8, **SMALL),
}
FOLLOWING = {"llama", "mistral", "qwen2", "qwen2 with windows"}


def made(name: str) -> Any:
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return network


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
def test_only_what_computes_the_same_follows(name: str, dtype: torch.dtype) -> None:
    network = made(name).to(dtype)
    assert Engine(network).own
    assert follows(network) == (name in FOLLOWING)
    if name in FOLLOWING:
        plan = tree_plan([-1, 0, 1, 2, 1, 4, 5, 5], [0, 1, 2, 3, 2, 3, 4, 4])
        ids = torch.arange(20, 28)
        own = packed_forward(network, ids, plan.positions, Packed(plan))
        written = Decoder(network, 8)(ids, plan.positions, Packed(plan))
        close = 1e-5 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(written, own, atol=close * float(own.abs().max()), rtol=close)


@pytest.mark.parametrize(
    "method",
    [Lora(rank=2), IA3(), Adapter(size=4), PrefixTuning(tokens=2, init="random"), Bias()],
    ids=["lora", "ia3", "adapter", "prefix", "bias"],
)
def test_what_a_method_has_changed_follows_where_its_parts_are_the_same(method: Any) -> None:
    network = Engine(made("llama")).network
    assert follows(network)
    assert follows(Engine(method.attach(network, 0)).network) == isinstance(method, Bias)


@torch.no_grad()
def test_virtual_tokens_are_read_as_they_were_learned() -> None:
    network = PromptTuning(tokens=3, init="vocabulary").attach(made("llama"), 0)
    engine = Engine(network)
    requests = [request(i, [420, 421, 422, *HEAD, *tail]) for i, tail in enumerate(tails(4))]
    prefix = engine.prefix([420, 421, 422, *HEAD])
    plain = generate(engine, requests, prefix, TOKENIZER)
    with engine.writing(4):
        assert engine._decoder is not None
        assert generate(engine, requests, prefix, TOKENIZER) == plain
        alone = generate(engine, requests, None, TOKENIZER)
    assert alone == plain


def test_a_hooked_layer_does_not_follow() -> None:
    network = made("llama")
    Engine(network)
    network.model.layers[1].mlp.register_forward_hook(lambda module, given, output: output * 2)
    assert not follows(network)


@torch.no_grad()
@pytest.mark.parametrize("name", TREE)
def test_what_is_written_is_token_for_token_what_transformers_generates(name: str) -> None:
    engine = Engine(network_of(name))
    requests = [
        request(i, HEAD + tail, max_tokens=6 + i % 9, ends=frozenset(range(2, 40))) for i, tail in enumerate(tails(9))
    ]
    prefix = engine.prefix(HEAD)
    with engine.writing(9):
        for group in groups(requests, len(HEAD)):
            found = generate(engine, group, prefix, TOKENIZER)
            assert found == [[expected(name, each)] for each in group]
    weights = [layer.packed for layer in engine.network.modules() if isinstance(layer, nn.Linear)]
    assert not any(weights)


@torch.no_grad()
def test_weights_that_changed_since_are_those_that_write() -> None:
    network = made("llama")
    engine, each = Engine(network), request(0, [*HEAD, 5])
    with engine.writing(1):
        before = generate(engine, [each], None, TOKENIZER)
    network.model.layers[0].mlp.up_proj.weight.mul_(-3)
    with engine.writing(1):
        after = generate(engine, [each], None, TOKENIZER)
    assert before != after == generate(engine, [each], None, TOKENIZER)


def test_the_networks_of_the_tests_are_followed_and_not() -> None:
    followed = {name for name in TREE if follows(Engine(network_of(name)).network)}
    assert followed == {"llama", "qwen2"}
    assert plain_network_of("llama").config._attn_implementation == "eager"
