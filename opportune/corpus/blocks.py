"""A stream of tokens as full blocks: lessons in which every token is learned, made when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from opportune.corpus.stream import TokenStream, open_stream
from opportune.training.packing import TokenLesson
from opportune.types import digest


class Blocks:
    """Blocks of `size` tokens in the order of the stream; only the last may be shorter.

    A document that a block cuts goes on in the next with its last token for a context and positions from nought.
    """

    def __init__(self, stream: TokenStream, size: int) -> None:
        self.stream, self.size = stream, size
        self.key = digest([stream.digest(), size])

    def __len__(self) -> int:
        return math.ceil(len(self.stream.tokens) / self.size)

    def tokens(self, count: int) -> int:
        """How many tokens so many blocks hold, from the first on and again where they run out."""
        rounds, rest = divmod(count, len(self))
        return rounds * len(self.stream.tokens) + min(rest * self.size, len(self.stream.tokens))

    def block(self, place: int) -> TokenLesson:
        """One block."""
        tokens, starts, opening = self.stream.tokens, self.stream.starts, self.stream.opening
        first, last = place * self.size, min((place + 1) * self.size, len(tokens))
        begins = starts[np.searchsorted(starts, first) : np.searchsorted(starts, last)].tolist()
        ids: list[int] = []
        breaks: list[int] = []
        if not begins or begins[0] != first:
            ids.append(int(tokens[first - 1]))
            begins = [first, *begins]
        else:
            ids.append(opening)
        for begin, end in zip(begins, [*begins[1:], last], strict=True):
            if begin != first:
                breaks.append(len(ids))
                ids.append(opening)
            ids += tokens[begin:end].tolist()
        return TokenLesson(tuple(ids), 1, breaks=tuple(breaks))


class Mix(Sequence[TokenLesson]):
    """So many blocks of each source, one source after the other, each again from its beginning where it runs out."""

    def __init__(self, sources: Sequence[tuple[Blocks, int]]) -> None:
        self.sources = [(blocks, count) for blocks, count in sources if count]
        self.key = digest([[blocks.key, count] for blocks, count in self.sources])
        self.tokens = sum(blocks.tokens(count) for blocks, count in self.sources)

    def __len__(self) -> int:
        return sum(count for _, count in self.sources)

    def told(self, folder: Path) -> list[dict[str, Any]]:
        """What `opened` makes the same of in another process; a stream only in memory is written into the folder."""
        found = []
        for place, (blocks, count) in enumerate(self.sources):
            lies = blocks.stream.folder
            if lies is None:
                blocks.stream.save(lies := folder / f"text-{place}")
            found.append({"stream": str(lies), "size": blocks.size, "count": count})
        return found

    @classmethod
    def opened(cls, told: Sequence[Mapping[str, Any]]) -> Mix:
        """See `told`."""
        return cls([(Blocks(open_stream(Path(one["stream"])), one["size"]), one["count"]) for one in told])

    @overload
    def __getitem__(self, index: int) -> TokenLesson: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenLesson]: ...
    def __getitem__(self, index: int | slice) -> TokenLesson | list[TokenLesson]:
        if isinstance(index, slice):
            return [self._block(place) for place in range(*index.indices(len(self)))]
        return self._block(range(len(self))[index])

    def _block(self, place: int) -> TokenLesson:
        for blocks, count in self.sources:
            if place < count:
                return blocks.block(place % len(blocks))
            place -= count
        raise IndexError(place)
