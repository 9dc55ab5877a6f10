"""From rows to examples, each still knowing its place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opportune.errors import TaskError
from opportune.tasks.columns import CHOICES, Columns, text_of
from opportune.tasks.tables import Row, Table, Tables
from opportune.tasks.text_files import LONGEST_LINE
from opportune.types import Example, Split, digest
from opportune.values import compact


@dataclass(frozen=True, slots=True)
class Draft:
    """An example, and where it was read."""

    example: Example
    place: str
    listed: bool = False  # the target was given as a list


Drafts = dict[Split, list[Draft]]


def draft_examples(tables: Tables, columns: Columns) -> tuple[Drafts, tuple[str, ...]]:
    """The examples of every given split, and what is to be told. Raises TaskError naming the place.

    Rows without an input are left out and counted. An id is a digest of the example's content, so that it survives
    another order, limit or split; repeats of one content are numbered.
    """
    seen: Counter[str] = Counter()
    drafts: Drafts = {}
    notes = []
    for split, table in tables.items():
        rows = [(row, _input(row, columns)) for row in table.rows]
        empty = [row.place for row, text in rows if not text]
        if len(empty) == len(rows):
            raise TaskError(f"{table.source}: every row is empty")
        if empty:
            notes.append(f"{len(empty)} rows without input left out (first: {empty[0]})")
        drafts[split] = [_draft(row, text, table, columns, seen) for row, text in rows if text]
    return drafts, tuple(notes)


def _input(row: Row, columns: Columns) -> str:
    texts = {column: text_of(row.values.get(column), column, row.place) for column in columns.input.columns}
    if not any(texts.values()):
        return ""
    text = columns.input.fill(texts).strip()
    if len(text) > LONGEST_LINE:
        raise TaskError(f"{row.place}: an input of {len(text) / 1e6:.1f} million characters; at most 10 are read")
    return text


def _draft(row: Row, text: str, table: Table, columns: Columns, seen: Counter[str]) -> Draft:
    choices = _choices(row)
    target = _target(row, table, columns, choices)
    rationale = None if columns.rationale is None else _rationale(row, columns.rationale)
    group = None
    if columns.group is not None:
        # An empty group is no group: the example stands alone.
        group = text_of(row.values.get(columns.group), columns.group, row.place) or None
    content = digest([text, target, choices])
    seen[content] += 1
    name = content if seen[content] == 1 else f"{content}-{seen[content]}"
    listed = isinstance(row.values.get(columns.target), list | tuple)
    return Draft(Example(name, text, target, choices, rationale, group), row.place, listed)


def _rationale(row: Row, column: str) -> str | None:
    """A worked solution: text, or a decomposition, a list of simpler questions with their answers, kept as JSON."""
    value = row.values.get(column)
    if isinstance(value, list | tuple):
        if not all(isinstance(step, Mapping) and {"question", "answer"} <= step.keys() for step in value):
            raise TaskError(f'{row.place}: column {column!r} holds a list; its items are {{"question", "answer"}}')
        value = compact([{key: str(step[key]) for key in ("question", "answer")} for step in value]) if value else ""
    return text_of(value, column, row.place) or None


def _target(row: Row, table: Table, columns: Columns, choices: tuple[str, ...] | None) -> str:
    value = row.values.get(columns.target)
    names = table.class_names.get(columns.target) or table.target_names
    if names is not None and isinstance(value, list | tuple):
        value = [_named(text_of(item, columns.target, row.place), names, row.place) for item in value]
        names = None
    target = _target_text(value, columns.target, row.place)
    if not target:
        raise TaskError(f"{row.place}: the target (column {columns.target!r}) is empty")
    if names is not None:
        return _named(target, names, row.place)
    if choices is not None and target not in choices:
        if not (target.isdecimal() and int(target) < len(choices)):
            raise TaskError(f"{row.place}: the target {target!r} is not among the row's choices {_listed(choices)}")
        return choices[int(target)]
    return target


def _target_text(value: Any, column: str, place: str) -> str:
    """The target as text: labels in a list joined by commas, what has more structure as JSON on one line.

    No label at all is [], so that a model can be shown and taught to write that.
    """
    if value and isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        labels = [text_of(item, column, place) for item in value]
        # A label that holds a comma would fall apart again.
        if all(label and "," not in label for label in labels):
            return ", ".join(labels)
    return text_of(compact(value) if isinstance(value, dict | list | tuple) else value, column, place)


def _named(target: str, names: Mapping[int, str], place: str) -> str:
    if target in names.values():
        return target
    if target.isdecimal() and int(target) in names:
        return names[int(target)]
    raise TaskError(f"{place}: the label {target!r} has no name; named are {_listed(names.values())}")


def _choices(row: Row) -> tuple[str, ...] | None:
    """The row's own choices: a list, a list written as JSON, or texts between bars."""
    value = row.values.get(CHOICES)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = _split_choices(value)
    if not isinstance(value, list | tuple):
        raise TaskError(f"{row.place}: column {CHOICES!r} holds {type(value).__name__}, a list is expected")
    choices = tuple(text_of(item, CHOICES, row.place) for item in value)
    if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
        raise TaskError(f"{row.place}: at least two different choices are expected, not {_listed(choices)}")
    return choices


def _split_choices(text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text.split("|")


def _listed(items: Iterable[str]) -> str:
    names = [repr(item) for item in items]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
