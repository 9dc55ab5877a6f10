"""The one way in: labelled examples from anywhere become a Task, or one clear TaskError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from opportune.errors import TaskError
from opportune.tasks import bundled
from opportune.tasks.columns import settle_columns
from opportune.tasks.datasets_library import SPLIT_NAMES
from opportune.tasks.examples import Draft, draft_examples
from opportune.tasks.kind import settle_answers, settle_labels
from opportune.tasks.reading import read
from opportune.tasks.splitting import Limit, limit_examples, near_duplicate_notes, split_examples
from opportune.tasks.tables import Row, Table, Tables
from opportune.types import Example, Kind, Task

DEFAULT_INSTRUCTION: dict[Kind, str] = {
    "choice": "Choose the label that fits the text.",
    "text": "Answer the question.",
}
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Options:
    name: str
    input: str | None
    target: str | None
    instruction: str | None
    choices: Sequence[str] | None
    kind: Kind | None
    metric: str | None
    limit: Limit | None
    group: str | None
    rationale: str | None
    seed: int


def load_task(
    source: str | Path | None = None,
    *,
    input: str | None = None,
    target: str | None = None,
    instruction: str | None = None,
    choices: Sequence[str] | None = None,
    kind: Kind | None = None,
    metric: str | None = None,
    limit: Limit | None = None,
    group: str | None = None,
    rationale: str | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Task:
    """The task in a file, a folder or a dataset of the hub; without a source, the bundled one.

    `input` is a column or a template such as "{title}\\n{body}", `target`, `group` and `rationale` (worked solutions;
    else a column of that name) are columns; `choices` is the closed set of answers, in the order in which they are to
    be shown; `limit` keeps at most so many examples of each split (500, or "train=128,dev=60,test=150"); `seed` decides
    what is drawn. What is not given is inferred, and told in the task's notes. Raises TaskError, naming the place.
    """
    if source is None:
        source, name = bundled.FOLDER, name or bundled.NAME
        input, target = input or "input", target or "target"
        instruction = bundled.INSTRUCTION if instruction is None else instruction
    tables = read(source)
    name = name or _name_of(source)
    options = _Options(name, input, target, instruction, choices, kind, metric, limit, group, rationale, seed)
    return _assemble(tables, options)


def task_from_records(
    records: Records | Mapping[str, Records],
    *,
    input: str | None = None,
    target: str | None = None,
    instruction: str | None = None,
    choices: Sequence[str] | None = None,
    kind: Kind | None = None,
    metric: str | None = None,
    limit: Limit | None = None,
    group: str | None = None,
    rationale: str | None = None,
    seed: int = 0,
    name: str = "task",
) -> Task:
    """The task in rows that are already in memory, or in such rows by split; otherwise as `load_task`."""
    options = _Options(name, input, target, instruction, choices, kind, metric, limit, group, rationale, seed)
    return _assemble(_tables_of(records), options)


def _assemble(tables: Tables, options: _Options) -> Task:
    if isinstance(options.choices, str):
        raise TaskError(f"choices: a list of texts is expected, not the text {options.choices!r}")
    columns = settle_columns(tables, options.input, options.target, options.group, options.rationale)
    drafts, empty_notes = draft_examples(tables, columns)
    train = tables["train"]
    class_names = train.class_names.get(columns.target) or train.target_names
    names = None if class_names is None else list(class_names.values())
    answers = settle_answers(drafts, options.choices, options.kind, options.metric, names)
    drafts, label_notes = settle_labels(drafts, answers)
    by_label = answers.choices is not None
    drafts, split_notes = split_examples(drafts, by_label, options.seed)
    drafts, limit_notes = limit_examples(drafts, options.limit, by_label, options.seed)
    near_notes = near_duplicate_notes(drafts)
    return Task(
        name=options.name,
        instruction=DEFAULT_INSTRUCTION[answers.kind] if options.instruction is None else options.instruction,
        kind=answers.kind,
        choices=answers.choices,
        metric=answers.metric,
        train=_examples(drafts["train"]),
        dev=_examples(drafts["dev"]),
        test=_examples(drafts["test"]),
        notes=(*columns.notes, *empty_notes, *answers.notes, *label_notes, *split_notes, *limit_notes, *near_notes),
    )


def _examples(drafts: Sequence[Draft]) -> tuple[Example, ...]:
    return tuple(draft.example for draft in drafts)


def _name_of(source: str | Path) -> str:
    path = Path(source)
    return path.resolve().name if path.is_dir() else path.stem if path.exists() else str(source)


def _tables_of(records: Records | Mapping[str, Records]) -> Tables:
    if not isinstance(records, Mapping):
        return {"train": _table(records, "record")}
    unknown = [name for name in records if name not in SPLIT_NAMES]
    if unknown or "train" not in records:
        raise TaskError(f"records by split: train is needed, dev and test are allowed; given are {list(records)}")
    return {SPLIT_NAMES[name]: _table(rows, f"{name} record") for name, rows in records.items()}


def _table(rows: Records, source: str) -> Table:
    for number, row in enumerate(rows, 1):
        if not isinstance(cast(object, row), Mapping):
            raise TaskError(f"{source} {number}: an object with columns is expected, not {row!r:.40}")
    return Table(f"{source}s", tuple(Row(row, f"{source} {number}") for number, row in enumerate(rows, 1)))
