"""The command line in several processes, as torchrun starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from opportune.cli.main import main

Work = Callable[..., None]


def be(rank: int, number: int, port: int, work: Work, given: Sequence[Any]) -> None:
    """One of several processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    work(*given)


def command(*arguments: str) -> None:
    main(list(arguments))


def started(number: int, work: Work, *given: Any) -> list[Any]:
    """The processes, at work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    made = [spawn.Process(target=be, args=(rank, number, port, work, given)) for rank in range(number)]
    for process in made:
        process.start()
    return made


def run_together(number: int, work: Work, *given: Any) -> list[int | None]:
    """Their exit codes."""
    made = started(number, work, *given)
    for process in made:
        process.join(600)  # far more than it takes where nothing else runs
    return [process.exitcode for process in made]
