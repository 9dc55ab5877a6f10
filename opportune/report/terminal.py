"""Where tables are printed."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """As wide as the terminal; a file or a pipe has no width."""
    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 130)
