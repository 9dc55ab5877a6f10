"""The same command in several processes, as `torchrun` starts it: one leads, the others train with it.

    torchrun --nproc-per-node 2 -m opportune compare tickets.csv --try full

The process of rank 0 runs the command. It alone asks, evaluates, writes and reports; whenever it trains, it tells the
others with which network and on which lessons, and they do their share. In between they wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from opportune import methods
from opportune.corpus.blocks import Mix
from opportune.errors import OpportuneError, TrainingError
from opportune.methods.common import attached
from opportune.models.loading import load_model
from opportune.options import build
from opportune.pretraining.network import new_network
from opportune.pretraining.sizing import Size
from opportune.spec import parse
from opportune.training.crew import following, leading, rank
from opportune.training.loop import Settings, train
from opportune.training.packing import TokenLesson
from opportune.types import Hints

_PATIENCE = timedelta(days=7)  # prompting arms may take long; a process that dies ends the others at once


def run(command: Callable[[], int]) -> int:
    """Run the command in the leading process and follow it in the others; the exit code."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    if rank() > 0:
        follow()
        code = 0
    else:
        with leading() as end:
            code = command()
            if code:  # the launcher ends the others, whatever they wait for
                return code
            end()
    distributed.destroy_process_group()
    return code


def follow() -> None:
    """Do as the leading process says, until it says that it was all."""
    network: Any = None
    for order in following():
        if order["kind"] == "model":
            network = _loaded(order)
        elif order["kind"] == "new":
            network = _new(order)
        elif order["kind"] == "attach":
            part = parse(order["method"]).parts[0]
            method: Any = build(part, methods.TABLE[part.name])
            hints = Hints(*map(tuple, order["hints"]))
            with suppress(OpportuneError):  # the leading process has it too, and goes on with another arm
                network = attached(method, network, order["seed"], hints)
        elif order["kind"] == "train":
            _train(network, order)


def _loaded(order: dict[str, Any]) -> Any:
    """The leading process's model, on this one's device."""
    return load_model(
        order["path"], device=_own(order["device"]), dtype=order["dtype"], trust_remote_code=order["trust"],
        progress=_quietly,
    ).network  # fmt: skip


def _new(order: dict[str, Any]) -> Any:
    """A network of the shape of the leading process's new one, whose weights it gets when they train."""
    dtype = getattr(torch, order["dtype"])
    return new_network(Size(**order["size"]), order["context"], order["end"], 0, dtype, _own(order["device"]))


def _own(device: str) -> str:
    """This process's device, where the leading one has that."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device.startswith("cuda") else device


def _train(network: Any, order: dict[str, Any]) -> None:
    lessons: Sequence[TokenLesson]
    if order["kept"] is not None:
        lessons = Mix.opened(order["kept"])
    else:
        lessons = [TokenLesson(tuple(ids), start, tuple(breaks)) for ids, start, breaks in order["listed"]]
    evaluate: Any = dict if order["evaluates"] else None  # never asked here
    with suppress(TrainingError):  # the leading process has it too, and says what comes next
        train(network, lessons, Settings(**order["settings"]), Path(order["folder"]), evaluate)


def _quietly(stage: str, done: int, total: int) -> None:
    return None
