"""Rows as they were read, before anything is made of them; each knows its place, so that errors can name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opportune.types import Split


@dataclass(frozen=True, slots=True)
class Row:
    """One row: values by column, none for an empty line."""

    values: Mapping[str, Any]
    place: str  # such as "tickets.csv line 17"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one split."""

    source: str  # the file or dataset, as the user wrote it
    rows: tuple[Row, ...]
    class_names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)  # by column: what its numbers stand for
    target_names: Mapping[int, str] | None = None  # what the numbers of the target column stand for, from labels.json

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order in which they first appear."""
        return tuple(dict.fromkeys(column for row in self.rows for column in row.values))


Tables = dict[Split, Table]
"""The splits that were given; a source without splits is all train."""
