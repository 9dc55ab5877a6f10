"""`opportune export`: a trained recipe as a folder that transformers, vLLM or peft load, if it answers as it did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opportune.cli.ask import RecipeName, RunName
from opportune.cli.options import Json, Runs

if TYPE_CHECKING:
    from opportune.parity import Parity

Merged = Annotated[Path | None, typer.Option(help="New folder for the model with the trained weights merged into it.")]
Adapter = Annotated[Path | None, typer.Option(help="New folder for the trained weights alone, in peft's format.")]
DIFFERS = 1  # the exit code of an export that does not answer as the trained model did


def export(
    run: RunName,
    recipe: RecipeName,
    merged: Merged = None,
    adapter: Adapter = None,
    runs: Runs = Path("opportune-runs"),
    as_json: Json = False,
) -> None:
    """Export a finished run's trained RECIPE; it re-answers the test split first, and must answer as in the run."""
    import json
    from dataclasses import asdict

    from opportune import api
    from opportune.errors import ParityError

    try:
        done = api.export(run, recipe, merged=merged, adapter=adapter, runs=runs, progress=_tell)
    except ParityError as error:
        typer.echo(f"opportune: {error}", err=True)
        raise typer.Exit(DIFFERS) from None
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "folder": str(one.folder)} for one in done], ensure_ascii=False))
        return
    for one in done:
        typer.echo(f"{one.folder}: {_answers(one.parity)}{_scores(one.parity)}")


def _answers(parity: Parity) -> str:
    if not parity.ties:
        return f"{parity.examples} test answers as in the run"
    same = parity.examples - parity.ties
    others = "1 other" if parity.ties == 1 else f"{parity.ties} others"
    return f"{same} of {parity.examples} test answers as in the run, {others} changed at a tie"


def _scores(parity: Parity) -> str:
    if parity.score_before is None or parity.score_after is None:
        return ""
    return f"; score {parity.score_before:.4f} in the run, {parity.score_after:.4f} exported"


def _tell(stage: str, done: int, total: int) -> None:
    if done == 0:
        typer.echo(f"{stage}{f' {total} questions' if total > 1 else ''} ...", err=True)
