"""The token tree: sequences that share a beginning share its rows (tree attention as in SpecInfer, Miao et al. 2024).

A batch is a common prefix, computed once, and packs of whole questions, each a tree in depth-first order. Only rows
whose next-token probabilities are read go through the head. What is packed together depends on the batch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from opportune.inference.tokens import shared_length

_LEAST_PREFIX = 16  # shorter ones cost a pass of their own and save next to nothing
_LINE_BACK = 32  # how far back from the end of the shared tokens a line's end is looked for


@dataclass(frozen=True, slots=True)
class Item:
    """One question: its tokens, and below them the tokens of each choice (none for a prompt to be continued)."""

    index: int
    trunk: list[int]
    branches: list[list[int]] = field(default_factory=list)

    def tokens(self, depth: int = 0) -> int:
        """Rows that the item takes after a prefix of `depth` tokens."""
        inner = sorted(branch[:-1] for branch in self.branches)
        shared = sum(shared_length(pair) for pair in pairwise(inner))
        return len(self.trunk) - depth + sum(map(len, inner)) - shared


@dataclass(frozen=True, slots=True)
class Tree:
    """A pack's rows in depth-first order, the first `shared` of them a chain that all sequences start with; `paths[n]`
    are the rows of sequence n."""

    ids: list[int]
    parents: list[int]
    positions: list[int]
    paths: list[list[int]]
    shared: int


@dataclass(frozen=True, slots=True)
class Read:
    """The log-probability of `token` after `row` is a part of the score of choice `branch` of item `item`."""

    row: int
    token: int
    item: int
    branch: int


def common_prefix(items: Sequence[Item], line_end: Callable[[int], bool]) -> list[int]:
    """The tokens that all questions start with and that are worth a pass of their own.

    It ends at a line's end where one is near, so that batches whose questions happen to start with the same words end
    it in the same place. At least one token of each question stays out, for its row is read.
    """
    if len(items) < 2:
        return []
    trunks = [item.trunk for item in items]
    length = min(shared_length(trunks), min(len(trunk) for trunk in trunks) - 1)
    first = trunks[0]
    near = range(length, max(length - _LINE_BACK, 0), -1)
    length = next((end for end in near if line_end(first[end - 1])), length)
    return first[:length] if length >= _LEAST_PREFIX else []


def packs(items: Sequence[Item], depth: int, budget: int) -> list[list[Item]]:
    """Whole questions in groups of about `budget` rows, those that share most of their tokens side by side."""
    groups: list[list[Item]] = []
    room = 0
    for item in sorted(items, key=lambda item: (item.trunk, item.index)):
        rows = item.tokens(depth)
        if rows > room:
            groups.append([])
            room = budget
        groups[-1].append(item)
        room -= rows
    return groups


def plant(sequences: Sequence[list[int]], depth: int) -> Tree:
    """The tree of token sequences that stand after a prefix of `depth` tokens; rows come in lexicographic order."""
    shared = shared_length(sequences) if len(sequences) > 1 else 0
    tree = Tree([], [], [], [[] for _ in sequences], shared)
    before: list[int] = []
    path: list[int] = []
    for n in sorted(range(len(sequences)), key=lambda n: sequences[n]):
        sequence = sequences[n]
        path = path[: shared_length([before, sequence])]
        for token in sequence[len(path) :]:
            tree.parents.append(path[-1] if path else -1)
            tree.positions.append(depth + len(path))
            path.append(len(tree.ids))
            tree.ids.append(token)
        tree.paths[n].extend(path)
        before = sequence
    return tree


def plant_choices(pack: Sequence[Item], depth: int) -> tuple[Tree, list[Read]]:
    """The tree of a pack's questions and choices, and what to read of it. A choice's last token needs no row."""
    owners = [(i, j) for i, item in enumerate(pack) for j in range(len(item.branches))]
    sequences = [pack[i].trunk[depth:] + pack[i].branches[j][:-1] for i, j in owners]
    tree = plant(sequences, depth)
    reads = []
    for (i, j), path in zip(owners, tree.paths, strict=True):
        branch = pack[i].branches[j]
        rows = path[len(path) - len(branch) :] if branch else []
        reads += [Read(row, token, i, j) for row, token in zip(rows, branch, strict=True)]
    return tree, reads
