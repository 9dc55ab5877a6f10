"""Parameters by tensor against transformers on the meta device, and sizes from a number."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.errors import ModelError
from opportune.planner.architecture import count, tensors
from opportune.planner.catalogue import find, known, of_size, size
from opportune.planner.families import READERS, read_config
from opportune.planner.sizes import architecture_of_size

# One of each family of the catalogue, as published.
FAMILIES = [
    "smollm2-135m", "smollm3-3b", "llama-3.2-1b", "mistral-7b", "mixtral-8x7b", "qwen2.5-7b", "qwen3-8b",
    "qwen3-30b-a3b", "gemma-2b", "gemma-2-9b", "gemma-3-1b", "gpt2", "pythia-1.4b", "phi-2", "phi-3-mini", "olmo-7b",
    "olmo-2-7b", "olmoe-1b-7b", "falcon-7b", "falcon-40b", "bloom-7b1", "mpt-7b", "opt-1.3b", "starcoder2-7b",
    "stablelm-2-1.6b", "gpt-oss-20b", "deepseek-v3",
]  # fmt: skip
# Parameters as the models' publishers or their weight files state them.
STATED = {
    "llama-2-7b": 6_738_415_616,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-7b": 7_615_616_512,
    "gemma-2b": 2_506_172_416,
    "phi-2": 2_779_683_840,
    "phi-3-mini": 3_821_079_552,
    "gpt2-xl": 1_557_611_200,
    "bloom-176b": 176_247_271_424,
    "qwen3-30b-a3b": 30_532_122_624,
    "pythia-12b": 11_846_072_320,
    "deepseek-v3": 671_026_404_352,
}


@pytest.fixture(scope="module")
def shrunk():
    """A family's network on the meta device, four layers deep, with its configuration."""

    def make(name):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        values = dict(known()[name])
        values["n_layers" if "n_layers" in values else "n_layer" if "n_layer" in values else "num_hidden_layers"] = 4
        config = AutoConfig.for_model(**values)
        with torch.device("meta"):
            return values, AutoModelForCausalLM.from_config(config)

    return make


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_of_a_family_is_counted(name, shrunk):
    values, network = shrunk(name)
    mine = read_config(values, name)
    there = list(network.named_parameters())
    assert count(mine).total == sum(p.numel() for _, p in there)
    by_part = Counter()
    for tensor in tensors(mine):
        by_part[tensor.part] += tensor.parameters
    embedding = network.get_input_embeddings().weight
    rows = sum(p.numel() for n, p in there if "embed_positions" in n or "wpe" in n)
    assert by_part["embedding"] == embedding.numel() + rows
    tied = network.get_output_embeddings().weight is embedding
    assert by_part["head"] == (0 if tied else network.get_output_embeddings().weight.numel())
    norms = sum(p.numel() for n, p in there if p.ndim == 1 and ("norm" in n or ".ln_" in n))
    assert by_part["norm"] == norms
    biases = sum(p.numel() for n, p in there if n.endswith("bias") and not ("norm" in n or ".ln_" in n))
    stacked = sum(p.numel() for n, p in there if n.endswith("_proj_bias"))
    assert by_part["bias"] == (biases if biases else 0) + (0 if stacked == 0 or biases >= stacked else stacked)


@pytest.mark.parametrize(("name", "parameters"), STATED.items())
def test_whole_models_have_the_stated_count(name, parameters):
    assert count(find(name)).total == parameters


def test_a_mixture_counts_what_a_token_passes():
    mixtral = count(find("mixtral-8x7b"))
    assert mixtral.active == pytest.approx(12.9e9, rel=0.01)  # Jiang et al. 2024
    assert count(find("deepseek-v3")).active == pytest.approx(37.5e9, rel=0.02)  # DeepSeek-AI 2024: 37B


@pytest.mark.parametrize("text", ["meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "llama-3.1-8b"])
def test_a_hub_name_is_found_in_the_list(text):
    assert find(text).layers in (32, 28)


def test_what_is_not_there_is_refused_with_what_is_near():
    with pytest.raises(ModelError, match="llama-3.1-8b"):
        find("llama-3.1-9b")
    with pytest.raises(ModelError, match="model_type 'bert'"):
        read_config({"model_type": "bert"})
    with pytest.raises(ModelError, match="hidden_size is missing"):
        read_config({"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 2})


@settings(deadline=None)
@given(st.floats(7, 12.5))
def test_a_size_becomes_a_model_of_that_size(power):
    wanted = 10**power
    made = architecture_of_size(wanted)
    assert count(made).total == pytest.approx(wanted, rel=0.05)
    assert 4 <= made.hidden / made.layers <= 260
    assert made.heads * made.head_size == made.hidden
    assert made.heads % made.kv_heads == 0


def test_a_model_smaller_than_its_embeddings_is_refused():
    with pytest.raises(ModelError, match="embedding"):
        of_size("1M")
    assert of_size("1M", vocabulary=1000).vocabulary == 1000
    for bad in ("", "ten", "0B", "-3B", "10X"):
        with pytest.raises(ModelError, match="not a size"):
            size(bad, "--parameters")


def test_more_layers_are_more_parameters():
    base = find("llama-3.2-1b")
    assert count(replace(base, layers=17)).total > count(base).total
    assert len(READERS) >= 12
