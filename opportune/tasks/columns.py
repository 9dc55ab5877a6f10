"""Which columns hold what: named by the user, or found by themselves when unmistakable."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from opportune.errors import TaskError
from opportune.tasks.tables import Table, Tables

# fmt: off
INPUT_NAMES = frozenset({
    "input", "text", "question", "sentence", "prompt", "message", "body", "query", "utterance", "content", "review",
    "document", "problem",
})
TARGET_NAMES = frozenset({
    "target", "label", "answer", "intent", "output", "class", "category", "response", "completion", "sentiment",
    "topic", "solution",
})
# fmt: on
CHOICES, RATIONALE = "choices", "rationale"
_EXACT_FLOATS = 2**53  # whole numbers below are exact as floats
_NEITHER = frozenset({"", "id", "idx", "index", "split", CHOICES, RATIONALE})


@dataclass(frozen=True, slots=True)
class Template:
    """A text over columns, such as "{title}\\n{body}"."""

    parts: tuple[tuple[str, str | None], ...]  # text, then the column that follows it

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for _, column in self.parts if column is not None)

    def fill(self, texts: Mapping[str, str]) -> str:
        """The text with every column's value in its place."""
        return "".join(text + ("" if column is None else texts[column]) for text, column in self.parts)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each part of an example stands."""

    input: Template
    target: str
    group: str | None
    rationale: str | None  # None where there is none
    notes: tuple[str, ...]


def settle_columns(
    tables: Tables, input: str | None, target: str | None, group: str | None, rationale: str | None = None
) -> Columns:
    """The columns to read. Raises TaskError, listing what there is, where one is missing or none is unmistakable."""
    for table in tables.values():
        if not table.columns:
            raise TaskError(f"{table.source}: {'every row is empty' if table.rows else 'no rows'}")
    train = tables["train"]
    given = None if input is None else parse_template(input, train)
    taken = set() if given is None else set(given.columns)
    answers = target or _find("target", TARGET_NAMES, train, taken | {group or "", rationale or ""})
    asked = given or Template((("", _find("input", INPUT_NAMES, train, {answers, group or "", rationale or ""})),))
    if answers in asked.columns:
        raise TaskError(f"the column {answers!r} is both input and target: the answer would stand in the question")
    for table in tables.values():
        for column in (*asked.columns, answers, *([] if group is None else [group])):
            _require(column, table)
    if rationale is not None:
        _require(rationale, train)  # what is asked needs no worked solution
        if rationale in (*asked.columns, answers):
            other = "target" if rationale == answers else "input"
            raise TaskError(f"the column {rationale!r} is both rationale and {other}")
    elif RATIONALE in train.columns and RATIONALE not in (*asked.columns, answers):
        rationale = RATIONALE
    found = [f"input is the column {asked.columns[0]!r}"] if input is None else []
    found += [f"target is the column {answers!r}"] if target is None else []
    return Columns(asked, answers, group, rationale, (", ".join(found),) if found else ())


def parse_template(text: str, table: Table) -> Template:
    """The name of a column, or a template over columns; \\n and \\t stand for line break and tab."""
    if text in table.columns or "{" not in text:
        return Template((("", text),))
    text = text.replace("\\n", "\n").replace("\\t", "\t")
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise TaskError(
            f"the input template {text!r} is broken ({error}); write {{column}}, and {{{{ for a brace"
        ) from None
    if any(form or conversion for _, _, form, conversion in parts):
        raise TaskError(f"the input template {text!r} may hold column names only, without ':' or '!'")
    return Template(tuple((before, column) for before, column, _, _ in parts))


def _find(role: str, names: frozenset[str], table: Table, taken: set[str]) -> str:
    """The only column named like its role, else the only one of two that is left."""
    free = [column for column in table.columns if column.lower() not in _NEITHER and column not in taken]
    named = [column for column in free if column.lower() in names]
    others = [column for column in free if column.lower() in (INPUT_NAMES | TARGET_NAMES) - names]
    if len(named) == 1:
        return named[0]
    if not named and len(free) == 2 and len(others) == 1:
        return next(column for column in free if column not in others)
    if not named and len(free) == 1 and not others:
        return free[0]
    which = (
        f"{' and '.join(map(repr, named))} could each be the {role}" if named else f"no column is plainly the {role}"
    )
    raise TaskError(f"{table.source}: {which}; name it with --{role}; {_listed(table)}")


def _require(column: str, table: Table) -> None:
    if column not in table.columns:
        raise TaskError(f"{table.source}: no column {column!r}; {_listed(table)}")


def _listed(table: Table) -> str:
    return f"there is {', '.join(map(repr, table.columns)) or 'none'}"


def text_of(value: Any, column: str, place: str) -> str:
    """A cell as text; empty for a missing one. Raises TaskError for what is no text, number or truth value."""
    if value is None or value != value:  # not a number: how tables mark a missing value
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value, "f")
    if not isinstance(value, str | int | float):
        raise TaskError(f"{place}: column {column!r} holds {type(value).__name__}, text is expected")
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOATS:
        value = int(value)  # class numbers become floats where a table has gaps
    text = str(value).strip()
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise TaskError(f"{place}: column {column!r} holds half a character (a lone surrogate)")
    return text
