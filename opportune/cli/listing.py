"""`opportune list`: what there is to try, each with a line and its source."""

from __future__ import annotations

import typer


def list_() -> None:
    """Strategies, methods, backends and metrics, each with a line and its source."""
    from opportune import methods, metrics, models, strategies
    from opportune.recipe import described

    folders = {"strategies": strategies, "methods": methods, "backends": models, "metrics": metrics}
    for title, folder in folders.items():
        rows = described(folder.TABLE)
        width = max(len(name) for name, _, _ in rows)
        typer.echo(
            f"{title}\n" + "\n".join(f"  {name:{width}}  {line} ({source})" for name, line, source in rows) + "\n"
        )
