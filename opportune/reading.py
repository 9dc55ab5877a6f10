"""What a method learns from, where that is raw text instead of the task's lessons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Reading:
    """Raw text to read."""

    corpus: str  # file or folder
    general: str | None  # the text replayed
    replay: float  # its share of the tokens
    tokens: int | None  # in all; None: the corpus whole, and the replay beside it
    block: int  # tokens
    field: str  # of JSON lines and Parquet


@runtime_checkable
class Reads(Protocol):
    """A method that learns from raw text."""

    @property
    def reading(self) -> Reading:
        """What it reads."""
        ...
