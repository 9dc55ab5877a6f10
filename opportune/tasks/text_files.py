"""Rows from text files: JSON lines, JSON, CSV, TSV. Only UTF-8 is read, one line at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opportune.errors import TaskError
from opportune.tasks.tables import Row

LONGEST_LINE = 10_000_000  # bytes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_json_lines(path: Path) -> list[Row]:
    """One object a line; an empty line is an empty row. Raises TaskError naming the line."""
    return [json_row(text, f"{path} line {number}") for number, text in lines(path)]


def read_json(path: Path) -> list[Row]:
    """An array of objects, or one object a line. Raises TaskError naming the line or the record."""
    with path.open("rb") as file:
        beginning = file.read(4096).removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not beginning.startswith(b"["):
        return read_json_lines(path)
    records = _parsed(_decoded(path.read_bytes(), path), str(path), " line {line}")
    return [_record(value, f"{path} record {number}") for number, value in enumerate(records, 1)]


def read_csv(path: Path) -> list[Row]:
    """Comma-separated values under a header; separated by semicolons where the header has those and no comma."""
    header = next((text for _, text in lines(path)), "")
    return _read_separated(path, ";" if ";" in header and "," not in header else ",")


def read_tsv(path: Path) -> list[Row]:
    """Tab-separated values under a header, quoted as in CSV."""
    return _read_separated(path, "\t")


def _read_separated(path: Path, delimiter: str) -> list[Row]:
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader((text for _, text in lines(path)), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    header: list[str] | None = None
    while True:
        place = f"{path} line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return rows
        except csv.Error as error:
            raise TaskError(f"{place}: the quotes do not close as they should ({error})") from None
        if header is None:
            header = _header(cells, place)
        else:
            rows.append(Row(_by_column(header, cells, place), place))


def _header(cells: list[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise TaskError(f"{place}: the header has the column {repeated!r} twice")
    return names


def _by_column(header: list[str], cells: list[str], place: str) -> dict[str, str]:
    if cells and len(cells) != len(header):
        raise TaskError(
            f"{place}: {len(cells)} cells, but the header has {len(header)} columns; a value that holds the separator"
            ' must stand in "quotes"'
        )
    return dict(zip(header, cells, strict=False))


def json_row(text: str, place: str) -> Row:
    """The row of a line that holds an object; of an empty line an empty one. Raises TaskError naming the place."""
    return _record(_parsed(text, place, ""), place) if text.strip() else Row({}, place)


def _parsed(text: str, place: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise TaskError(f"{place}{where.format(line=error.lineno)}: broken JSON ({reason})") from None
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{place}: JSON that cannot be read ({error})") from None


def _record(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise TaskError(f'{place}: an object such as {{"input": ..., "target": ...}} is expected, not {value!r:.40}')
    return Row(value, place)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1. Never holds more than the longest line allowed."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            if len(line) > LONGEST_LINE:
                size = len(line) + (0 if line.endswith(b"\n") else _rest_of_line(file))
                raise TaskError(
                    f"{path} line {number}: {size / 1e6:.1f} MB long, at most {LONGEST_LINE // 1_000_000} MB are read;"
                    " one example a line is expected"
                )
            yield number, _decoded(line, path, number, offset)
            offset += len(line)


def _rest_of_line(file: Any) -> int:
    size = 0
    while chunk := file.readline(1 << 20):
        size += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return size


def _decoded(data: bytes, path: Path, line: int = 1, offset: int = 0) -> str:
    """The text of `data`, which begins at that line and byte of the file."""
    mark = len(_BYTE_ORDER_MARK) if offset == 0 and data.startswith(_BYTE_ORDER_MARK) else 0
    try:
        return data[mark:].decode("utf-8")
    except UnicodeDecodeError as error:
        start = mark + error.start
        line += data.count(b"\n", 0, start)
        hint = " (it begins like UTF-16)" if offset == 0 and data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise TaskError(
            f"{path} line {line}: not UTF-8: byte 0x{data[start]:02x} at offset {offset + start}{hint}; save as UTF-8"
        ) from None
