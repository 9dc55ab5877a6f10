"""Lessons as tokens, packed into rows of real tokens only.

The lessons of a pack are a token tree: what some of them begin with (system prompt, instruction, first words) is
computed once, and gradients flow through it from every lesson. Positions restart, each token sees only its own lesson.
The last token of a lesson is only ever a target, so it is not computed at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from opportune.inference.attention import Plan, tree_plan
from opportune.inference.tokens import shared_length
from opportune.inference.tree import plant


@dataclass(frozen=True, slots=True)
class TokenLesson:
    """One lesson: ids[start:] are the targets (with the end token), ids[:start] the prompt, at least one token.

    A block of raw text may hold several documents: each but the first begins at one of `breaks` with a token that is
    no target, its positions from nought, and sees no other.
    """

    ids: tuple[int, ...]
    start: int
    breaks: tuple[int, ...] = ()
    cut: bool = False  # it lost demonstrations or part of its input to the length limit

    @property
    def targets(self) -> int:
        """How many tokens are learned."""
        return len(self.ids) - self.start - len(self.breaks)

    def parts(self) -> list[TokenLesson]:
        """One lesson a document."""
        if not self.breaks:
            return [self]
        edges = pairwise((0, *self.breaks, len(self.ids)))
        return [TokenLesson(self.ids[a:b], 1 if a else self.start) for a, b in edges]


@runtime_checkable
class Keyed(Protocol):
    """Lessons too many to be listed, which know by themselves what tells them from others."""

    @property
    def key(self) -> str:
        """Equal keys, equal lessons."""
        ...

    def told(self, folder: Path) -> list[dict[str, Any]]:
        """Where another process finds them, JSON-like; what is only in memory is written into the folder first."""
        ...


def identity(lessons: Sequence[TokenLesson]) -> Any:
    """What tells these lessons from others, JSON-like."""
    if isinstance(lessons, Keyed):
        return lessons.key
    return [(lesson.ids, lesson.start, *lesson.breaks) for lesson in lessons]


@dataclass(frozen=True, slots=True)
class Pack:
    """Some lessons in one row: ids [T] in depth-first order, the rows that are read and what each should predict."""

    ids: Tensor
    plan: Plan
    rows: Tensor
    labels: Tensor


def packs(lessons: Sequence[TokenLesson], budget: int) -> Iterator[Pack]:
    """The lessons in order, as many to a row as take `budget` rows together (at least one lesson)."""
    group: list[TokenLesson] = []
    room = 0
    for lesson in (part for whole in lessons for part in whole.parts()):
        fresh = _fresh(lesson, group)
        if group and fresh > room:
            yield _pack(group)
            group, fresh = [], _fresh(lesson, [])
        room = (room if group else budget) - fresh
        group.append(lesson)
    if group:
        yield _pack(group)


def _fresh(lesson: TokenLesson, group: Sequence[TokenLesson]) -> int:
    """How many rows a lesson adds to those of a group."""
    computed = list(lesson.ids[:-1])
    known = max((shared_length([computed, list(other.ids[:-1])]) for other in group), default=0)
    return len(computed) - known


def _pack(lessons: Sequence[TokenLesson]) -> Pack:
    tree = plant([list(lesson.ids[:-1]) for lesson in lessons], 0)
    rows = [row for lesson, path in zip(lessons, tree.paths, strict=True) for row in path[lesson.start - 1 :]]
    labels = [token for lesson in lessons for token in lesson.ids[lesson.start :]]
    plan = tree_plan(tree.parents, tree.positions, tree.shared)
    return Pack(torch.tensor(tree.ids), plan, torch.tensor(rows), torch.tensor(labels))
