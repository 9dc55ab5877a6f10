"""One answer being written: which token comes next, and when it is over."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK = 128  # tokens of a vocabulary that are looked through together
_TOKENS_BACK = 8  # a stop string is looked for in its own length and so many tokens more


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to continue: its tokens, and what ends an answer."""

    index: int
    ids: list[int]
    text: str
    before: str  # taken off the beginning of the answer
    samples: int
    temperature: float
    max_tokens: int
    stops: tuple[str, ...]
    ends: frozenset[int]
    seed: int

    @property
    def rows(self) -> int:
        """Answers to write: greedy samples are all the same, so one will do."""
        return self.samples if self.temperature > 0 else 1

    def tokens(self, depth: int = 0) -> int:
        """Tokens that one answer may take up after a prefix of `depth` tokens, with its prompt's."""
        return len(self.ids) - depth + self.max_tokens


@dataclass(frozen=True, slots=True)
class Sample:
    """A finished answer and how many tokens the model wrote for it."""

    text: str
    tokens: int


class Writer:
    """Takes the tokens of one sample as they are chosen."""

    def __init__(self, request: Request, number: int, tokenizer: Any) -> None:
        self.request = request
        self.written: list[int] = []
        self.done = False
        self._tokenizer = tokenizer
        self._back = max(map(len, request.stops), default=0) + _TOKENS_BACK
        self._random = _generator(request, number) if request.temperature > 0 else None

    def draw(self) -> float:
        """The next uniform random number of this sample's own stream."""
        return float(torch.rand((), generator=self._random, dtype=torch.float64))

    def write(self, token: int) -> None:
        """Take a token and see whether the answer is over."""
        self.written.append(token)
        over = token in self.request.ends or len(self.written) >= self.request.max_tokens
        self.done = over or (self._stopped(self.written[-self._back :]) and self._stopped(self.written))

    def _stopped(self, tokens: Sequence[int]) -> bool:
        return bool(self.request.stops) and any(stop in self._text(tokens) for stop in self.request.stops)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def sample(self) -> Sample:
        """The answer: its text up to the first stop."""
        tokens = self.written
        text = self._text(tokens[:-1] if tokens and tokens[-1] in self.request.ends else tokens)
        found = [place for stop in self.request.stops if (place := text.find(stop)) >= 0]
        return Sample(text[: min(found, default=len(text))].removeprefix(self.request.before), len(tokens))


def _generator(request: Request, number: int) -> torch.Generator:
    """A stream that depends on the request's seed, its text and the sample's number, not on what else is asked."""
    digest = hashlib.sha256(f"{request.seed}\0{number}\0{request.text}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _likeliest(logits: Tensor) -> Tensor:
    """As argmax, by blocks where the vocabulary allows it: a maximum is found ten times as fast as its place."""
    if logits.shape[-1] % _BLOCK:
        return logits.argmax(-1)
    blocks = logits.view(len(logits), -1, _BLOCK)
    best = blocks.amax(-1).argmax(-1)
    return best * _BLOCK + blocks[torch.arange(len(logits)), best].argmax(-1)


def choose(logits: Tensor, writers: Sequence[Writer]) -> list[int]:
    """The next token of each writer from its row of logits [writers, vocabulary]: the likeliest, or one drawn."""
    tokens: list[int] = _likeliest(logits).tolist()
    drawing = [i for i, writer in enumerate(writers) if writer.request.temperature > 0]
    if drawing:
        temperatures = logits.new_tensor([writers[i].request.temperature for i in drawing], dtype=torch.float64)
        chances = (logits[drawing].double() / temperatures[:, None]).softmax(-1).cumsum(-1)
        uniform = chances.new_tensor([writers[i].draw() for i in drawing])[:, None] * chances[:, -1:]
        drawn = torch.searchsorted(chances, uniform, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
        for i, token in zip(drawing, drawn.tolist(), strict=True):
            tokens[i] = token
    return tokens
