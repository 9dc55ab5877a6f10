"""A Hugging Face config.json -> the widths of an `Architecture`, for the families named in `READERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from opportune.errors import ModelError
from opportune.planner.architecture import Architecture, Experts, Latent, Names

Config = Mapping[str, Any]


def read_config(config: Config, name: str = "") -> Architecture:
    """The architecture of a configuration. Raises ModelError for a family that is not known or a missing width."""
    text = config.get("text_config")
    if isinstance(text, Mapping) and "num_hidden_layers" in text:
        config = text
    family = str(config.get("model_type", ""))
    reader = READERS.get(family)
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise ModelError(f"{name or 'config.json'}: model_type {family!r} is not one of the planner's: {known}")
    try:
        found = reader(config)
    except KeyError as error:
        raise ModelError(f"{name or 'config.json'}: {error.args[0]} is missing") from None
    return replace(found, name=name or str(config.get("name", family)))


def _base(c: Config, **changed: Any) -> Architecture:
    """What most families share, with Llama's names."""
    heads = int(c["num_attention_heads"])
    hidden = int(c["hidden_size"])
    values: dict[str, Any] = {
        "name": "",
        "layers": int(c["num_hidden_layers"]),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": int(c.get("num_key_value_heads") or heads),
        "head_size": int(c.get("head_dim") or hidden // heads),
        "ffn": int(c.get("intermediate_size") or 4 * hidden),
        "vocabulary": int(c["vocab_size"]),
        "context": int(c.get("max_position_embeddings") or 4096),
        "tied": bool(c.get("tie_word_embeddings", False)),
    }
    return Architecture(**(values | changed))


def _llama(c: Config) -> Architecture:
    attention = bool(c.get("attention_bias", False))
    return _base(c, qkv_bias=attention, out_bias=attention, ffn_bias=bool(c.get("mlp_bias", False)))


_RESCALED = Names(scaled=("q_proj", "v_proj"))


def _qwen2(c: Config) -> Architecture:
    return _base(c, qkv_bias=True, names=_RESCALED)


def _qwen3(c: Config) -> Architecture:
    found = _base(c, qkv_bias=bool(c.get("attention_bias", False)), names=_RESCALED)
    return replace(found, out_bias=found.qkv_bias, head_norms=2 * found.head_size)


def _moe(c: Config, found: Architecture) -> Architecture:
    experts = Experts(
        number=int(c.get("num_experts") or c["num_local_experts"]),
        active=int(c["num_experts_per_tok"]),
        ffn=int(c.get("moe_intermediate_size") or c["intermediate_size"]),
        shared=int(c.get("shared_expert_intermediate_size") or 0),
        shared_gate=bool(c.get("shared_expert_intermediate_size")),
        adapted=c.get("model_type") != "gpt_oss",
    )
    return replace(found, experts=experts)


def _olmoe(c: Config) -> Architecture:
    found = _moe(c, _llama(c))
    return replace(found, head_norms=found.query_width + found.key_width)


def _gpt_oss(c: Config) -> Architecture:
    bias = bool(c.get("attention_bias", True))
    found = _moe(c, _base(c, qkv_bias=bias, out_bias=bias, ffn_bias=True, sinks=True))
    assert found.experts is not None
    return replace(found, experts=replace(found.experts, router_bias=True))


def _deepseek(c: Config) -> Architecture:
    latent = Latent(
        query_rank=c.get("q_lora_rank"),
        key_value_rank=int(c["kv_lora_rank"]),
        rotary=int(c["qk_rope_head_dim"]),
        plain=int(c["qk_nope_head_dim"]),
        value=int(c["v_head_dim"]),
    )
    experts = Experts(
        number=int(c["n_routed_experts"]),
        active=int(c["num_experts_per_tok"]),
        ffn=int(c["moe_intermediate_size"]),
        shared=int(c.get("n_shared_experts") or 0) * int(c["moe_intermediate_size"]),
        dense=int(c.get("first_k_dense_replace", 0)),
        adapted=True,
    )
    size = latent.plain + latent.rotary
    return _base(c, latent=latent, experts=experts, head_size=size, kv_heads=int(c["num_attention_heads"]))


def _gemma(norms: int, head_norms: bool) -> Callable[[Config], Architecture]:
    def read(c: Config) -> Architecture:
        found = _base({"head_dim": 256, "tie_word_embeddings": True} | dict(c), norms=norms, names=_RESCALED)
        return replace(found, scaled_norm=True, head_norms=2 * found.head_size if head_norms else 0)

    return read


def _olmo(c: Config) -> Architecture:
    return replace(_llama(c), norm="none")


def _olmo2(c: Config) -> Architecture:
    found = _llama(c)
    return replace(found, head_norms=found.query_width + found.key_width)


def _copies(composed: bool) -> Literal["one", "composed"]:
    return "composed" if composed else "one"


def _phi(c: Config) -> Architecture:
    names = Names(out="dense", up=("fc1",), down="fc2", scaled=("q_proj", "v_proj"))
    biased = {"qkv_bias": True, "out_bias": True, "ffn_bias": True, "head_bias": True}
    kept = _copies(c.get("hidden_act", "gelu_new") == "gelu_new")
    found = _base(c, norm="layer", norms=1, gated=False, parallel=True, names=names, **biased)
    return replace(found, activation=kept)


def _phi3(c: Config) -> Architecture:
    return _base(c, names=Names(qkv=("qkv_proj",), up=("gate_up_proj",)))


def _gpt2(c: Config) -> Architecture:
    hidden = int(c["n_embd"])
    plain = {
        "num_attention_heads": c["n_head"],
        "hidden_size": hidden,
        "num_hidden_layers": c["n_layer"],
        "vocab_size": c["vocab_size"],
        "intermediate_size": c.get("n_inner") or 4 * hidden,
        "max_position_embeddings": c.get("n_positions", 1024),
        "tie_word_embeddings": c.get("tie_word_embeddings", True),
    }
    names = Names(qkv=("c_attn",), out="c_proj", up=("c_fc",), down="c_proj")
    biased = {"qkv_bias": True, "out_bias": True, "ffn_bias": True}
    rows = int(c.get("n_positions", 1024))
    kept = _copies(c.get("activation_function", "gelu_new") == "gelu_new")
    found = _base(plain, norm="layer", gated=False, positions=rows, names=names, **biased)
    return replace(found, activation=kept)


def _neox(c: Config) -> Architecture:
    names = Names(qkv=("query_key_value",), out="dense", up=("dense_h_to_4h",), down="dense_4h_to_h")
    attention = bool(c.get("attention_bias", True))
    return _base(
        c,
        norm="layer",
        gated=False,
        parallel=bool(c.get("use_parallel_residual", True)),
        names=names,
        qkv_bias=attention,
        out_bias=attention,
        ffn_bias=True,
    )


def _falcon(c: Config) -> Architecture:
    names = Names(qkv=("query_key_value",), out="dense", up=("dense_h_to_4h",), down="dense_4h_to_h")
    heads, new, bias = (
        int(c["num_attention_heads"]),
        bool(c.get("new_decoder_architecture")),
        bool(c.get("bias", False)),
    )
    kv = int(c.get("num_kv_heads") or heads) if new else (1 if c.get("multi_query", True) else heads)
    parallel = bool(c.get("parallel_attn", True))
    both = new and c.get("num_ln_in_parallel_attn") in (None, 2)
    return _base(
        dict(c) | {"tie_word_embeddings": c.get("tie_word_embeddings", True)},
        kv_heads=kv,
        ffn=int(c.get("ffn_hidden_size") or 4 * int(c["hidden_size"])),
        norm="layer",
        norms=2 if both or not parallel else 1,
        gated=False,
        parallel=parallel,
        names=names,
        qkv_bias=bias,
        out_bias=bias,
        ffn_bias=bias,
    )


def _bloom(c: Config) -> Architecture:
    heads = c.get("num_attention_heads") or c["n_head"]
    plain = {
        "num_attention_heads": heads,
        "hidden_size": c.get("hidden_size") or c["n_embed"],
        "num_hidden_layers": c.get("num_hidden_layers") or c["n_layer"],
        "vocab_size": c["vocab_size"],
        "max_position_embeddings": c.get("seq_length", 2048),
        "tie_word_embeddings": c.get("tie_word_embeddings", True),
    }
    names = Names(qkv=("query_key_value",), out="dense", up=("dense_h_to_4h",), down="dense_4h_to_h")
    biased = {"qkv_bias": True, "out_bias": True, "ffn_bias": True}
    return _base(plain, norm="layer", embedding_norm=True, gated=False, names=names, **biased)


def _mpt(c: Config) -> Architecture:
    plain = {
        "num_attention_heads": c["n_heads"],
        "hidden_size": c["d_model"],
        "num_hidden_layers": c["n_layers"],
        "vocab_size": c["vocab_size"],
        "intermediate_size": int(c.get("expansion_ratio", 4)) * int(c["d_model"]),
        "max_position_embeddings": c.get("max_seq_len", 2048),
        "tie_word_embeddings": True,
    }
    names = Names(qkv=("Wqkv",), out="out_proj", up=("up_proj",))
    return _base(plain, norm="layer-without-bias", gated=False, names=names)


def _opt(c: Config) -> Architecture:
    names = Names(out="out_proj", up=("fc1",), down="fc2", scaled=("q_proj", "k_proj"))
    biased = {"qkv_bias": True, "out_bias": True, "ffn_bias": True}
    plain = dict(c) | {"intermediate_size": c["ffn_dim"], "tie_word_embeddings": c.get("tie_word_embeddings", True)}
    rows = int(c.get("max_position_embeddings", 2048)) + 2
    return _base(plain, norm="layer", gated=False, activation="relu", positions=rows, names=names, **biased)


def _starcoder2(c: Config) -> Architecture:
    bias = bool(c.get("use_bias", True))
    tied = {"tie_word_embeddings": c.get("tie_word_embeddings", True)}
    found = _base(dict(c) | tied, norm="layer", gated=False, names=Names(up=("c_fc",), down="c_proj"))
    return replace(found, qkv_bias=bias, out_bias=bias, ffn_bias=bias)


def _stablelm(c: Config) -> Architecture:
    parallel = bool(c.get("use_parallel_residual", False))
    found = _base(c, norm="layer", qkv_bias=bool(c.get("use_qkv_bias", False)), parallel=parallel)
    return replace(found, norms=1 if parallel else 2)


READERS: dict[str, Callable[[Config], Architecture]] = {
    "llama": _llama,
    "mistral": _llama,
    "mixtral": lambda c: _moe(c, _base(c)),
    "smollm3": _llama,
    "qwen2": _qwen2,
    "qwen2_moe": lambda c: _moe(c, _qwen2(c)),
    "qwen3": _qwen3,
    "qwen3_moe": lambda c: _moe(c, _qwen3(c)),
    "gemma": _gemma(2, False),
    "gemma2": _gemma(4, False),
    "gemma3_text": _gemma(4, True),
    "olmo": _olmo,
    "olmo2": _olmo2,
    "olmoe": _olmoe,
    "phi": _phi,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "gpt_neox": _neox,
    "gpt_oss": _gpt_oss,
    "falcon": _falcon,
    "bloom": _bloom,
    "mpt": _mpt,
    "opt": _opt,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
    "deepseek_v3": _deepseek,
}
