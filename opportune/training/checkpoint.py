"""A training on disk: one safetensors file, replaced atomically, from which it continues bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from opportune.errors import StoreError

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


def _packed(notes: dict[str, Any]) -> dict[str, str]:
    return {"notes": json.dumps(notes)}


def optimizer_tensors(optimizer: Any) -> dict[str, Tensor]:
    """The optimiser's state under flat names."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer/{index}/{key}": value for index, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: Any, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
