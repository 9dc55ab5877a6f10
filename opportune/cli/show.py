"""`opportune show` and `opportune report`: what was measured, read from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opportune.cli.options import Json, Runs

RunName = Annotated[str | None, typer.Argument(help="A run, or how its name begins. Default: the latest.")]
All = Annotated[bool, typer.Option("--all", help="List all runs.")]


Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")]


def show(
    run: RunName = None,
    every: All = False,
    runs: Runs = Path("opportune-runs"),
    markdown: Markdown = False,
    as_json: Json = False,
) -> None:
    """A run's table and recommendation; --json adds every example with what was asked and answered."""
    import json

    from opportune.comparison import of_run, show_json
    from opportune.report import table
    from opportune.store import Store

    with Store.open(runs, create=False) as store:
        if every:
            for record in store.list_runs():
                typer.echo(f"{record.id}  {record.status:8}  {record.name}")
            return
        name = store.run(run).id
        if as_json:
            typer.echo(json.dumps(show_json(store, name), ensure_ascii=False))
        elif markdown:
            typer.echo(table.markdown(of_run(store, name)))
        else:
            table.print_table(of_run(store, name))


def report(run: RunName = None, runs: Runs = Path("opportune-runs")) -> None:
    """Write a run's report.html anew and print its path."""
    from opportune.report.page import write_report
    from opportune.store import Store

    with Store.open(runs, create=False) as store:
        name = store.run(run).id
        typer.echo(write_report(store, name, store.run_folder(name) / "report.html"))
