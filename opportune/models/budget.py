"""Hard caps on what calls to endpoints may spend: the worst case is set aside before a call, its bill settled after."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens in and out together, and what they cost; dollars are 0 where no price is known."""

    tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.tokens + other.tokens, self.dollars + other.dollars)

    def __sub__(self, other: Spend) -> Spend:
        return Spend(self.tokens - other.tokens, self.dollars - other.dollars)


class CapError(Exception):
    """The call was not made: it could have cost more than the cap leaves."""


class Budget:
    """What may be spent by all endpoints of a run together; None: no cap."""

    def __init__(self, max_dollars: float | None = None, max_tokens: int | None = None) -> None:
        self.max_dollars, self.max_tokens = max_dollars, max_tokens
        self.spent = Spend()
        self._reserved = Spend()
        self._settled = asyncio.Event()

    @property
    def capped(self) -> bool:
        """Whether there is a cap at all."""
        return self.max_dollars is not None or self.max_tokens is not None

    def count(self, spend: Spend) -> None:
        """What earlier sittings of the same run have spent."""
        self.spent += spend

    async def reserve(self, worst: Spend) -> None:
        """Set the worst case aside. Waits for calls in flight that may turn out cheaper than feared; raises CapError
        where it would not fit without them either."""
        while True:
            if (reason := self._over(self.spent + worst, worst)) is not None:
                raise CapError(reason)
            if self._over(self.spent + self._reserved + worst, worst) is None:
                self._reserved += worst
                return
            self._settled.clear()
            await self._settled.wait()

    def settle(self, worst: Spend, used: Spend) -> None:
        """Put what the call really used in the place of what was set aside."""
        self._reserved -= worst
        self.spent += used
        self._settled.set()

    def _over(self, total: Spend, worst: Spend) -> str | None:
        """Why a total is too much; None where it is not."""
        if self.max_dollars is not None and total.dollars > self.max_dollars:
            return (
                f"the cap of ${self.max_dollars:g} is reached: ${self.spent.dollars:.4g} is spent, and this call could "
                f"cost ${worst.dollars:.4g}; run again with a higher --max-dollars"
            )
        if self.max_tokens is not None and total.tokens > self.max_tokens:
            return (
                f"the cap of {self.max_tokens:,} tokens is reached: {self.spent.tokens:,} are used, and this call "
                f"could take {worst.tokens:,}; run again with a higher --max-tokens"
            )
        return None
