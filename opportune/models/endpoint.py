"""A model behind an OpenAI-compatible server: OpenAI itself, vLLM, llama.cpp, a proxy."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from opportune.cost import Amount
from opportune.errors import ModelError, RecipeError
from opportune.inference.fitting import Fitted
from opportune.inference.rendering import plain
from opportune.models.background import handed_over
from opportune.models.budget import Budget, CapError, Spend
from opportune.models.endpoint_beginnings import how_to_go_on
from opportune.models.endpoint_calls import Caller, Patience, Tally
from opportune.models.endpoint_choosing import SAID, Chooser, Chosen, Way
from opportune.models.endpoint_failures import CallError, RefusedError
from opportune.models.endpoint_fitting import fitted, tokens
from opportune.models.endpoint_key import OPENAI, USUAL, Key
from opportune.models.endpoint_wire import Api, Dialect, Request, beginning, request, spoken, telling, texts_of
from opportune.models.pacing import MOST
from opportune.models.prices import Price, price_of
from opportune.models.response_cache import ResponseCache
from opportune.spec import ModelRef
from opportune.types import REMOTE, Completion, Message, ModelInfo, Prompt, Usage, digest

PREFIX = "openai:"
_OPTIONS: dict[str, tuple[type, ...]] = {
    "base_url": (str,),
    "api": (str,),
    "timeout": (int, float),
    "total": (int, float),
    "key_env": (str,),
}
_ANSWER = 8  # tokens expected of a written choice
_GREETING = Prompt((Message("user", "Say hello."),), max_tokens=16)


@dataclass(frozen=True, slots=True)
class Remote:
    """How endpoints are asked in a run: which server where a model names none, whose prices, under which caps."""

    base_url: str | None = None
    prices: tuple[Price, ...] = ()
    budget: Budget = field(default_factory=Budget)
    cache: ResponseCache | None = None  # where answers are kept; None: nowhere


def is_remote(ref: ModelRef) -> bool:
    """Whether a model is behind a server."""
    return ref.name.startswith(PREFIX)


class Endpoint:
    """One model of one server. Calls run side by side, as many and as fast as the server takes them."""

    summary: ClassVar[str] = "a model behind an OpenAI-compatible server: openai:NAME, --base-url URL"
    source: ClassVar[str] = "the official openai client; docs/endpoints.md"

    def __init__(
        self,
        name: str,
        base_url: str | None = None,
        *,
        api: Api = "chat",
        patience: Patience | None = None,
        price: Price | None = None,
        budget: Budget | None = None,
        cache: ResponseCache | None = None,
        key: Key = USUAL,
    ) -> None:
        """Raises ModelError for an address that cannot be one."""
        self.name, self.api, self.price = name, api, price
        self.base_url = _address(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        self.budget = budget or Budget()
        self.info = ModelInfo(
            name=f"{PREFIX}{name}",
            path=self.base_url,
            parameters=0,
            digest=digest(["endpoint", self.base_url, name, api]),
            dtype="remote",
            device=REMOTE,
        )
        self._caller = Caller(self.base_url, name, patience or Patience(), self.budget, price, cache, key)
        self._chooser = Chooser(self._caller, api)
        self._probing = asyncio.Lock()
        self._knows_beginnings = False

    @classmethod
    def of(cls, ref: ModelRef, remote: Remote) -> Endpoint:
        """The endpoint that a model in a recipe stands for. Raises RecipeError for an option it does not have."""
        for key, value in ref.options.items():
            if not isinstance(value, _OPTIONS.get(key, ())) or isinstance(value, bool):
                raise RecipeError(f"model {ref}: option {key}={value}; an endpoint has {', '.join(_OPTIONS)}")
        options: dict[str, Any] = dict(ref.options)
        api, defaults = options.get("api", "chat"), Patience()
        patience = Patience(options.get("timeout", defaults.timeout), options.get("total", defaults.total))
        if api not in ("chat", "completions"):
            raise RecipeError(f"model {ref}: api={api}; an endpoint's API is chat or completions")
        if min(patience.timeout, patience.total) <= 0:
            raise RecipeError(f"model {ref}: timeout and total are seconds, more than 0")
        name = ref.name.removeprefix(PREFIX)
        if not name:
            raise RecipeError(f"model {ref}: the model's name is missing: {PREFIX}NAME")
        bare = cls(name, options.get("base_url", remote.base_url), api=api)
        price = price_of(bare.base_url, name, remote.prices)
        # A server that a recipe names by itself is not sent the key of another.
        usual = USUAL.variable if "base_url" not in options or bare.base_url == OPENAI else None
        return cls(
            name,
            bare.base_url,
            api=api,
            patience=patience,
            price=price,
            budget=remote.budget,
            cache=remote.cache,
            key=Key(options.get("key_env", usual)),
        )

    @property
    def choosing(self) -> Way | None:
        """How choices are told apart; None until the first were asked for."""
        return self._chooser.way

    def describe(self) -> str:
        """What a user should know about how it is asked, in a line."""
        parts = [f"endpoint {self.base_url}", self.api]
        if self.choosing is not None:
            parts.append(f"choices by {SAID[self.choosing]}")
        if missing := sorted(self._caller.dialect.without):
            parts.append(f"it takes no {', no '.join(missing)}")
        if self._caller.other_name is not None:
            parts.append(f"the server calls it {self._caller.other_name}")
        if self._caller.absent is not None:
            parts.append("not there now: only answers from the response cache")
        return ", ".join(parts)

    def dollars(self, tokens_in: float, tokens_out: float) -> float | None:
        """What so many tokens cost; None where no price is known."""
        return None if self.price is None else self.price.dollars(tokens_in, tokens_out)

    def spend(self, tokens_in: float, tokens_out: float) -> Spend:
        """So many tokens, and what they cost, as the budget counts them."""
        return self._caller.spend(tokens_in, tokens_out)

    def priced(self, amount: Amount) -> Amount:
        """The amount with its tokens' price; what the server computes for them nobody tells."""
        dollars = self.dollars(amount.tokens_in or 0, amount.tokens_out or 0)
        return replace(amount, flops=None, dollars=dollars if amount.calls else amount.dollars)

    @contextmanager
    def reusing(self) -> Iterator[None]:
        """Nothing of ours is ever warm."""
        yield

    def expected(self, prompt: Prompt) -> tuple[int, int]:
        """About how many tokens in and out a prompt takes. Raises ModelError for what cannot be asked here."""
        _check_kind(prompt)
        if prompt.choices is None:
            return tokens(prompt), prompt.max_tokens * prompt.samples
        if self.choosing == "echo" and prompt.format != "chat":
            return sum(tokens(prompt) + len(choice) // 4 + 1 for choice in prompt.choices), 0
        return tokens(telling(prompt)), 1 if self.choosing == "first-token" else _ANSWER

    def greet(self, *, choices: bool) -> None:
        """Make sure that the server answers, and with `choices` find out how it chooses. Costs a few short calls.

        Raises ModelError: no server, a wrong key, a wrong name, a cap on dollars where no price is known.
        """
        if self.budget.max_dollars is not None and self.price is None:
            raise ModelError(
                f"no price is known for {self.info.name} at {self.base_url}: give it in a file (--prices FILE; see "
                "docs/endpoints.md), or cap tokens instead (--max-tokens)"
            )

        async def hello(_: Callable[[None], None]) -> None:
            tally = Tally()
            await self._caller.put(
                partial(self._request, _GREETING, self.api, 0),
                lambda answer: texts_of(answer, _GREETING, self.api),
                tally,
                retries=3,
            )
            if tally.recalled:  # a kept greeting says nothing of today
                await self._caller.knock()
            await self._probed(tally, choices=choices)

        try:
            for _ in handed_over(hello):
                pass
        except CapError:
            return  # each call says so
        except CallError as failure:
            raise self._unusable(failure) from None

    def complete(self, prompts: Sequence[Prompt], known: Mapping[int, Completion]) -> Iterator[tuple[int, Completion]]:
        """Answer all prompts but the known ones, each as it comes. See types.Model.

        A call that is given up is a Completion with its `error`. Raises ModelError for a wrong key or name.
        """
        for prompt in prompts:
            _check_kind(prompt)
        todo = iter([index for index in range(len(prompts)) if index not in known])

        async def work(hand_over: Callable[[tuple[int, Completion]], None]) -> None:
            async def one_after_another() -> None:
                for index in todo:
                    hand_over((index, await self._complete(prompts[index])))

            await _all([one_after_another() for _ in range(min(int(MOST), len(prompts) - len(known)))])

        if len(known) < len(prompts):
            yield from handed_over(work)

    async def _complete(self, prompt: Prompt) -> Completion:
        tally, chosen = Tally(), Chosen("")
        fit: Fitted | None = None
        error: str | None = None
        try:
            await self._probed(tally, choices=prompt.choices is not None, begun=bool(beginning(prompt)))
            chosen, fit = await fitted(prompt, lambda shortened: self._asked(shortened, tally))
        except RefusedError as refusal:
            if refusal.status == 404:
                raise self._unusable(refusal) from None
            error = str(refusal)
        except (CallError, CapError) as failure:
            error = str(failure)
        return Completion(
            prompt=chosen.asked or plain(prompt),
            texts=chosen.texts,
            scores=chosen.scores,
            usage=Usage(
                tally.tokens_in,
                tally.tokens_out,
                seconds=tally.seconds,
                cached_in=tally.cached_in,
                cached_out=tally.cached_out,
            ),
            shots_dropped=fit.shots_dropped if fit else 0,
            tokens_cut=fit.tokens_cut if fit else 0,
            error=error,
        )

    async def _asked(self, prompt: Prompt, tally: Tally) -> Chosen:
        if prompt.choices is not None:
            return await self._chooser.choose(prompt, tally)
        api: Api = self.api if prompt.format == "auto" else "completions" if prompt.format == "plain" else "chat"
        texts: list[str] = []
        while len(texts) < prompt.samples:  # a server may give fewer than it is asked for
            texts += await self._caller.put(
                partial(self._request, prompt, api, len(texts)),
                lambda answer: spoken(answer, prompt, api),
                tally,
            )
        shown = request(prompt, api, self.name, self._caller.dialect).text
        return Chosen(shown, tuple(texts[: prompt.samples]))

    def _request(self, prompt: Prompt, api: Api, have: int, dialect: Dialect) -> Request:
        return request(prompt, api, self.name, dialect, have=have)

    async def _probed(self, tally: Tally, *, choices: bool, begun: bool = False) -> None:
        """Know how this server does what is asked of it, before it is."""
        async with self._probing:
            if choices:
                await self._chooser.probe(tally)
            if begun and self.api == "chat" and not self._knows_beginnings:
                self._caller.dialect.goes_on = await how_to_go_on(self._caller, tally)
                self._knows_beginnings = True

    def _unusable(self, failure: CallError) -> ModelError:
        """A failure that no other call of this model would escape, as one line that says what to do."""
        if isinstance(failure, RefusedError) and failure.status == 404:
            return ModelError(
                f"{self.base_url} has no model {self.name!r}, or not the API that was called (404: {failure.message}): "
                "check the name, that --base-url is right (most end in /v1), and api= and format= of the recipe"
            )
        return ModelError(f"{self.base_url} does not answer as {self.info.name}: {failure}")


def _check_kind(prompt: Prompt) -> None:
    if prompt.embed:
        raise ModelError("this endpoint gives no embeddings; use similarity=bm25")


async def _all(jobs: Sequence[Any]) -> None:
    """All jobs side by side; when one raises, or on being cancelled, the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _address(url: str) -> str:
    """A server's address as it is kept: without secrets, which would end up in the store. Raises ModelError."""
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        shown = re.sub(r"//[^/]*@", "//...@", url)
        raise ModelError(f"--base-url {shown!r} is no address of a server: http://HOST:PORT/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ModelError("--base-url should hold no name, key or query: the key comes from OPENAI_API_KEY")
    return parts.geturl().rstrip("/")
