"""Prompts too long for the model's context: demonstrations go first, then the middle of the input; nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from opportune.errors import ModelError
from opportune.types import Message, Prompt

_MARK = " … "


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits, and what it lost: whole demonstrations, then tokens of its input."""

    prompt: Prompt
    shots_dropped: int = 0
    tokens_cut: int = 0


def fit(prompt: Prompt, limit: int, count: Callable[[Prompt], int]) -> Fitted:
    """Shorten a prompt until `count` gives at most `limit` tokens.

    Drops demonstrations earliest first, in whole pairs, then takes text out of the middle of the spans that may be
    cut, the longest first. Raises ModelError, naming the lengths, where that is not enough.
    """
    asked = count(prompt)
    if asked <= limit:
        return Fitted(prompt)
    pairs = _shot_pairs(prompt.messages)
    dropped = _fewest(len(pairs), lambda n: count(_without(prompt, pairs[:n])) <= limit)
    prompt = _without(prompt, pairs[:dropped])
    whole = count(prompt)
    if whole <= limit:
        return Fitted(prompt, dropped)
    longest = max((m.cut[1] - m.cut[0] for m in prompt.messages if m.cut), default=0)
    removed = _fewest(longest, lambda n: count(_shortened(prompt, longest - n)) <= limit)
    prompt = _shortened(prompt, longest - removed)
    left = count(prompt)
    if left > limit:
        raise ModelError(
            f"a prompt of {asked} tokens has {left} left without its demonstrations and its input, and the model's "
            f"context has {f'room for {limit}' if limit > 0 else 'no room'} beside the answer; shorten the instruction "
            "or max_tokens"
        )
    return Fitted(prompt, dropped, max(0, whole - left))


def _shot_pairs(messages: Sequence[Message]) -> list[list[int]]:
    """The indices of each demonstration's messages; one starts with every user message."""
    pairs: list[list[int]] = []
    for i, message in enumerate(messages):
        if message.shot and (message.role == "user" or not pairs):
            pairs.append([i])
        elif message.shot:
            pairs[-1].append(i)
    return pairs


def _without(prompt: Prompt, pairs: Sequence[Sequence[int]]) -> Prompt:
    gone = {i for pair in pairs for i in pair}
    return replace(prompt, messages=tuple(m for i, m in enumerate(prompt.messages) if i not in gone))


def _shortened(prompt: Prompt, kept: int) -> Prompt:
    """With every span that may be cut reduced to `kept` characters around a mark, if it was longer."""
    return replace(prompt, messages=tuple(_cut(message, kept) for message in prompt.messages))


def _cut(message: Message, kept: int) -> Message:
    if message.cut is None or message.cut[1] - message.cut[0] <= kept:
        return message
    start, end = message.cut
    text = message.content
    left = start + (kept + 1) // 2
    right = end - kept // 2
    content = f"{text[:left].rstrip()}{_MARK}{text[right:].lstrip()}" if kept else text[:start] + "…" + text[end:]
    return replace(message, content=content, cut=None)


def _fewest(most: int, enough: Callable[[int], bool]) -> int:
    """The smallest n up to `most` for which `enough(n)`, assumed to stay true from there on; else `most`."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low
