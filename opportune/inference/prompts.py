"""From prompts to tokens: rendered, made to fit the context, encoded, with the tokens of each choice below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from opportune.errors import ModelError
from opportune.inference.fitting import Fitted, fit
from opportune.inference.rendering import Rendered, Renderer
from opportune.inference.tokens import Encoded, Encoder
from opportune.inference.tree import Item
from opportune.types import Lesson, Prompt


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt as it will be asked, after fitting."""

    index: int
    fitted: Fitted
    rendered: Rendered
    encoded: Encoded
    item: Item

    @property
    def prompt(self) -> Prompt:
        """The prompt, without what did not fit."""
        return self.fitted.prompt


@dataclass(frozen=True, slots=True)
class LessonTokens:
    """A lesson in tokens: ids[start:] are its targets; what it lost to the context's limit."""

    ids: list[int]
    start: int
    shots_dropped: int
    tokens_cut: int


_Text = tuple[Fitted, Rendered, Encoded]


class Preparer:
    """Prepares prompts for one tokenizer and a context of `limit` tokens (None: unlimited); `virtual` are the ids of
    the virtual tokens that all begin with."""

    def __init__(self, tokenizer: Any, limit: int | None, virtual: Sequence[int] = ()) -> None:
        self.renderer = Renderer(tokenizer)
        self._encoder = Encoder(tokenizer, virtual)
        self._limit = limit
        self._rooms: dict[tuple[tuple[str, ...], str, bool], int] = {}

    def prepare(self, prompts: Sequence[Prompt]) -> list[Prepared]:
        """Render, fit and encode prompts. Raises ModelError for one that cannot fit."""
        rendered = [self.renderer.render(prompt) for prompt in prompts]
        encoded: list[Encoded | None] = [None] * len(prompts)
        for chat in (False, True):
            chosen = [i for i, each in enumerate(rendered) if each.chat is chat]
            for i, tokens in zip(chosen, self._encoder.encode([rendered[i].text for i in chosen], chat), strict=True):
                encoded[i] = tokens
        return [
            self._prepared(i, self._fitting(prompt, text, tokens))
            for i, (prompt, text, tokens) in enumerate(zip(prompts, rendered, encoded, strict=True))
            if tokens is not None
        ]

    def _prepared(self, index: int, text: _Text) -> Prepared:
        return Prepared(index, *text, self._item(index, text))

    def _fitting(self, prompt: Prompt, rendered: Rendered, encoded: Encoded) -> _Text:
        if self._limit is None or len(encoded.ids) + self._room(prompt, rendered) <= self._limit:
            return Fitted(prompt), rendered, encoded
        room = self._room(prompt, rendered)
        if prompt.choices is not None and room >= self._limit:
            longest = max(prompt.choices, key=len)
            raise ModelError(
                f"the answer {longest[:40]!r}{' …' if len(longest) > 40 else ''} takes up to {room} tokens, and the "
                f"model's context holds {self._limit} with the question: leave it out or take a model that reads more"
            )
        fitted = fit(prompt, self._limit - room, lambda each: len(self._encoded(each)[1].ids))
        return fitted, *self._encoded(fitted.prompt)

    def _encoded(self, prompt: Prompt) -> tuple[Rendered, Encoded]:
        rendered = self.renderer.render(prompt)
        return rendered, self._encoder.encode([rendered.text], rendered.chat)[0]

    def _room(self, prompt: Prompt, rendered: Rendered) -> int:
        """Tokens to keep free for the answer. A choice may take one more after a context than alone, and its end."""
        if prompt.choices is None:
            return prompt.max_tokens
        key = (prompt.choices, rendered.before, rendered.chat)
        if key not in self._rooms:
            texts = [rendered.before + choice for choice in prompt.choices]
            self._rooms[key] = 2 + max(len(each.ids) for each in self._encoder.encode(texts, rendered.chat))
        return self._rooms[key]

    def _item(self, index: int, text: _Text) -> Item:
        """The question's tokens and those of its choices.

        Where the tokens of one choice begin those of another, summed log-probabilities would favour the shorter: then
        the end of the answer is scored with every choice.
        """
        fitted, _, encoded = text
        choices = fitted.prompt.choices
        if choices is None:
            return Item(index, encoded.ids or [self._encoder.opening_token()])
        trunk, branches = self._continued(text, choices)
        if _nested(branches):
            trunk, branches = self._ended(text, choices)
        return Item(index, trunk, branches)

    def _continued(self, text: _Text, answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        _, rendered, encoded = text
        return self._encoder.continuations(encoded, [rendered.before + answer for answer in answers], rendered.chat)

    def _ended(
        self, text: _Text, answers: Sequence[str], stops: Sequence[str] = ("\n",)
    ) -> tuple[list[int], list[list[int]]]:
        """Answers with what ends them: the turn's end in chat, the first string to stop at in plain text."""
        if not text[1].chat:
            return self._continued(text, [f"{answer}{stops[0]}" for answer in answers])
        trunk, branches = self._continued(text, answers)
        return trunk, [[*branch, self.renderer.turn_end()] for branch in branches]

    def lesson(self, lesson: Lesson) -> LessonTokens:
        """A lesson's tokens: prompt, answer and what ends it. Raises ModelError for one that cannot fit."""
        prompt = replace(lesson.prompt, choices=(lesson.target,))
        text = self._fitting(prompt, *self._encoded(prompt))
        trunk, branches = self._ended(text, (lesson.target,), self.renderer.stops(lesson.prompt))
        return LessonTokens(trunk + branches[0], len(trunk), text[0].shots_dropped, text[0].tokens_cut)


def _nested(branches: Sequence[list[int]]) -> bool:
    """Whether one sequence begins another (in sorted order, the one right after it)."""
    return any(b[: len(a)] == a for a, b in pairwise(sorted(branches)))
