"""Bottleneck adapters: a small network beside each feed-forward layer (Houlsby et al. 2019, Pfeiffer et al. 2020).

As in Pfeiffer et al., one a layer: m + up(relu(down(m))) for the output m of the feed-forward layer, half the cost of
Houlsby et al.'s two and about as good. peft has no such adapters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common, layers_of, merged
from opportune.options import within
from opportune.types import NO_HINTS, Hints

_WEIGHTS, _SIZE = "adapter.safetensors", "adapter.json"
_FEED_FORWARD = ("mlp", "feed_forward", "ffn")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Trains a bottleneck of `size` in every layer; it begins as nearly nothing."""

    size: int = 64
    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "train a small bottleneck network in every layer"
    source: ClassVar[str] = "Houlsby et al. 2019; Pfeiffer et al. 2020"
    # T-Few uses 3e-3 with few examples; Hu et al. re-ran BERT-sized ones at 3e-5 to 3e-4 over many more steps.
    grid: ClassVar[tuple[float, ...]] = (3e-4, 1e-3, 3e-3, 1e-2)

    def __post_init__(self) -> None:
        within("adapter", "size", self.size, 1, 65_536)
        check_common("adapter", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """The network with a bottleneck in every layer, everything else frozen. Raises RecipeError for an architecture
        whose layers have no feed-forward module."""
        import torch

        network = merged(network).eval().requires_grad_(False)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _with_bottlenecks(network, self.size)

    def save(self, network: Any, folder: Path) -> None:
        """Write the bottlenecks (safetensors) and their size (JSON)."""
        from safetensors.torch import save_file

        save_file({name: weight.detach().contiguous() for name, weight in _weights(network).items()}, folder / _WEIGHTS)
        (folder / _SIZE).write_text(json.dumps({"size": self.size, "activation": "relu", "beside": "feed-forward"}))

    def load(self, network: Any, folder: Path) -> Any:
        """The network with the folder's bottlenecks, frozen."""
        import torch
        from safetensors.torch import load_file

        size = json.loads((folder / _SIZE).read_text())["size"]
        network = _with_bottlenecks(merged(network), size).requires_grad_(False)
        saved = load_file(folder / _WEIGHTS)
        with torch.no_grad():
            for name, weight in _weights(network).items():
                weight.copy_(saved[name])
        return network.eval()


def _weights(network: Any) -> dict[str, Any]:
    return {name: weight for name, weight in network.named_parameters() if ".bottleneck." in name}


def _with_bottlenecks(network: Any, size: int) -> Any:
    from torch import nn

    hidden, like = network.config.get_text_config().hidden_size, network.get_input_embeddings().weight
    for layer in layers_of(network, "adapter"):
        found = [getattr(layer, name) for name in _FEED_FORWARD if hasattr(layer, name)]
        if not found:
            raise RecipeError(f"adapter: the layers of {type(network).__name__} have no {' or '.join(_FEED_FORWARD)}")
        down, up = nn.Linear(hidden, size), nn.Linear(size, hidden)
        nn.init.normal_(up.weight, std=1e-3)
        nn.init.zeros_(up.bias)
        found[0].bottleneck = nn.Sequential(down, nn.ReLU(), up).to(like)
        found[0].register_forward_hook(_beside)
    network.bottlenecks = True
    return network


def _beside(module: Any, inputs: Any, output: Any) -> Any:
    """Adds the bottleneck's part. A hook, so that no weight of the base changes its name."""
    if isinstance(output, tuple):  # of experts also what the router said
        return (output[0] + module.bottleneck(output[0]), *output[1:])
    return output + module.bottleneck(output)
