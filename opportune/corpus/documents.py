"""Documents from a file or a folder of text, Markdown, JSON lines or Parquet, one at a time.

A text or Markdown file is one document, or several where `<|endoftext|>` stands between them; of JSON lines and Parquet
every row is one: its field of the given name, or where that is `text` and there is none, the only one that holds text.
Empty documents are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from opportune.errors import TaskError, first_line
from opportune.tasks.text_files import json_row, lines

SEPARATOR = "<|endoftext|>"
FIELD = "text"  # of JSON lines and Parquet


def read_documents(path: str | Path, field: str = FIELD) -> Iterator[str]:
    """The documents of a file, or of all files of known types in a folder and its subfolders, in the order of their
    names; hidden ones are left out. Raises TaskError naming the file and line when one cannot be read."""
    for file in _files(Path(path).expanduser()):
        try:
            for text in _READERS[file.suffix.lower()](file, field):
                document = text.replace("\r\n", "\n").strip()
                if document:
                    yield document
        except OSError as error:
            raise TaskError(f"{file}: cannot be read ({error.strerror or error})") from None


def _files(path: Path) -> list[Path]:
    known = ", ".join(_READERS)
    if not path.exists():
        raise TaskError(f"corpus {path}: no such file or folder")
    if not path.is_dir():
        if path.suffix.lower() not in _READERS:
            raise TaskError(f"corpus {path}: files of type {path.suffix or 'none'} are not read; known are {known}")
        return [path]
    inside = (file for file in path.rglob("*") if not any(p.startswith(".") for p in file.relative_to(path).parts))
    files = sorted(file for file in inside if file.suffix.lower() in _READERS and file.is_file())
    if not files:
        raise TaskError(f"corpus {path}: no file of a known type in the folder ({known})")
    return files


def _texts(path: Path, _field: str) -> Iterator[str]:
    held: list[str] = []
    for _, line in lines(path):
        before, *others = line.split(SEPARATOR)
        held.append(before)
        for other in others:
            yield "".join(held)
            held = [other]
    yield "".join(held)


def _json_lines(path: Path, field: str) -> Iterator[str]:
    chosen: str | None = None  # as the first row has it
    for number, line in lines(path):
        row = json_row(line, f"{path} line {number}")
        if row.values:
            if chosen is None:
                able = [name for name, value in row.values.items() if value is None or isinstance(value, str)]
                chosen = _field_of(field, list(row.values), able)
            yield _text_of(row.values.get(chosen), chosen, row.place, list(row.values))


def _parquet(path: Path, field: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        schema = file.schema_arrow
        columns = schema.names
        able = [column.name for column in schema if str(column.type) in ("string", "large_string", "string_view")]
        name = _field_of(field, columns, able)
        if name not in columns:
            raise TaskError(_no_text(field, str(path), columns))
        values = chain.from_iterable(batch.column(0).to_pylist() for batch in file.iter_batches(columns=[name]))
        for number, value in enumerate(values, 1):
            yield _text_of(value, name, f"{path} row {number}", columns)
    except pyarrow.ArrowException as error:
        raise TaskError(f"{path}: not a Parquet file that can be read ({first_line(error):.200})") from None


def _field_of(field: str, there: list[str], able: list[str]) -> str:
    """The field to read, of those that are there and those that are able to hold text."""
    return able[0] if field == FIELD and field not in there and len(able) == 1 else field


def _text_of(value: Any, field: str, place: str, columns: list[str]) -> str:
    if not isinstance(value, str):
        raise TaskError(_no_text(field, place, columns))
    return value


def _no_text(field: str, place: str, columns: list[str]) -> str:
    return f"{place}: no text under {field!r}; it has {', '.join(columns) or 'nothing'}: name the field that holds it"


_READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": _texts,
    ".md": _texts,
    ".markdown": _texts,
    ".rst": _texts,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
