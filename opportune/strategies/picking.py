"""Which training examples become demonstrations, and in which order (never sorted by label).

balanced: as many of each label as the number allows, interleaved, so that neither a majority nor the last label pulls
the answer (Zhao et al. 2021). random: a seeded draw. nearest: the most similar to the question by BM25 (Robertson et
al. 1994; retrieval of demonstrations: Liu et al. 2022), the most similar last, next to the question.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

from opportune.types import Example

Pick = Literal["balanced", "random", "nearest"]


def draw(train: Sequence[Example], k: int, seed: int, *, balanced: bool) -> tuple[Example, ...]:
    """k demonstrations for all questions. Each smaller k of a seed is not necessarily a part of a larger one."""
    shuffled = random.Random(seed).sample(list(train), len(train))
    if not balanced:
        return tuple(shuffled[:k])
    return interleaved(shuffled, k, seed)


def interleaved(examples: Sequence[Example], k: int, seed: int) -> tuple[Example, ...]:
    """Round after round one example of each label, the labels in a new order each round."""
    by_label: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_label[example.target].append(example)
    order, chosen = random.Random(seed), list[Example]()
    while len(chosen) < k and any(by_label.values()):
        labels = [label for label in by_label if by_label[label]]
        order.shuffle(labels)
        if chosen and len(labels) > 1 and labels[0] == chosen[-1].target:
            labels.append(labels.pop(0))  # two of a label never meet where it can be helped
        chosen += [by_label[label].pop(0) for label in labels]
    return tuple(chosen[:k])


class Nearest:
    """BM25 over the training inputs."""

    def __init__(self, train: Sequence[Example]) -> None:
        import bm25s

        self._train, self._tokenize = tuple(train), bm25s.tokenize
        self._index: Any = bm25s.BM25()
        self._index.index(self._words([example.input for example in train]), show_progress=False)

    def _words(self, texts: list[str]) -> Any:
        return self._tokenize(texts, stopwords=None, show_progress=False, return_ids=False)

    def __call__(self, text: str, k: int, *, without: str | None = None) -> tuple[Example, ...]:
        """The k most similar examples, the most similar last; `without` is an example's id to leave out."""
        wanted = min(k + 1, len(self._train))
        places, _ = self._index.retrieve(self._words([text]), k=wanted, show_progress=False, sorted=True)
        found = [self._train[int(place)] for place in places[0]]
        kept = [example for example in found if example.id != without][:k]
        return tuple(reversed(kept))
