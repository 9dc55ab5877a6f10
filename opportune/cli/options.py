"""Options that several commands have, and what is done about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

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
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A Hugging Face folder, a .gguf file, a hub name, or openai:NAME. Repeatable."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Automatic by default.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16. Automatic by default.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", help="Server of models named openai:NAME, with its /v1.")]
MaxDollars = Annotated[float | None, typer.Option("--max-dollars", help="Hard cap on what such models may cost.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Hard cap on what they may read and write.")]
Prices = Annotated[Path | None, typer.Option("--prices", help="JSON or CSV file of prices of models.")]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Pay for calls to servers again whose answers are kept, and keep none.")
]
Runs = Annotated[Path, typer.Option(envvar="OPPORTUNE_RUNS", help="Folder of the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")]


def listed(choices: str | None) -> list[str] | None:
    """The value of --choices as a list."""
    return None if choices is None else [choice.strip() for choice in choices.split(",")]


def page(html: Path | None, write: Callable[[Path], object], *, quiet: bool) -> None:
    """Write the page of --html, where one is asked for, and say so. Raises UsageError where it cannot be written."""
    from opportune.errors import UsageError

    if html is None:
        return
    try:
        write(html)
    except OSError as error:
        raise UsageError(f"--html {html}: {error.strerror or error}") from error
    if not quiet:
        typer.echo(f"\nWith plots: {html}")
