"""From a part's options to its object: the fields of a frozen dataclass are the options, their types the check."""

from __future__ import annotations

import importlib
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any, Literal

from opportune.errors import RecipeError
from opportune.spec import Part, Recipe, Value


class TextOrFile(str):
    """An option that is a text, or the name of a file that holds it: the text is what is kept."""

    __slots__ = ()


REST = "rest"  # a field of (name, value) pairs that takes the options no other field has
_SUFFIXES = (".txt", ".md", ".j2", ".jinja", ".jinja2", ".jsonl", ".json")


def read_text(value: str, place: str) -> str:
    """The text itself, or what the file of that name holds. Raises RecipeError for a file that is not there."""
    if "\n" in value or len(value) > 4096:
        return value
    path = Path(value).expanduser()
    if not (_names_file(value) or _is_file(path)):
        return value
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{place}: the file {value} cannot be read: {error}; a text has a space in it") from error
    if _names_file(text) and "\n" not in text:  # a stored recipe has the text, and is read again
        raise RecipeError(f"{place}: the file {value} holds only {text!r}, which looks like a file's name itself")
    return text


def _is_file(path: Path) -> bool:
    with suppress(OSError):  # longer than a name may be
        return path.is_file()
    return False


def _names_file(value: str) -> bool:
    """Whether a text looks like a file's name: by its ending, or one word with a slash and nothing to be filled in."""
    word = not any(character.isspace() or character in "{}" for character in value)
    return Path(value).suffix.lower() in _SUFFIXES or (word and "/" in value)


def load(place: str) -> Any:
    """The object at `package.module:Name`, imported now."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def build(part: Part, place: str) -> Any:
    """The strategy or method that a part names. Raises RecipeError for an unknown option or a value of a wrong type."""
    kind = load(place)
    hints = typing.get_type_hints(kind)
    known = {_option(item.name): item.name for item in fields(kind) if item.name != REST}
    values: dict[str, Any] = {}
    for name, value in part.options.items():
        if name in known:
            values[known[name]] = _convert(value, hints[known[name]], f"{part.name}:{name}")
        elif REST in hints:
            values[REST] = (*values.get(REST, ()), (name, value))
        else:
            raise RecipeError(f"{part.name}: unknown option {name!r}; it has {_listed(known)}")
    return kind(**values)


def option_names(place: str) -> tuple[str, ...] | None:
    """The options of what a part names; None where it takes any."""
    names = tuple(_option(item.name) for item in fields(load(place)))
    return None if REST in names else names


def _option(field: str) -> str:
    """The option of a field: Python wants an underscore after its own words (`with_`)."""
    return field.rstrip("_")


def candidates(part: Part, place: str) -> list[Part]:
    """The parts that a part stands for: one for each combination of the values listed for options that take one."""
    hints = typing.get_type_hints(load(place))
    listed = {name: v for name, v in part.options.items() if isinstance(v, tuple) and not _takes_list(hints.get(name))}
    for name, values in listed.items():
        if not values:
            raise RecipeError(f"{part.name}:{name}=[] lists nothing to choose from")
    return [
        Part(part.name, {**part.options, **dict(zip(listed, values, strict=True))})
        for values in product(*listed.values())
    ]


def _takes_list(wanted: Any) -> bool:
    kinds = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else (wanted,)
    return any(typing.get_origin(kind) is tuple for kind in kinds)


def resolved(part: Part, built: Any) -> Part:
    """The part with every option written out, in the order of the fields."""
    options = {_option(item.name): getattr(built, item.name) for item in fields(built) if item.name != REST}
    return Part(part.name, options | dict(getattr(built, REST, ())))


def within(owner: str, name: str, value: float, low: float, high: float) -> None:
    """Check a numeric option's range. Raises RecipeError naming the option, what was received and what is allowed."""
    if not low <= value <= high:
        raise RecipeError(f"{owner}:{name}={value} is out of range: {low:g} to {high:g}")


def _listed(names: Mapping[str, Any] | Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _convert(value: Value, wanted: Any, place: str) -> Any:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return _convert_to_one(value, typing.get_args(wanted), place)
    if typing.get_origin(wanted) is Literal:
        allowed = typing.get_args(wanted)
        if value is None and "none" in allowed:  # the grammar reads the bare word as a constant
            return "none"
        if value in allowed:
            return value
        raise RecipeError(f"{place}={value} is not one of {_listed(map(str, allowed))}")
    if typing.get_origin(wanted) is tuple and isinstance(value, tuple):
        return tuple(_convert(item, typing.get_args(wanted)[0], place) for item in value)
    if wanted is TextOrFile and isinstance(value, str):
        return TextOrFile(read_text(value, place))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(wanted, type) and isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    raise RecipeError(f"{place}={value} should be {_described(wanted)}")


def _convert_to_one(value: Value, choices: tuple[Any, ...], place: str) -> Any:
    if value is None and type(None) in choices:
        return None
    errors = []
    for choice in (choice for choice in choices if choice is not type(None)):
        try:
            return _convert(value, choice, place)
        except RecipeError as error:
            errors.append(error)
    raise errors[0]


def _described(wanted: Any) -> str:
    if typing.get_origin(wanted) is tuple:
        return "a list in brackets"
    names = {
        TextOrFile: "text or a file's name",
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        Recipe: "a recipe",
    }
    return names.get(wanted, str(wanted))
