"""Text -> tokens, exactly as the tokenizer would, but fast for many texts that share a long beginning.

A text that begins like one already encoded is encoded only from a token boundary some way before the two part. The
tokens up to where they part must then come out as before; where they do not, the text is encoded whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opportune.errors import ModelError

_BACK = 64  # re-encode from at least so many characters before the texts part
_SETTLED = 24  # tokens ending at least so many characters before that point must agree


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text and its tokens (special opening tokens included); `spans` are the tokens' characters, from token
    `first_span` on."""

    text: str
    ids: list[int]
    spans: list[tuple[int, int]]
    first_span: int


class Encoder:
    """Encodes texts for one tokenizer."""

    def __init__(self, tokenizer: Any, virtual: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._virtual = list(virtual)  # ids of virtual tokens, in front of every text
        self._fast = tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else None
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._special = {token for token, content in added.items() if content.special}
        self.opening = self._find_opening()
        self._tails: dict[tuple[str, tuple[str, ...]], list[tuple[list[int], list[tuple[int, int]]]]] = {}

    def _find_opening(self) -> list[int]:
        """The special tokens that the tokenizer puts before a plain text, most often one or none."""
        bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self._tokenizer("a")["input_ids"]
        starts = (i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        return list(full[: next(starts, 0)])

    def encode(self, texts: Sequence[str], chat: bool) -> list[Encoded]:
        """Encode texts; chat texts carry their special tokens in the text, plain ones get the tokenizer's own."""
        if not texts:
            return []
        first = self._whole([texts[0]], chat)[0]
        return [first, *self._like(first, texts[1:], chat)]

    def continuations(self, context: Encoded, answers: Sequence[str], chat: bool) -> tuple[list[int], list[list[int]]]:
        """Tokens of context + answer for each answer: those that the context and all of these share, and the rest of
        each. Where a token spans the boundary, every answer is so scored from the same place.
        """
        wholes = self._extended(context, answers, chat)
        start = shared_length([context.ids, *wholes])
        trunk = context.ids[:start]
        if not trunk:  # nothing stands before the answer: the text's opening does
            trunk = [self.opening_token()]
        return trunk, [whole[start:] for whole in wholes]

    def opening_token(self) -> int:
        """What stands for an empty prompt. Raises ModelError where the tokenizer has nothing for it."""
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise ModelError("an empty prompt cannot be scored: the tokenizer has neither a bos nor an eos token")

    def _opening(self, chat: bool) -> list[int]:
        return [*self._virtual, *([] if chat else self.opening)]

    def _whole(self, texts: Sequence[str], chat: bool) -> list[Encoded]:
        opening = self._opening(chat)
        encoded = []
        for text, (ids, spans) in zip(texts, self._pieces(texts), strict=True):
            encoded.append(Encoded(text, [*opening, *ids], spans, len(opening)))
        return encoded

    def _pieces(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        if self._fast is None:  # no character spans: nothing to resume from
            return [(list(self._tokenizer(text, add_special_tokens=False)["input_ids"]), []) for text in texts]
        self._fast.no_truncation()
        self._fast.no_padding()
        return [(e.ids, e.offsets) for e in self._fast.encode_batch(list(texts), add_special_tokens=False)]

    def _like(self, reference: Encoded, texts: Sequence[str], chat: bool) -> list[Encoded]:
        """Encode texts, resuming each where it parts from the reference."""
        parts = [_shared_characters(reference.text, text) for text in texts]
        resumes = [self._resume(reference, part) for part in parts]
        tails = [text[cut[1] :] if cut else text for text, cut in zip(texts, resumes, strict=True)]
        results = []
        for text, part, cut, (ids, spans) in zip(texts, parts, resumes, self._pieces(tails), strict=True):
            if cut is None:
                opening = self._opening(chat)
                results.append(Encoded(text, [*opening, *ids], spans, len(opening)))
            elif _agrees(reference, part, cut, ids, spans):
                moved = [(a + cut[1], b + cut[1]) for a, b in spans]
                results.append(Encoded(text, [*reference.ids[: cut[0]], *ids], moved, cut[0]))
            else:
                results += self._whole([text], chat)
        return results

    def _resume(self, reference: Encoded, part: int) -> tuple[int, int] | None:
        """The last token, with its first character, from which encoding can start again: a special token, or one that
        starts with a space after a word well before `part` (every usual pre-tokenizer starts a new piece there)."""
        text = reference.text
        for i in range(len(reference.spans) - 1, -1, -1):
            start, end = reference.spans[i]
            token = reference.first_span + i
            if reference.ids[token] in self._special and end <= part:
                return token, start
            if 0 < start <= part - _BACK and text[start] == " " and text[start - 1].isalnum():
                return token, start
        return None

    def _extended(self, context: Encoded, answers: Sequence[str], chat: bool) -> list[list[int]]:
        """Encode the context followed by each answer. What follows the same tail of a context is encoded once."""
        part = len(context.text)
        cut = self._resume(context, part)
        if cut is None:
            return [whole.ids for whole in self._whole([context.text + answer for answer in answers], chat)]
        key = (context.text[cut[1] :], tuple(answers))
        if key not in self._tails:
            if len(self._tails) >= 256:
                self._tails.clear()
            self._tails[key] = self._pieces([key[0] + answer for answer in answers])
        results = []
        for answer, (ids, spans) in zip(answers, self._tails[key], strict=True):
            if _agrees(context, part, cut, ids, spans):
                results.append([*context.ids[: cut[0]], *ids])
            else:
                results.append(self._whole([context.text + answer], chat)[0].ids)
        return results


def shared_length(sequences: Sequence[list[int]]) -> int:
    """How many first tokens all sequences share."""
    low, high = min(sequences), max(sequences)
    limit = min(len(low), len(high))
    return next((i for i in range(limit) if low[i] != high[i]), limit)


def _shared_characters(a: str, b: str) -> int:
    """How many first characters two texts share, by bisection."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _agrees(reference: Encoded, part: int, cut: tuple[int, int], ids: list[int], spans: list[tuple[int, int]]) -> bool:
    """Whether the tokens encoded again from the cut are the reference's, up to shortly before the texts part."""
    token, start = cut
    known = reference.spans[token - reference.first_span :]
    settled = 1
    while settled < len(known) and known[settled][1] <= part - _SETTLED:
        settled += 1
    if ids[:settled] != reference.ids[token : token + settled]:
        return False
    return all((a + start, b + start) == span for (a, b), span in zip(spans, known[:settled], strict=False))
