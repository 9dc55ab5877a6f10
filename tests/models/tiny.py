"""Tiny models in every form in which a model can be given."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

torch.set_num_threads(1)

ALPHABET = sorted(bytes_to_unicode().values())
MERGES = [("Ċ", "Ċ"), ("Ġ", "Ġ"), ("h", "e")]
END = "<|end|>"
TOKENS = [END, *ALPHABET, *("".join(pair) for pair in MERGES)]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def network(tied: bool = True) -> LlamaForCausalLM:
    """A random Llama, the same every time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(TOKENS)}, merges=MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, chat_template=TEMPLATE)


def save_folder(folder: Path, tied: bool = True) -> Path:
    network(tied).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_gguf(path: Path, kind: str = "F32", splitting: str = "smollm") -> Path:
    """The same network as a GGUF file: its matrices in the GGML type `kind`, as llama.cpp's converter would."""
    made = network()
    config = made.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] + [1] * (len(TOKENS) - 1))
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_eos_token_id(0)
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in made.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        stem, _, ending = name.rpartition(".")
        _add(writer, f"{names.get_name(stem)}.{ending}", stored(name, value.numpy(), config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored(name: str, value: np.ndarray, config: LlamaConfig) -> np.ndarray:
    """llama.cpp keeps the rows of each query and key head in another order (its rotation pairs neighbours)."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = next((heads[key] for key in heads if key in name), None)
    if count is None:
        return value
    return value.reshape(count, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)


def _add(writer: gguf.GGUFWriter, name: str, value: np.ndarray, kind: str) -> None:
    type_ = gguf.GGMLQuantizationType[kind] if value.ndim == 2 else gguf.GGMLQuantizationType.F32
    writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(value), type_), raw_dtype=type_)
