"""Processes that train together: who leads, what is said to all, and orders to those that wait.

`torchrun` starts the same program several times. The process of rank 0 leads: it alone asks, evaluates, writes and
reports. Where the others have nothing else to do they wait for its orders (`opportune.together`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import distributed

_waiting = False  # whether the other processes wait for orders


def processes() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def said(value: Any) -> Any:
    """What rank 0 says (anything JSON can hold), on all processes; the others' values do not matter."""
    text = json.dumps(value).encode() if rank() == 0 else b""
    length = torch.tensor([len(text)])
    distributed.broadcast(length, 0)
    content = torch.frombuffer(bytearray(text or bytes(int(length))), dtype=torch.uint8)
    distributed.broadcast(content, 0)
    return json.loads(bytes(content.tolist()))


def highest(value: int) -> int:
    """The largest value that any of the processes has."""
    if processes() == 1:
        return value
    every = torch.tensor([value])
    distributed.all_reduce(every, distributed.ReduceOp.MAX)
    return int(every)


def abandon(reason: str) -> NoReturn:
    """End this process in the middle of a step. The others wait for its share, and the launcher ends them with it; an
    exception would be taken for the end of one arm."""
    print(f"opportune: {reason}", file=sys.stderr, flush=True)
    os._exit(1)


@contextmanager
def leading() -> Iterator[Callable[[], None]]:
    """Within this block the other processes wait for orders of this one; gives what tells them that it was all."""
    global _waiting
    _waiting = True
    try:
        yield lambda: order("end")
    finally:
        _waiting = False


def followed() -> bool:
    """Whether other processes wait for this one's orders."""
    return _waiting


def order(kind: str, **content: Any) -> None:
    """Tell the processes that wait what to do next; nothing where none waits."""
    if followed():
        said({"kind": kind, **content})


def following() -> Iterator[dict[str, Any]]:
    """The orders of the leading process, as they come."""
    while (told := said(None))["kind"] != "end":
        yield told
