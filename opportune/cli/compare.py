"""`opportune compare`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opportune.cli import options

Try = Annotated[list[str] | None, typer.Option("--try", help="A recipe, such as k-shot:k=16. Repeatable.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repeat every arm with this many seeds.")]
Tolerance = Annotated[float, typer.Option(help="Points a cheaper arm may lose to the best and still be recommended.")]
Price = Annotated[float | None, typer.Option("--machine-price", help="Dollars an hour of this machine.")]
Budget = Annotated[
    str | None, typer.Option(help="Time for all arms, such as 20m: arms predicted to pass it do not run.")
]
Volume = Annotated[float | None, typer.Option(min=1, help="Questions a month: adds costs and break-even points.")]
General = Annotated[str | None, typer.Option(help="File or folder of general text, on which forgetting is measured.")]


def compare(
    data: options.Data = None,
    input: options.Input = None,
    target: options.Target = None,
    instruction: options.Instruction = None,
    choices: options.Choices = None,
    kind: options.Kind_ = None,
    metric: options.Metric_ = None,
    limit: options.Limit = None,
    group: options.Group = None,
    rationale: options.Rationale = None,
    tries: Try = None,
    models: options.Models = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    trust_remote_code: options.Trust = False,
    seeds: Seeds = 1,
    tolerance: Tolerance = 3.0,
    machine_price: Price = None,
    base_url: options.BaseUrl = None,
    max_dollars: options.MaxDollars = None,
    max_tokens: options.MaxTokens = None,
    prices: options.Prices = None,
    general: General = None,
    no_cache: options.NoCache = False,
    budget: Budget = None,
    volume: Volume = None,
    runs: options.Runs = Path("opportune-runs"),
    as_json: options.Json = False,
) -> None:
    """Measure prompting and training on one task, on equal terms; recommend one.

    The same command after an interruption goes on where it stopped.
    """
    import json

    from opportune import api
    from opportune import volume as volumes
    from opportune.budget import seconds_of
    from opportune.cli.progress import LiveView
    from opportune.report.table import print_table
    from opportune.report.volume_text import print_volume
    from opportune.schema import to_json

    if volume is not None:
        volumes.check(volume)
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
    with LiveView() as view:
        view.task(task)
        comparison = api.compare(
            task,
            recipes=tries or (),
            models=models or (),
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            seeds=seeds,
            tolerance=tolerance / 100,
            machine_price=machine_price,
            base_url=base_url,
            max_dollars=max_dollars,
            max_tokens=max_tokens,
            prices=prices,
            general=general,
            cache=not no_cache,
            budget=None if budget is None else seconds_of(budget),
            runs=runs,
            watcher=view,
            source=data or "bundled",
        )
    if as_json:
        added = {"volume": volumes.to_json(comparison, volume)} if volume else {}
        typer.echo(json.dumps(to_json(comparison) | added, ensure_ascii=False))
    else:
        print_table(comparison)
        if volume:
            print_volume(comparison, volume)
