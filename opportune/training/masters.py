"""Float32 masters of the moving weights, so that updates smaller than a bfloat16 rounding are not lost
(Micikevicius et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable
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
        # Hundreds of small tensors: one call for all of them spares the time between the calls.
        self._copied = {name: weight for name, weight in self._moving.items() if self.weights[name] is not weight}

    @torch.no_grad()
    def collect(self) -> None:
        """After each backward pass: add the network's gradients to those of the masters, in float32."""
        copied = [name for name, weight in self._copied.items() if weight.grad is not None]
        fresh = [name for name in copied if self.weights[name].grad is None]
        for name in fresh:
            self.weights[name].grad = torch.empty_like(self.weights[name])
        for names, combine in ((fresh, torch._foreach_copy_), (set(copied) - set(fresh), torch._foreach_add_)):
            if names:
                combine(_gradients(self.weights, names), _gradients(self._copied, names))
        for name in copied:
            self._copied[name].grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """After each step: round the masters into the network."""
        if self._copied:
            torch._foreach_copy_(list(self._copied.values()), [self.weights[name] for name in self._copied])

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Set masters and network to the given weights."""
        for name, master in self.weights.items():
            master.copy_(weights[name])
        self.publish()


def _gradients(weights: dict[str, Tensor], names: Iterable[str]) -> list[Tensor]:
    return [gradient for name in names if (gradient := weights[name].grad) is not None]
