"""Norm tuning: only the gains (and biases) of LayerNorm and RMSNorm move (Zhao et al. 2023), by peft."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common, load_wrapped, save_wrapped, wrapped
from opportune.types import NO_HINTS, Hints


@dataclass(frozen=True, slots=True)
class Norm:
    """Trains a copy of every normalisation's weights."""

    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "train the gains of all normalisations"
    source: ClassVar[str] = "Zhao et al. 2023, Tuning LayerNorm in Attention"
    # As for bias: few numbers that start at their place want larger steps than weights; at 1e-4 peft measured nothing.
    grid: ClassVar[tuple[float, ...]] = (1e-3, 3e-3, 1e-2, 3e-2)

    def __post_init__(self) -> None:
        check_common("norm", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """A peft model around the network. Raises RecipeError where no normalisation has weights."""
        from peft import LNTuningConfig

        names = sorted({name.rpartition(".")[2] for name, module in network.named_modules() if _is_norm(module)})
        if not names:
            raise RecipeError(f"norm: {type(network).__name__} has no normalisation with weights to train")
        return wrapped(network, LNTuningConfig(task_type="CAUSAL_LM", target_modules=names), seed, "norm")

    def save(self, network: Any, folder: Path) -> None:
        """Write the norms' weights in peft's format (safetensors)."""
        save_wrapped(network, folder)

    def load(self, network: Any, folder: Path) -> Any:
        """A peft model around the network with the folder's norms, frozen."""
        return load_wrapped(network, folder)


def _is_norm(module: Any) -> bool:
    own = [name for name, _ in module.named_parameters(recurse=False)]
    return "norm" in type(module).__name__.lower() and "weight" in own
