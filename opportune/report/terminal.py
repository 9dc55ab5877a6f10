"""Where tables are printed."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """As wide as the terminal; a file or a pipe has no width. Text is printed as it is: recipes hold brackets."""
    return Console(highlight=False, emoji=False, markup=False, width=None if sys.stdout.isatty() else 130)
