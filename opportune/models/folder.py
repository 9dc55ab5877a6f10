"""Is this folder a causal language model that can be loaded safely? Asked before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opportune.errors import ModelError, first_line

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def check_folder(folder: Path) -> None:
    """Raise ModelError unless the folder has a configuration, safetensors weights (all shards) and a tokenizer."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a Hugging Face model folder: it has no config.json")
    _check_weights(folder)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelError(f"{folder} has no tokenizer: tokenizer.json (or tokenizer.model, vocab.json) is missing")


def _check_weights(folder: Path) -> None:
    present = {path.name for path in folder.iterdir() if path.is_file()}
    if _INDEX in present:
        shards = set(_json(folder / _INDEX).get("weight_map", {}).values())
        if missing := sorted(shards - present):
            raise ModelError(f"{folder} lacks {len(missing)} of {len(shards)} weight files, first {missing[0]}")
        return
    if "model.safetensors" in present:
        return
    if pickled := sorted(name for name in present if Path(name).suffix in _PICKLES):
        raise ModelError(
            f"{folder} has its weights only as {pickled[0]}, a pickle that can run any code when loaded; "
            "only safetensors are read: save the model again with save_pretrained"
        )
    if packed := sorted(name for name in present if name.endswith(".gguf")):
        raise ModelError(f"{folder} has its weights as GGUF: give the file itself, {folder / packed[0]}")
    raise ModelError(f"{folder} has no weights: model.safetensors (or its shards with their index) is missing")


def read_config(folder: Path, trust_remote_code: bool) -> Any:
    """The folder's transformers configuration. Raises ModelError unless it is of a causal language model that
    transformers knows, or that may run its own code."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    raw = _json(folder / "config.json")
    kind, own_code = raw.get("model_type"), raw.get("auto_map", {})
    if kind not in CONFIG_MAPPING_NAMES and not own_code:
        raise ModelError(f"{folder / 'config.json'} has the model_type {kind!r}, which transformers does not know")
    if kind not in CONFIG_MAPPING_NAMES and not trust_remote_code:
        raise ModelError(
            f"{folder} needs Python code of its own ({', '.join(sorted({str(name) for name in own_code.values()}))}), "
            "which is not run unless asked for: read that code, then add trust=true to the model's options"
        )
    if not (trust_remote_code and "AutoModelForCausalLM" in own_code):
        _check_architecture(folder, raw)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:  # the configuration classes raise what they like
        raise ModelError(f"{folder / 'config.json'} cannot be used: {first_line(error)}") from error


def _check_architecture(folder: Path, raw: dict[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    named = raw.get("architectures") or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(raw["model_type"], raw["model_type"])]
    causal = set(named) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    if raw.get("is_encoder_decoder") or not causal:
        raise ModelError(
            f"{folder} is a {', '.join(named)}: only causal (decoder-only) language models can be used, "
            "no encoders, encoder-decoders or classifiers"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds {type(content).__name__}, expected a JSON object")
    return content
