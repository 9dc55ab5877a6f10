"""`opportune pretrain`: a model of one's own, from nothing but text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from opportune.cli.compare import Device, Dtype, Json

if TYPE_CHECKING:
    from opportune.pretraining.order import Plan, Report

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
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Train a tokenizer and a Llama from scratch; OUT is then a model folder, for --model and for transformers.

    The same command after an interruption goes on where it stopped.
    """
    import json

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
    with _View() as view:
        report = run(order, view)
    typer.echo(json.dumps(report.to_json()) if as_json else _told(report))


class _View:
    """The live view on standard error: a bar with the time left; without a terminal a line now and then."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, emoji=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, left="")
        self._steps, self._seen, self._seconds, self._said, self._step = 0, 0, 0.0, time.monotonic(), 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def stage(self, name: str) -> None:
        self._say(f"  {name} ...")

    def planned(self, plan: Plan) -> None:
        from opportune.report.numbers import duration

        size = plan.size
        self._steps = plan.steps
        self._say(
            f"  {size.parameters:,} parameters: {size.layers} layers, {size.width} wide, vocabulary "
            f"{size.vocabulary:,}\n  {plan.tokens:,} tokens ({plan.tokens / plan.corpus_tokens:.1f} passes) in "
            f"{plan.steps:,} steps, highest learning rate {plan.rate:g}; about "
            f"{duration(plan.predicted.seconds or 0.0)} predicted"
        )

    def step(self, step: int, loss: float, seconds: float) -> None:
        if self._seen == 0 and step > 1:
            self._say(f"  going on after step {step - 1:,}")
        self._seen, self._seconds, self._step = self._seen + 1, self._seconds + seconds, step
        self._bar.update(
            self._task, completed=step, total=self._steps, description=f"loss {loss:.3f}", left=self._left()
        )
        if not self._console.is_terminal and time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            self._say(f"  step {step:,} of {self._steps:,}: loss {loss:.3f}, {self._left()}")

    def validated(self, loss: float) -> None:
        if self._step:
            self._say(f"  step {self._step:,} of {self._steps:,}: validation loss {loss:.3f}, {self._left()}")

    def _left(self) -> str:
        from opportune.report.numbers import duration

        return f"about {duration((self._steps - self._step) * self._seconds / max(self._seen, 1))} left"

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


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
