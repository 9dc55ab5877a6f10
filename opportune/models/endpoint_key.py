"""The key of a server. It leaves this file for the client alone: not in errors, not in logs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from opportune.errors import ModelError

OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Key:
    """The environment variable that holds a server's key; None: it is sent none."""

    variable: str | None

    def read(self, base_url: str) -> str:
        """What is sent, which has to be something. Raises ModelError."""
        key = self._value or ("none" if base_url != OPENAI else None)
        if key is None:
            raise ModelError(f"{base_url} needs a key: set {self.variable}, or name another server with --base-url")
        if not (key.isascii() and key.isprintable()):
            raise ModelError(
                f"{self.variable} holds a character that no key has (a line break, an accent): set it anew"
            )
        return key

    def refused(self, base_url: str, why: str) -> ModelError:
        """What to do where a server does not take it."""
        if self.variable is None:
            return ModelError(f"{base_url} wants a key ({why}): name its environment variable by the option key_env")
        return ModelError(f"{base_url} refuses the key ({why}): set {self.variable} to a valid one")

    def redacted(self, text: str) -> str:
        """A server's words without any key that they quote."""
        text = re.sub(r"Bearer [^\s'\"]+", "Bearer ...", text)
        return re.sub(r"sk-[\w*.-]+", "sk-...", text.replace(self._value, "...") if self._value else text)

    @property
    def _value(self) -> str:
        return os.environ.get(self.variable, "").strip() if self.variable else ""


USUAL = Key("OPENAI_API_KEY")
