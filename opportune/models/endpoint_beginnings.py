"""Whether a chat server goes on from a last message of the assistant, as a local model does, or has to be asked to.

llama.cpp goes on by itself, vLLM when told so, OpenAI answers anew. The probe stops in the middle of a word: only what
truly goes on ends that word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opportune.models.endpoint_calls import Caller, Tally
from opportune.models.endpoint_failures import RefusedError
from opportune.models.endpoint_wire import Dialect, Request, request, texts_of
from opportune.types import Message, Prompt

_WAYS: tuple[Mapping[str, Any], ...] = ({}, {"continue_final_message": True, "add_generation_prompt": False})
_BEGUN = Prompt(
    (Message("user", "What is the capital of France?"), Message("assistant", "The capital of France is Par")),
    max_tokens=2,  # too few to say the whole sentence anew
)
_REST = "is"


async def how_to_go_on(caller: Caller, tally: Tally) -> Mapping[str, Any] | None:
    """What a request needs for it, perhaps nothing; None where the server has to be asked in words."""
    memory, about = caller.memory, "going on"
    if memory is not None and (kept := memory.finding(about)) is not None:
        return _WAYS[kept] if kept >= 0 else None
    place = await _way_that_goes_on(caller, tally)
    if memory is not None:
        memory.found(about, place)
    return _WAYS[place] if place >= 0 else None


async def _way_that_goes_on(caller: Caller, tally: Tally) -> int:
    """The place of the first way that works; -1 where none does."""
    for place, way in enumerate(_WAYS):

        def made(dialect: Dialect, way: Mapping[str, Any] = way) -> Request:
            return request(_BEGUN, "chat", caller.name, replace(dialect, goes_on=way))

        try:
            texts = await caller.put(made, lambda answer: texts_of(answer, _BEGUN, "chat"), tally)
        except RefusedError as refusal:
            if refusal.status == 404:
                raise
            continue
        if texts[0].startswith(_REST):
            return place
    return -1
