"""What cannot fit the memory for certain, known before anything runs: from the shapes of what moves alone.

Whether the rest fits depends on the lessons, and is decided when a training begins (`training.memory`).
"""

from __future__ import annotations

from opportune.errors import UnpredictableError
from opportune.models.local import Local
from opportune.peaks import without_storage
from opportune.training.crew import processes
from opportune.training.loss import device_of
from opportune.training.memory import SHARE, Layout, free_bytes, need_of, refusal
from opportune.training.packing import TokenLesson
from opportune.types import Method

_SHORT = TokenLesson(tuple(range(16)), 15)  # no real one needs less


def cannot_fit(method: Method, model: Local) -> str | None:
    """Why the method cannot train this model on this machine; None where it may."""
    device = device_of(model.network)
    try:
        (attached,) = without_storage(model.network, [method])
    except UnpredictableError:
        return None
    need, free = need_of(attached, [_SHORT], 1, processes()), free_bytes(device)
    leanest = Layout(0, True)
    return refusal(need, leanest, free, device) if need.of(leanest) > SHARE * free else None
