"""Lessons as tokens, packed into rows of real tokens only.

The lessons of a pack stand side by side in one row, positions restarting, each seeing only itself; what all of them
begin with (system prompt, instruction) is computed once and gradients flow through it from every lesson. The last token
of a lesson is only ever a target, so it is not computed at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from opportune.inference.attention import Plan, tree_plan


@dataclass(frozen=True, slots=True)
class TokenLesson:
    """One lesson: ids[start:] are the targets (with the end token), ids[:start] the prompt, at least one token."""

    ids: tuple[int, ...]
    start: int
    cut: bool = False  # it lost demonstrations or part of its input to the length limit

    @property
    def targets(self) -> int:
        """How many tokens are learned."""
        return len(self.ids) - self.start


@dataclass(frozen=True, slots=True)
class Pack:
    """Some lessons in one row: ids [T] in depth-first order, the rows that are read and what each should predict."""

    ids: Tensor
    plan: Plan
    rows: Tensor
    labels: Tensor


def packs(lessons: Sequence[TokenLesson], budget: int) -> Iterator[Pack]:
    """The lessons in order, as many to a row as have `budget` tokens of their own beside the shared ones (at least one
    lesson)."""
    group: list[TokenLesson] = []
    shared = 0
    for lesson in lessons:
        both = _common(group[0].ids[:shared], lesson.ids[:-1]) if group else len(lesson.ids) - 1
        if group and sum(len(item.ids) - 1 - both for item in [*group, lesson]) > budget:
            yield _pack(group, shared)
            group, both = [], len(lesson.ids) - 1
        group.append(lesson)
        shared = both
    if group:
        yield _pack(group, shared)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two sequences have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _pack(lessons: list[TokenLesson], shared: int) -> Pack:
    ids = list(lessons[0].ids[:shared])
    parents, positions = list(range(-1, shared - 1)), list(range(shared))
    rows: list[int] = []
    labels: list[int] = []
    for lesson in lessons:
        first, last = len(ids), len(lesson.ids) - 1
        own = [*range(shared), *range(first, first + last - shared)]  # the row of each of its tokens
        parents += ([shared - 1, *own[shared:]])[: last - shared]
        positions += range(shared, last)
        ids += lesson.ids[shared:-1]
        rows += own[lesson.start - 1 :]
        labels += lesson.ids[lesson.start :]
    return Pack(torch.tensor(ids), tree_plan(parents, positions, shared), torch.tensor(rows), torch.tensor(labels))
