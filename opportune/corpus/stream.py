"""Documents as one stream of tokens, each with the token that ends it."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opportune.errors import ModelError
from opportune.inference.tokens import Encoder

# What models were pretrained with between documents; a chat model's own end token ends a turn instead.
_ENDS = ("<|endoftext|>", "<|end_of_text|>")
_AT_ONCE = 64  # documents tokenised together


@dataclass(frozen=True, slots=True)
class TokenStream:
    """Tokens [n] of documents one after the other, each with its end; `starts` are the places where they begin."""

    tokens: NDArray[np.uint32]
    starts: NDArray[np.int64]
    opening: int  # the token that stands before each document and is not learned
    folder: Path | None = None  # where it lies; None: only in memory

    def digest(self) -> str:
        """Identifies the content."""
        content = hashlib.sha256(np.ascontiguousarray(self.tokens).tobytes())
        content.update(np.ascontiguousarray(self.starts).tobytes() + self.opening.to_bytes(4, "little"))
        return content.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write it; `open_stream` reads it without taking it into memory."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "tokens.npy", self.tokens)
        np.save(folder / "starts.npy", self.starts)
        (folder / "opening").write_text(str(self.opening))


def open_stream(folder: Path) -> TokenStream:
    """What `save` wrote."""
    tokens, starts = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("tokens", "starts"))
    return TokenStream(tokens, starts, int((folder / "opening").read_text()), folder)


def tokenise(documents: Iterable[str], tokenizer: Any, limit: int | None = None) -> TokenStream:
    """The first `limit` tokens of the documents (all where None), read no further than that.

    Raises ModelError for a tokenizer that has no token to end a document with.
    """
    opening, end = marks(tokenizer)
    tokens, starts = array("I"), array("q")
    for ids in _encoded(documents, tokenizer):
        if limit is not None and len(tokens) >= limit:
            break
        starts.append(len(tokens))
        tokens.extend(ids)
        tokens.append(end)
    kept = np.frombuffer(tokens, dtype=np.uint32)[:limit] if tokens else np.zeros(0, np.uint32)
    return TokenStream(kept, np.array(starts, dtype=np.int64), opening)


def marks(tokenizer: Any) -> tuple[int, int]:
    """The tokens before and after a document. Raises ModelError where the tokenizer has none."""
    special = {content.content: token for token, content in tokenizer.added_tokens_decoder.items() if content.special}
    end = next((special[name] for name in _ENDS if name in special), tokenizer.eos_token_id)
    before = Encoder(tokenizer).opening
    if end is None:
        end = tokenizer.bos_token_id
    if end is None:
        raise ModelError("the tokenizer has neither an end token nor a beginning token to set documents apart")
    return (before[-1] if before else int(end)), int(end)


def _encoded(documents: Iterable[str], tokenizer: Any) -> Iterator[list[int]]:
    waiting = iter(documents)
    while some := list(islice(waiting, _AT_ONCE)):
        yield from tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
