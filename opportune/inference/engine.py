"""A network made ready to be asked: tree passes over cached prefixes, and what they cost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from opportune.inference.attention import (
    Packed,
    Prefix,
    head,
    packed_forward,
    supports_own_attention,
    tree_plan,
    use_own_attention,
)
from opportune.inference.tree import Tree, plant

_PREFIXES_KEPT = 4


class Engine:
    """Runs token trees through one network, whose weights must not change meanwhile.

    Prefixes are kept by their exact tokens, so that what is computed never depends on what was asked before. `own`
    tells whether the network takes the tree's attention; where it does not, ask it the plain way.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        self.own = supports_own_attention(network)
        if self.own:
            use_own_attention(network)
        self.flops = 0.0
        self._prefixes: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    @property
    def budget(self) -> int:
        """Rows of a pack: enough to keep the processor busy, few enough to stay in its caches."""
        return 512 if self.device.type == "cpu" else 8192

    def prefix(self, tokens: Sequence[int]) -> Prefix | None:
        """Keys and values of a common prefix, computed at its first use; None for no tokens."""
        key = tuple(tokens)
        if not key:
            return None
        if key in self._prefixes:
            self._prefixes.move_to_end(key)
        else:
            self._prefixes[key] = self._compute(list(key))
            while len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.popitem(last=False)
        return self._prefixes[key]

    def _compute(self, tokens: list[int]) -> Prefix:
        _, attention = self.forward(plant([tokens], 0), None, capture=True)
        return Prefix(attention.keys, attention.values, len(tokens))

    def forward(self, tree: Tree, prefix: Prefix | None, capture: bool = False) -> tuple[Tensor, Packed]:
        """One pass over a tree: the last hidden states [rows, hidden] and, captured, every layer's keys and values."""
        attention = Packed(tree_plan(tree.parents, tree.positions, tree.shared), prefix, capture)
        positions = attention.plan.positions.to(self.device)
        ids = torch.tensor(tree.ids, device=self.device)
        return packed_forward(self.network, ids, positions, attention), attention

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: [rows, hidden] -> [rows, vocabulary], float32."""
        return head(self.network, hidden).float()
