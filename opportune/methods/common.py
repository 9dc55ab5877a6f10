"""What all methods have in common: some options, and how one builds on another in a chain."""

from __future__ import annotations

from typing import Any

from opportune.options import within


def check_common(method: str, rate: float | None, epochs: int, batch: int) -> None:
    """Raises RecipeError for a learning rate, number of epochs or batch (lessons a step) out of range."""
    if rate is not None:
        within(method, "rate", rate, 1e-8, 10.0)
    within(method, "epochs", epochs, 1, 10_000)
    within(method, "batch", batch, 1, 10_000)


def merged(network: Any) -> Any:
    """The network without wrapping: what an earlier method's adapter learned becomes part of the weights, for good."""
    return network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
