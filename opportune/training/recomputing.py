"""Gradient checkpointing (Chen et al. 2016): a layer keeps its inputs, the rest is computed again on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def layers_of(network: Any) -> list[Any]:
    """The transformer's layers."""
    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def _checkpointed(layer: Any) -> Iterator[None]:
    forward, patched = layer.forward, "forward" in vars(layer)

    def again(*arguments: Any, **named: Any) -> Any:
        # The engine's attention reads context variables, which the backward pass must find as they were.
        context = copy_context()
        return checkpoint(
            lambda *a, **n: context.copy().run(forward, *a, **n), *arguments, use_reentrant=False, **named
        )

    layer.forward = again
    try:
        yield
    finally:
        if patched:
            layer.forward = forward
        else:
            del layer.forward


@contextmanager
def recomputing(network: Any, wanted: bool) -> Iterator[None]:
    """Within this block, the network's layers keep only their inputs, where that is wanted."""
    with ExitStack() as stack:
        for layer in layers_of(network) if wanted else ():
            stack.enter_context(_checkpointed(layer))
        yield
