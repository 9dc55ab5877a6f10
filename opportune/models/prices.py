"""What an endpoint's tokens cost: the table shipped in prices.json, which a user extends or overrides by a file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opportune.errors import ModelError

_SHIPPED = Path(__file__).with_name("prices.json")
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")  # a snapshot costs what its family costs, unless it is listed itself
_NEEDED = ("model", "input", "output")
_KNOWN = ("provider", "server", *_NEEDED, "date", "source")


@dataclass(frozen=True, slots=True)
class Price:
    """One row: whose models it holds for, and the price of a million tokens."""

    model: str  # a pattern: * and ? stand for any characters and any one
    input: float  # dollars a million tokens
    output: float
    server: str = "*"  # a pattern of the host's name
    provider: str = ""
    date: str = ""  # when the source was read
    source: str = ""

    def dollars(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


def price_of(base_url: str, name: str, own: Sequence[Price] = ()) -> Price | None:
    """The price of a model at a server: the user's own rows first, then the shipped ones, each in their order."""
    host = urlsplit(base_url).hostname or ""
    for written in dict.fromkeys((name, _DATED.sub("", name))):
        for row in (*own, *_shipped()):
            if fnmatchcase(host, row.server) and fnmatchcase(written, row.model):
                return row
    return None


def read_prices(path: Path) -> tuple[Price, ...]:
    """The rows of a user's file: a JSON list of objects, or a CSV file with a header. Raises ModelError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows: Any = list(csv.DictReader(text.splitlines())) if path.suffix.lower() == ".csv" else json.loads(text)
    except OSError as error:
        raise ModelError(f"--prices {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ModelError(f"--prices {path} is neither JSON nor a .csv file: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ModelError(f"--prices {path} should be a list of objects with {', '.join(_NEEDED)}")
    return tuple(_read(rows, str(path)))


def _read(rows: Iterable[Mapping[str, Any]], place: str) -> Iterable[Price]:
    for number, row in enumerate(rows, 1):
        values = {key: value for key, value in row.items() if value not in (None, "")}
        if missing := [key for key in _NEEDED if key not in values]:
            raise ModelError(f"--prices {place}, row {number}: {missing[0]} is missing")
        if unknown := [str(key) for key in values if key not in _KNOWN]:
            raise ModelError(f"--prices {place}, row {number}: unknown {unknown[0]!r}; known are {', '.join(_KNOWN)}")
        amounts = {key: _amount(values[key], f"--prices {place}, row {number}: {key}") for key in ("input", "output")}
        texts = {key: str(value) for key, value in values.items() if key not in amounts}
        yield Price(model=texts.pop("model"), input=amounts["input"], output=amounts["output"], **texts)


def _amount(value: Any, place: str) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 <= amount < 1e9:
        raise ModelError(f"{place}={value!r} should be dollars a million tokens, 0 or more")
    return amount


@cache
def _shipped() -> tuple[Price, ...]:
    return tuple(_read(json.loads(_SHIPPED.read_text(encoding="utf-8")), str(_SHIPPED)))
