"""Prompts that a server finds too long: shortened by the same policy as on a local model, and asked again.

The tokenizer is the server's, so lengths are estimated, the estimate set right by what the refusal tells.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from opportune.errors import ModelError
from opportune.inference.fitting import Fitted, fit
from opportune.models.endpoint_failures import CallError, RefusedError
from opportune.models.endpoint_wire import context_told, estimated_tokens, too_long
from opportune.types import Prompt

T = TypeVar("T")
_TRIES = 6
_SHRINK = 0.75  # of the estimated tokens are kept where the server does not say how many it takes
_MARGIN = 0.95
_ASKED = re.compile(r"(?:resulted in|requested|prompt contains|has|\()\D{0,20}?(\d{2,}) tokens", re.IGNORECASE)


async def fitted(prompt: Prompt, ask: Callable[[Prompt], Awaitable[T]]) -> tuple[T, Fitted]:
    """What `ask` gives for the prompt, shortened as far as the server demands.

    Raises CallError where that is not enough.
    """
    shortened, limit = Fitted(prompt), 0.0
    for _ in range(_TRIES):
        try:
            return await ask(shortened.prompt), shortened
        except RefusedError as refusal:
            if not too_long(refusal.message, refusal.kind):
                raise
            last = refusal
        now = tokens(shortened.prompt)
        limit = min(_allowed(last, now, prompt.max_tokens), _MARGIN * now)
        try:
            shortened = fit(prompt, int(limit), tokens)
        except ModelError as error:
            raise CallError(f"{last}; {error}") from None
    raise last


def tokens(prompt: Prompt) -> int:
    """About how many tokens the prompt has."""
    return sum(estimated_tokens(message.content) + 4 for message in prompt.messages)


def _allowed(refusal: RefusedError, asked: int, answer: int) -> float:
    """The most tokens the prompt may have, as we estimate them."""
    context, counted = context_told(refusal.message, refusal.details), _counted(refusal)
    if context is None:
        return _SHRINK * asked
    scale = asked / counted if counted else 1.0
    return _MARGIN * (context - answer) * scale


def _counted(refusal: RefusedError) -> int | None:
    """The tokens of the prompt as the server counted them."""
    details: Any = refusal.details
    if isinstance(details, dict) and isinstance(details.get("n_prompt_tokens"), int):
        return int(details["n_prompt_tokens"])
    found = re.search(r"\((\d+) in the (?:messages|prompt)", refusal.message) or _ASKED.search(refusal.message)
    return int(found.group(1)) if found else None
