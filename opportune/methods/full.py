"""Full fine-tuning: every weight moves, or those of the last layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common, is_quantised, layers_of, merged
from opportune.options import within
from opportune.types import NO_HINTS, Hints


@dataclass(frozen=True, slots=True)
class Full:
    """All weights, from where the base model left them; with `last`, those of the last layers and the norm after."""

    last: int | None = None  # layers; None: everything, embeddings included
    rate: float | None = None  # None: searched on the grid
    epochs: int = 2
    batch: int = 8  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "fine-tune all weights, or the last layers"
    source: ClassVar[str] = "Howard & Ruder 2018; rates: Thinking Machines, tinker-cookbook 2025"
    grid: ClassVar[tuple[float, ...]] = (1e-5, 3e-5, 1e-4, 3e-4)

    def __post_init__(self) -> None:
        if self.last is not None:
            within("full", "last", self.last, 1, 10_000)
        check_common("full", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """The weights of the network itself move; dropout is off and virtual tokens stay. Nothing here is random.

        Raises RecipeError for more layers than there are, and for a quantised network.
        """
        from opportune.methods.virtual import set_aside

        network = merged(network).eval().requires_grad_(False)
        if is_quantised(network):
            raise RecipeError("full: the weights of a quantised model cannot move; use an adapter such as lora")
        if self.last is not None:
            _free_last(network, self.last)
            return network
        with set_aside(network):
            return network.requires_grad_(True)

    def save(self, network: Any, folder: Path) -> None:
        """Write all weights and the configuration in transformers' format, as one safetensors file."""
        from opportune.methods.virtual import set_aside

        with set_aside(network):
            network.save_pretrained(folder, max_shard_size="10TB")

    def load(self, network: Any, folder: Path) -> Any:
        """The network itself with the folder's weights in place of its own."""
        from opportune.methods.virtual import set_aside

        network = merged(network)
        with set_aside(network):
            tuned = type(network).from_pretrained(folder, dtype=network.dtype, local_files_only=True)
            network.load_state_dict(tuned.state_dict())
        return network.eval()


def _free_last(network: Any, last: int) -> None:
    layers = layers_of(network, f"full:last={last}")
    if last > len(layers):
        raise RecipeError(f"full:last={last} is out of range: the model has {len(layers)} layers")
    for layer in layers[-last:]:
        layer.requires_grad_(True)
    inside = set(layers.modules())
    for name, module in network.get_decoder().named_modules():
        # The one after the last layer; architectures name those of the embeddings after them.
        if module not in inside and "norm" in type(module).__name__.lower() and "embed" not in name:
            module.requires_grad_(True)
