"""A training on disk: one safetensors file, replaced atomically, from which it continues bit for bit.

Several processes write a part each, through torch's distributed checkpoints in their safetensors format, and a small
file points to the folder that is whole. Either is read by one process as by any number.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from opportune.errors import StoreError

STATE, POINTER = "state.safetensors", "sharded.json"
_AT_ONCE = 32  # tensors: what was read of a file stays in memory as long as it is open
_DISK_FULL = "os error 28"  # as safetensors words it, which keeps the number to itself


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What safetensors says of a full disk becomes a StoreError that names the folder."""
    try:
        yield
    except SafetensorError as error:
        if _DISK_FULL not in str(error):
            raise
        raise StoreError(f"the disk is full ({folder}); free some space and run again") from error


def save(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
    """Write tensors and JSON-like notes; a crash at any moment leaves the old file or the new one. Raises
    StoreError when the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with writing(path.parent):
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, beside, _packed(notes))
    beside.replace(path)  # not synced: a kill loses nothing, and after a power cut an older state is trained again


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What was saved, on the CPU; None where there is nothing that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["notes"])  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None


def notes_of(folder: Path) -> dict[str, Any] | None:
    """The notes of what a folder holds, of one process or several; None where there is nothing that can be read."""
    notes: dict[str, Any] | None = None
    try:
        if (folder / POINTER).exists():
            notes = json.loads((folder / POINTER).read_text())
        else:
            with safe_open(folder / STATE, framework="pt") as file:
                notes = json.loads(file.metadata()["notes"])
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None
    return notes


@torch.no_grad()
def fill(folder: Path, notes: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Read tensors, whole or sharded, from what a folder holds; each process reads its own part."""
    if "place" in notes:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
        from torch.distributed.checkpoint.state_dict_loader import load as load_parts

        flat = {name: tensor.reshape(1) if tensor.ndim == 0 else tensor for name, tensor in tensors.items()}
        load_parts(flat, storage_reader=HuggingFaceStorageReader(str(folder / notes["place"])))
        return
    with safe_open(folder / STATE, framework="pt") as file:
        there = set(file.keys())
    names = [name for name in tensors if name in there]  # in the same order on all processes
    for place in range(0, len(names), _AT_ONCE):
        with safe_open(folder / STATE, framework="pt") as file:
            for name in names[place : place + _AT_ONCE]:
                _copy(tensors[name], file.get_tensor(name))


def _copy(tensor: Any, value: Tensor) -> None:
    from torch.distributed.tensor import DTensor, distribute_tensor

    value = value.to(tensor.device)
    if isinstance(tensor, DTensor):
        value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
    tensor.copy_(value)


def save_part(place: Path, tensors: dict[str, Tensor]) -> None:
    """Every process writes its part of the tensors; returns when all have."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_parts

    flat = {name: tensor.reshape(1) if tensor.ndim == 0 else tensor for name, tensor in tensors.items()}
    save_parts(flat, storage_writer=HuggingFaceStorageWriter(str(place), save_distributed=True))


def free_place(folder: Path, steps: int) -> str:
    """Where the processes may write, which is never what the folder points to: until they are done that is the
    training."""
    now = notes_of(folder) or {}
    name = f"sharded-{steps}"
    return f"{name}-again" if now.get("place") == name else name


def cleared(place: Path) -> None:
    """Make an empty folder."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def point_to(place: Path, notes: dict[str, Any]) -> None:
    """From here on, what the processes wrote there is the training; what was before is removed."""
    beside = place.parent / "sharded.part"
    beside.write_text(json.dumps({"place": place.name, **notes}))
    beside.replace(place.parent / POINTER)
    (place.parent / STATE).unlink(missing_ok=True)
    _remove_parts(place.parent, place)


def save_alone(folder: Path, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
    """What one process has, in one file; what several had before is removed."""
    save(folder / STATE, tensors, notes)
    (folder / POINTER).unlink(missing_ok=True)
    _remove_parts(folder, None)


def _remove_parts(folder: Path, but: Path | None) -> None:
    for place in folder.glob("sharded-*"):
        if place != but:
            shutil.rmtree(place, ignore_errors=True)


def _packed(notes: dict[str, Any]) -> dict[str, str]:
    return {"notes": json.dumps(notes)}


def optimizer_tensors(optimizer: Any) -> dict[str, Tensor]:
    """The optimiser's state under flat names."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer/{index}/{key}": value for index, values in state.items() for key, value in values.items()}


def begin_optimizer(optimizer: Any) -> None:
    """Give AdamW the state that it has before its first step, to be filled."""
    for weight in optimizer.param_groups[0]["params"]:
        moments = {name: torch.zeros_like(weight.detach()) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[weight] = {"step": torch.zeros(()), **moments}


def restore_optimizer(optimizer: Any, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
