"""`opportune ask`: a finished run's recipe answers a new question; nothing is trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opportune.cli.options import NoCache, Runs, listed

RunName = Annotated[str, typer.Argument(help="A run, how its name begins, or 'latest'.")]
RecipeName = Annotated[str, typer.Argument(help="A recipe of that run, as its table shows it.")]
Text = Annotated[str, typer.Argument(help="The input to answer.")]
Choices = Annotated[
    str | None, typer.Option(help="This input's own choices, separated by commas, where the task's rows have them.")
]


def ask(
    run: RunName,
    recipe: RecipeName,
    text: Text,
    choices: Choices = None,
    no_cache: NoCache = False,
    runs: Runs = Path("opportune-runs"),
) -> None:
    """Answer TEXT with a finished run's RECIPE, its trained weights included."""
    from opportune import api
    from opportune.errors import OpportuneError

    answer = api.ask(run, recipe, text, choices=listed(choices), cache=not no_cache, runs=runs)
    if answer.text is None:
        raise OpportuneError(f"no answer could be read from {answer.raw!r}")
    typer.echo(answer.text)
