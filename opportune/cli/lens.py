"""`opportune lens`: the same input under several recipes, seen in the distribution over the next token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opportune.cli import options

Text = Annotated[str, typer.Argument(help="The input to look at.")]
Data = Annotated[
    str | None,
    typer.Argument(help="The task, as for `opportune compare`: a file, a folder or a dataset. Default: that of the run "
                   "which a recipe comes from, else the bundled task."),
]  # fmt: skip
Recipes = Annotated[
    list[str], typer.Option("--recipe", help="A recipe, such as k-shot:k=16. Repeatable; compared with the first.")
]
Model = Annotated[
    str | None, typer.Option(help="A Hugging Face folder, a .gguf file or a hub name. Default: that of the run.")
]
Run = Annotated[str | None, typer.Option(help="The run of trained recipes. Default: the latest that has them.")]
Top = Annotated[int, typer.Option(min=1, max=1000, help="How many of the likeliest tokens and choices to show.")]


def lens(
    text: Text,
    recipes: Recipes,
    data: Data = None,
    input: options.Input = None,
    target: options.Target = None,
    instruction: options.Instruction = None,
    choices: options.Choices = None,
    kind: options.Kind_ = None,
    model: Model = None,
    run: Run = None,
    runs: options.Runs = Path("opportune-runs"),
    top: Top = 10,
    html: options.Html = None,
    as_json: options.Json = False,
) -> None:
    """Look at TEXT through recipes: what each expects where the answer begins, and how far that is from the first.

    A recipe that only asks is prepared on the task; one that trains is brought back from a finished run.
    """
    import json

    from opportune.lens import look
    from opportune.report import lens as shown
    from opportune.tasks.load import load_task

    task = None
    if any(value is not None for value in (data, input, target, instruction, choices, kind)):
        task = load_task(
            data, input=input, target=target, instruction=instruction, choices=options.listed(choices), kind=kind
        )
    found = look(text, recipes, task=task, model=model, run=run, runs=runs, top=top)
    if as_json:
        typer.echo(json.dumps(shown.to_json(found), ensure_ascii=False, allow_nan=False))
    else:
        shown.print_lens(found, top)
    options.page(html, lambda path: shown.write_page(found, path), quiet=as_json)
