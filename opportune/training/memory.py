"""Will it fit, and how must a step be cut up so that it does?

What a training needs beside the network's own weights is predicted from shapes: gradients, AdamW's two moments and
float32 masters of what moves, and what the layers keep for the backward pass (as counted in Korthikanti et al. 2022, here
for this engine's operations). It is held against the memory that is free. Where a whole row of lessons does not fit, a
step is computed in smaller packs whose gradients add up; where that is not enough, only the layers' inputs are kept and
the rest is computed again (gradient checkpointing, Chen et al. 2016), which costs about a third more.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from opportune.errors import TrainingError
from opportune.inference.tokens import shared_length
from opportune.training.loss import CHUNK, device_of, row_budget
from opportune.training.packing import TokenLesson

SHARE = 0.9  # of the free memory that a training may count on
SMALLEST = 128  # tokens: packs below this cost more time than gradient checkpointing
_TILE = 128  # rows that attend to each other in the engine, about
_GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a step is cut up: tokens of its own in a pack (see `packing.packs`), and whether layers are computed again
    in the backward pass."""

    row: int
    checkpointed: bool = False

    def describe(self) -> str:
        """What a reader should know about it."""
        again = ", layers computed again in the backward pass" if self.checkpointed else ""
        return f"trained in packs of {self.row or 'one lesson, at most'} tokens{again}, for the memory that was free"


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a training takes beside the weights of the network itself."""

    state: int  # gradients, moments and masters of what moves
    kept: int  # a token, in all layers, for the backward pass
    inputs: int  # a token: the inputs of all layers alone
    layer: int  # a token, in one layer
    logits: int  # of a chunk of targets, and their gradient
    longest: int  # tokens of the longest lesson
    most: int  # tokens of the longest lessons of a step together

    def tokens(self, layout: Layout) -> int:
        """The largest pack there can be."""
        return min(self.most, self.longest + layout.row)

    def of(self, layout: Layout) -> int:
        """All of it."""
        token = self.inputs + self.layer if layout.checkpointed else self.kept
        return self.state + self.tokens(layout) * token + self.logits


def need_of(network: Any, lessons: Sequence[TokenLesson], batch: int, shards: int = 1) -> Need:
    """The need of training the weights that require gradients on these lessons, `batch` to a step; of a sharded
    training, that of one process. Shapes alone are read, so a network on the meta device will do."""
    config = network.config.get_text_config()
    lengths = sorted((len(lesson.ids) for lesson in lessons), reverse=True)
    shared = shared_length([list(lesson.ids) for lesson in lessons]) if len(lessons) > 1 else 0
    together = lengths[:batch]
    layer, size = _kept_in_a_layer(network, lengths[0], shared), network.dtype.itemsize
    layers = config.num_hidden_layers
    moving = [weight for weight in network.parameters() if weight.requires_grad]
    return Need(
        state=sum(weight.numel() * _state_bytes(weight) for weight in moving) // shards,
        kept=layers * layer,
        inputs=layers * config.hidden_size * size,
        layer=layer,
        logits=min(CHUNK, sum(lesson.targets for lesson in lessons)) * config.vocab_size * (8 + size),
        longest=lengths[0],
        most=sum(together) - shared * (len(together) - 1),
    )


def _state_bytes(weight: Any) -> int:
    """A gradient and AdamW's two moments in float32; of other numbers also a master and their own gradient."""
    return 12 if weight.dtype == torch.float32 else 16 + int(weight.dtype.itemsize)


def _kept_in_a_layer(network: Any, longest: int, shared: int) -> int:
    """Bytes a token: inputs of norms, of linear layers that need them (theirs move, or an adapter beside them), of the
    activation, and of the attention with its probabilities where these are kept."""
    config = network.config.get_text_config()
    hidden, heads = config.hidden_size, config.num_attention_heads
    size = getattr(config, "head_dim", None) or hidden // heads
    keys = 2 * size * (getattr(config, "num_key_value_heads", None) or heads)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    linear = any(weight.requires_grad and weight.ndim == 2 for weight in _layer_weights(network))
    inputs = 2 * hidden + heads * size + inner if linear else 0
    seen = 0 if device_of(network).type == "cuda" else heads * (shared + max(min(longest, _TILE), longest // 2))
    # The attention's own copies of queries, keys and values; its output; gate, activated gate and up.
    return (2 * hidden + inputs + 2 * heads * size + keys + 3 * inner + seen) * int(network.dtype.itemsize)


def _layer_weights(network: Any) -> list[Any]:
    return [weight for layer in layers_of(network) for weight in layer.parameters()]


def layers_of(network: Any) -> list[Any]:
    """The transformer's layers."""
    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]


# ---- what there is --------------------------------------------------------------------------------------------------


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still take: of the GPU, or of the machine within the limit of its container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = int((_CGROUP / "memory.max").read_text()) - int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such limit
        return free
    return min(free, limit)


def layouts(network: Any) -> list[Layout]:
    """Every way to cut up a step, the fastest first."""
    whole = row_budget(network)
    rows = [whole]
    while rows[-1] // 2 >= SMALLEST:
        rows.append(rows[-1] // 2)
    plain = [Layout(row) for row in rows]
    if not layers_of(network):
        return [*plain, Layout(0)]
    return [*plain, *(Layout(row, True) for row in rows), Layout(0, True)]


def choose_layout(network: Any, need: Need, free: int, factor: float = 1.0) -> Layout:
    """The fastest layout whose need, times `factor`, fits into the free memory. Raises TrainingError where none does."""
    possible = list(dict.fromkeys(layouts(network)))
    for layout in possible:
        if need.of(layout) * factor <= SHARE * free:
            return layout
    raise TrainingError(refusal(need, possible[-1], free, device_of(network)))


def refusal(need: Need, leanest: Layout, free: int, device: torch.device) -> str:
    """Why a training cannot fit."""
    tokens = need.tokens(leanest)
    return (
        f"the training cannot fit: it needs about {need.of(leanest) / _GIB:.2g} GiB beside the model "
        f"({need.state / _GIB:.2g} for gradients and optimizer, the rest for a pass over {tokens} tokens) and "
        f"{free / _GIB:.2g} GiB are free on {device}: move fewer weights (lora), shorten the lessons or use more memory"
    )


# ---- gradient checkpointing -----------------------------------------------------------------------------------------


@contextmanager
def _checkpointed(layer: Any) -> Any:
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


def laid_out(network: Any, layout: Layout) -> AbstractContextManager[Any]:
    """Within this block, the network's layers keep only their inputs where the layout says so."""
    stack = ExitStack()
    if layout.checkpointed:
        for layer in layers_of(network):
            stack.enter_context(_checkpointed(layer))
    return stack


