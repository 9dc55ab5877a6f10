"""Log-probabilities of a text that a server has echoed: which of its tokens are the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from opportune.models.endpoint_wire import BrokenError, choices_of

LARGEST = 1e-3  # a log-probability may exceed 0 by this, in bfloat16
_FOREIGN = re.compile(r"[^\x00-\x7f]+")


class NonsenseError(BrokenError):
    """Log-probabilities that cannot be any."""

    def __init__(self, why: str) -> None:
        super().__init__(f"log-probabilities that make no sense: {why}")


def continuations(answer: Any, wholes: Sequence[str], start: int) -> list[float]:
    """The log-probability of what follows `start` in each text. Raises BrokenError."""
    replies = choices_of(answer)
    if len(replies) != len(wholes):
        raise NonsenseError(f"{len(replies)} choices for {len(wholes)} texts")
    return [_continuation(reply, whole, start) for reply, whole in zip(replies, wholes, strict=True)]


def _continuation(reply: Mapping[str, Any], whole: str, start: int) -> float:
    """The sum over the tokens that reach beyond `start`. Raises BrokenError where they do not make up the text."""
    logs = reply.get("logprobs")
    tokens, values = (logs.get(k) if isinstance(logs, dict) else None for k in ("tokens", "token_logprobs"))
    if not (isinstance(tokens, list) and isinstance(values, list)):
        raise NonsenseError("none for the text itself")
    texts = list(map(str, tokens))
    place = _place("".join(texts), whole, start)
    if len(texts) != len(values) or place is None:
        raise NonsenseError("their tokens are not the text")
    # Not by the `text_offset` that is told: servers count it with or without a token of their own in front.
    ends = list(accumulate(map(len, texts)))
    own = [v for v, text, end in zip(values, texts, ends, strict=True) if end > place[0] and end - len(text) < place[1]]
    if not own or not all(isinstance(v, int | float) and math.isfinite(v) and v <= LARGEST for v in own):
        raise NonsenseError("not all are numbers of 0 or less")
    return math.fsum(own)


def _place(said: str, whole: str, start: int) -> tuple[int, int] | None:
    """From where to where what follows `start` stands in the tokens' text, which may have a token of its own in front
    (BOS), and "\ufffd" for parts of a character."""
    if (found := said.find(whole)) >= 0:
        return found + start, found + len(whole)
    asked, answer = (_FOREIGN.sub("[\\g<0>\ufffd]+", re.escape(part)) for part in (whole[:start], whole[start:]))
    # Where both meet in such parts, they count for the answer: too much, but the same for each.
    match = re.search(f"{asked.replace(']+', ']+?')}({answer})", said)
    return match.span(1) if match else None
