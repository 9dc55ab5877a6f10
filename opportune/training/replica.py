"""Where the steps of a training are computed: by this process alone, or by several together (`sharding`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from opportune.training import checkpoint
from opportune.training.loss import summed_loss
from opportune.training.masters import Masters
from opportune.training.packing import Pack, TokenLesson, packs


@dataclass(frozen=True, slots=True)
class Pass:
    """A pack to compute, and how its loss counts: 0 where a process only keeps the others company."""

    pack: Pack
    weight: float = 1.0


class Replica(Protocol):
    """The moving weights of a network and the steps on them."""

    network: Any  # what computes the steps
    weights: dict[str, Tensor]  # what the optimiser moves, by name
    leads: bool  # whether this process writes, evaluates and reports

    def share(self, lessons: Sequence[TokenLesson], row: int) -> list[Pass]:
        """What this process computes of a step's lessons, in packs of `row` tokens."""
        ...

    def loss(self, pack: Pack) -> Tensor:
        """The summed loss of a pack, differentiable."""
        ...

    def collect(self) -> None:
        """After each backward pass."""
        ...

    def total(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes."""
        ...

    def clip(self, norm: float) -> float:
        """Clip the gradients of all processes together; their norm before."""
        ...

    def publish(self) -> None:
        """After each step."""
        ...

    def figures(self, evaluate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Evaluate the network with its current weights; every process gets the same figures."""
        ...

    def save(self, folder: Path, optimizer: Any, notes: dict[str, Any]) -> None:
        """Write a checkpoint from which any number of processes can go on."""
        ...

    def load(self, folder: Path, optimizer: Any, key: str) -> dict[str, Any] | None:
        """Go on from the folder's checkpoint, if it is this key's; its notes."""
        ...

    def save_best(self, file: Path) -> None:
        """Keep the weights as they are."""
        ...

    def finish(self, file: Path | None) -> None:
        """Leave the network of every process with the last weights, or with those kept in a file."""
        ...


class Alone:
    """This process computes everything."""

    leads = True

    def __init__(self, network: Any) -> None:
        self.network, self._masters = network, Masters(network)
        self.weights = self._masters.weights
        self.collect, self.publish = self._masters.collect, self._masters.publish

    def share(self, lessons: Sequence[TokenLesson], row: int) -> list[Pass]:
        """All of it."""
        return [Pass(pack) for pack in packs(lessons, row)]

    def loss(self, pack: Pack) -> Tensor:
        """See `Replica`."""
        return summed_loss(self.network, pack)

    def total(self, values: Sequence[float]) -> list[float]:
        """The values themselves."""
        return list(values)

    def clip(self, norm: float) -> float:
        """See `Replica`."""
        return float(torch.nn.utils.clip_grad_norm_(self.weights.values(), norm))

    def figures(self, evaluate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """See `Replica`."""
        return dict(evaluate())

    def save(self, folder: Path, optimizer: Any, notes: dict[str, Any]) -> None:
        """One file, replaced atomically."""
        checkpoint.save_alone(folder, self._tensors(optimizer), notes)

    def load(self, folder: Path, optimizer: Any, key: str) -> dict[str, Any] | None:
        """See `Replica`."""
        notes = checkpoint.notes_of(folder)
        if notes is None or notes["key"] != key:
            return None
        checkpoint.begin_optimizer(optimizer)
        tensors = self._tensors(optimizer)
        checkpoint.fill(folder, notes, tensors)
        checkpoint.restore_optimizer(optimizer, tensors)
        self.publish()
        return notes

    def _tensors(self, optimizer: Any) -> dict[str, Tensor]:
        weights = {f"weights/{name}": weight.detach() for name, weight in self.weights.items()}
        return weights | checkpoint.optimizer_tensors(optimizer)

    def save_best(self, file: Path) -> None:
        """See `Replica`."""
        checkpoint.save(file, self.weights, {})

    def finish(self, file: Path | None) -> None:
        """See `Replica`."""
        if file is not None and (found := checkpoint.load(file)) is not None:
            self._masters.restore(found[0])
