"""How a server is made to choose one of a closed set of answers: by log-probabilities where it truly offers them.

Four ways, the first that a probe finds working:
1. `echo`: the completions API returns the log-probability of every token of a text, so each choice is scored whole.
2. `first-token`: chat tells the likeliest first tokens of its answer; serves where no two choices begin alike.
3. `constrained`: the answer is written, but the server lets it be nothing except one of the choices.
4. `text`: the answer is written freely, and the choice that it names is looked for.
Each probe asks something whose outcome is certain, since there are servers that return nonsense or ignore the request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from opportune.inference.rendering import joined, plain
from opportune.models.endpoint_calls import Caller, Tally
from opportune.models.endpoint_echo import LARGEST, NonsenseError, continuations
from opportune.models.endpoint_failures import RefusedError, SilentError
from opportune.models.endpoint_wire import (
    Api,
    Dialect,
    Request,
    bounds,
    choices_of,
    estimated_tokens,
    request,
    spoken,
    telling,
)
from opportune.types import Message, Prompt

T = TypeVar("T")
Way = Literal["echo", "first-token", "constrained", "text"]
SAID: dict[Way, str] = {
    "echo": "log-probabilities of the whole answer",
    "first-token": "log-probabilities of the answer's first token",
    "constrained": "constrained generation",
    "text": "reading the text it writes",
}
_TOGETHER = 16  # texts scored in one request
_LISTED = (20, 5)  # first tokens asked for: what OpenAI allows, and what some servers do
_UNCLEAR = 0.1  # share of the choices' probability that tokens common to several may have
_COUNTED, _SHUFFLED = " 7 8 9 10 11 12", " 9 12 7 11 8 10"
_COUNTING = Prompt((Message("user", "1 2 3 4 5 6"),), max_tokens=1)
_HELLO = Prompt((Message("user", "Say hello."),), choices=("zebra", "violin"), max_tokens=8)
_SUM = Prompt((Message("user", "What is 2 + 2? Answer with the number."),), choices=("zebra", "violin"))


@dataclass(frozen=True, slots=True)
class Chosen:
    """What came of one prompt with choices: a score for each, or a text that names one."""

    asked: str
    texts: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None


class Chooser:
    """Asks one server to choose. `way` is known after `probe`."""

    def __init__(self, caller: Caller, api: Api) -> None:
        self._caller, self._api = caller, api
        self.way: Way | None = None
        self._spare: Way = "text"  # where first tokens do not tell
        self._room = 0  # tokens that an echo has to generate: some servers cannot do with none
        self._listed = _LISTED[0]

    async def probe(self, tally: Tally) -> None:
        """Find out which way works, once. Raises CallError where the server gives no answer at all."""
        memory, about = self._caller.memory, f"choosing by {self._api}"
        if self.way is None and memory is not None and (kept := memory.finding(about)) is not None:
            self.way, self._spare, self._room, self._listed = kept
        if self.way is None:
            chats = self._api == "chat"
            constrained = chats and await self._obeys(tally)
            self._spare = "constrained" if constrained else "text"
            echoes = await self._echoes(tally)
            self.way = "echo" if echoes else "first-token" if chats and await self._lists(tally) else self._spare
            if memory is not None:
                memory.found(about, [self.way, self._spare, self._room, self._listed])

    def way_for(self, prompt: Prompt) -> Way:
        """How this prompt's choices are told apart."""
        assert self.way is not None
        assert prompt.choices is not None
        if prompt.format == "plain" and self.way != "echo":
            return "text"
        if self.way == "echo" and prompt.format == "chat":
            return self._spare
        if self.way == "first-token" and _begin_alike(prompt.choices):
            return self._spare
        return self.way

    async def choose(self, prompt: Prompt, tally: Tally) -> Chosen:
        """One prompt. Raises as `Caller.ask`."""
        way = self.way_for(prompt)
        if way == "echo":
            scored = await self._score(prompt, tally)
            if scored is not None:
                return scored
            way = "text" if prompt.format == "plain" else self._spare
        told = telling(prompt)
        if way == "first-token":
            scores = await self._caller.put(lambda d: self._first(told, d), lambda a: _first_scores(a, told), tally)
            if scores is not None:
                return Chosen(self._first(told, self._caller.dialect).text, scores=scores)
            way = self._spare
        if way == "constrained":
            return await self._constrained(told, tally)
        api: Api = "completions" if prompt.format == "plain" else self._api
        texts = await self._caller.put(lambda d: self._free(told, api, d), lambda a: spoken(a, told, api), tally)
        return Chosen(self._free(told, api, self._caller.dialect).text, texts[:1])

    # ---- echo ----

    async def _score(self, prompt: Prompt, tally: Tally) -> Chosen | None:
        """None where the server's tokens do not tell: asked again it would say the same."""
        asked, choices = plain(prompt), prompt.choices or ()
        # Where one choice begins another, the sum would favour the shorter: then the answer's end is scored with it.
        end = "\n" if any(a != b and b.startswith(a) for a in choices for b in choices) else ""
        wholes = [joined(asked, choice) + end for choice in choices]
        scores: list[float] = []
        for first in range(0, len(wholes), _TOGETHER):
            some = wholes[first : first + _TOGETHER]
            read = _sensible(partial(continuations, wholes=some, start=len(asked)))
            found = await self._caller.ask(self._echo(some), read, tally)
            if found is None:
                return None
            scores += found
        return Chosen(asked, scores=tuple(scores))

    def _echo(self, wholes: Sequence[str]) -> Request:
        """The log-probability of every token of these texts."""
        body = {"model": self._caller.name, "prompt": list(wholes), "echo": True, "logprobs": 1, "temperature": 0.0}
        tokens = sum(map(estimated_tokens, wholes))
        return Request(
            "completions", body | {"max_tokens": self._room}, wholes[0], self._room * len(wholes), tokens + 4
        )

    async def _echoes(self, tally: Tally) -> bool:
        """Whether counting on is scored as likelier than in disorder, by numbers that can be log-probabilities."""
        begun = plain(_COUNTING)
        wholes = [begun + _COUNTED, begun + _SHUFFLED]
        read = _sensible(partial(continuations, wholes=wholes, start=len(begun)))
        for self._room in (0, 1):
            try:
                scores = await self._caller.ask(self._echo(wholes), read, tally)
            except RefusedError:
                continue
            return scores is not None and scores[0] > scores[1] + 1
        return False

    # ---- first token ----

    def _first(self, prompt: Prompt, dialect: Dialect) -> Request:
        short = replace(prompt, max_tokens=1, temperature=0.0, samples=1, stop=())
        return request(short, "chat", self._caller.name, dialect, logprobs=True, top_logprobs=self._listed)

    async def _lists(self, tally: Tally) -> bool:
        """Whether the first tokens come with numbers that can be probabilities, the written one in front."""
        for self._listed in _LISTED:
            try:
                listed = await self._caller.put(partial(self._first, _HELLO), _sensible(_checked_first), tally)
            except RefusedError:
                continue
            return listed is not None
        return False

    # ---- written answers ----

    def _free(self, prompt: Prompt, api: Api, dialect: Dialect) -> Request:
        return request(replace(prompt, samples=1), api, self._caller.name, dialect)

    async def _constrained(self, prompt: Prompt, tally: Tally) -> Chosen:
        def made(dialect: Dialect) -> Request:
            room = max(prompt.max_tokens, bounds(prompt.choices or ()))
            short = replace(prompt, max_tokens=room, samples=1, stop=())
            return request(short, "chat", self._caller.name, dialect, response_format=_schema(prompt.choices or ()))

        text = await self._caller.put(made, lambda answer: spoken(answer, replace(prompt, stop=()), "chat")[0], tally)
        return Chosen(made(self._caller.dialect).text, (_answer_in(text, prompt.choices or ()) or text,))

    async def _obeys(self, tally: Tally) -> bool:
        """Whether it answers with an animal or an instrument where the schema leaves nothing else."""
        try:
            chosen = await self._constrained(_SUM, tally)
        except RefusedError as refusal:
            if refusal.status == 404:
                raise
            return False
        except SilentError:
            return False
        return chosen.texts[0] in (_SUM.choices or ())


def _sensible(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """The same reading, but None for nonsense: in a probe it is a finding, no reason to ask again."""

    def tried(answer: Any) -> T | None:
        try:
            return read(answer)
        except NonsenseError:
            return None

    return tried


def _checked_first(answer: Any) -> dict[str, float]:
    """The log-probability of each likely first token. Raises BrokenError where they cannot be that."""
    written, listed = _first_tokens(answer)
    total = sum(map(math.exp, listed.values()))
    ordered = sorted(listed.values(), reverse=True)
    if len(listed) < 2 or ordered[0] > LARGEST or total > 1.001 or ordered[1] < -50 or ordered[0] == ordered[-1]:
        raise NonsenseError(f"the first token's add up to {total:.3g}")
    if listed.get(written, -math.inf) < ordered[0] - 1e-6:
        raise NonsenseError(f"the written token {written!r} is not the likeliest")
    return listed


def _first_tokens(answer: Any) -> tuple[str, dict[str, float]]:
    logs = choices_of(answer)[0].get("logprobs")
    content = logs.get("content") if isinstance(logs, dict) else None
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    rows = first.get("top_logprobs")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise NonsenseError("none for the first token")
    listed: dict[str, float] = {}
    for row in rows:
        value = row.get("logprob")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise NonsenseError(f"{value!r} is no number")
        listed.setdefault(str(row.get("token")), float(value))
    return str(first.get("token")), listed


def _first_scores(answer: Any, prompt: Prompt) -> tuple[float, ...] | None:
    """A score for each choice from the first tokens that can only begin it; None where they do not tell.

    A choice that is not among the listed tokens gets the log-probability of the last of them, the most it can have.
    """
    choices = [choice.casefold() for choice in prompt.choices or ()]
    shares, unclear = [0.0] * len(choices), 0.0
    _, listed = _first_tokens(answer)
    for token, value in listed.items():
        begun = token.strip().casefold()
        fitting = [i for i, choice in enumerate(choices) if begun and choice.startswith(begun)]
        if len(fitting) == 1:
            shares[fitting[0]] += math.exp(value)
        elif fitting:
            unclear += math.exp(value)
    if not any(shares) or unclear > _UNCLEAR * sum(shares):
        return None
    least = min(listed.values())
    return tuple(math.log(share) if share else least for share in shares)


def _begin_alike(choices: Sequence[str]) -> bool:
    """Whether two choices begin with the same word or letters that may be one token."""
    words = [re.split(r"[\s_/-]+", choice.strip().casefold())[0] for choice in choices]
    return any(a.startswith(b[:3]) or b.startswith(a[:3]) for i, a in enumerate(words) for b in words[:i])


def _schema(choices: Sequence[str]) -> dict[str, Any]:
    """A JSON object whose only field is one of the choices, as OpenAI's strict schemas want it."""
    answer = {"type": "string", "enum": list(choices)}
    schema = {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _answer_in(text: str, choices: Sequence[str]) -> str | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    answer = found.get("answer") if isinstance(found, dict) else None
    return answer if answer in choices else None
