"""How many calls at once and how many a second a server takes, learnt from its own refusals (429, 503).

Two limits, since servers have both. The number of calls at once grows with every answer and halves when one is refused
(additive increase, multiplicative decrease; Chiu & Jain 1989). The rate is unlimited until the first refusal; that one
tells what the server took in the last second, which is then the pace, raised again slowly and ever faster while nothing
is refused (in the shape of CUBIC; Ha et al. 2008). A refusal holds *all* calls, not only its own: no storm.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable

FIRST, MOST = 4.0, 128.0  # calls at once: to begin with, and ever
_EAGER = 0.5  # growth of `width` with each answer before the first refusal: half as many again every round trip
_CALM = 4.0  # growth of `width` over a whole round trip afterwards
_BELOW = 0.97  # the pace that is kept, as a share of what the server took
_GENTLE, _LEAST = 0.85, 0.25  # what is left at least: of the pace after one refusal, of the best second for long
_MEMORY = 120.0  # seconds for which it is remembered how much the server has taken in its best second
_LONGEST_HOLD = 30.0  # seconds, where the server does not say how long


class Pace:
    """The limits as they stand. Times are seconds of any steady clock; `draw` gives random numbers in 0 to 1."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self.width = FIRST  # calls at once
        self._draw = draw
        self._rate: float | None = None  # calls a second, as of the last refusal
        self._before: float | None = None  # and just before that
        self._refused_at = -math.inf  # when a refusal was last heard of that was not known of
        self._held_until = -math.inf
        self._next = -math.inf  # when the pace allows the next start
        self._latency = 0.0  # seconds of an answer, a moving mean
        self._wide = FIRST  # the width before it was last halved
        self._learns = False  # whether the refusals now heard of tell the rate
        self._in_row = 0  # refusals without an answer in between
        self._starts: list[float] = []  # of the calls that were not refused, sorted

    def wait(self, now: float, running: int) -> float:
        """Seconds until another call may start; infinite: not before one has ended."""
        if running >= int(self.width):
            return math.inf
        return max(0.0, self._held_until - now, self._next - now)

    def hold(self, now: float) -> float:
        """Seconds for which the server wants no calls at all."""
        return max(0.0, self._held_until - now)

    def rate(self, now: float) -> float | None:
        """Calls a second at most; None while nothing was refused."""
        if self._rate is None:
            return None
        calm = max(0.0, now - self._refused_at)
        return self._rate * (1 + 0.002 * calm + (calm / 30) ** 3)

    def started(self, now: float) -> None:
        """A call starts now."""
        self._starts.append(now)
        del self._starts[: bisect_left(self._starts, now - _MEMORY)]
        if (rate := self.rate(now)) is not None:
            # What a late timer has lost is caught up, at most two calls of it.
            self._next = max(self._next, now - 2 / rate) + 1 / rate

    def answered(self, now: float, start: float, running: int) -> None:
        """The call started at `start` was answered while so many were under way, itself included."""
        self._in_row = 0
        self._latency += (now - start - self._latency) * (0.2 if self._latency else 1.0)
        if running >= int(self.width):  # otherwise the width was not what limits
            self.width = min(MOST, self.width + (_EAGER if self._rate is None else _CALM / self.width))

    def refused(self, now: float, start: float, retry_after: float | None) -> None:
        """The call started at `start` was refused. Only one refusal counts of calls that were under way together."""
        place = bisect_left(self._starts, start)
        if place < len(self._starts) and self._starts[place] == start:
            del self._starts[place]
        if retry_after is not None:
            # A little later than asked, and never all who were told the same at the same moment.
            self._hold(now + retry_after * (1 + 0.1 * self._draw()))
        if start >= self._refused_at:
            self._begin_epoch(now, retry_after)
        elif self._rate is None:
            self._learns = True  # several of those under way together: a limit, no accident
        if self._learns:
            # With each further refusal of calls that were under way it is known better what was taken.
            taken = self._taken()
            least = max(_LEAST * self._best(), _GENTLE * (self._before or 0.0), 1e-3)
            self._rate = max(_BELOW * min(taken, self._before or taken), least)
            # The pace needs so many under way at once (Little's law), whatever the refusal has halved.
            self.width = max(self.width, min(self._wide, 1.2 * self._rate * self._latency))

    def _begin_epoch(self, now: float, retry_after: float | None) -> None:
        """The first refusal of a call that started after the last ones were heard of."""
        rate, before = self.rate(now), self._refused_at
        self._refused_at, self._learns = now, False
        if self._in_row == 0:  # else the hold was too short, which says nothing of how much the server takes
            self._wide, self.width, self._before = self.width, max(1.0, self.width / 2), rate
            # The very first may be an accident; another within the memory, or beside it, is a limit.
            self._learns = self._before is not None or now - before < _MEMORY
        if retry_after is None or self._in_row:
            quick = max(0.05, 1 / self._before) if self._before else 1.0
            self._hold(now + min(_LONGEST_HOLD, quick * 2**self._in_row) * (0.5 + 0.5 * self._draw()))
        self._in_row = min(self._in_row + 1, 16)

    def troubled(self, now: float, start: float) -> None:
        """The call started at `start` met an overloaded or absent server: fewer at once."""
        if start >= self._refused_at:
            self.width = max(1.0, self.width / 2)
            self._refused_at = now

    def _hold(self, until: float) -> None:
        self._held_until = max(self._held_until, until)

    def _taken(self) -> float:
        """Calls a second that the server took before the last refusal: over a second, longer where the pace is slow."""
        span = max(1.0, 8 / self._before) if self._before else 1.0
        upto = bisect_right(self._starts, self._refused_at)
        return (upto - bisect_left(self._starts, self._refused_at - span)) / span

    def _best(self) -> float:
        """The most calls taken within one second in the memory: what refuses at random is not slowed down for ever."""
        return max((bisect_left(self._starts, start + 1) - i for i, start in enumerate(self._starts)), default=0.0)


class Gate:
    """Lets calls through as the pace allows; calls that were refused before go first."""

    def __init__(self, pace: Pace | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = pace or Pace()
        self.running = 0
        self._clock = clock
        self._numbers = itertools.count()
        self._line: list[tuple[bool, int]] = []  # sorted: those who come again, then by arrival
        self._events: dict[tuple[bool, int], asyncio.Event] = {}

    async def enter(self, *, again: bool, patience: float) -> float:
        """Wait for one's turn; the time of the start. Raises TimeoutError where the server wants no calls for longer
        than `patience` seconds."""
        ticket = (not again, next(self._numbers))
        event = self._events[ticket] = asyncio.Event()
        insort(self._line, ticket)
        try:
            while True:
                wait = self.pace.wait(self._clock(), self.running) if self._line[0] == ticket else math.inf
                if wait <= 0:
                    break
                if self.pace.hold(self._clock()) > patience:
                    raise TimeoutError
                event.clear()
                try:
                    await asyncio.wait_for(event.wait(), None if wait == math.inf else wait)
                except TimeoutError:
                    continue
            now = self._clock()
            self.pace.started(now)
            self.running += 1
            return now
        finally:
            self._line.remove(ticket)
            del self._events[ticket]
            self._wake()

    def leave(self) -> None:
        """The call is over, however it ended."""
        self.running -= 1
        self._wake()

    def _wake(self) -> None:
        if self._line:
            self._events[self._line[0]].set()
