"""A network made ready to be asked: tree passes over cached prefixes, and what they cost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from opportune.inference.attention import (
    Attending,
    Packed,
    Prefix,
    fast_norms,
    has_own_attention,
    head,
    packed_forward,
    supports_own_attention,
    tree_plan,
    use_own_attention,
)
from opportune.inference.flops import Shape, forward_flops, pairs_of, shape_of
from opportune.inference.tree import Tree, plant
from opportune.inference.written_out import Decoder, follows
from opportune.products import favoured, packable, packed, use_own_products

_PREFIXES_KEPT = 4


def pack_rows(device: torch.device) -> int:
    """Rows of a pack: enough to keep the processor busy, few enough to stay in its caches."""
    return 512 if device.type == "cpu" else 8192


class Engine:
    """Runs token trees through one network, whose weights must not change meanwhile.

    Prefixes are kept by their exact tokens, so that what is computed never depends on what was asked before. `own`
    tells whether the network takes the tree's attention; where it does not, ask it the plain way.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        use_own_products(network)
        # A network that was switched over has passed the check: training or wrapping it changes no structure.
        self.own = has_own_attention(network) or supports_own_attention(network)
        if self.own:
            use_own_attention(network)
            fast_norms(network)
        self._written_out: bool | None = None  # whether the network follows `written_out`; known once it writes
        self._decoder: Decoder | None = None
        self._charged = threading.local()
        self._shape = _shape_or_none(network)
        self._prefixes: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    @property
    def flops(self) -> float:
        """What this thread has computed so far."""
        return float(getattr(self._charged, "flops", 0.0))

    @property
    def budget(self) -> int:
        """Rows of a pack, see `pack_rows`."""
        return pack_rows(self.device)

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

    def kept(self, tokens: Sequence[int]) -> list[int]:
        """The longest kept prefix that these tokens begin with, at least one token staying out; else nothing."""
        kept = sorted(self._prefixes, key=len, reverse=True)
        return next((list(key) for key in kept if len(key) < len(tokens) and tuple(tokens[: len(key)]) == key), [])

    def _compute(self, tokens: list[int]) -> Prefix:
        _, attention = self.forward(plant([tokens], 0), None, capture=True)
        return Prefix(attention.keys, attention.values, len(tokens))

    def forward(self, tree: Tree, prefix: Prefix | None, capture: bool = False) -> tuple[Tensor, Packed]:
        """One pass over a tree: the last hidden states [rows, hidden] and, captured, every layer's keys and values."""
        attention = Packed(tree_plan(tree.parents, tree.positions, tree.shared), prefix, capture)
        pairs = pairs_of(attention.plan, prefix.length if prefix else 0)
        return self.step(tree.ids, attention.plan.positions, attention, pairs), attention

    def step(self, ids: Sequence[int], positions: Tensor, attention: Attending, pairs: int) -> Tensor:
        """One pass over a row of tokens: the last hidden states. `pairs` is what the attention computes in a layer."""
        self._charge(len(ids), pairs, 0)
        tokens, positions = torch.tensor(ids, device=self.device), positions.to(self.device)
        if self._decoder is not None:
            return self._decoder(tokens, positions, attention)
        return packed_forward(self.network, tokens, positions, attention)

    @contextmanager
    def writing(self, rows: int) -> Iterator[None]:
        """Within this block, passes take about so many rows and are many: weights are laid out for them, and the
        decoder is written out where that is known to compute the same."""
        if self._written_out is None:
            self._written_out = self.own and favoured() and follows(self.network)
        if self._written_out:
            self._decoder = Decoder(self.network, rows)
        rest = self.network.get_output_embeddings() if self._decoder is not None else self.network
        try:
            with packed(packable(rest), rows):
                yield
        finally:
            self._decoder = None

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: [rows, hidden] -> [rows, vocabulary], float32."""
        self._charge(0, 0, len(hidden))
        return head(self.network, hidden).float()

    def plainly(self, ids: Sequence[int], past: Any = None, cached: bool = False) -> tuple[Tensor, Any]:
        """The network's own forward pass over one row of tokens, after `past` if given: logits [tokens, vocabulary] in
        float32, and what it keeps of the past where `cached`."""
        length = len(ids) + (past.get_seq_length() if past is not None else 0)
        self._charge(len(ids), len(ids) * length, len(ids))
        options = {} if past is None else {"past_key_values": past}
        output = self.network(input_ids=torch.tensor([ids], device=self.device), use_cache=cached, **options)
        return output.logits[0].float(), getattr(output, "past_key_values", None) if cached else None

    def states(self, ids: Sequence[int]) -> Tensor:
        """The last hidden states [tokens, hidden] of the network's own pass over one row of tokens."""
        self._charge(len(ids), len(ids) ** 2, 0)
        output = self.network.get_decoder()(input_ids=torch.tensor([ids], device=self.device), use_cache=False)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _charge(self, tokens: int, pairs: int, rows: int) -> None:
        if self._shape is not None:
            self._charged.flops = self.flops + forward_flops(self._shape, tokens, pairs, rows)


def _shape_or_none(network: Any) -> Shape | None:
    """None for a network that is not a transformer: its FLOPs are then not counted."""
    try:
        return shape_of(network)
    except AttributeError:
        return None
