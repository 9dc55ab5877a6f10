"""The recipe's grammar: one string <-> one object, `parse(str(recipe)) == recipe`.

    recipe  =  part { "+" part } [ "@" model ]
    part    =  name [ ":" option { "," option } ]
    option  =  name "=" value
    value   =  number | "true" | "false" | "none" | quoted | bare | "[" [ value { "," value } ] "]" | "(" recipe ")"
    model   =  ( quoted | bare ) [ "[" option { "," option } "]" ]
    name    =  letters, digits, "-", "_"
    bare    =  any characters but space and  , + @ = ( ) [ ] "
    quoted  =  '"' ... '"' with \\" \\\\ and \\n

Examples: `k-shot:k=8`, `lora:rank=16,targets=[q_proj,v_proj]+k-shot:k=4@smollm2-135m`,
`self-consistency:n=5,of=(k-shot:k=4)`, `zero-shot@"my models/a"[dtype=bfloat16]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from opportune.errors import RecipeError

Value: TypeAlias = "str | int | float | bool | tuple[Value, ...] | Recipe | None"

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BARE = re.compile(r'[^\s,+@=()\[\]"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_INTEGER = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE]-?\d+)?")
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, slots=True)
class Part:
    """A method or a strategy with its options, in the order given."""

    name: str
    options: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name + (":" + _print_options(self.options) if self.options else "")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model, and how to load it."""

    name: str
    options: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        name = self.name if _BARE.fullmatch(self.name) else _quote(self.name)
        return name + (f"[{_print_options(self.options)}]" if self.options else "")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Methods (none, one or a chain), a strategy, a model: parts in the order written, the model where given."""

    parts: tuple[Part, ...]
    model: ModelRef | None = None

    def __str__(self) -> str:
        return "+".join(map(str, self.parts)) + (f"@{self.model}" if self.model else "")


def parse(text: str) -> Recipe:
    """Read a recipe. Raises RecipeError naming the place in the text."""
    reader = _Reader(text.strip())
    recipe = reader.recipe()
    if not reader.at_end():
        raise reader.error("the end of the recipe, '+', ',' or '@'")
    return recipe


class _Reader:
    """A cursor over the text; each method reads one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    def at_end(self) -> bool:
        return self.place >= len(self.text)

    def error(self, wanted: str) -> RecipeError:
        found = repr(self.text[self.place :][:20]) if not self.at_end() else "the end"
        return RecipeError(f"recipe {self.text!r}: at character {self.place + 1}: expected {wanted}, found {found}")

    def take(self, symbol: str) -> bool:
        if self.text.startswith(symbol, self.place):
            self.place += len(symbol)
            return True
        return False

    def need(self, symbol: str) -> None:
        if not self.take(symbol):
            raise self.error(repr(symbol))

    def match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.place)
        if found is None:
            return None
        self.place = found.end()
        return found.group()

    def name(self, what: str) -> str:
        found = self.match(_NAME)
        if found is None:
            raise self.error(what)
        return found

    def recipe(self) -> Recipe:
        parts = [self.part()]
        while self.take("+"):
            parts.append(self.part())
        return Recipe(tuple(parts), self.model() if self.take("@") else None)

    def part(self) -> Part:
        name = self.name("the name of a method or strategy")
        return Part(name, self.options() if self.take(":") else {})

    def options(self) -> dict[str, Value]:
        options: dict[str, Value] = {}
        while True:
            key = self.name("an option's name")
            self.need("=")
            if key in options:
                raise RecipeError(f"recipe {self.text!r}: option {key!r} is given twice")
            options[key] = self.value()
            if not self.take(","):
                return options

    def model(self) -> ModelRef:
        quoted = self.match(_QUOTED)
        name = _unquote(quoted) if quoted is not None else self.match(_BARE)
        if not name:
            raise self.error("a model: a name, a folder or a file")
        if not self.take("["):
            return ModelRef(name)
        options = self.options()
        self.need("]")
        return ModelRef(name, options)

    def value(self) -> Value:
        if self.take("("):
            recipe = self.recipe()
            self.need(")")
            return recipe
        if self.take("["):
            return self.items()
        quoted = self.match(_QUOTED)
        if quoted is not None:
            return _unquote(quoted)
        bare = self.match(_BARE)
        if bare is None:
            raise self.error("a value")
        return _read_bare(bare)

    def items(self) -> tuple[Value, ...]:
        if self.take("]"):
            return ()
        items = [self.value()]
        while self.take(","):
            items.append(self.value())
        self.need("]")
        return tuple(items)


def _read_bare(text: str) -> Value:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _print_options(options: Mapping[str, Value]) -> str:
    return ",".join(f"{key}={_print(value)}" for key, value in options.items())


def _print(value: Value) -> str:
    match value:
        case Recipe():
            return f"({value})"
        case tuple():
            return "[" + ",".join(map(_print, value)) + "]"
        case bool() | None:
            return {True: "true", False: "false", None: "none"}[value]
        case str():
            plain = _BARE.fullmatch(value) and isinstance(_read_bare(value), str)
            return value if plain else _quote(value)
        case _:
            return repr(value).replace("e+", "e")  # "+" joins parts


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _unquote(quoted: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found.group(1) == "n" else found.group(1), quoted[1:-1], flags=re.S)
