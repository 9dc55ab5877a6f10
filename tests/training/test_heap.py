"""Memory that is freed in a step and wanted again in the next."""

from __future__ import annotations

import sys

import pytest
import torch

from opportune.cost import Meter
from opportune.training.heap import keeping_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_freed_memory_is_handed_back_when_the_training_is_over() -> None:
    with keeping_freed_memory([torch.zeros(2**25)]):  # 128 MiB of weights
        pieces = [torch.ones(2**20) for _ in range(64)]
        del pieces
    with Meter() as meter:  # which asks the C library for what is free
        pass
    with Meter() as again:
        kept = [torch.ones(2**20) for _ in range(64)]
    assert len(kept) == 64
    assert again.amount.peak_bytes - meter.amount.peak_bytes > 2**27  # type: ignore[operator]
