"""Prompts whose answers are drawn: which they are, and how each seed of an arm draws its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from opportune.types import Completion, Flow, Prompt

T = TypeVar("T")
_APART = 10_000  # servers draw the samples of one prompt from seeds that follow each other


def sampled(prompt: Prompt) -> bool:
    """Whether its answer is drawn by chance."""
    return prompt.choices is None and not prompt.embed and prompt.temperature > 0


def seeded(prompt: Prompt, seed: int) -> Prompt:
    """The prompt as an arm of this seed draws its answer; one that is not drawn stays what it is under every seed."""
    return replace(prompt, seed=prompt.seed + _APART * seed) if sampled(prompt) else prompt


def changed(flow: Flow[T], change: Callable[[Prompt], Prompt]) -> Flow[T]:
    """The same conversation with every prompt changed."""
    completions: list[Completion] | None = None
    while True:
        try:
            prompts = next(flow) if completions is None else flow.send(completions)
        except StopIteration as stop:
            result: T = stop.value
            return result
        completions = yield [change(prompt) for prompt in prompts]
