"""Rows from Hugging Face datasets: a folder of `save_to_disk`, a name on the hub, Parquet with its label names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opportune.errors import TaskError, first_line
from opportune.tasks.tables import Row, Table, Tables
from opportune.types import Split

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
_PROBE_SECONDS = 10


def read_saved(folder: Path) -> Tables:
    """A dataset or a dict of datasets saved by `save_to_disk`. Raises TaskError when it cannot be read."""
    import datasets

    try:
        return _tables(datasets.load_from_disk(str(folder)), str(folder))
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"{folder}: not a dataset that can be read ({first_line(error):.200})") from error


def read_hub(name: str) -> Tables:
    """A dataset on the hub, as NAME or NAME:CONFIGURATION. Raises TaskError saying what to do where none is reached."""
    import datasets
    import huggingface_hub

    path, _, configuration = name.partition(":")
    try:
        if not datasets.config.HF_HUB_OFFLINE:
            # Asked once and briefly: load_dataset alone would retry for half a minute over a misspelt file name.
            huggingface_hub.HfApi().dataset_info(path, timeout=_PROBE_SECONDS)
        return _tables(datasets.load_dataset(path, configuration or None), name)
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(
            f"{name!r} is no file or folder here, and no dataset of that name could be had from the hub"
            f" ({first_line(error):.200}); give the path of a file, or of a folder made elsewhere with"
            f" datasets.load_dataset({path!r}).save_to_disk(FOLDER)"
        ) from error


def read_parquet(path: Path) -> Table:
    """A Parquet file, with the label names that the `datasets` library keeps in its metadata."""
    import pyarrow
    import pyarrow.parquet

    try:
        content = pyarrow.parquet.ParquetFile(path).read()
        rows = content.to_pylist()
    except pyarrow.ArrowException as error:
        raise TaskError(f"{path}: not a Parquet file that can be read ({first_line(error):.200})") from None
    features = (
        json.loads((content.schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    )
    names = {column: _stored_names(feature) for column, feature in features.items()}
    return Table(str(path), _rows(rows, str(path)), _numbered(names))


def _stored_names(feature: Any) -> Any:
    """The label names of a column, or of the items of its lists."""
    if not isinstance(feature, dict):
        return None
    return feature.get("names") or _stored_names(feature.get("feature"))


def _tables(data: Any, source: str) -> Tables:
    splits = data if isinstance(data, dict) else {"train": data}
    known = {SPLIT_NAMES[name]: split for name, split in splits.items() if name in SPLIT_NAMES}
    if "train" not in known:
        raise TaskError(f"{source}: no split named train; it has {', '.join(map(str, splits))}")
    return {name: _table(split, f"{source} {name}") for name, split in known.items()}


def _table(split: Any, source: str) -> Table:
    names = {
        column: getattr(getattr(feature, "feature", feature), "names", None)  # of what a list holds, where it is one
        for column, feature in split.features.items()
    }
    return Table(source, _rows(split.with_format(None).to_list(), source), _numbered(names))


def _rows(values: list[dict[str, Any]], source: str) -> tuple[Row, ...]:
    return tuple(Row(value, f"{source} row {number}") for number, value in enumerate(values, 1))


def _numbered(names: dict[str, Any]) -> dict[str, dict[int, str]]:
    return {column: dict(enumerate(labels)) for column, labels in names.items() if isinstance(labels, list)}
