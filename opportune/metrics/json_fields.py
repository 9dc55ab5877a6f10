"""JSON fields: how much of what was to be extracted is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from opportune.metrics.scoring import mean_score
from opportune.types import Example
from opportune.values import field_of, first_object, has_field, normalise


@dataclass(frozen=True, slots=True)
class JsonFields:
    """The share of the target's fields that the first JSON object of the answer has right.

    All fields of the target, or those of them that are named; dots lead inwards (`address.city`). Texts are compared
    but for case and spacing, numbers within one part in a million, lists in order, objects whole; "12" is not 12. A
    field that the answer lacks is as good as null. Fields that the target lacks are not looked at: a task whose targets
    have none of those named is refused where it is loaded. 0 where there is no object.
    """

    fields: tuple[str, ...] = ()  # none: all of the target's

    summary: ClassVar[str] = "share of the target's JSON fields that the answer has right, for extraction"
    source: ClassVar[str] = "the usual definition of slot accuracy"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def score(self, answer: str, example: Example) -> float:
        """From 0 to 1."""
        found, wanted = first_object(answer), first_object(example.target)
        if found is None or wanted is None:
            return 0.0
        if not self.fields:
            right = [_same(found.get(field), value) for field, value in wanted.items()]
        else:
            named = [field for field in self.fields if has_field(wanted, field)]
            right = [_same(field_of(found, field), field_of(wanted, field)) for field in named]
        return sum(right) / len(right) if right else 1.0

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and isinstance(found, str):
        return normalise(found) == normalise(wanted)
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(_same(found.get(key), wanted.get(key)) for key in found.keys() | wanted.keys())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        # True is no 1, though Python says so.
        same_kind = isinstance(wanted, bool) == isinstance(found, bool)
        return same_kind and (found == wanted or _close(found, wanted))
    return found is None and wanted is None


def _close(found: float, wanted: float) -> bool:
    try:
        return math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-9)
    except OverflowError:  # a whole number beyond all floats
        return False
