"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.methods.common import check_common, merged
from opportune.types import NO_HINTS, Hints


@dataclass(frozen=True, slots=True)
class Full:
    """All weights, from where the base model left them."""

    rate: float | None = None  # None: searched on the grid
    epochs: int = 2
    batch: int = 8  # lessons a step

    summary: ClassVar[str] = "fine-tune all weights"
    source: ClassVar[str] = "Howard & Ruder 2018; rates: Thinking Machines, tinker-cookbook 2025"
    grid: ClassVar[tuple[float, ...]] = (1e-5, 3e-5, 1e-4, 3e-4)

    def __post_init__(self) -> None:
        check_common("full", self.rate, self.epochs, self.batch)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """Every weight of the network itself moves; dropout is off. Nothing here is random."""
        return merged(network).eval().requires_grad_(True)

    def save(self, network: Any, folder: Path) -> None:
        """Write all weights and the configuration in transformers' format, as one safetensors file."""
        network.save_pretrained(folder, max_shard_size="10TB")

    def load(self, network: Any, folder: Path) -> Any:
        """The network itself with the folder's weights in place of its own."""
        network = merged(network)
        tuned = type(network).from_pretrained(folder, dtype=network.dtype, local_files_only=True)
        network.load_state_dict(tuned.state_dict())
        return network.eval()
