"""One event loop in a thread of its own, so that calls that run side by side can feed a plain iterator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_PATIENCE = 5.0  # seconds that cancelled calls have to close their connections


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


def handed_over(work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Iterator[T]:
    """What `work` hands over through the function it is given, as it comes; what `work` raises is raised here.

    Closing the iterator, or Ctrl-C while it waits, cancels the work and waits for its end.
    """
    box: SimpleQueue[T | _End] = SimpleQueue()

    async def whole() -> None:
        error: BaseException | None = None
        try:
            await work(box.put)
        except BaseException as raised:
            error = raised
        box.put(_End(error))

    future = asyncio.run_coroutine_threadsafe(whole(), _loop())
    over = False
    try:
        while True:
            item = box.get()
            if not isinstance(item, _End):
                yield item
                continue
            over = True
            if item.error is not None:
                raise item.error
            return
    finally:
        if not over:
            future.cancel()
            with suppress(Empty):
                while not isinstance(box.get(timeout=_PATIENCE), _End):
                    pass


@cache
def _loop() -> asyncio.AbstractEventLoop:
    made = asyncio.new_event_loop()
    threading.Thread(target=made.run_forever, name="opportune-calls", daemon=True).start()
    return made
