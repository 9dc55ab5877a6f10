"""Freed memory that is kept for the next step."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

# Of mallopt (glibc): what to set, and what its own rules come to after a while.
_TRIM, _MAP = -1, -3
_MAPPED = 32 * 2**20  # the most that may be asked for; larger pieces come from the system each time
_USUAL, _KEPT = 2 * _MAPPED, 2**31 - 1
_MANY = 64 * 2**20  # bytes of moving weights


@contextmanager
def keeping_freed_memory(moving: Iterable[Tensor]) -> Iterator[None]:
    """Within this block the C library keeps what is freed, where gradients of many weights come and go in every step.

    Else it hands them back to the system and takes them again, page by page: of full fine-tuning's short steps that was
    a quarter of the time. Where there is no mallopt, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    on_cpu = sum(weight.nbytes for weight in moving if weight.device.type == "cpu")
    if mallopt is None or on_cpu < _MANY:
        yield
        return
    mallopt(_MAP, _MAPPED)
    mallopt(_TRIM, _KEPT)
    try:
        yield
    finally:
        mallopt(_TRIM, _USUAL)
