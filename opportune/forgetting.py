"""Forgetting: the loss on general text of a model before its training and after, each measured once and kept."""

from __future__ import annotations

import json
import os

from opportune.corpus.general import General, general_loss
from opportune.models.local import Local
from opportune.records import LossChange
from opportune.store import Store
from opportune.types import digest

Loss = tuple[float, int]
"""Nats per token, and the number of tokens."""


def loss(store: Store, text: General, model: Local, key: str) -> Loss:
    """The model's loss on the text, from the store where it has been measured under this key. Raises ModelError for a
    tokenizer that cannot set documents apart."""
    file = store.folder / "general" / f"{digest([key, text.digest])}.json"
    if file.exists():
        known = json.loads(file.read_text())
        return known["loss"], known["tokens"]
    found, tokens = general_loss(text, model)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".part-{os.getpid()}")  # another process may measure the same
    beside.write_text(json.dumps({"loss": found, "tokens": tokens}))
    beside.replace(file)
    return found, tokens


def change(text: General, before: Loss | None, after: Loss | None) -> LossChange | None:
    """What training did to the loss."""
    if before is None or after is None:
        return None
    return LossChange(text.name, after[1], before[0], after[0])
