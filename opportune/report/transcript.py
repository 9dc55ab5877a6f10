"""Every example with what each arm was asked and answered, packed small enough to travel inside one page.

Prompts of a run repeat each other: the same shots before every question, the same question under every arm. A prompt is
kept as the numbers of its pieces (its lines, long ones in parts), each distinct piece once, and only from the first
piece on that differs from the prompt before it. `tests/report` has the decoder in Python, `templates/report.js` in
JavaScript.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from opportune.records import ArmRecord, CallRecord, ExampleRecord, OutcomeRecord

Json: TypeAlias = dict[str, Any]
ArmKey: TypeAlias = tuple[str, int]  # an arm's hash and seed

_PIECES = re.compile(r"[^\n]{1,400}\n?|\n")
_HARMFUL = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def inert_json(value: Any) -> str:
    """JSON that can stand inside a script element: no character of it can end the element or mean anything to HTML."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_HARMFUL)


@dataclass(slots=True)
class Shelf:
    """Prompts packed against each other; asking for the number of a prompt puts it on the shelf."""

    pieces: dict[str, int] = field(default_factory=dict)  # in the order of their numbers
    packed: list[list[int]] = field(default_factory=list)  # [pieces shared with the prompt before, piece, piece ...]
    _numbers: dict[str, int] = field(default_factory=dict)
    _before: list[int] = field(default_factory=list)

    def number(self, prompt: str) -> int:
        """The prompt's number."""
        if prompt not in self._numbers:
            self._numbers[prompt] = len(self.packed)
            row = [self.pieces.setdefault(piece, len(self.pieces)) for piece in _PIECES.findall(prompt)]
            shared = _common(row, self._before)
            self.packed.append([shared, *row[shared:]])
            self._before = row
        return self._numbers[prompt]


def transcript(
    examples: Sequence[ExampleRecord],
    arms: Mapping[ArmKey, str],
    outcomes: Iterable[OutcomeRecord],
    calls: Iterable[CallRecord],
) -> Json:
    """The page's data: test examples in their order, under each of `arms` (key -> the name shown)."""
    shelf = Shelf()
    choices: dict[tuple[str, ...], int] = {}
    by_call: dict[tuple[ArmKey, str], list[Json]] = {}
    for call in calls:
        place = ((call.hash, call.seed), call.example)
        by_call.setdefault(place, []).append(_call(call, shelf, choices))
    by_outcome = {((outcome.hash, outcome.seed), outcome.example): outcome for outcome in outcomes}
    rows = [
        {
            "id": example.example,
            "input": example.input,
            "target": example.target,
            "asked": [
                _asked(by_outcome.get((key, example.example)), by_call.get((key, example.example), ()), choices)
                for key in arms
            ],
        }
        for example in examples
    ]
    return {
        "arms": list(arms.values()),
        "pieces": list(shelf.pieces),
        "prompts": shelf.packed,
        "choices": [list(labels) for labels in choices],
        "examples": rows,
    }


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _call(call: CallRecord, shelf: Shelf, choices: dict[tuple[str, ...], int]) -> Json:
    packed: Json = {"prompt": shelf.number(call.prompt), "in": call.tokens_in, "out": call.tokens_out}
    if call.texts:
        packed["texts"] = call.texts
    if call.choices is not None and call.scores is not None:
        packed |= {"choices": choices.setdefault(call.choices, len(choices)), "scores": _rounded(call.scores)}
    optional = {"dropped": call.shots_dropped, "cut": call.tokens_cut, "error": call.error}
    return packed | {name: value for name, value in optional.items() if value}


def _asked(outcome: OutcomeRecord | None, calls: Sequence[Json], choices: dict[tuple[str, ...], int]) -> Json | None:
    if outcome is None:
        return None
    asked: Json = {"status": outcome.status, "answer": outcome.answer, "score": outcome.score, "calls": calls}
    if outcome.answer is None and outcome.raw:
        asked["raw"] = outcome.raw
    if outcome.choice_scores:
        labels = choices.setdefault(tuple(outcome.choice_scores), len(choices))
        asked |= {"labels": labels, "scores": _rounded(outcome.choice_scores.values())}
    return asked


def _rounded(scores: Iterable[float]) -> list[float | None]:
    return [round(score, 3) if math.isfinite(score) else None for score in scores]


def name_arms(arms: Sequence[ArmRecord]) -> dict[ArmKey, str]:
    """The arms' names in their order; the seed is named where there are several."""
    several = len({arm.seed for arm in arms}) > 1
    return {(arm.hash, arm.seed): arm.recipe + (f" (seed {arm.seed})" if several else "") for arm in arms}
