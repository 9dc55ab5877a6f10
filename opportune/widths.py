"""The widths of a network's attention, as its configuration has them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Heads(NamedTuple):
    """How many heads there are, for queries and for keys, and how wide each is."""

    queries: int  # none in a state-space model
    keys: int
    size: int


def heads_of(config: Any) -> Heads:
    """Read off a transformers text configuration. A head's width need not be that of the network over their number."""
    queries = getattr(config, "num_attention_heads", None) or 0
    size = getattr(config, "head_dim", None) or config.hidden_size // max(queries, 1)
    return Heads(queries, getattr(config, "num_key_value_heads", None) or queries, size)
