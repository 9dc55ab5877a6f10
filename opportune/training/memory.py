"""Will it fit, and how must a step be cut up so that it does?

What a training needs beside the network's own weights is predicted from shapes: gradients, AdamW's two moments and
float32 masters of what moves, and what the layers keep for the backward pass (as counted in Korthikanti et al. 2022,
here for this engine's operations). It is held against the memory that is free. Where a whole row of lessons does not
fit, a step is computed in smaller packs whose gradients add up; where that is not enough, only the layers' inputs are
kept and the rest is computed again (gradient checkpointing, Chen et al. 2016), which costs about a third more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path
from typing import Any

import torch

from opportune.cost import Meter
from opportune.errors import TrainingError
from opportune.inference.attention import has_own_attention
from opportune.inference.tokens import shared_length
from opportune.training.crew import highest, processes
from opportune.training.loss import CHUNK, device_of, reads_rows, row_budget
from opportune.training.packing import TokenLesson
from opportune.training.recomputing import layers_of
from opportune.widths import heads_of

SHARE = 0.9  # of the free memory that a training may count on
SMALLEST = 128  # tokens: packs below this cost more time than gradient checkpointing
TILE = 128  # rows that attend to each other in the engine, about
_GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a step is cut up: tokens in a pack (see `packing.packs`), and whether layers are computed again
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
    corrected: int  # matrices with their correction added, in all layers (peft does so with experts)
    kept: int  # a token, in all layers, for the backward pass
    inputs: int  # a token: the inputs of all layers alone
    layer: int  # a token, in one layer
    logits: int  # of a chunk of targets, and their gradient
    longest: int  # tokens of the longest lesson
    most: int  # tokens of the longest lessons of a step together

    def tokens(self, layout: Layout) -> int:
        """The largest pack there can be."""
        return min(self.most, max(self.longest, layout.row))

    def of(self, layout: Layout, tokens: int | None = None) -> int:
        """All of it, with packs of so many tokens: the largest there can be, where not said."""
        token = self.inputs + self.layer if layout.checkpointed else self.kept
        corrected = self.corrected * self.layer // self.kept if layout.checkpointed else self.corrected
        return self.state + corrected + (tokens or self.tokens(layout)) * token + self.logits


def need_of(network: Any, lessons: Sequence[TokenLesson], batch: int, shards: int = 1) -> Need:
    """The need of training the weights that require gradients on these lessons, `batch` to a step; of a sharded
    training, that of one process, which keeps its part of all weights beside the network. Shapes alone are read, so a
    network on the meta device will do."""
    config = network.config.get_text_config()
    lengths = nlargest(batch, (len(lesson.ids) for lesson in lessons))
    shared = _shared(lessons)
    layer, size = _kept_in_a_layer(network, lengths[0], shared), network.dtype.itemsize
    layers = config.num_hidden_layers
    moving = [weight for weight in network.parameters() if weight.requires_grad]
    parts = sum(weight.nbytes for weight in network.parameters()) if shards > 1 else 0
    return Need(
        state=(sum(weight.numel() * _state_bytes(weight) for weight in moving) + parts) // shards,
        corrected=sum(module.get_param().nbytes for module in network.modules() if _corrects_all(module)),
        kept=layers * layer,
        inputs=layers * config.hidden_size * size,
        layer=layer,
        logits=_rows_read(network, lessons) * config.vocab_size * (8 + size),
        longest=lengths[0],
        most=sum(lengths) - shared * (len(lengths) - 1),
    )


def _corrects_all(module: Any) -> bool:
    """Whether it is peft's way to correct a parameter that is no layer of its own: the whole of it, in every pass."""
    return type(module).__name__ == "ParamWrapper"


def _rows_read(network: Any, lessons: Sequence[TokenLesson]) -> int:
    """The most rows that the head runs on at a time."""
    if has_own_attention(network):
        return min(CHUNK, sum(lesson.targets for lesson in lessons))
    return max(lesson.targets if reads_rows(network) else len(lesson.ids) for lesson in lessons)


def _shared(lessons: Sequence[TokenLesson]) -> int:
    """The tokens that all lessons begin with; they are looked at one by one, for they may be a corpus."""
    if len(lessons) < 2:
        return 0
    first = list(lessons[0].ids)
    for lesson in lessons:
        if not first:
            break
        first = first[: shared_length([first, list(lesson.ids)])]
    return len(first)


def _state_bytes(weight: Any) -> int:
    """A gradient and AdamW's two moments in float32; of other numbers also a master and their own gradient."""
    return 12 if weight.dtype == torch.float32 else 16 + int(weight.dtype.itemsize)


def _kept_in_a_layer(network: Any, longest: int, shared: int) -> int:
    """Bytes a token: inputs of norms, of linear layers that need them (theirs move, or an adapter beside them), of the
    activation, and of the attention with its probabilities where these are kept."""
    config = network.config.get_text_config()
    hidden, (heads, key_heads, size) = config.hidden_size, heads_of(config)
    keys = 2 * size * key_heads
    moving = {weight.ndim for weight in _layer_weights(network) if weight.requires_grad}
    matrices = bool({2, 3} & moving)
    inner, gathered = _inner(config)
    inputs = 2 * hidden + heads * size + inner + gathered * hidden if matrices else 0
    normed = 2 * hidden if 1 in moving else 0  # what a norm's own weight is multiplied with
    seen = 0 if device_of(network).type == "cuda" else heads * (shared + max(TILE, longest // 2))
    # Inputs of both norms; queries, keys and values; gate, activated gate and up.
    numbers: int = 2 * hidden + inputs + normed + heads * size + keys + 3 * inner + gathered * hidden + seen
    return numbers * int(network.dtype.itemsize)


def _inner(config: Any) -> tuple[int, int]:
    """Activations of a token between the matrices of its feed-forward part, and to how many experts it goes: each has
    a copy of the token, and its own answer."""

    def said(name: str) -> int:
        return getattr(config, name, None) or 0

    dense = said("intermediate_size") or said("n_inner") or 4 * config.hidden_size
    asked, each = said("num_experts_per_tok"), said("moe_intermediate_size") or dense
    if not asked:
        return dense, 0
    return asked * each + (said("shared_expert_intermediate_size") or said("n_shared_experts") * each), asked


def _layer_weights(network: Any) -> list[Any]:
    return [weight for layer in layers_of(network) for weight in layer.parameters()]


# ---- what there is --------------------------------------------------------------------------------------------------


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still take: of the GPU, or of the machine within the limit of its container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such limit
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used + _reclaimable())
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _reclaimable() -> int:
    """Bytes of files in the container's memory that the system drops as soon as it needs the room."""
    found = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    return int(found.get("inactive_file", 0))


def resident_bytes(device: torch.device) -> int:
    """What this process holds now, there."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    import psutil

    return int(psutil.Process().memory_info().rss)


def layouts(network: Any) -> list[Layout]:
    """Every way to cut up a step, the fastest first."""
    whole = row_budget(network)
    rows = [whole]
    while rows[-1] // 2 >= SMALLEST:
        rows.append(rows[-1] // 2)
    again = [Layout(row, True) for row in rows] if layers_of(network) else []
    last = Layout(0, bool(again))
    return list(dict.fromkeys([*(Layout(row) for row in rows), *again, last]))


class Budget:
    """The memory of one training: the layout that fits, held against what the first step really takes."""

    def __init__(self, network: Any, lessons: Sequence[TokenLesson], batch: int) -> None:
        """Raises TrainingError where no layout fits. Of several processes, the one with least memory decides."""
        self.device = device_of(network)
        self.need, self.free = need_of(network, lessons, batch, processes()), free_bytes(self.device)
        self._layouts = layouts(network)
        self._widest, self._watched = 0, False
        fitting = [place for place, layout in enumerate(self._layouts) if self.fits(layout)]
        chosen = highest(fitting[0] if fitting else len(self._layouts))
        if chosen == len(self._layouts):
            raise TrainingError(refusal(self.need, self._layouts[-1], self.free, self.device))
        self.layout = self._layouts[chosen]

    def fits(self, layout: Layout, factor: float = 1.0) -> bool:
        """Whether it does, if the need is `factor` times what is predicted."""
        return self.need.of(layout) * factor <= SHARE * self.free

    @property
    def compromise(self) -> str | None:
        """What a reader should know, where the fastest layout did not fit."""
        return None if self.layout == self._layouts[0] else self.layout.describe()

    def go_on(self, layout: Layout) -> None:
        """Take the layout of an interrupted training, as long as it fits: another would change roundings."""
        fits = layout in self._layouts and self.fits(layout)
        if not highest(int(not fits)):
            self.layout = layout

    def computed(self, tokens: int) -> None:
        """A pack of so many tokens was computed."""
        self._widest = max(self._widest, tokens)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around a step. What the first one took more than predicted, the next ones are expected to take too."""
        if self._watched:
            yield
            return
        with Meter() as meter:
            before = resident_bytes(self.device)  # freed memory has been handed back by now
            yield
        self._watched = True
        self.correct((meter.amount.peak_bytes or 0) - before)

    def correct(self, used: int) -> None:
        """The steps so far took so many bytes beside what was there before: cut the next ones up as that demands."""
        factor = used / self.need.of(self.layout, self._widest)
        possible = [self.layout, *self._leaner()]
        fitting = next((each for each in possible if factor <= 1 or self.fits(each, factor)), possible[-1])
        self.layout = self._layouts[highest(self._layouts.index(fitting))]

    def shrink(self, reason: str) -> None:
        """The memory ran out: the next leaner layout. Raises TrainingError where there is none."""
        leaner = self._leaner()
        if not leaner:
            raise TrainingError(f"{reason}, although {self.layout.describe()}")
        self.layout = leaner[0]

    def _leaner(self) -> list[Layout]:
        return self._layouts[self._layouts.index(self.layout) + 1 :]


def refusal(need: Need, leanest: Layout, free: int, device: torch.device) -> str:
    """Why a training cannot fit."""
    tokens = need.tokens(leanest)
    return (
        f"the training cannot fit: it needs about {need.of(leanest) / _GIB:.2g} GiB beside the model "
        f"({need.state / _GIB:.2g} for gradients and optimizer, the rest for a pass over {tokens} tokens) and "
        f"{free / _GIB:.2g} GiB are free on {device}: move fewer weights (lora), shorten the lessons or use more memory"
    )
