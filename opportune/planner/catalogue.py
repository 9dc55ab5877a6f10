"""Models by what a user has: a well-known name, a Hugging Face folder or config.json, or just a size."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from opportune.errors import ModelError
from opportune.planner.architecture import Architecture
from opportune.planner.families import read_config
from opportune.planner.sizes import architecture_of_size

_SHIPPED = Path(__file__).with_name("catalogue.json")
_TUNED = re.compile(r"-(instruct|chat|it|base|hf|v\d(\.\d)?|\d{4})\b")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", re.IGNORECASE)
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def find(name: str) -> Architecture:
    """The architecture of a folder, a config.json, or a name in the catalogue. Raises ModelError with what is near."""
    path = Path(name).expanduser()
    if path.is_dir():
        path /= "config.json"
    if path.is_file():
        return read_config(_read(path), name)
    key = _plain(name)
    if key in known():
        return read_config(known()[key], key)
    if cached := _downloaded(name):
        return read_config(_read(cached), name)
    near = get_close_matches(key, known(), 5, 0.3) or list(known())[:5]
    raise ModelError(
        f"model {name!r} is no folder with a config.json and not in the planner's list; near it: {', '.join(near)}; "
        "or give --parameters"
    )


@cache
def known() -> dict[str, dict[str, Any]]:
    """The catalogue: name -> configuration."""
    found: dict[str, dict[str, Any]] = json.loads(_SHIPPED.read_text(encoding="utf-8"))
    return found


def size(text: str, place: str) -> float:
    """A number with a letter, such as 10B, 1.5M or 300k. Raises ModelError."""
    found = _SIZE.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if found is None or float(found[1]) == 0:
        raise ModelError(f"{place} {text!r} is not a size: a number with K, M, B or T, such as 350M or 10B")
    return float(found[1]) * _FACTORS[found[2].lower()]


def of_size(text: str, vocabulary: int | None = None) -> Architecture:
    """A plausible architecture with so many parameters. Raises ModelError where embeddings alone are more."""
    return architecture_of_size(size(text, "--parameters"), vocabulary)


def _plain(name: str) -> str:
    """The catalogue's spelling of a hub name: no owner, lower case, without words for tuned variants."""
    bare = name.rpartition("/")[2].lower().replace("_", "-").removeprefix("meta-")
    if bare in known():
        return bare
    return _TUNED.sub("", _TUNED.sub("", bare))


def _downloaded(name: str) -> Path | None:
    """The config.json that huggingface_hub has on this machine already; nothing is fetched."""
    if "/" not in name:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} is not a configuration: it holds no JSON object")
    return found
