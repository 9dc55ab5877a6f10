"""From a source (a file, a folder, a name on the hub) to the rows of its splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from opportune.errors import TaskError
from opportune.tasks.datasets_library import SPLIT_NAMES, read_hub, read_parquet, read_saved
from opportune.tasks.tables import Row, Table, Tables
from opportune.tasks.text_files import read_csv, read_json, read_json_lines, read_tsv
from opportune.types import Split

_TEXT_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
}
SUFFIXES = (*_TEXT_READERS, ".parquet")
_SAVED_DATASET = ("dataset_dict.json", "state.json")  # what save_to_disk leaves in a folder
_LABEL_NAMES = "labels.json"


def read(source: str | Path) -> Tables:
    """The splits of a source. Raises TaskError, naming the place, when it cannot be read or holds nothing."""
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            return _read_folder(path)
        if path.exists():
            return {"train": _read_file(path)}
    except OSError as error:
        raise TaskError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from None
    if path.suffix.lower() in SUFFIXES or isinstance(source, Path) or not _may_be_a_name(source):
        raise TaskError(f"{source}: no such file or folder")
    return read_hub(source)


def _may_be_a_name(source: str) -> bool:
    """Whether it could name a dataset on the hub: NAME or OWNER/NAME."""
    return source.count("/") <= 1 and not source.startswith((".", "/", "~")) and not source.endswith("/")


def _read_file(path: Path) -> Table:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TaskError(f"{path}: files of type {suffix or 'none'} are not read; known are {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise TaskError(f"{path}: the file is empty")
    return read_parquet(path) if suffix == ".parquet" else Table(str(path), tuple(_TEXT_READERS[suffix](path)))


def _read_folder(folder: Path) -> Tables:
    if any((folder / name).exists() for name in _SAVED_DATASET):
        return read_saved(folder)
    files = _split_files(folder)
    if "train" not in files:
        there = ", ".join(sorted(item.name for item in folder.iterdir())[:10]) or "nothing"
        raise TaskError(f"{folder}: no train.jsonl, .json, .csv, .tsv or .parquet in the folder; it holds {there}")
    names = _target_names(folder / _LABEL_NAMES)
    tables = {split: _read_file(path) for split, path in files.items()}
    return {split: Table(t.source, t.rows, t.class_names, names) for split, t in tables.items()}


def _split_files(folder: Path) -> dict[Split, Path]:
    files: dict[Split, Path] = {}
    for path in sorted(folder.iterdir()):
        split = SPLIT_NAMES.get(path.stem.lower())
        if split is None or path.suffix.lower() not in SUFFIXES:
            continue
        if split in files:
            raise TaskError(f"{folder}: both {files[split].name} and {path.name} would be the {split} split; keep one")
        files[split] = path
    return files


def _target_names(path: Path) -> dict[int, str] | None:
    """The labels by number, from a list of names, {"0": name} or {name: 0}; None without such a file."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(content, dict) and all(isinstance(value, int) for value in content.values()):
            content = {number: name for name, number in content.items()}
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {int(number): str(name) for number, name in pairs}
    except (ValueError, TypeError) as error:
        raise TaskError(f"{path}: neither a list of label names nor an object of numbers and names ({error})") from None
