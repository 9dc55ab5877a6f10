"""What every live view stands on: lines on standard error, and a bar below them where that is a terminal."""

from __future__ import annotations

from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text


def _plain(text: str) -> TextColumn:
    """A column in which nothing means anything to rich: recipes hold brackets."""
    return TextColumn(text, markup=False)


class Live:
    """One bar, shown within `with`, and what is said above it. Without a terminal there are only the lines."""

    def __init__(self, *before: str, width: int = 20, after: tuple[str, ...] = (), **fields: Any) -> None:
        """`before` and `after` the bar stand texts as rich's columns have them, over the `fields` of its task."""
        self._console = Console(stderr=True, emoji=False, markup=False)
        self._progress = Progress(
            *map(_plain, before),
            BarColumn(bar_width=width),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *map(_plain, after),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=None, visible=False, **fields)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    @property
    def is_terminal(self) -> bool:
        """Whether there is a bar."""
        return self._console.is_terminal

    def show(self, *, visible: bool = True, **changes: Any) -> None:
        """Move the bar: `completed`, `total`, `description` or a field of it."""
        self._progress.update(self._bar, visible=visible, **changes)

    def say(self, text: str | Text) -> None:
        """A line of its own, in which nothing means anything to rich."""
        self._console.print(text, highlight=False, soft_wrap=True)
