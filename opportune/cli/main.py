"""The command line: one file a command."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer

from opportune.cli import ask, cache, compare, curve, export, lens, listing, plan, pretrain, show
from opportune.errors import OpportuneError

# Rich help would cost half of the 0.4 s that `--help` may take.
app = typer.Typer(
    name="opportune",
    help="Prompt it or tune it? Measure it: prompting and training of language models compared on equal terms.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("compare")(compare.compare)
app.command("plan")(plan.plan)
app.command("show")(show.show)
app.command("report")(show.report)
app.command("list")(listing.list_)
app.command("ask")(ask.ask)
app.command("lens")(lens.lens)
app.command("pretrain")(pretrain.pretrain)
app.command("curve")(curve.curve)
app.command("export")(export.export)
app.add_typer(cache.app, name="cache")

BAD_INPUT, INTERRUPTED = 2, 130
_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits 0 when done, 2 on bad input with one line on standard error, 130 on Ctrl-C."""
    sys.exit(_run_together(arguments) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else _run(arguments))


def _run_together(arguments: list[str] | None) -> int:
    """As one of the processes that torchrun has started."""
    from opportune import together

    return together.run(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    for given in sys.argv[1:] if arguments is None else arguments:
        if not given.isprintable() and any("\ud800" <= character <= "\udfff" for character in given):
            return _complain(f"{given.encode(errors='backslashreplace').decode()!r} is no UTF-8 text")
    try:
        result: Any = app(arguments, standalone_mode=False)
    except OpportuneError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _complain(f"the disk is full ({error.filename or 'while writing'}); free some space and run again")
        if error.errno in _NO_PLACE and error.filename is not None:
            return _complain(f"{error.filename} cannot be written or read: {error.strerror}")
        raise
    except (KeyboardInterrupt, typer.Abort):
        print("opportune: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):  # a wrong option or argument: typer's own classes are private
            return _complain(error.format_message())
        raise
    return result if isinstance(result, int) else 0


def _complain(message: str) -> int:
    print("opportune: " + " ".join(message.split()), file=sys.stderr)
    return BAD_INPUT
