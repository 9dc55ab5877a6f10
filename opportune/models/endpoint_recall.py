"""Which kept answer belongs to a request, and what of a reply is kept: one entry for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from opportune.models.endpoint_wire import Request, choices_of, estimated_tokens, written
from opportune.models.prices import Price
from opportune.models.response_cache import Kept, ResponseCache
from opportune.types import digest


@dataclass(frozen=True, slots=True)
class Recalled:
    """A reply as the server gave it in an earlier call, and what it took then."""

    reply: dict[str, Any]
    tokens_in: int
    tokens_out: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Recall:
    """The response cache as one model of one server uses it."""

    cache: ResponseCache
    base_url: str
    name: str
    price: Price | None

    def turn(self, request: Request) -> AbstractAsyncContextManager[None]:
        """Within it nobody else makes the same request."""
        return self.cache.turn(self._key(request))

    def find(self, request: Request) -> Recalled | None:
        """What is there of the answer: all samples that were asked for, or the first of them."""
        kept = self.cache.find(self._key(request), request.first, max(request.samples, 1))
        if not kept:
            return None
        choices = [choice for one in kept for choice in one.choices]
        reply = {"choices": [{**choice, "index": place} for place, choice in enumerate(choices)]}
        return Recalled(
            reply,
            sum(one.tokens_in for one in kept),
            sum(one.tokens_out for one in kept),
            sum(one.seconds for one in kept),
        )

    def keep(self, request: Request, reply: Any, tokens: tuple[int, int], seconds: float) -> None:
        """Keep an answer that was understood."""
        choices = choices_of(reply)
        parts = [[choice] for choice in choices[: request.samples]] if request.samples else [list(choices)]
        shares = _shares(tokens[1], [estimated_tokens(written({"choices": part})) for part in parts])
        kept = [
            Kept(part, tokens[0] if place == 0 else 0, out, seconds if place == 0 else 0.0, None)
            for place, (part, out) in enumerate(zip(parts, shares, strict=True))
        ]
        if self.price is not None:
            kept = [_priced(one, self.price) for one in kept]
        self.cache.keep(self._key(request), request.first, kept, self.base_url, self.name)

    def finding(self, about: str) -> Any:
        """What was found out about the server before, None where nothing: a probe that it refused is no answer to keep,
        but need not be made again."""
        kept = self.cache.find(digest([self.base_url, self.name, about]), 0, 1)
        return kept[0].choices[0] if kept else None

    def found(self, about: str, finding: Any) -> None:
        """Keep a finding."""
        key = digest([self.base_url, self.name, about])
        self.cache.keep(key, 0, [Kept([finding], 0, 0, 0.0, None)], self.base_url, self.name)

    def _key(self, request: Request) -> str:
        """Of everything that was sent but how many samples were asked for at once, and from which of them on; and of
        the seed where that could not be sent."""
        body = {name: value for name, value in request.body.items() if name != "n"}
        if "seed" in body:
            body["seed"] -= request.first
        drawn = [] if request.unsaid_seed is None else [request.unsaid_seed]
        return digest([self.base_url, request.api, body, *drawn])


def _priced(kept: Kept, price: Price) -> Kept:
    return replace(kept, dollars=price.dollars(kept.tokens_in, kept.tokens_out))


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares by weight that sum to the total."""
    whole, ends, reached = sum(weights) or 1, [0], 0
    for weight in weights:
        reached += weight
        ends.append(round(total * reached / whole))
    return [end - begin for begin, end in pairwise(ends)]
