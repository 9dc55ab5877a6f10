"""Several conversations about one question held as one, round by round; what they ask alike is asked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from opportune.strategies.sampling import sampled
from opportune.types import Completion, Flow, Prompt

T = TypeVar("T")


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """The results of all flows, in their order. Equal sampled prompts become one prompt with a sample for each."""
    results: dict[int, T] = {}
    waiting: dict[int, list[Prompt]] = {}
    heard: dict[int, list[Completion] | None] = dict.fromkeys(range(len(flows)))
    while len(results) < len(flows):
        for place, completions in heard.items():
            try:
                waiting[place] = next(flows[place]) if completions is None else flows[place].send(completions)
            except StopIteration as stop:
                results[place] = stop.value
                waiting.pop(place, None)
        if waiting:
            heard = yield from _round(waiting)
    return [results[place] for place in range(len(flows))]


def _round(waiting: dict[int, list[Prompt]]) -> Flow[dict[int, list[Completion] | None]]:
    askers: dict[Prompt, list[int]] = {}
    for place, prompts in waiting.items():
        for prompt in prompts:
            askers.setdefault(prompt, []).append(place)
    asked = [replace(p, samples=len(places)) if sampled(p) else p for p, places in askers.items()]
    completions = yield asked
    heard = zip(askers, completions, strict=True)
    answers = {prompt: iter(_shares(prompt, completion, len(askers[prompt]))) for prompt, completion in heard}
    return {place: [next(answers[prompt]) for prompt in prompts] for place, prompts in waiting.items()}


def _shares(prompt: Prompt, completion: Completion, number: int) -> list[Completion]:
    """A completion for each of those who asked: a sample each, or all the same."""
    if not sampled(prompt):
        return [completion] * number
    return [replace(completion, texts=(text,)) for text in completion.texts]
