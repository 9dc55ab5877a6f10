"""`opportune pretrain`: a model of one's own, from nothing but text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opportune.cli import options

if TYPE_CHECKING:
    from opportune.pretraining.order import Report

Corpus = Annotated[str, typer.Option(help="File or folder of text, Markdown, JSON lines or Parquet.")]
Parameters = Annotated[str, typer.Option(help="Size of the model, such as 10M.")]
Out = Annotated[Path, typer.Option(help="Folder to write the model to.")]
Tokens = Annotated[
    str | None,
    typer.Option(help="Tokens to train on, such as 20M. Default: 20 a parameter, at most 4 passes over the corpus."),
]
Epochs = Annotated[float | None, typer.Option(help="Passes over the corpus, instead of --tokens.")]
Context = Annotated[int, typer.Option(help="Tokens that the model sees at a time.")]
Seed = Annotated[int, typer.Option(help="Decides the first weights and the order of the text.")]
Rate = Annotated[float | None, typer.Option(help="Highest learning rate. Default: by the size and the tokens.")]
Validation = Annotated[str | None, typer.Option(help="Text to validate on. Default: a part of the corpus.")]
Field = Annotated[str, typer.Option(help="Field of JSON lines and Parquet that holds the text.")]


def pretrain(
    corpus: Corpus,
    parameters: Parameters,
    out: Out,
    tokens: Tokens = None,
    epochs: Epochs = None,
    context: Context = 512,
    seed: Seed = 0,
    rate: Rate = None,
    validation: Validation = None,
    field: Field = "text",
    device: options.Device = None,
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Train a tokenizer and a Llama from scratch; OUT is then a model folder, for --model and for transformers.

    The same command after an interruption goes on where it stopped.
    """
    import json

    from opportune.cli.pretrain_progress import PretrainingView
    from opportune.models.quiet import quiet
    from opportune.pretraining.course import pretrain as run
    from opportune.pretraining.order import Order
    from opportune.pretraining.sizing import read_count

    quiet()
    order = Order(
        corpus=corpus,
        parameters=read_count(parameters, "--parameters"),
        out=out,
        tokens=None if tokens is None else read_count(tokens, "--tokens"),
        epochs=epochs,
        context=context,
        seed=seed,
        rate=rate,
        validation=validation,
        field=field,
        device=device,
        dtype=dtype,
    )
    with PretrainingView() as view:
        report = run(order, view)
    typer.echo(json.dumps(report.to_json()) if as_json else _told(report))


def _told(report: Report) -> str:
    from opportune.report.numbers import duration

    predicted, measured = (duration(amount.seconds or 0.0) for amount in (report.predicted, report.measured))
    return (
        f"{report.out}: {report.parameters:,} parameters, {report.tokens:,} tokens ({report.passes:.1f} passes)\n"
        f"validation loss {report.loss:.3f} nats a token: {report.bits_per_character:.3f} bits a character, "
        f"{report.bits_per_byte:.3f} a byte, on {report.validation_tokens:,} tokens\n"
        f"training took {measured} ({predicted} predicted)\n"
        f"Use it: opportune compare ... --model {report.out}"
    )
