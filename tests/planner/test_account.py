"""Trainable parameters against peft, operations against torch's flop counter, kept bytes against saved tensors."""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from opportune.errors import RecipeError
from opportune.methods.bias import Bias
from opportune.planner import techniques
from opportune.planner.activations import kept
from opportune.planner.catalogue import find, known
from opportune.planner.families import read_config
from opportune.planner.stacks import STACKS
from opportune.planner.work import Load, flops

WORDS = 64
FAMILIES = [
    "smollm2-135m", "smollm3-3b", "llama-3.2-1b", "mistral-7b", "mixtral-8x7b", "qwen2.5-7b", "qwen3-8b",
    "qwen3-30b-a3b", "gemma-2b", "gemma-2-9b", "gemma-3-1b", "gpt2", "pythia-1.4b", "phi-2", "phi-3-mini", "olmo-7b",
    "olmo-2-7b", "olmoe-1b-7b", "falcon-7b", "bloom-7b1", "mpt-7b", "opt-1.3b", "starcoder2-7b", "stablelm-2-1.6b",
    "gpt-oss-20b", "deepseek-v3",
]  # fmt: skip
BASE = {
    "vocab_size": WORDS,
    "num_hidden_layers": 4,
    "hidden_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 352,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": WORDS,
    "n_layer": 4,
    "n_embd": 128,
    "n_head": 8,
    "n_positions": 256,
    "resid_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TINY = {
    "llama": BASE,
    "qwen2": BASE,
    "qwen3": BASE | {"head_dim": 16},
    "gemma": BASE | {"head_dim": 16},
    "gpt2": GPT2,
    "gpt_neox": BASE | {"num_key_value_heads": 8},
    "phi": BASE | {"num_key_value_heads": 8},
    "phi3": BASE | {"num_key_value_heads": 8},
    "olmo": BASE,
}
LORA, PAIR = techniques.Lora(4), techniques.Lora(4, targets=("q_proj", "v_proj"))


def network(family, layers, attention, wrap=None):
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(TINY[family])
    values["n_layer" if "n_layer" in values else "num_hidden_layers"] = layers
    config = AutoConfig.for_model(family, **values)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
    if wrap is not None:
        from peft import get_peft_model

        made = get_peft_model(made, copy.deepcopy(wrap))
    return made, read_config(config.to_dict(), family)


def lora_of(technique):
    from peft import LoraConfig

    targets = technique.targets if isinstance(technique.targets, str) else list(technique.targets)
    return LoraConfig(task_type="CAUSAL_LM", r=technique.rank, target_modules=targets)


def bytes_kept(made):
    """Storage kept for the backward pass of two sequences of 64 tokens, without parameters."""
    own = {t.untyped_storage().data_ptr() for t in (*made.parameters(), *made.buffers())}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made(input_ids=torch.randint(0, WORDS, (2, 64)), use_cache=False)
    return sum(size for size, _ in found.values())


CASES = [(f, techniques.Full()) for f in TINY] + [(f, LORA) for f in TINY] + [(f, PAIR) for f in ("llama", "qwen3")]


@pytest.mark.parametrize(("family", "technique"), CASES, ids=lambda x: getattr(x, "targets", str(type(x).__name__)))
def test_kept_bytes_of_a_layer_are_those_of_torch(family, technique):
    wrap = None if isinstance(technique, techniques.Full) else lora_of(technique)
    totals = {}
    for layers in (2, 4):
        made, mine = network(family, layers, "sdpa", wrap)
        totals[layers] = bytes_kept(made)
    measured = (totals[4] - totals[2]) / 2 / 128
    unpadded = replace(STACKS["transformers"], repeats_keys=False)
    counted = kept(mine, technique.change(mine), unpadded).layer
    assert counted == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize(("family", "technique"), CASES, ids=lambda x: getattr(x, "targets", str(type(x).__name__)))
def test_operations_are_those_of_torch(family, technique):
    from torch.utils.flop_counter import FlopCounterMode

    frozen = not isinstance(technique, techniques.Full)
    made, mine = network(family, 4, "eager", lora_of(technique) if frozen else None)
    with FlopCounterMode(display=False) as counter:
        made(input_ids=torch.randint(0, WORDS, (2, 64)), use_cache=False).logits.float().sum().backward()
    counted = flops(mine, technique.change(mine), Load(2, 64)).total
    # In the first layer the adapters' inputs need no gradient either: below 2 % in four layers.
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02 if frozen else 1e-9)


def peft_cases():
    names = ["smollm2-135m", "qwen2.5-0.5b", "gpt2", "pythia-160m", "bloom-560m", "phi-1.5", "gemma-2-2b", "opt-125m"]
    kinds = [techniques.Lora(), techniques.Lora(variant="dora"), techniques.PrefixTuning(), techniques.PromptTuning(),
             techniques.Peft(), techniques.Peft(r=16)]  # fmt: skip
    cases = [(name, kind) for name in names for kind in kinds]
    return cases + [
        (name, techniques.Lora()) for name in ("mixtral-8x7b", "qwen3-30b-a3b", "olmoe-1b-7b", "phi-3-mini")
    ]


def configuration(kind):
    import peft

    task = {"task_type": "CAUSAL_LM"}
    match kind:
        case techniques.Lora():
            dora = kind.variant == "dora"
            return peft.LoraConfig(r=kind.rank, target_modules="all-linear", use_dora=dora, **task)
        case techniques.PrefixTuning():
            return peft.PrefixTuningConfig(num_virtual_tokens=kind.tokens, **task)
        case techniques.PromptTuning():
            return peft.PromptTuningConfig(num_virtual_tokens=kind.tokens, **task)
        case techniques.Peft(r=256):
            return peft.VeraConfig(target_modules="all-linear", **task)
        case techniques.Peft():
            return peft.VeraConfig(r=kind.r, target_modules="all-linear", **task)


def on_meta(name):
    """Three layers of a model of the catalogue, without storage."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(known()[name])
    values["n_layers" if "n_layers" in values else "n_layer" if "n_layer" in values else "num_hidden_layers"] = 3
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**values)), read_config(values, name)


@pytest.mark.parametrize(("name", "kind"), peft_cases(), ids=lambda x: x if isinstance(x, str) else type(x).__name__)
@pytest.mark.filterwarnings("ignore")
def test_trainable_parameters_are_those_of_peft(name, kind):
    from peft import get_peft_model

    made, mine = on_meta(name)
    with torch.device("meta"):
        wrapped = get_peft_model(made, configuration(kind))
    there = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert kind.change(mine).moving == there


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_ia3_moves_what_peft_moves_at_the_methods_targets_or_both_refuse(name):
    from opportune.methods.ia3 import IA3

    made, mine = on_meta(name)
    try:
        wrapped = IA3().attach(made, 0)
    except RecipeError:
        with pytest.raises(RecipeError, match="ia3"):
            techniques.Ia3().change(mine)
        return
    there = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert techniques.Ia3().change(mine).moving == there


def test_vera_is_on_the_modules_named_and_other_kinds_of_peft_are_refused():
    mine = find("llama-3.2-1b")
    two = techniques.technique_of("peft:kind=VERA,r=64,target_modules=[q_proj,v_proj]").change(mine)
    assert two.moving == 16 * ((2048 + 64) + (512 + 64))
    for kind in ("LORA", "BOFT", "vera"):
        with pytest.raises(RecipeError, match="knows VERA"):
            techniques.technique_of(f"peft:kind={kind}").change(mine)


@pytest.mark.parametrize("recipe", [
    "lora:rank=8", "lora:variant=dora", "lora:targets=[q_proj]", "full", "full:last=1", "ia3", "bias", "norm",
    "ia3:targets=[v_proj,down_proj],inner=[down_proj]", "adapter", "adapter:size=8", "prompt-tuning",
    "prompt-tuning:with=lora,rank=4", "p-tuning", "p-tuning:width=32", "prefix-tuning:init=random",
    "prefix-tuning:init=random,reparametrise=true",
    "peft:kind=VERA,r=8", "peft:kind=VERA",
])  # fmt: skip
def test_trainable_parameters_are_those_of_the_projects_methods(recipe):
    from opportune import methods
    from opportune.inference.attention import use_own_attention
    from opportune.options import build
    from opportune.spec import parse
    from opportune.types import Hints

    made, mine = network("llama", 3, "sdpa")
    use_own_attention(made)  # which prefix tuning needs
    part, hints = parse(recipe).parts[0], Hints(text=(1, 2), labels=(3, 4))
    attached = build(part, methods.TABLE[part.name]).attach(made, 0, hints)
    there = sum(p.numel() for p in attached.parameters() if p.requires_grad)
    assert techniques.technique(part).change(mine).moving == there


@pytest.mark.parametrize("recipe", ["lora:rnak=8", "adapter:width=8", "full:epoch=1", "norm:tokens=3"])
def test_an_option_that_the_method_does_not_have_is_refused(recipe):
    with pytest.raises(RecipeError, match="unknown option"):
        techniques.technique_of(recipe)


def test_norms_biases_and_last_layers_by_hand():
    made, mine = network("gpt_neox", 4, "sdpa")
    named = dict(made.named_parameters())
    norms = sum(p.numel() for n, p in named.items() if "norm" in n)
    biases = sum(p.numel() for n, p in named.items() if n.endswith("bias"))
    assert techniques.Norm().change(mine).moving == norms
    assert techniques.Bias().change(mine).moving == biases
    last = sum(p.numel() for n, p in named.items() if ".3." in n or "final_layer_norm" in n)
    assert techniques.Full(last=1).change(mine).moving == last
    with pytest.raises(RecipeError, match="no weights"):
        techniques.Norm().change(find("olmo-1b"))


@pytest.mark.parametrize("name", ["qwen2.5-7b", "falcon-7b", "stablelm-2-1.6b", "gpt2"])
def test_biases_are_those_of_the_method_where_only_some_layers_have_them(name):
    values = dict(known()[name])
    values[next(key for key in ("n_layer", "num_hidden_layers") if key in values)] = 3
    with torch.device("meta"):
        made = Bias().attach(AutoModelForCausalLM.from_config(AutoConfig.for_model(**values)), 0)
    there = sum(weight.numel() for weight in made.parameters() if weight.requires_grad)
    assert techniques.Bias().change(read_config(values, name)).moving == there


def test_what_a_recipe_cannot_have_is_refused():
    with pytest.raises(RecipeError, match="out of range"):
        techniques.technique_of("lora:rank=0").change(find("gpt2"))
    with pytest.raises(RecipeError, match="c_attn"):
        techniques.technique_of("lora:targets=[q_proj]").change(find("gpt2"))
    with pytest.raises(RecipeError, match="unknown to the planner"):
        techniques.technique_of("zero-shot")
