"""How a call to a server can fail, and for how long a server asks to be left alone."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any


class CallError(Exception):
    """The call is over without an answer."""


class RefusedError(CallError):
    """The server will not answer this request, whenever it is sent; status 0: it is known not to be there."""

    def __init__(self, status: int, message: str, kind: str | None, parameter: str | None, details: Any) -> None:
        super().__init__(f"the server refused the request ({status}): {message}" if status else message)
        self.status, self.message, self.kind, self.parameter, self.details = status, message, kind, parameter, details


class SilentError(CallError):
    """The model used all its room without a word of its answer: it thought."""

    def __init__(self) -> None:
        super().__init__("the model came to its limit of tokens before it wrote anything: give it more (max_tokens)")


class RetryError(Exception):
    """A try that came to nothing; `busy`: the server asked to wait; `perhaps_billed`: it may have done its work."""

    def __init__(self, reason: str, *, busy: bool = False, perhaps_billed: bool = False) -> None:
        super().__init__(reason)
        self.busy, self.perhaps_billed = busy, perhaps_billed


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: in milliseconds, in seconds or as a date."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * factor)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, TypeError, ValueError):
        return None
