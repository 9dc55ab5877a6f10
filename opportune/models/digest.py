"""Digests of models that are quick on many gigabytes.

Hashing every byte would take seconds to minutes at each start (0.5 GB: 3 s). Instead, everything small is hashed whole
(configuration, tokenizer, the headers that list each tensor's name, type and shape) and each tensor gives a few evenly
spaced blocks of bytes. Training changes a tensor everywhere, so two different models have different digests; an edit by
hand to a few rows of one tensor can escape. Dates and folder names do not enter: copies of a model share its digest on
every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_BLOCKS, _BLOCK = 8, 4096  # of each tensor
_FILE_BLOCKS = 4096  # of a file whose layout is not read
_TEXTS = ("config.json", "*token*", "vocab*", "merges.txt", "*.model", "*.jinja", "*.py")
_VOLATILE = ("transformers_version", "_name_or_path", "_model_name_or_path")  # say who wrote it, not what it is


def model_digest(folder: Path) -> str:
    """16 hexadecimal digits of a model folder's weights, tokenizer and configuration."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in _TEXTS for path in folder.glob(pattern) if path.is_file()}):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(_content(path)).digest())
    for path in sorted(folder.glob("*.safetensors")):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(b"".join(_weights(path))).digest())
    return total.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """16 hexadecimal digits of one big file: its size and evenly spaced blocks of it, all of it up to 16 MB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        sampled = b"".join(_blocks(file, 0, size, _FILE_BLOCKS))
    return hashlib.sha256(size.to_bytes(8, "little") + sampled).hexdigest()[:16]


def _content(path: Path) -> bytes:
    if path.name != "config.json":
        return path.read_bytes()
    config = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True).encode()


def _weights(path: Path) -> Iterator[bytes]:
    """The header of a safetensors file (8 bytes of length, then JSON), then a sample of each tensor."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        yield json.dumps(header, sort_keys=True).encode()
        for name in sorted(header):
            begin, end = header[name]["data_offsets"]
            yield from _blocks(file, 8 + length + begin, 8 + length + end, _BLOCKS)


def _blocks(file: BinaryIO, begin: int, end: int, count: int) -> Iterator[bytes]:
    """`count` evenly spaced blocks between two offsets, the first and the last included; everything if it is less."""
    if end - begin <= count * _BLOCK:
        count, size = 1, end - begin
    else:
        size = _BLOCK
    step = (end - begin - size) / max(count - 1, 1)
    for index in range(count):
        file.seek(begin + round(index * step))
        yield file.read(size)
