"""Python files of the user's own: run as they are, once for each content; what they do wrong is said in one line."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from opportune.errors import OpportuneError, OwnCodeError, RecipeError
from opportune.types import digest


def absolute(path: str) -> str:
    """The path as it is found from any folder: a run is asked again from others."""
    return str(Path(path).expanduser().resolve())


def digest_of(owner: str, path: str) -> str:
    """Of the file's text. Raises RecipeError, naming its owner (`custom`, `python`), where it cannot be read."""
    try:
        return digest(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{owner}:path={path} cannot be read: {error}") from error


def check_digest(owner: str, path: str, measured: str) -> None:
    """Raises RecipeError where the file is no longer the one that was measured."""
    if digest_of(owner, path) != measured:
        raise RecipeError(f"{owner}:path={path} is no longer the file that was measured (digest {measured})")


@cache
def names_of(owner: str, path: str, measured: str) -> dict[str, Any]:
    """What the file defines, whose digest is this. Raises RecipeError where it does not run."""
    try:
        return runpy.run_path(path)
    except (Exception, SystemExit) as error:  # the file may do anything
        raise RecipeError(f"{owner}:path={path} cannot be run: {_reason(error)}") from error


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Whatever goes wrong in the user's code becomes an OwnCodeError: `what` (of what failed) and why."""
    try:
        yield
    except (OpportuneError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # a function may do anything
        raise OwnCodeError(f"{what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
