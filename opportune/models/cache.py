"""The user's cache folder, and how a model folder comes to be in it: whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from opportune.errors import ModelError


def cache_folder() -> Path:
    """$OPPORTUNE_CACHE, else $XDG_CACHE_HOME/opportune, else ~/.cache/opportune."""
    if own := os.environ.get("OPPORTUNE_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "opportune"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder `name`, made by `make` the first time.

    `make` fills an empty sibling folder that is renamed once everything in it has reached the disk, so that a process
    killed at any moment leaves no half folder under the final name. The lock, which the system frees when its holder
    dies, lets a second process wait instead of doing the work again, and makes it safe to sweep away what a killed one
    left behind. Raises ModelError when the cache cannot be written.
    """
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(name + ".lock")):
            if not folder.is_dir():
                _make(folder, make)
    except OSError as error:
        message = f"cannot write {folder}: {error.strerror or error}; set OPPORTUNE_CACHE to a folder with room for it"
        raise ModelError(message) from error
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        make(partial)
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until the file or folder has reached the disk (Windows cannot sync a folder)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
