"""`opportune curve`: score against number of labelled examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opportune.cli.compare import (
    Choices,
    Data,
    Device,
    Dtype,
    Group,
    Input,
    Instruction,
    Json,
    Kind_,
    Limit,
    Metric_,
    Models,
    Rationale,
    Runs,
    Target,
    Trust,
    listed,
)

Recipes = Annotated[list[str], typer.Option("--recipe", help="A recipe, such as lora:rank=8. Repeatable.")]
Sizes = Annotated[str, typer.Option(help="Numbers of labelled examples, separated by commas.")]
Draws = Annotated[int, typer.Option(min=1, help="Repeat every size with this many draws of the labelled examples.")]
Html = Annotated[Path | None, typer.Option(help="Write a page with the plot to this file.")]


def curve(
    recipes: Recipes,
    data: Data = None,
    sizes: Sizes = "16,32,64,128",
    draws: Draws = 3,
    input: Input = None,
    target: Target = None,
    instruction: Instruction = None,
    choices: Choices = None,
    kind: Kind_ = None,
    metric: Metric_ = None,
    limit: Limit = None,
    group: Group = None,
    rationale: Rationale = None,
    models: Models = None,
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Trust = False,
    runs: Runs = Path("opportune-runs"),
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Measure recipes with more and more labelled examples: where training overtakes prompting, and what a method is
    worth in labels.

    The same command after an interruption goes on where it stopped; sizes, draws and recipes can be added to it.
    """
    import json

    from opportune import api
    from opportune.cli.curve_progress import CurveView
    from opportune.errors import UsageError
    from opportune.labels import to_json
    from opportune.report.label_curves import print_curves, write_page

    task = api.load_task(
        data,
        input=input,
        target=target,
        instruction=instruction,
        choices=listed(choices),
        kind=kind,
        metric=metric,
        limit=limit,
        group=group,
        rationale=rationale,
    )
    with CurveView() as view:
        curves = api.curve(
            task,
            recipes=recipes,
            sizes=_numbers(sizes),
            draws=draws,
            models=models or (),
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            runs=runs,
            watcher=view,
            source=data or "bundled",
        )
    if as_json:
        typer.echo(json.dumps(to_json(curves), ensure_ascii=False, allow_nan=False))
    else:
        print_curves(curves)
    if html is not None:
        try:
            write_page(curves, html)
        except OSError as error:
            raise UsageError(f"--html {html}: {error.strerror or error}") from error
        if not as_json:
            typer.echo(f"\nWith a plot: {html}")


def _numbers(text: str) -> list[int]:
    from opportune.errors import UsageError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--sizes {text!r}: whole numbers separated by commas are expected, as in 16,32,64") from None
