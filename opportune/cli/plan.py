"""`opportune plan`: what training or asking will cost, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from opportune.cli import options as shared
from opportune.cli import plan_measured
from opportune.cli.options import Json, Runs
from opportune.errors import UsageError

if TYPE_CHECKING:
    from opportune.planner.architecture import Architecture
    from opportune.planner.asking import Asking
    from opportune.planner.calibration import Calibration
    from opportune.planner.data import Data
    from opportune.planner.hardware import Cluster, Table
    from opportune.planner.plan import Plan, Request
    from opportune.spec import Recipe

    Over = Callable[[Callable[[Cluster], Any], str], list[Any]]

Model = Annotated[
    str | None, typer.Option(help="A Hugging Face folder or config.json, or a well-known name: llama-3.1-8b.")
]
Parameters = Annotated[str | None, typer.Option(help="Only a size, such as 350M or 10B; widths are chosen by a rule.")]
Vocabulary = Annotated[int | None, typer.Option(min=2, help="Tokens of the vocabulary, with --parameters.")]
Method = Annotated[
    list[str] | None,
    typer.Option(
        "--method", help="A method or a recipe: full, lora:rank=8, pretrain, continual, k-shot:k=8. Repeatable."
    ),
]
Tokens = Annotated[str | None, typer.Option(help="Tokens read in training, all passes together: 50M.")]
Examples = Annotated[int | None, typer.Option(min=1, help="Training examples, each --length tokens long.")]
Epochs = Annotated[float, typer.Option(min=0.01, help="Passes over the examples.")]
TaskFile = Annotated[str | None, typer.Option("--task", help="A task's file: counts its examples and their lengths.")]
Questions = Annotated[
    int | None, typer.Option(min=0, help="Questions asked once after training. Default: a task's dev set, else none.")
]
Length = Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence.")]
Batch = Annotated[int | None, typer.Option(help="Sequences a step, over all devices.")]
Micro = Annotated[int | None, typer.Option(help="Sequences that a device computes at once. Default: what fits.")]
Hardware = Annotated[str, typer.Option(help="h100, h100x8, a list with commas, 'this machine', or 'cheapest'.")]
Devices = Annotated[Path | None, typer.Option("--devices", help="JSON file of devices of your own.")]
Base = Annotated[
    Literal["bfloat16", "float16", "float32", "mixed", "nf4", "nf4-double", "int8"] | None,
    typer.Option(help="How the model's own weights are kept; nf4 is QLoRA."),
]
Checkpoint = Annotated[Literal["none", "selective", "full"] | None, typer.Option(help="Activations computed twice.")]
Optimizer = Annotated[Literal["adamw", "adamw-8bit", "adamw-paged", "lion", "sgd"], typer.Option(help="The optimizer.")]
Software = Annotated[str | None, typer.Option(help="transformers, opportune, litgpt, torchtune, sharded, megatron ...")]
Tensor = Annotated[int | None, typer.Option(help="Tensor shards of every layer.")]
Pipeline = Annotated[int | None, typer.Option(help="Pipeline stages.")]
Grid = Annotated[bool, typer.Option("--table", help="Compare every way of training at 100M, 10B and 150B parameters.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="The table as Markdown.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write the table as a page with plots.")]
Probe = Annotated[bool, typer.Option("--probe", help="Measure this machine (under a minute) and keep the result.")]
Ledger = Annotated[bool, typer.Option("--ledger", help="Predicted against measured of all runs in --runs.")]

_OF_THE_TABLE = frozenset({"grid", "markdown", "html", "devices", "as_json", "runs"})  # what has a say in --table


def plan(
    context: typer.Context,
    model: Model = None,
    parameters: Parameters = None,
    vocabulary: Vocabulary = None,
    methods: Method = None,
    tokens: Tokens = None,
    examples: Examples = None,
    epochs: Epochs = 1.0,
    task: TaskFile = None,
    input: shared.Input = None,
    target: shared.Target = None,
    instruction: shared.Instruction = None,
    choices: shared.Choices = None,
    kind: shared.Kind_ = None,
    limit: shared.Limit = None,
    group: shared.Group = None,
    rationale: shared.Rationale = None,
    questions: Questions = None,
    length: Length = None,
    batch: Batch = None,
    micro: Micro = None,
    hardware: Hardware = "h100",
    devices: Devices = None,
    base: Base = None,
    checkpoint: Checkpoint = None,
    optimizer: Optimizer = "adamw",
    software: Software = None,
    tensor: Tensor = None,
    pipeline: Pipeline = None,
    grid: Grid = False,
    markdown: Markdown = False,
    html: Html = None,
    probe: Probe = False,
    ledger: Ledger = False,
    runs: Runs = Path("opportune-runs"),
    as_json: Json = False,
) -> None:
    """Memory, time, energy and dollars of a method or a strategy, each with its 90 % interval; nothing is run."""
    from opportune.planner import calibration
    from opportune.planner import hardware as hardware_

    table: dict[str, Any] = {**hardware_.shipped(), **plan_measured.probed()}
    if devices:
        table |= hardware_.read_devices(devices)
    if html and not html.parent.is_dir():
        raise UsageError(f"--html {html}: the folder {html.parent} is not there")
    found = calibration.shipped()
    if probe:
        plan_measured.probe(as_json)
    elif ledger:
        plan_measured.ledger(runs, as_json)
    elif grid or markdown or html:
        _refuse_beside_table(context)
        _grid(table, found, markdown=markdown, html=html, as_json=as_json)
    else:
        from opportune.planner.data import data_of

        asked = {
            "input": input, "target": target, "instruction": instruction, "choices": shared.listed(choices),
            "kind": kind, "limit": limit, "group": group, "rationale": rationale,
        }  # fmt: skip
        reading = {name: value for name, value in asked.items() if value is not None}
        data = data_of(tokens, examples, epochs, task, length, reading)
        options: dict[str, Any] = {
            "batch": batch, "micro": micro, "base": base, "checkpoint": checkpoint, "software": software,
            "optimizer": optimizer, "tensor": tensor, "pipeline": pipeline,
            "questions": len(data.questions) if questions is None else questions,
        }  # fmt: skip
        chosen = partial(_architecture, model, parameters, vocabulary)
        _plans(methods or ["lora"], chosen, data, _over(hardware, table), found, options, as_json)


def _refuse_beside_table(context: typer.Context) -> None:
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name and option.name not in _OF_THE_TABLE and _was_given(context, option.name)
    ]
    if given:
        raise UsageError(
            f"{' and '.join(given)}: --table, --markdown and --html show fixed models and methods; leave out one "
            "or the other"
        )


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _architecture(model: str | None, parameters: str | None, vocabulary: int | None, recipe: Recipe) -> Architecture:
    from opportune.planner import catalogue

    if model and parameters:
        raise UsageError("--model and --parameters: give one of the two")
    if vocabulary is not None and not parameters:
        raise UsageError(f"--vocabulary {vocabulary} goes with --parameters: a named model has a vocabulary of its own")
    if recipe.model:
        if model or parameters:
            raise UsageError(
                f"--{'model' if model else 'parameters'} and the recipe's @{recipe.model}: give one of the two"
            )
        if recipe.model.options:
            raise UsageError(f"@{recipe.model}: the planner takes no options of a model; give --base")
        return catalogue.find(recipe.model.name)
    if parameters:
        return catalogue.of_size(parameters, vocabulary)
    return catalogue.find(model or "smollm2-135m")


def _plans(
    texts: list[str], model: Callable[[Recipe], Architecture], data: Data, over: Over, found: Calibration,
    options: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    import json

    from opportune.planner import asking
    from opportune.planner import plan as planning
    from opportune.planner.plan import Plan
    from opportune.planner.techniques import TABLE
    from opportune.report import plan_text
    from opportune.report.terminal import console
    from opportune.spec import parse

    made: list[Plan | Asking] = []
    for recipe in map(parse, texts):
        a = model(recipe)
        parts = sorted(recipe.parts, key=lambda part: part.name not in TABLE)
        for part in parts:
            made += over(*(_training if part.name in TABLE else _asking)(a, str(part), data, options, found))
    if as_json:
        plans = [planning.to_json(one) if isinstance(one, Plan) else asking.to_json(one) for one in made]
        typer.echo(json.dumps({"plans": plans}, ensure_ascii=False))
        return
    out = console()
    for one in made:
        if isinstance(one, Plan):
            plan_text.print_plan(one, out)
        else:
            plan_text.print_asking(one, out)


def _training(
    a: Architecture, method: str, data: Data, options: dict[str, Any], found: Calibration
) -> tuple[Callable[[Cluster], Plan], str]:
    """What plans the method on some hardware, and its name in messages."""
    from dataclasses import replace

    from opportune.planner.plan import plan as make

    request = planning_request(a, method, data, options)
    return lambda cluster: make(replace(request, cluster=cluster), found), f"{method} on {a.name}"


def _asking(
    a: Architecture, strategy: str, data: Data, options: dict[str, Any], found: Calibration
) -> tuple[Callable[[Cluster], Asking], str]:
    """What plans the strategy on some hardware, and its name in messages."""
    from opportune.planner.asking import count_asking, plan_asking

    each = count_asking(strategy, data.view, data.questions)
    base = options["base"]
    return lambda cluster: plan_asking(strategy, a, cluster, each, found, base), f"{strategy} on {a.name}"


def planning_request(a: Architecture, method: str, data: Data, options: dict[str, Any]) -> Request:
    """The request of one method; the hardware comes later."""
    from opportune.planner.hardware import Cluster, shipped
    from opportune.planner.plan import CORPUS, Request

    corpus = method.startswith(CORPUS)
    length = data.length or min(2048 if corpus else 512, a.positions or 10**9)
    return Request(a, method, Cluster(shipped()["h100"]), data.tokens_for(a, method), length=length, **options)


def _over(hardware: str, table: Table) -> Over:
    """On every hardware of a list, or on the cheapest of the table that fits."""

    def plans(make: Callable[[Cluster], Any], what: str) -> list[Any]:
        from opportune.planner.choosing import choose, offered
        from opportune.planner.hardware import cluster

        if hardware.strip().lower() == "cheapest":
            return [choose(make, offered(table), what)]
        return [make(cluster(name, table)) for name in hardware.split(",")]

    return plans


def _grid(table: Table, found: Calibration, *, markdown: bool, html: Path | None, as_json: bool) -> None:
    import json

    from opportune.planner.grid import grid
    from opportune.planner.plan import to_json
    from opportune.report import plan_text
    from opportune.report.terminal import console

    rows = grid(found, table)
    if html:
        from opportune.report.plan_page import write_page

        typer.echo(write_page(rows, html))
    elif as_json:
        plans = [
            {"size": row.size, "way": row.way.title, "gpu": to_json(row.plan),
             "cpu": to_json(row.processor) if row.processor else None}
            for row in rows
        ]  # fmt: skip
        typer.echo(json.dumps({"rows": plans}, ensure_ascii=False))
    elif markdown:
        typer.echo(plan_text.markdown(rows))
    else:
        plan_text.print_grid(rows, console())
