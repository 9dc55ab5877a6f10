"""Packs computed side by side.

A pack is thousands of small steps. On a CPU, all threads on one pack wait for each other after each of them; one thread
a pack keeps every core busy. What a pack computes does not depend on what runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(jobs: Sequence[Callable[[], T]], device: torch.device) -> Iterator[tuple[int, T]]:
    """The results of the jobs, each with its index, in any order; on a GPU one after the other."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1 or len(jobs) == 1:
        yield from ((index, job()) for index, job in enumerate(jobs))
        return
    pool = ThreadPoolExecutor(min(threads, len(jobs)), "pack", torch.set_num_threads, (1,))
    try:
        futures: dict[Future[T], int] = {pool.submit(job): index for index, job in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # part of the setting belongs to the process, not to the thread
