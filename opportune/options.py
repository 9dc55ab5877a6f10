"""From a part's options to its object: the fields of a frozen dataclass are the options, their types the check."""

from __future__ import annotations

import importlib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal

from opportune.errors import RecipeError
from opportune.spec import Part, Recipe, Value


def load(place: str) -> Any:
    """The object at `package.module:Name`, imported now."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def build(part: Part, place: str) -> Any:
    """The strategy or method that a part names. Raises RecipeError for an unknown option or a value of a wrong type."""
    kind = load(place)
    hints = typing.get_type_hints(kind)
    known = {item.name: hints[item.name] for item in fields(kind)}
    values = {}
    for name, value in part.options.items():
        if name not in known:
            raise RecipeError(f"{part.name}: unknown option {name!r}; it has {_listed(known)}")
        values[name] = _convert(value, known[name], f"{part.name}:{name}")
    return kind(**values)


def resolved(part: Part, built: Any) -> Part:
    """The part with every option written out, in the order of the fields."""
    return Part(part.name, {item.name: getattr(built, item.name) for item in fields(built)})


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
        if value in allowed:
            return value
        raise RecipeError(f"{place}={value} is not one of {_listed(map(str, allowed))}")
    if typing.get_origin(wanted) is tuple and isinstance(value, tuple):
        return tuple(_convert(item, typing.get_args(wanted)[0], place) for item in value)
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
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Recipe: "a recipe"}
    return names.get(wanted, str(wanted))
