"""What sort of answers a task asks for: one of some labels, or free text; and the metric that suits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from opportune.errors import RecipeError, TaskError
from opportune.spec import parse
from opportune.tasks.examples import Draft, Drafts
from opportune.types import Kind
from opportune.values import first_object, has_field, is_number, normalise, numbers

MOST_LABELS = 200  # inferred; more can be asked for with kind="choice"
LONGEST_LABEL = 80  # characters
MOST_NUMBERS = 10  # so many different numbers may be labels, such as stars; more are results to be computed


@dataclass(frozen=True, slots=True)
class Answers:
    """What is allowed as an answer and how it is scored."""

    kind: Kind
    choices: tuple[str, ...] | None  # shared by all examples
    metric: str
    notes: tuple[str, ...]


def settle_answers(
    drafts: Drafts, choices: Sequence[str] | None, kind: Kind | None, metric: str | None, names: Sequence[str] | None
) -> Answers:
    """The kind, the shared choices and the metric, each as given or else inferred from the train split.

    Shared choices are, in this order: those given, those the data names (`names`), those that every row lists alike,
    the labels of train, sorted. Names of labels that come in lists are no choices: an answer is several.
    """
    if any(draft.listed for draft in drafts["train"]):
        names = None
    own = {draft.example.choices for part in drafts.values() for draft in part}
    if kind not in (None, "choice", "text"):
        raise TaskError(f"the kind of task is 'choice' or 'text', not {kind!r}")
    if kind == "text" and choices is not None:
        raise TaskError("choices were given for a task of free text; leave out one of the two")
    notes = []
    if kind is None:
        listed = choices is not None or names is not None or own != {None}
        kind, reason = ("choice", "they are listed") if listed else infer_kind(drafts["train"])
        notes.append(f"the answers are {'a choice among labels' if kind == 'choice' else 'free text'}: {reason}")
    shared = _shared_choices(drafts["train"], choices, names, own) if kind == "choice" else None
    if metric is None:
        metric = "accuracy" if kind == "choice" else _text_metric(drafts["train"])
        notes.append(f"the metric is {metric}")
    if metric == "numeric-match":
        _require_numbers(drafts)
    if metric.partition(":")[0] == "json-fields":
        _require_objects(drafts, metric)
    if shared is not None and all(is_number(choice) for choice in shared) and choices is None:
        notes.append("the labels are numbers; a model does better with names (labels.json beside train)")
    return Answers(kind, shared, metric, tuple(notes))


def infer_kind(drafts: Sequence[Draft]) -> tuple[Kind, str]:
    """Labels are few, short, and mostly seen more than once; all else is free text. With the reason in words."""
    if any(draft.listed for draft in drafts):
        return "text", "targets are lists of labels"
    if all(_is_object(draft.example.target) for draft in drafts):
        return "text", "targets are JSON objects"
    counts = Counter(draft.example.target for draft in drafts)
    found = f"{len(counts)} different targets in {len(drafts)} examples"
    longest = max(map(len, counts))
    repeated = sum(count > 1 for count in counts.values())
    if longest > LONGEST_LABEL:
        return "text", f"the longest target has {longest} characters"
    if len(counts) > MOST_LABELS or 2 * repeated < len(counts) or len(drafts) < 2 * len(counts):
        return "text", found
    if all(is_number(target) for target in counts) and len(counts) > MOST_NUMBERS:
        return "text", f"{found}, all numbers"
    return "choice", found


def settle_labels(drafts: Drafts, answers: Answers) -> tuple[Drafts, tuple[str, ...]]:
    """Targets written as their choice is, where only case or spacing differ; a text task loses its rows' choices.

    Raises TaskError for one label only, and, naming count and place, for a label that is not among the choices.
    """
    if answers.kind == "text":
        return {split: [_with(draft, choices=None) for draft in part] for split, part in drafts.items()}, ()
    if answers.choices is None:
        for draft in (draft for part in drafts.values() for draft in part if draft.example.choices is None):
            raise TaskError(f"{draft.place}: no choices, while other rows have some")
        return drafts, ()
    written = {normalise(choice): choice for choice in answers.choices}
    _refuse_unknown(drafts, written)
    settled = {
        split: [_with(draft, target=written[normalise(draft.example.target)], choices=None) for draft in part]
        for split, part in drafts.items()
    }
    labels = {draft.example.target for draft in settled["train"]}
    if len(labels) == 1:
        first, label = drafts["train"][0].place, labels.pop()
        raise TaskError(f"{first} and all other training examples have the target {label!r}: nothing to tell apart")
    used = {draft.example.target for part in drafts.values() for draft in part}
    changed = sorted(label for label in used if written[normalise(label)] != label)
    return settled, tuple(f"the label {label!r} is read as {written[normalise(label)]!r}" for label in changed)


def _shared_choices(
    train: Sequence[Draft],
    choices: Sequence[str] | None,
    names: Sequence[str] | None,
    own: set[tuple[str, ...] | None],
) -> tuple[str, ...] | None:
    if choices is not None:
        return _checked(tuple(choice.strip() for choice in choices))
    if names is not None:
        return _checked(tuple(sorted(names)))
    if own != {None}:
        return next(iter(own)) if len(own) == 1 else None
    counts = Counter(draft.example.target for draft in train)
    # The commonest way to write a label stands for all of them.
    ways = {normalise(label): label for label, _ in reversed(counts.most_common())}
    return tuple(sorted(ways.values()))


def _checked(choices: tuple[str, ...]) -> tuple[str, ...]:
    if len(choices) < 2 or not all(choices):
        raise TaskError(f"at least two choices are expected, none empty, not {list(choices)}")
    if len({normalise(choice) for choice in choices}) < len(choices):
        raise TaskError(f"two of the choices differ in case or spacing only: {list(choices)}")
    return choices


def _refuse_unknown(drafts: Drafts, written: dict[str, str]) -> None:
    for split, part in drafts.items():
        strangers = [draft for draft in part if normalise(draft.example.target) not in written]
        if strangers:
            label = strangers[0].example.target
            count = sum(draft.example.target == label for draft in strangers)
            raise TaskError(
                f"{strangers[0].place}: the label {label!r:.100} ({count} times in {split}) is not among the"
                f" {len(written)} choices, which are the labels of train unless given: correct it, give --choices,"
                " or say --kind text if answers are free text"
            )


def _text_metric(drafts: Sequence[Draft]) -> str:
    targets = [draft.example.target for draft in drafts]
    if any(draft.listed for draft in drafts):
        return "multilabel-f1"
    if all(map(_is_object, targets)):
        return "json-fields"
    if all(map(is_number, targets)):
        return "numeric-match"
    return "exact-match" if all(len(target.split()) == 1 for target in targets) else "token-f1"


def _require_numbers(drafts: Drafts) -> None:
    for draft in (draft for part in drafts.values() for draft in part):
        if not numbers(draft.example.target):
            raise TaskError(f"{draft.place}: the target {draft.example.target!r:.60} holds no number for numeric-match")


def _require_objects(drafts: Drafts, metric: str) -> None:
    every = [draft for part in drafts.values() for draft in part]
    for draft in every:
        if not _is_object(draft.example.target):
            raise TaskError(f"{draft.place}: the target {draft.example.target!r:.60} is no JSON object for json-fields")
    fields = _named_fields(metric)
    targets = [first_object(draft.example.target) for draft in every]
    for field in fields:
        if not any(has_field(target, field) for target in targets):
            there = ", ".join(dict.fromkeys(name for target in targets for name in target or {}))
            raise TaskError(f"metric {metric!r}: no target has a field {field!r}; there is {there or 'none':.200}")
    for draft, target in zip(every, targets, strict=True):
        if fields and not any(has_field(target, field) for field in fields):
            raise TaskError(
                f"{draft.place}: the target {draft.example.target!r:.60} has none of the fields of {metric!r}"
            )


def _named_fields(metric: str) -> list[str]:
    """The fields that json-fields is to look at. What is no metric is refused where it is made."""
    try:
        named = parse(metric).parts[0].options.get("fields")
    except RecipeError:
        return []
    return [field for field in named if isinstance(field, str)] if isinstance(named, tuple) else []


def _is_object(text: str) -> bool:
    return text.startswith("{") and text.endswith("}") and first_object(text) is not None


def _with(draft: Draft, **changes: object) -> Draft:
    return replace(draft, example=replace(draft.example, **changes))  # type: ignore[arg-type]
