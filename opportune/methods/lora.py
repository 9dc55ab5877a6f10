"""LoRA: a low-rank correction beside each linear layer (Hu et al. 2021), in peft's modules and peft's format.

Rank 16, alpha = 2 rank, all linear layers: Biderman et al. 2024, Schulman 2025. peft computes x W^T + s (x A^T) B^T
in separate steps with a copy each; `LoraLinear` does it in place, forward and backward, where nothing else is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from opportune.errors import RecipeError
from opportune.methods.common import check_common, is_quantised, load_wrapped, save_wrapped, wrapped
from opportune.options import within
from opportune.types import NO_HINTS, Hints


@dataclass(frozen=True, slots=True)
class Lora:
    """Trains only the two factors of each correction; the base weights stay as they are, bit for bit.

    `variant=pissa` moves the largest part of each base weight into the factors when it begins.
    """

    rank: int = 16
    alpha: float | None = None  # scale times rank (rslora: times its root); None: a scale of 2 at rank 16, see `_alpha`
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"  # or names of modules
    variant: Literal["plain", "rslora", "dora", "pissa"] = "plain"
    rate: float | None = None  # None: searched on the grid
    epochs: int = 2
    batch: int = 8  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

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
        check_common("lora", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """A peft model around the network. Raises RecipeError where no module has one of the names in `targets`, and
        where pissa meets a matrix smaller than its rank or quantised weights."""
        from peft import LoraConfig

        from opportune.methods.pissa import check_rank, remember_start

        named = [self.targets] if isinstance(self.targets, str) else list(self.targets)
        without_weights = network.get_input_embeddings().weight.device.type == "meta"
        pissa = self.variant == "pissa" and not without_weights
        if pissa and is_quantised(network):
            raise RecipeError("lora:variant=pissa rewrites the base weights, which are quantised; use another variant")
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self._alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear" if named == ["all-linear"] else named,
            use_rslora=self.variant == "rslora",
            use_dora=self.variant == "dora",
            init_lora_weights="pissa_niter_16" if pissa else True,  # by a randomised decomposition
        )
        made = wrapped(network, config, seed, f"lora:targets={self.targets},rank={self.rank},variant={self.variant}")
        if self.variant == "pissa":
            check_rank(made)
        if pissa:
            remember_start(made)
        return _prepared(made)

    @property
    def _alpha(self) -> float:
        """A scale of 2 for plain and dora at any rank; 8 / sqrt(rank) for rslora, which is 2 at the default rank; 1 for
        pissa, as its authors have it."""
        if self.alpha is not None:
            return self.alpha
        return {"rslora": 8.0, "pissa": float(self.rank)}.get(self.variant, 2.0 * self.rank)

    def save(self, network: Any, folder: Path) -> None:
        """Write the adapter in peft's format (safetensors); pissa as a plain LoRA of twice the rank, for the base
        model as it was."""
        from opportune.methods.pissa import save_against_original

        (save_against_original if self.variant == "pissa" else save_wrapped)(network, folder)

    def load(self, network: Any, folder: Path) -> Any:
        """A peft model around the network with the folder's adapter, frozen."""
        return _prepared(load_wrapped(network, folder)).eval()


def _prepared(wrapped: Any) -> Any:
    """The short way through the layers that allow it."""
    from peft.tuners.lora.layer import Linear
    from torch import nn

    from opportune.products import OwnLinear

    for module in wrapped.modules():
        if not isinstance(module, Linear):
            continue
        plain = type(module) is Linear and type(module.get_base_layer()) in (nn.Linear, OwnLinear)
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
    weights = (getattr(base, "factor", base.weight), base.bias, down.weight, up.weight)
    return LoraLinear.apply(hidden, *weights, module.scaling[name])  # type: ignore[no-untyped-call]
