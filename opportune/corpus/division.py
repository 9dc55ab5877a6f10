"""Which part of a corpus is held out, never to be trained on: whole documents, chosen by their content.

Equal documents have equal digests, so that a copy never stands on both sides; and whoever holds out of the same corpus
again holds out the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opportune.corpus.documents import FIELD, read_documents
from opportune.errors import TaskError

SHARE = 1 / 20  # of the text is held out, at most HELD characters
HELD = 100_000
MOST = 1 / 5  # of the text; where whole documents would be more, the end of the longest is held out instead


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus and its division; the text itself stays on disk."""

    path: str
    field: str
    digest: str  # of the content
    characters: int
    documents: int
    held: frozenset[bytes]  # digests of the documents held out
    cut: tuple[bytes, int] | None = None  # or: the digest of the document whose end is held out, and where that begins

    @property
    def divided(self) -> bool:
        """Whether a part of it is held out."""
        return bool(self.held) or self.cut is not None

    def train(self) -> Iterator[str]:
        """The documents to train on."""
        return (kept for kept, _ in self._parts() if kept)

    def held_out(self) -> Iterator[str]:
        """The documents held out."""
        return (held for _, held in self._parts() if held)

    def _parts(self) -> Iterator[tuple[str, str]]:
        """Of each document what is trained on, and what is held out."""
        for text in read_documents(self.path, self.field):
            digest = _digest(text)
            if self.cut is not None and self.cut[0] == digest:
                yield text[: self.cut[1]], text[self.cut[1] :]
            else:
                yield ("", text) if digest in self.held else (text, "")


def divided(path: str | Path, field: str = FIELD, *, whole: bool = False) -> Corpus:
    """Read a corpus through once and divide it; with `whole` nothing is held out.

    Raises TaskError for a corpus that cannot be read, is empty, or too small to divide.
    """
    found = [(_digest(text), len(text)) for text in read_documents(path, field)]
    total = sum(length for _, length in found)
    if not total:
        raise TaskError(f"corpus {path}: it is empty")
    if total < 2 and not whole:
        raise TaskError(f"corpus {path}: {total} character is too little to hold out a part of")
    digest = hashlib.sha256(b"".join(name for name, _ in found)).hexdigest()[:16]
    wanted = max(1, round(min(SHARE * total, HELD)))
    held, cut = (frozenset(), None) if whole else _chosen(found, total, wanted)
    if cut is not None and max(length for _, length in found) < 2:
        raise TaskError(f"corpus {path}: documents of a single character are too little to hold out a part of")
    return Corpus(str(path), field, digest, total, len(found), held, cut)


def _chosen(
    found: list[tuple[bytes, int]], total: int, wanted: int
) -> tuple[frozenset[bytes], tuple[bytes, int] | None]:
    lengths: dict[bytes, int] = {}
    for name, length in found:
        lengths[name] = lengths.get(name, 0) + length
    held: set[bytes] = set()
    size = 0
    for name in sorted(lengths):
        if size >= wanted:
            break
        held.add(name)
        size += lengths[name]
    if size <= max(MOST * total, 1):
        return frozenset(held), None
    longest, length = max(found, key=lambda each: each[1])
    return frozenset(), (longest, max(1, length - wanted))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
