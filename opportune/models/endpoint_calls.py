"""One call to a server until it is answered or given up: retries, time limits, caps, and what the server's errors mean.

A refusal for being too busy (429, 503) holds all calls (`pacing`); what goes wrong by chance (5xx, timeouts, broken
connections and bodies) is tried again after a random time that doubles; a wrong key or name is a ModelError at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from opportune.errors import ModelError
from opportune.models.budget import Budget, Spend
from opportune.models.endpoint_failures import CallError, RefusedError, RetryError, SilentError, retry_after
from opportune.models.endpoint_key import USUAL, Key
from opportune.models.endpoint_recall import Recall, Recalled
from opportune.models.endpoint_wire import (
    PATHS,
    BrokenError,
    Dialect,
    Request,
    alike,
    estimated_tokens,
    parsed,
    usage_of,
    written,
)
from opportune.models.pacing import Gate
from opportune.models.prices import Price
from opportune.models.response_cache import ResponseCache

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")
_BUSY = (429, 503)
_BY_CHANCE = (408, 409, 425, 500, 502, 504, 520, 522, 524, 529)
_TIMED_OUT = (408, 504, 522, 524)  # what a gateway says when whoever works behind it has not ended in time
_LONGEST_BACKOFF = 20.0
_MARGIN = 4 / 3  # by which a prompt's tokens may exceed the estimate when the worst case is set aside


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take, and how often it is tried again."""

    timeout: float = 60.0  # seconds of one try
    total: float = 300.0  # of all tries together, waiting included
    retries: int = 8  # after failures by chance; being told to wait is bounded by `total` alone
    backoff: float = 0.5  # seconds, at most, before the first retry; doubled each time


@dataclass(slots=True)
class Tally:
    """What the tries of one prompt have used together."""

    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0  # on the wire, without the waiting for one's turn
    cached_in: int = 0  # of these tokens, those that the response cache saved
    cached_out: int = 0
    recalled: int = 0  # requests that the response cache answered

    def recall(self, found: Recalled) -> None:
        """Count a kept answer as if it had been asked for anew, and as saved."""
        self.tokens_in += found.tokens_in
        self.tokens_out += found.tokens_out
        self.seconds += found.seconds
        self.cached_in += found.tokens_in
        self.cached_out += found.tokens_out
        self.recalled += 1


class Caller:
    """Makes the calls to one server and model, all of them through one gate."""

    def __init__(
        self,
        base_url: str,
        name: str,
        patience: Patience,
        budget: Budget,
        price: Price | None,
        cache: ResponseCache | None = None,
        key: Key = USUAL,
    ) -> None:
        self._key = key
        self.base_url, self.name, self.patience, self.budget, self.price = base_url, name, patience, budget, price
        self.memory = Recall(cache, base_url, name, price) if cache else None
        self.absent: str | None = None  # why the server cannot be reached, where that is known beforehand
        self.gate = Gate()
        self.dialect = Dialect()
        self._speaks = False  # whether the dialect that an earlier process found out has been looked for
        self._names: list[str] = []  # what the server has called the model; settled when two agree or one is ours

    async def put(
        self,
        make: Callable[[Dialect], Request],
        read: Callable[[Any], T],
        tally: Tally,
        *,
        retries: int | None = None,
    ) -> T:
        """As `ask`, in the server's dialect: a parameter that it does not know is left out from then on."""
        if not self._speaks and self.memory is not None and (kept := self.memory.finding("dialect")) is not None:
            self.dialect.length, self.dialect.without = kept[0], set(kept[1])
        self._speaks = True
        while True:
            request = make(self.dialect)
            try:
                return await self.ask(request, read, tally, retries=retries)
            except RefusedError as refusal:
                if not self.dialect.learn(request.body, refusal.message, refusal.parameter):
                    raise
                if self.memory is not None:
                    self.memory.found("dialect", [self.dialect.length, sorted(self.dialect.without)])

    async def ask(self, request: Request, read: Callable[[Any], T], tally: Tally, *, retries: int | None = None) -> T:
        """What `read` makes of the reply: of the one that the response cache has, else of the server's.

        A reply that `read` finds BrokenError is asked for again. Raises CallError (RefusedError where asking again is
        useless), CapError, ModelError for a wrong key or model.
        """
        if self.memory is None:
            return await self._ask(request, read, tally, retries)
        async with self.memory.turn(request):
            if (found := self.memory.find(request)) is not None:
                with suppress(BrokenError):
                    result = read(found.reply)
                    tally.recall(found)
                    return result
            return await self._ask(request, read, tally, retries)

    async def _ask(self, request: Request, read: Callable[[Any], T], tally: Tally, retries: int | None) -> T:
        """From the server, as often as it takes."""
        if self.absent is not None:
            raise RefusedError(0, self.absent, None, None, None)
        chances = self.patience.retries if retries is None else retries
        began, tries, reason = time.monotonic(), 0, ""
        while True:
            left = began + self.patience.total - time.monotonic() if tries else self.patience.total
            if chances < 0 or left <= 0 or self.gate.pace.hold(time.monotonic()) > left:
                reason = reason or f"the server asks for longer to wait than the {self.patience.total:g} s of a call"
                raise CallError(f"{reason}; given up after {tries} tries in {time.monotonic() - began:.0f} s")
            try:
                async with asyncio.timeout(left if tries else None):
                    start = await self.gate.enter(again=tries > 0, patience=left)
            except TimeoutError:
                continue
            began = began if tries else start
            tries += 1
            try:
                return await self._try(request, read, tally, start)
            except RetryError as again:
                reason = str(again)
                chances -= not again.busy
                if chances >= 0 and not again.busy:
                    most = min(_LONGEST_BACKOFF, self.patience.backoff * 2 ** (tries - 1))
                    await asyncio.sleep(random.uniform(0, most))

    async def _try(self, request: Request, read: Callable[[Any], T], tally: Tally, start: float) -> T:
        worst = self.spend(request.tokens_in * _MARGIN, request.most)
        used, sent, pace = worst, time.monotonic(), self.gate.pace
        try:
            await self.budget.reserve(worst)
        except BaseException:
            self.gate.leave()
            raise
        try:
            answer, counted = await self._send(request, start, tally)
            used = self.spend(*counted)
            result = self._read(answer, read)
            self._keep(request, answer, counted, sent)
            pace.answered(time.monotonic(), start, self.gate.running)
            return result
        except BrokenError as broken:
            raise RetryError(str(broken)) from None
        except SilentError:  # paid for; asked again it would be paid again
            self._keep(request, answer, counted, sent)
            raise
        except RetryError as again:
            used = worst if again.perhaps_billed else Spend()
            raise
        except (CallError, ModelError):
            used = Spend()
            raise
        finally:
            tally.seconds += time.monotonic() - sent
            self.budget.settle(worst, used)
            self.gate.leave()

    def _keep(self, request: Request, answer: Any, counted: tuple[int, int], sent: float) -> None:
        if self.memory is not None:
            self.memory.keep(request, answer, counted, time.monotonic() - sent)

    def _read(self, answer: Any, read: Callable[[Any], T]) -> T:
        result = read(answer)
        self._check_name(answer.get("model"))
        return result

    async def _send(self, request: Request, start: float, tally: Tally) -> tuple[Any, tuple[int, int]]:
        """The reply as JSON and its tokens in and out."""
        import httpx2
        import openai

        pace, client = self.gate.pace, self.client
        try:
            async with asyncio.timeout(self.patience.timeout):
                response = await client.post(PATHS[request.api], cast_to=httpx2.Response, body=request.body)
            answer = parsed(response.text)
        except (TimeoutError, openai.APITimeoutError):
            pace.troubled(time.monotonic(), start)
            raise RetryError(f"no answer within {self.patience.timeout:g} s", perhaps_billed=True) from None
        except openai.APIStatusError as error:
            self._explain(error, start)
        except openai.APIConnectionError as error:
            unsent = isinstance(error.__cause__, httpx2.ConnectError)
            if unsent:
                pace.troubled(time.monotonic(), start)
            reason = f"{self.base_url} cannot be reached" if unsent else "the connection broke"
            cause = self._key.redacted(str(error.__cause__ or error)).strip()
            raise RetryError(f"{reason}: {cause}" if cause else reason, perhaps_billed=not unsent) from None
        except ValueError:
            raise RetryError("a reply that is no JSON", perhaps_billed=True) from None
        counted = usage_of(answer)
        if counted is None:  # then by our own estimate, from the text that was sent and the one that came
            counted = request.tokens_in, estimated_tokens(written(answer))
        tally.tokens_in += counted[0]
        tally.tokens_out += counted[1]
        return answer, counted

    async def knock(self) -> None:
        """Whether the server is there and takes the key, by a question that costs nothing: which models it has.

        Where it cannot be reached, only what is kept of its answers is left. Raises ModelError for a wrong key.
        """
        import httpx2
        import openai

        try:
            await self.client.get("/models", cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                self._explain(error, time.monotonic())
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError):
                self.absent = f"{self.base_url} cannot be reached: {self._key.redacted(str(error.__cause__)).strip()}"

    def _explain(self, error: APIStatusError, start: float) -> NoReturn:
        """Raise what an error status means."""
        status, now = error.status_code, time.monotonic()
        details = error.body.get("error", error.body) if isinstance(error.body, dict) else error.body
        told = details.get("message") if isinstance(details, dict) else details
        message = " ".join(self._key.redacted(str(told or "")).split())[:300] or "without a reason"
        kind = next((details[k] for k in ("code", "type") if isinstance(details, dict) and details.get(k)), None)
        if status in (401, 403):
            raise self._key.refused(self.base_url, f"{status}: {message}")
        if status == 402 or kind == "insufficient_quota":
            raise ModelError(f"{self.base_url}: the account has no money or quota left ({status}: {message})")
        if status in _BUSY:
            self.gate.pace.refused(now, start, retry_after(error.response.headers))
            raise RetryError(f"the server is too busy ({status}: {message})", busy=True)
        if status in _BY_CHANCE or status >= 500:
            raise RetryError(f"the server failed ({status}: {message})", perhaps_billed=status in _TIMED_OUT)
        if isinstance(details, dict) and isinstance(details.get("type"), str) and "context" in details["type"]:
            kind = details["type"]
        parameter = details.get("param") if isinstance(details, dict) else None
        raise RefusedError(status, message, kind and str(kind), parameter, details)

    def _check_name(self, name: Any) -> None:
        """Raises BrokenError for a reply of another model.

        Servers have names of their own for what we call otherwise: one is believed when the first two replies give it.
        """
        if not isinstance(name, str) or not name or name in self._names[1:]:
            return
        if alike(self.name, name):
            self._names = self._names if len(self._names) > 1 else [self.name, name]
            return
        if len(self._names) < 2:
            agree = name in self._names
            self._names = [name, name] if agree else [name]
            if agree:
                return
        raise BrokenError(f"a reply of another model ({name[:80]!r})")

    def spend(self, tokens_in: float, tokens_out: float) -> Spend:
        """So many tokens and what they cost."""
        dollars = self.price.dollars(tokens_in, tokens_out) if self.price else 0.0
        return Spend(round(tokens_in + tokens_out), dollars)

    @property
    def other_name(self) -> str | None:
        """What the server calls the model, where that is not what it was asked for."""
        return next((name for name in self._names[1:] if not alike(self.name, name)), None)

    @cached_property
    def client(self) -> AsyncOpenAI:
        """The official client, its own retries off."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(
            api_key=self._key.read(self.base_url), base_url=self.base_url, max_retries=0, timeout=self.patience.timeout
        )
