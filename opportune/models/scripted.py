"""A stand-in for a model whose answers are written down: the way to test a strategy without a network.

model = Scripted({"refund": "billing"})                       # the first key that occurs in the question
model = Scripted(["first answer", "second answer"])           # in the order asked
model = Scripted(lambda prompt, index: prompt.messages[-1].content.upper())
model = Scripted(lambda prompt, index: "yes", fail=0.1)       # every tenth call fails
model.prompts                                                 # everything it was asked, in order
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log
from typing import ClassVar

from opportune.types import Completion, ModelInfo, Prompt, Usage

_SURE = 0.9  # the probability that ranking gives to the scripted answer


class Scripted:
    """A Model that answers by a script.

    `answers`: a function of the prompt and of how many answers were given before it (each sample of a prompt is an
    answer of its own); or a mapping, whose first key that occurs in the last message decides (no key: the empty text);
    or a sequence, in the order asked.
    `score`: for prompts with choices, a choice's log-probability; by default the scripted answer is likely, and where
    it is none of the choices they are all alike.
    `fail`: the share of calls that never succeed, spread evenly.

    Tokens are counted as words. A text ends before the prompt's first stop string; `max_tokens` is not enforced.
    """

    summary: ClassVar[str] = "answers by a script: a function, a mapping or a sequence; for tests and examples"
    source: ClassVar[str] = "this project"

    def __init__(
        self,
        answers: Callable[[Prompt, int], str] | Mapping[str, str] | Sequence[str],
        *,
        score: Callable[[str], float] | None = None,
        fail: float = 0.0,
    ) -> None:
        self._answer = answers if callable(answers) else _scripted(answers)
        self._score = score
        self._fail = fail
        self._calls = self._given = 0
        self.prompts: list[Prompt] = []
        self.info = ModelInfo("scripted", path="", parameters=0, digest="scripted", dtype="text", device="cpu")

    def complete(self, prompts: Sequence[Prompt], known: Mapping[int, Completion]) -> Iterator[tuple[int, Completion]]:
        """Answer all prompts but the `known` ones; those count as asked, so that the others get the same answers."""
        for index, prompt in enumerate(prompts):
            first, call = self._given, self._calls
            self._given += prompt.samples
            self._calls += 1
            if index not in known:
                self.prompts.append(prompt)
                yield index, self._complete(prompt, first, call)

    def _complete(self, prompt: Prompt, first: int, call: int) -> Completion:
        text = "\n\n".join(message.content for message in prompt.messages)
        if int((call + 1) * self._fail) > int(call * self._fail):
            return Completion(text, error=f"scripted failure of call {call}")
        words = len(text.split())
        if prompt.embed:
            return Completion(text, vector=_bag(text), usage=Usage(tokens_in=words))
        if prompt.choices is not None:
            answer = "" if self._score else self._answer(prompt, first)
            return Completion(text, scores=self._rank(prompt.choices, answer), usage=Usage(tokens_in=words))
        texts = tuple(_stopped(self._answer(prompt, first + sample), prompt.stop) for sample in range(prompt.samples))
        return Completion(text, texts, usage=Usage(words, tokens_out=sum(len(text.split()) for text in texts)))

    def _rank(self, choices: tuple[str, ...], answer: str) -> tuple[float, ...]:
        if self._score is not None:
            return tuple(self._score(choice) for choice in choices)
        if answer not in choices or len(choices) == 1:
            return (-log(len(choices)),) * len(choices)
        rest = log((1 - _SURE) / (len(choices) - 1))
        return tuple(log(_SURE) if choice == answer else rest for choice in choices)


def _scripted(answers: Mapping[str, str] | Sequence[str]) -> Callable[[Prompt, int], str]:
    if isinstance(answers, Mapping):
        return lambda prompt, _: next((text for key, text in answers.items() if key in prompt.messages[-1].content), "")
    return lambda _, index: answers[index]


def _bag(text: str) -> tuple[float, ...]:
    """A vector of length 1 that counts words by the length of each: alike for alike texts."""
    counts = [float(sum(len(word) % 16 == place for word in text.split())) for place in range(16)]
    norm = sum(count * count for count in counts) ** 0.5 or 1.0
    return tuple(count / norm for count in counts)


def _stopped(text: str, stops: Sequence[str]) -> str:
    """The text before the earliest stop string."""
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]
