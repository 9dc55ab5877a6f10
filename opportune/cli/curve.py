"""`opportune curve`: score against number of labelled examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opportune.cli import options

Recipes = Annotated[list[str], typer.Option("--recipe", help="A recipe, such as lora:rank=8. Repeatable.")]
Sizes = Annotated[str, typer.Option(help="Numbers of labelled examples, separated by commas.")]
Draws = Annotated[int, typer.Option(min=1, help="Repeat every size with this many draws of the labelled examples.")]


def curve(
    recipes: Recipes,
    data: options.Data = None,
    sizes: Sizes = "16,32,64,128",
    draws: Draws = 3,
    input: options.Input = None,
    target: options.Target = None,
    instruction: options.Instruction = None,
    choices: options.Choices = None,
    kind: options.Kind_ = None,
    metric: options.Metric_ = None,
    limit: options.Limit = None,
    group: options.Group = None,
    rationale: options.Rationale = None,
    models: options.Models = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    trust_remote_code: options.Trust = False,
    base_url: options.BaseUrl = None,
    max_dollars: options.MaxDollars = None,
    max_tokens: options.MaxTokens = None,
    prices: options.Prices = None,
    no_cache: options.NoCache = False,
    runs: options.Runs = Path("opportune-runs"),
    html: options.Html = None,
    as_json: options.Json = False,
) -> None:
    """Measure recipes with more and more labelled examples: where training overtakes prompting, and what a method is
    worth in labels.

    The same command after an interruption goes on where it stopped; sizes, draws and recipes can be added to it.
    """
    import json

    from opportune import api
    from opportune.cli.curve_progress import CurveView
    from opportune.labels import to_json
    from opportune.report.label_curves import print_curves, write_page

    task = api.load_task(
        data,
        input=input,
        target=target,
        instruction=instruction,
        choices=options.listed(choices),
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
            base_url=base_url,
            max_dollars=max_dollars,
            max_tokens=max_tokens,
            prices=prices,
            cache=not no_cache,
            runs=runs,
            watcher=view,
            source=data or "bundled",
        )
    if as_json:
        typer.echo(json.dumps(to_json(curves), ensure_ascii=False, allow_nan=False))
    else:
        print_curves(curves)
    options.page(html, lambda path: write_page(curves, path), quiet=as_json)


def _numbers(text: str) -> list[int]:
    from opportune.errors import UsageError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--sizes {text!r}: whole numbers separated by commas are expected, as in 16,32,64") from None
