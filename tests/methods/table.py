"""Every method as the tests try it, tiny networks of three architectures, and what each should equal."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
import transformers

from opportune.inference.attention import fast_norms, supports_own_attention, use_own_attention
from opportune.methods.adapter import Adapter
from opportune.methods.bias import Bias
from opportune.methods.full import Full
from opportune.methods.ia3 import IA3
from opportune.methods.lora import Lora
from opportune.methods.norm import Norm
from opportune.methods.p_tuning import PTuning
from opportune.methods.peft_method import Peft
from opportune.methods.prefix_tuning import PrefixTuning
from opportune.methods.prompt_tuning import PromptTuning
from opportune.training.packing import TokenLesson
from opportune.types import Hints
from tests.training.tiny import VOCABULARY

NEEDED = {"peft": {"kind": "VERA"}, "continual": {"corpus": "texts"}}  # options without a default
HINTS = Hints(text=(4, 5, 6, 7), labels=(11, 12))
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(tie_word_embeddings=True, **SMALL),
    "qwen3": lambda: transformers.Qwen3Config(head_dim=8, **SMALL),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2
    ),
}

# Adapters whose weights are trained beside or in place of the network's.
ADAPTERS = [
    Lora(rank=4),
    Lora(rank=4, variant="rslora"),
    Lora(rank=4, variant="dora"),
    Lora(rank=4, variant="pissa"),
    IA3(),
    Adapter(size=4),
    Bias(),
    Norm(),
    Peft("VERA", rest=(("r", 4),)),
    Peft("LOHA", rest=(("r", 4),)),
]
WHOLE = [Full(), Full(last=1)]
SOFT = [
    PromptTuning(tokens=5),
    PromptTuning(tokens=3, init="text"),
    PromptTuning(tokens=6, init="random"),
    PromptTuning(tokens=4, init="vocabulary"),
    PTuning(tokens=4, width=8),
    PrefixTuning(tokens=4),
    PrefixTuning(tokens=6, init="random"),
    PrefixTuning(tokens=3, init="random", reparametrise=True),
    PromptTuning(tokens=4, with_="lora", rank=2),
    PromptTuning(tokens=4, with_="full"),
]


def network(kind: str = "llama", own: bool = True) -> Any:
    """The same random network every time, ready for packing or as transformers has it."""
    made = copy.deepcopy(_network(kind))
    if own:
        assert supports_own_attention(made)
        use_own_attention(made)
        fast_norms(made)
    return made


@cache
def _network(kind: str) -> Any:
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]()).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


def spread(made: Any, amount: float = 0.05) -> Any:
    """Moving weights away from where they began, where much is zero. By name, so that two networks get the same."""
    for name, weight in sorted(moving(made).items()):
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))
        with torch.no_grad():
            weight.add_(amount * noise)
    return made


def moving(made: Any) -> dict[str, Any]:
    """The weights that are trained."""
    return {name: weight for name, weight in made.named_parameters() if weight.requires_grad}


def shifted(made: list[TokenLesson], tokens: int) -> list[TokenLesson]:
    """The lessons with virtual tokens in front."""
    virtual = tuple(range(VOCABULARY, VOCABULARY + tokens))
    return [TokenLesson((*virtual, *lesson.ids), lesson.start + tokens) for lesson in made]
