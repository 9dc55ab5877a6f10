"""The options that every method has in common, and their ranges."""

from __future__ import annotations

from opportune.options import within


def check_common(method: str, rate: float | None, epochs: int, batch: int) -> None:
    """Raises RecipeError for a learning rate, number of epochs or batch (lessons a step) out of range."""
    if rate is not None:
        within(method, "rate", rate, 1e-8, 10.0)
    within(method, "epochs", epochs, 1, 10_000)
    within(method, "batch", batch, 1, 10_000)
