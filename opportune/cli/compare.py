"""`opportune compare`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

_TASK, _ARMS, _MODEL, _RUN = "The task", "What is tried", "The model", "The run"

Data = Annotated[
    str | None,
    typer.Argument(help="JSONL, CSV, TSV or Parquet file, folder with train.* and test.*, or Hugging Face dataset. "
                   "Without it: the bundled task support-desk."),
]  # fmt: skip
Input = Annotated[str | None, typer.Option(help="Column of the input, or a template over columns: '{title}\\n{body}'.")]
Target = Annotated[str | None, typer.Option(help="Column of the target.")]
Instruction = Annotated[str | None, typer.Option(help="What the model is told to do.")]
Choices = Annotated[str | None, typer.Option(help="The closed set of answers, separated by commas.")]
Kind_ = Annotated[
    Literal["choice", "text"] | None, typer.Option("--kind", help="choice or text, where what is inferred is wrong.")
]
Metric_ = Annotated[str | None, typer.Option("--metric", help="See `opportune list`.")]
Limit = Annotated[str | None, typer.Option(help="At most this many examples: 500, or train=128,dev=60,test=150.")]
Group = Annotated[str | None, typer.Option(help="Column whose groups never straddle a split.")]
Rationale = Annotated[str | None, typer.Option(help="Column of worked solutions. Default: one named rationale.")]
Try = Annotated[list[str] | None, typer.Option("--try", help="A recipe, such as k-shot:k=16. Repeatable.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A Hugging Face folder, a .gguf file, a hub name, or openai:NAME. Repeatable."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Automatic by default.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16. Automatic by default.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repeat every arm with this many seeds.")]
Tolerance = Annotated[float, typer.Option(help="Points a cheaper arm may lose to the best and still be recommended.")]
Price = Annotated[float | None, typer.Option("--machine-price", help="Dollars an hour of this machine.")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", help="Server of models named openai:NAME, with its /v1.")]
MaxDollars = Annotated[float | None, typer.Option("--max-dollars", help="Hard cap on what such models may cost.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Hard cap on what they may read and write.")]
Budget = Annotated[
    str | None, typer.Option(help="Time for all arms, such as 20m: arms predicted to pass it do not run.")
]
Volume = Annotated[float | None, typer.Option(min=1, help="Questions a month: adds costs and break-even points.")]
Prices = Annotated[Path | None, typer.Option("--prices", help="JSON or CSV file of prices of models.")]
General = Annotated[str | None, typer.Option(help="File or folder of general text, on which forgetting is measured.")]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Pay for calls to servers again whose answers are kept, and keep none.")
]
Runs = Annotated[Path, typer.Option(envvar="OPPORTUNE_RUNS", help="Folder of the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def compare(
    data: Data = None,
    input: Input = None,
    target: Target = None,
    instruction: Instruction = None,
    choices: Choices = None,
    kind: Kind_ = None,
    metric: Metric_ = None,
    limit: Limit = None,
    group: Group = None,
    rationale: Rationale = None,
    tries: Try = None,
    models: Models = None,
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Trust = False,
    seeds: Seeds = 1,
    tolerance: Tolerance = 3.0,
    machine_price: Price = None,
    base_url: BaseUrl = None,
    max_dollars: MaxDollars = None,
    max_tokens: MaxTokens = None,
    prices: Prices = None,
    general: General = None,
    no_cache: NoCache = False,
    budget: Budget = None,
    volume: Volume = None,
    runs: Runs = Path("opportune-runs"),
    as_json: Json = False,
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
        choices=listed(choices),
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
            budget=seconds_of(budget) if budget else None,
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


def listed(choices: str | None) -> list[str] | None:
    """The value of --choices as a list."""
    return [choice.strip() for choice in choices.split(",")] if choices else None
