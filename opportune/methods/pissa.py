"""PiSSA: LoRA that begins with the principal singular vectors of each weight (Meng et al. 2024).

peft moves the principal part of each base weight into the factors A, B and leaves the rest. What is saved must fit the
base as it was: with A0, B0 the factors at the start, the change of a weight is s (B A - B0 A0), a plain LoRA of twice
the rank.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from opportune.errors import RecipeError

_ADAPTER = "default"


def check_rank(wrapped: Any) -> None:
    """Raises RecipeError where a weight has fewer singular values than the rank."""
    for name, module in wrapped.named_modules():
        if not hasattr(module, "lora_A"):
            continue
        if not hasattr(module.get_base_layer(), "weight"):
            raise RecipeError(f"lora:variant=pissa: {name.rpartition('.')[2]} is no single matrix; variant=plain can")
        if (most := min(module.get_base_layer().weight.shape)) < module.r[_ADAPTER]:
            raise RecipeError(
                f"lora:variant=pissa,rank={module.r[_ADAPTER]} is out of range: {name.rpartition('.')[2]} has only "
                f"{most} singular values"
            )


@torch.no_grad()
def remember_start(wrapped: Any) -> None:
    """Keep the factors at the start, in the base weights' own number format."""
    start: dict[str, torch.Tensor] = {}
    for name, module in wrapped.named_modules():
        if not hasattr(module, "lora_A"):
            continue
        down, up, base = module.lora_A[_ADAPTER], module.lora_B[_ADAPTER], module.get_base_layer()
        if down.weight.dtype != base.weight.dtype:
            _round(module, down, up, base)
        start |= {f"{name}.lora_A.weight": down.weight.clone(), f"{name}.lora_B.weight": up.weight.clone()}
    wrapped.pissa_start = start


def _round(module: Any, down: Any, up: Any, base: Any) -> None:
    """Factors in the number format of the base weight, which gives up exactly what the rounded factors hold."""
    scale, across = module.scaling[_ADAPTER], module.fan_in_fan_out
    full = up.weight @ down.weight
    down.to(base.weight.dtype)
    up.to(base.weight.dtype)
    moved = scale * (full - up.weight.float() @ down.weight.float())
    base.weight.copy_((base.weight.float() + (moved.T if across else moved)).to(base.weight.dtype))


def save_against_original(network: Any, folder: Path) -> None:
    """Write what was learned as a plain LoRA against the base model before it was rewritten, in peft's format."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(network, save_embedding_layers=False)
    joined = {}
    for name, weight in state.items():
        first = network.pissa_start[name]
        pair = [weight, first] if "lora_A" in name else [weight, -first]
        joined[name] = torch.cat(pair, 0 if "lora_A" in name else 1).detach().contiguous()
    config = copy.deepcopy(network.peft_config[_ADAPTER])
    config.r, config.lora_alpha = 2 * config.r, 2 * config.lora_alpha
    config.init_lora_weights, config.inference_mode = True, True
    config.save_pretrained(str(folder))
    save_file(joined, folder / "adapter_model.safetensors")
