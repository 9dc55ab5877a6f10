"""Weights in four bits: NF4 with doubly quantised scales (Dettmers et al. 2023, QLoRA), by bitsandbytes.

The linear layers are packed when they are loaded and unpacked for every product, so a model takes about a quarter of
its memory and an adapter is trained on it as on any other.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from opportune.errors import ModelError

KINDS = ("nf4",)


def check_quantisation(kind: str | None, device: str) -> None:
    """Raise ModelError for a kind that there is not, without an NVIDIA GPU, or without bitsandbytes."""
    if kind is None:
        return
    if kind not in KINDS:
        raise ModelError(f"quantise={kind} is unknown; allowed: {', '.join(KINDS)}")
    if not device.startswith("cuda"):
        raise ModelError(f"quantise={kind} needs an NVIDIA GPU; the model was to run on {device}")
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"quantise={kind} needs the bitsandbytes package, which is not installed: pip install bitsandbytes"
        )


def quantisation(kind: str | None, dtype: str) -> dict[str, Any]:
    """What transformers is told when it loads the weights; products are computed in `dtype`."""
    if kind is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": config}
