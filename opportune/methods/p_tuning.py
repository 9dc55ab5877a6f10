"""P-tuning: a soft prompt trained through a small encoder, which ties its vectors together (Liu et al. 2021).

The encoder is the MLP of the paper's later releases and of peft; it is thrown away after training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.methods.common import check_common, merged
from opportune.methods.prompt_tuning import Init, first_vectors, read_vectors, save_vectors
from opportune.options import within
from opportune.types import NO_HINTS, Hints


@dataclass(frozen=True, slots=True)
class PTuning:
    """Trains `tokens` vectors and an MLP of `width` that corrects them."""

    tokens: int = 20
    init: Init = "labels"
    width: int = 256
    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "learn a soft prompt through a small encoder"
    source: ClassVar[str] = "Liu et al. 2021, GPT Understands, Too"
    grid: ClassVar[tuple[float, ...]] = (3e-4, 1e-3, 3e-3, 1e-2)

    def __post_init__(self) -> None:
        within("p-tuning", "tokens", self.tokens, 1, 10_000)
        within("p-tuning", "width", self.width, 1, 65_536)
        check_common("p-tuning", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """The network with virtual tokens and their encoder, whose last layer starts at zero."""
        import torch
        from torch import nn

        from opportune.methods.virtual import add_tokens

        network = merged(network)
        weight = network.get_input_embeddings().weight
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inner, outer = nn.Linear(weight.shape[1], self.width), nn.Linear(self.width, weight.shape[1])
        nn.init.zeros_(outer.weight)
        nn.init.zeros_(outer.bias)
        encoder = nn.Sequential(inner, nn.ReLU(), outer).to(weight)
        return add_tokens(network, first_vectors(network, self.tokens, self.init, seed, hints), encoder)

    def save(self, network: Any, folder: Path) -> None:
        """Write the vectors as the encoder made them, in peft's format of prompt tuning."""
        from opportune.methods.virtual import embedding_of

        save_vectors(network, embedding_of(network).table(), folder)

    def load(self, network: Any, folder: Path) -> Any:
        """The network with the folder's virtual tokens, frozen."""
        from opportune.methods.virtual import add_tokens

        return add_tokens(merged(network), read_vectors(folder)).requires_grad_(False).eval()
