"""`opportune cache`: the kept answers of servers, what they have saved, and how to be rid of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated

import typer

from opportune.cli.options import Json
from opportune.errors import UsageError

if TYPE_CHECKING:
    from opportune.models.response_cache import Holding, ResponseCache

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}

app = typer.Typer(help="Show the kept answers of servers, or clear them.", rich_markup_mode=None)

Model = Annotated[str | None, typer.Option("--model", help="Only answers of this model, with or without openai:.")]
Age = Annotated[str | None, typer.Option("--older-than", help="Only answers older than this: 12h, 30d, 8w.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without, it is only said how many there are.")]


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show what is kept of servers' answers, by server and model, and what it has saved."""
    from opportune.models.response_cache import ResponseCache

    if context.invoked_subcommand is None:
        kept = ResponseCache()
        typer.echo(json.dumps(_as_json(kept)) if as_json else _as_table(kept))


@app.command("clear")
def clear(model: Model = None, older_than: Age = None, yes: Yes = False) -> None:
    """Remove kept answers: all, those of a model, those older than some days."""
    from opportune.models.endpoint import PREFIX
    from opportune.models.response_cache import ResponseCache

    name = None if model is None else model.removeprefix(PREFIX)
    count = ResponseCache().clear(name, None if older_than is None else _age(older_than), dry=not yes)
    if not yes:
        raise UsageError(f"this would remove {_answers(count)}, which would be paid for again: say --yes to do it")
    typer.echo(f"removed {_answers(count)}")


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if found is None:
        raise UsageError(f"--older-than {text!r} is no age: a number and m, h, d or w, as in 30d")
    return float(found.group(1)) * _SECONDS[found.group(2)]


def _answers(count: int) -> str:
    return "1 answer" if count == 1 else f"{count:,} answers"


def _as_json(kept: ResponseCache) -> dict[str, object]:
    from dataclasses import asdict

    return {"path": str(kept.path), "bytes": kept.size, "models": [asdict(one) for one in kept.holdings()]}


def _as_table(kept: ResponseCache) -> str:
    from opportune.report import numbers

    holdings = kept.holdings()
    head = f"{kept.path}: {_answers(sum(one.answers for one in holdings))}, {numbers.memory(kept.size)}"
    titles = ("server", "model", "answers", "tokens", "used again", "tokens saved", "dollars saved")
    rows = [titles, *map(_row, holdings)] if holdings else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([head, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)])


def _row(one: Holding) -> tuple[str, ...]:
    from opportune.report import numbers

    counts = (one.answers, one.tokens, one.hits, one.tokens_saved)
    return (one.server, one.model, *map(numbers.count, counts), numbers.money(one.dollars_saved))
