"""The same or nearly the same question on both sides of a split, which would let an answer be remembered."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from opportune.tasks.examples import Draft
from opportune.values import normalise

_plain = normalise.__wrapped__  # inputs may be long and each is met once or twice: none is remembered

NEAR = 0.75  # of all letter fragments of two texts, the share that both must have
_FRAGMENT = 4  # letters
_LONGEST = 2000  # characters compared
_BLOCK = 64  # held-out texts compared at once, so that memory stays bounded


def question_key(draft: Draft) -> Hashable:
    """What makes two examples the same question: input and choices, whatever the case and spacing."""
    return _plain(draft.example.input), draft.example.choices


def group_key(draft: Draft) -> Hashable:
    """The example's group; None for none."""
    return draft.example.group


def without(drafts: Sequence[Draft], key: Callable[[Draft], Hashable], held: Iterable[Draft]) -> list[Draft]:
    """The examples whose key, unless None, no held-out example has."""
    keys = {key(draft) for draft in held} - {None}
    return [draft for draft in drafts if key(draft) not in keys]


def inseparable(drafts: Sequence[Draft]) -> list[list[int]]:
    """Indices that must stay on one side of a split, together: those of one group or one question, in turn joined."""
    home: dict[Hashable, int] = {}  # a key's first example
    root = list(range(len(drafts)))
    for index, draft in enumerate(drafts):
        for key in (("question", question_key(draft)), ("group", group_key(draft))):
            if key != ("group", None):
                root[_root(root, index)] = _root(root, home.setdefault(key, index))
    units: dict[int, list[int]] = {}
    for index in range(len(drafts)):
        units.setdefault(_root(root, index), []).append(index)
    return list(units.values())


def near_duplicates(held: Sequence[str], train: Sequence[str]) -> list[tuple[int, int]]:
    """For every held-out text that nearly repeats a train text, the pair of their indices, the most alike.

    Alike is the Jaccard similarity of their sets of four-letter fragments (Broder 1997), at least 0.75, of their first
    2000 characters. Every pair is compared, as a product of sparse matrices: 3,000 by 10,000 sentences in 3 seconds.
    """
    import numpy as np

    rows, columns = _fragments(held), _fragments(train)
    row_sizes, column_sizes, transposed = np.diff(rows.indptr), np.diff(columns.indptr), columns.T.tocsr()
    pairs = []
    for start in range(0, len(held), _BLOCK):
        shared = (rows[start : start + _BLOCK] @ transposed).tocoo()
        alike = shared.data / (row_sizes[shared.row + start] + column_sizes[shared.col] - shared.data)
        best: dict[int, tuple[float, int]] = {}
        for index in np.flatnonzero(alike >= NEAR):
            found = (float(alike[index]), -int(shared.col[index]))
            row = start + int(shared.row[index])
            best[row] = max(best.get(row, found), found)
        pairs += [(row, -column) for row, (_, column) in sorted(best.items())]
    return pairs


def _root(root: list[int], index: int) -> int:
    while root[index] != index:
        root[index] = root[root[index]]
        index = root[index]
    return index


def _fragments(texts: Sequence[str]) -> Any:
    """A sparse binary matrix, texts by hashed fragments."""
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    size = (_FRAGMENT, _FRAGMENT)
    vectorizer = HashingVectorizer(
        analyzer="char_wb", ngram_range=size, alternate_sign=False, binary=True, norm=None, dtype=np.float32
    )
    return vectorizer.transform([_plain(text)[:_LONGEST] for text in texts])
