"""One training on several processes: torch's FSDP2 (`fully_shard`) and its distributed checkpoints.

Each process keeps a part of every weight, gradient and moment, computes its share of a step's lessons, and gathers a
layer's weights while it needs them (ZeRO stage 3, Rajbhandari et al. 2020; FSDP, Zhao et al. 2023). Gradients are
summed in float32, so a step is the one that a single process takes on the same lessons, but for rounding.

The network itself stays whole on each process, as it was handed over: what moves is trained in a sharded copy and
gathered into it for evaluations and at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from opportune.errors import OpportuneError, TrainingError
from opportune.training import checkpoint
from opportune.training.crew import processes, rank, said
from opportune.training.loss import device_of, summed_loss
from opportune.training.packing import Pack, TokenLesson, packs
from opportune.training.recomputing import layers_of
from opportune.training.replica import Pass


class _Step(nn.Module):
    """The network with its loss as one module, so that FSDP sees every use of a weight."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pack: Pack) -> Tensor:
        return summed_loss(self.network, pack)


class Shards:
    """This process's part of a training; see `replica.Replica`."""

    def __init__(self, network: Any) -> None:
        self.leads = rank() == 0
        _check(network)
        self._whole = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        _make_alike(network)
        self.network = _copied(network)
        self._step = _sharded(self.network, device_of(network).type)
        self.weights = {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}

    def share(self, lessons: Sequence[TokenLesson], row: int) -> list[Pass]:
        """Its every so many lessons. All processes compute equally many packs, for they gather weights together."""
        shares = [list(packs(part, row)) for first in range(processes()) if (part := lessons[first :: processes()])]
        mine = shares[rank()] if rank() < len(shares) else []
        missing = max(map(len, shares)) - len(mine)
        return [*map(Pass, mine), *[Pass(shares[0][0], 0.0)] * missing]

    def loss(self, pack: Pack) -> Tensor:
        """See `Replica`."""
        loss: Tensor = self._step(pack)
        return loss

    def collect(self) -> None:
        """FSDP has summed the gradients already."""

    def total(self, values: Sequence[float]) -> list[float]:
        """See `Replica`."""
        every = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(every)
        return list(map(float, every))

    def clip(self, norm: float) -> float:
        """See `Replica`."""
        found: Any = torch.nn.utils.clip_grad_norm_(self.weights.values(), norm)
        return float(found.full_tensor())

    def publish(self) -> None:
        """FSDP gathers the new weights when they are needed."""

    def figures(self, evaluate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """See `Replica`."""
        self._gather()
        if not self.leads:
            found: dict[str, float] | None = said(None)
            if found is None:
                raise TrainingError("the leading process could not evaluate")
            return found
        try:
            figures = dict(evaluate())
        except OpportuneError:
            said(None)
            raise
        said(figures)
        return figures

    def save(self, folder: Path, optimizer: Any, notes: dict[str, Any]) -> None:
        """Each process writes its part, then the leading one points to the whole of it."""
        place = folder / said(checkpoint.free_place(folder, len(notes["steps"])) if self.leads else None)
        if self.leads:
            checkpoint.cleared(place)
        distributed.barrier()
        checkpoint.save_part(place, self._tensors(optimizer))
        if self.leads:
            checkpoint.point_to(place, notes)

    def load(self, folder: Path, optimizer: Any, key: str) -> dict[str, Any] | None:
        """From what any number of processes has left, one alone included. The leading one decides whether it is this
        training's: the others were told the lessons one by one, and may know them by another key."""
        left = checkpoint.notes_of(folder) if self.leads else None
        notes: dict[str, Any] | None = said(left if left is not None and left["key"] == key else None)
        if notes is None:
            return None
        checkpoint.begin_optimizer(optimizer)
        tensors = self._tensors(optimizer)
        checkpoint.fill(folder, notes, tensors)
        checkpoint.restore_optimizer(optimizer, tensors)
        return notes

    def save_best(self, file: Path) -> None:
        """One file of whole weights, as one process would write it."""
        gathered = {name: _whole(weight).cpu() for name, weight in self.weights.items()}
        if self.leads:
            checkpoint.save(file, gathered, {})

    def finish(self, file: Path | None) -> None:
        """See `Replica`."""
        found = checkpoint.load(file) if self.leads and file is not None else None
        if not said(found is not None):
            self._gather()
            return
        with torch.no_grad():
            for name, weight in self._whole.items():
                if found is not None:
                    weight.copy_(found[0][name])
                distributed.broadcast(weight, 0)

    @torch.no_grad()
    def _gather(self) -> None:
        """The weights as they are, into the whole network."""
        for name, weight in self.weights.items():
            self._whole[name].copy_(_whole(weight))

    def _tensors(self, optimizer: Any) -> dict[str, Tensor]:
        weights = {f"weights/{name}": weight.detach() for name, weight in self.weights.items()}
        return weights | checkpoint.optimizer_tensors(optimizer)


def _whole(weight: Any) -> Tensor:
    """All of a sharded weight, on every process."""
    whole: Tensor = weight.detach().full_tensor()
    return whole


def _check(network: Any) -> None:
    """Raises TrainingError for what cannot be trained in parts."""
    moving = [weight for weight in network.parameters() if weight.requires_grad]
    if any(weight._backward_hooks for weight in moving):  # a copy of the network would lose them
        raise TrainingError("this method changes gradients on their way, which several processes cannot: use one")
    owners: dict[Any, int] = {}
    for place, layer in enumerate(layers_of(network)):
        for weight in layer.parameters():
            if weight.requires_grad and owners.setdefault(weight, place) != place:
                raise TrainingError("layers share weights of this method, which several processes cannot: use one")


def _make_alike(network: Any) -> None:
    """Every process's network as the leading one has it."""
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            distributed.broadcast(tensor, 0)


def _copied(network: Any) -> Any:
    """A network of its own with the same weights, which are in memory once."""
    shared = {
        id(weight): nn.Parameter(weight.detach()) if weight.requires_grad else weight for weight in network.parameters()
    }
    return copy.deepcopy(network, shared)


def _sharded(network: Any, device: str) -> Any:
    """The network in parts, with its loss: a part of each layer, and a part of all the rest. What is not a part of this
    process's is not copied, and no more than a layer is ever whole in float32."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
    from torch.distributed.tensor import DTensor

    dtype = network.dtype
    mesh = init_device_mesh(device, (processes(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    step = _Step(network)
    for module in (*layers_of(network), step):
        for weight in module.parameters():
            if weight.requires_grad and not isinstance(weight, DTensor):
                weight.data = weight.data.float()  # masters; gathered in the network's own numbers
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for module in step.modules():
        if isinstance(module, FSDPModule):  # the sum of the gradients, not their mean
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return step
