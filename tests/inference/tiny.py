"""Tiny networks of several architectures and a tokenizer trained on the spot."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXT = """Sort the message into one of the labels. Text: My card has not arrived yet, what should I do?
Label: card arrival. Text: I was charged twice for the same thing! Label: charged twice. Question: how far is it from
Denver to Aspen in 1984? Answer: about 555-1234 miles. The answer is yes. The answer is no. Straße, naïve café,
中文字符, 你好 世界; user assistant system,
text and label and location and number and human and description and entity."""
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] | trim) + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]


def _trained(model: Any, pre_tokenizer: Any, decoder: Any, alphabet: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[*SPECIAL, "<unk>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines() * 3, trainer)
    return tokenizer


@cache
def _backend(kind: str) -> str:
    if kind == "spaces":  # as Llama 2: spaces become a mark, one is put in front
        marks = pre_tokenizers.Metaspace(), decoders.Metaspace()
        return _trained(models.BPE(unk_token="<unk>"), *marks, list(set(TEXT))).to_str()
    split = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return _trained(models.BPE(), *split, pre_tokenizers.ByteLevel.alphabet()).to_str()


def tokenizer_of(kind: str = "bytes", *, bos: bool = False, template: str | None = None) -> Any:
    """A BPE tokenizer over "bytes" or "spaces", with or without a token before a plain text and a chat template."""
    backend = Tokenizer.from_str(_backend(kind))
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", 1)]
        )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


SMALL: dict[str, Any] = {
    "vocab_size": 420,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT: dict[str, Any] = {"vocab_size": 420, "bos_token_id": 1, "eos_token_id": 2}
TREE = ("llama", "gpt2", "qwen2", "qwen3", "gemma2", "gemma3")  # those that the token tree can express
PLAIN = ("bloom", "mamba")


def _config(name: str) -> Any:
    kinds = ["sliding_attention", "full_attention"]
    narrow = {"sliding_window": 7, "head_dim": 8, "layer_types": kinds}
    configs = {
        "llama": lambda: transformers.LlamaConfig(**SMALL),
        "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **_GPT),
        "qwen2": lambda: transformers.Qwen2Config(**SMALL),
        "qwen3": lambda: transformers.Qwen3Config(head_dim=8, **SMALL),
        "gemma2": lambda: transformers.Gemma2Config(**narrow, **SMALL),
        "gemma3": lambda: transformers.Gemma3TextConfig(**narrow, **SMALL),
        "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **_GPT),  # ALiBi
        "mamba": lambda: transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **_GPT),
    }
    return configs[name]()


@cache
def network_of(name: str) -> Any:
    """A random network of an architecture, with weights large enough that what a token sees shows in its logits."""
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(_config(name)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return network


def plain_network_of(name: str) -> Any:
    """The same network with transformers' own attention, to compare with."""
    network = transformers.AutoModelForCausalLM.from_config(_config(name), attn_implementation="eager").eval()
    network.load_state_dict(network_of(name).state_dict())
    return network
