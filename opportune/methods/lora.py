"""LoRA: a low-rank correction beside each linear layer (Hu et al. 2021), in peft's modules and peft's format.

Rank 16, alpha = 2 rank, all linear layers: Biderman et al. 2024, Schulman 2025. peft computes x W^T + s (x A^T) B^T
in separate steps with a copy each; `LoraLinear` does it in place, forward and backward, where nothing else is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common, merged
from opportune.options import within
from opportune.types import NO_HINTS, Hints


@dataclass(frozen=True, slots=True)
class Lora:
    """Trains only the two factors of each correction; the base weights stay as they are, bit for bit."""

    rank: int = 16
    alpha: float | None = None  # scale times rank; None: 2 rank
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"  # or names of modules
    rate: float | None = None  # None: searched on the grid
    epochs: int = 2
    batch: int = 8  # lessons a step

    summary: ClassVar[str] = "train a low-rank correction of the linear layers"
    source: ClassVar[str] = "Hu et al. 2021; Biderman et al. 2024; Schulman 2025"
    # Ten times the rates of full fine-tuning (Schulman 2025). On a model of 135M parameters, the smallest in use, 1e-3
    # did best in the first eight steps on TREC, 3e-3 nearly as well, and 1e-2 diverged.
    grid: ClassVar[tuple[float, ...]] = (1e-4, 3e-4, 1e-3, 3e-3)

    def __post_init__(self) -> None:
        within("lora", "rank", self.rank, 1, 65_536)
        if self.alpha is not None:
            within("lora", "alpha", self.alpha, 1e-3, 1e6)
        within("lora", "dropout", self.dropout, 0.0, 0.95)
        if not self.targets:
            raise RecipeError("lora:targets is empty: all-linear or names of modules")
        check_common("lora", self.rate, self.epochs, self.batch)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """A peft model around the network. Raises RecipeError where no module has one of the names in `targets`."""
        import torch
        from peft import LoraConfig, get_peft_model

        named = [self.targets] if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=2 * self.rank if self.alpha is None else self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear" if named == ["all-linear"] else named,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                wrapped = get_peft_model(merged(network), config, autocast_adapter_dtype=False)
            except ValueError as error:
                raise RecipeError(f"lora:targets={self.targets}: {error}") from error
        return _prepared(wrapped)

    def save(self, network: Any, folder: Path) -> None:
        """Write the adapter in peft's format (safetensors)."""
        network.save_pretrained(folder, save_embedding_layers=False)

    def load(self, network: Any, folder: Path) -> Any:
        """A peft model around the network with the folder's adapter, frozen."""
        from peft import PeftModel

        return _prepared(PeftModel.from_pretrained(merged(network), folder, autocast_adapter_dtype=False)).eval()


def _prepared(wrapped: Any) -> Any:
    """Dropout off in the base model and on in the adapter; the short way through the layers that allow it."""
    from peft.tuners.lora.layer import Linear
    from torch import nn

    wrapped.eval()
    for module in wrapped.modules():
        if not isinstance(module, Linear):
            continue
        module.lora_dropout.train()
        plain = type(module) is Linear and type(module.get_base_layer()) is nn.Linear
        if plain and all(type(dropout) is nn.Identity for dropout in module.lora_dropout.values()):
            module.forward = partial(_forward, module, module.forward)
    return wrapped


def _forward(module: Any, fallback: Any, hidden: Any, *rest: Any, **named: Any) -> Any:
    """What peft's forward computes, in fewer steps; peft's own where it has been asked for something else."""
    from opportune.methods.lora_linear import LoraLinear

    adapters = [name for name in module.active_adapters if name in module.lora_A]
    if rest or named or module.disable_adapters or module.merged or len(adapters) != 1 or module.lora_variant:
        return fallback(hidden, *rest, **named)
    name, base = adapters[0], module.get_base_layer()
    down, up = module.lora_A[name], module.lora_B[name]
    if up.bias is not None or base.weight.requires_grad or not hidden.dtype == base.weight.dtype == down.weight.dtype:
        return fallback(hidden)
    weights = (base.weight, base.bias, down.weight, up.weight)
    return LoraLinear.apply(hidden, *weights, module.scaling[name])  # type: ignore[no-untyped-call]
