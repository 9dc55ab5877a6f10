"""Float32 masters of the moving weights, so that updates smaller than a bfloat16 rounding are not lost
(Micikevicius et al. 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Masters:
    """The weights that the optimiser moves, by name: the network's own where they are float32, else float32 copies."""

    def __init__(self, network: Any) -> None:
        self._moving = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self.weights: dict[str, Tensor] = {
            name: weight if weight.dtype == torch.float32 else weight.detach().float()
            for name, weight in self._moving.items()
        }

    def collect(self) -> None:
        """After each backward pass: add the network's gradients to those of the masters, in float32."""
        for name, weight in self._moving.items():
            master = self.weights[name]
            if master is weight or weight.grad is None:
                continue
            gradient = weight.grad.float()
            master.grad = gradient if master.grad is None else master.grad + gradient
            weight.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """After each step: round the masters into the network."""
        for name, weight in self._moving.items():
            if self.weights[name] is not weight:
                weight.copy_(self.weights[name])

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Set masters and network to the given weights."""
        for name, master in self.weights.items():
            master.copy_(weights[name])
        self.publish()
