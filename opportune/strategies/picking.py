"""Which training examples become demonstrations, and in which order (never sorted by label unless asked).

balanced: as many of each label as the number allows. random: a seeded draw. nearest: the most similar to the question
(Liu et al. 2022). diverse: similar to the question and unlike each other (maximal marginal relevance, Carbonell &
Goldstein 1998). Orders: interleaved, so that neither a majority nor the last label pulls the answer (Zhao et al. 2021);
random; nearest-last, the most similar next to the question; simple-first, the shortest first.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from opportune.errors import RecipeError
from opportune.strategies.similarity import Index
from opportune.types import Example

Pick = Literal["balanced", "random", "nearest", "diverse"]
Drawn = Literal["balanced", "random"]  # the same demonstrations for all questions
Order = Literal["auto", "interleaved", "random", "nearest-last", "simple-first", "by-label"]

_RELEVANCE = 0.5  # the weight of similarity to the question against unlikeness to those already picked
_CANDIDATES = 4  # times k: how many of the most similar are looked at for a diverse pick


def check_count(owner: str, k: int, train: Sequence[Example]) -> None:
    """Raises RecipeError where there are fewer training examples than the demonstrations that the owner asks for."""
    if k > len(train):
        raise RecipeError(f"{owner}:k={k} needs {k} training examples; the task has {len(train)}")


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


def nearest(index: Index, scores: Sequence[float], k: int, without: str | None = None) -> tuple[Example, ...]:
    """The k examples of the highest scores, the best last."""
    return tuple(reversed([index.train[place] for place in _ranked(index, scores, without)[:k]]))


def diverse(index: Index, scores: Sequence[float], k: int, without: str | None = None) -> tuple[Example, ...]:
    """k examples picked one after the other by maximal marginal relevance, the first picked last."""
    left = _ranked(index, scores, without)[: _CANDIDATES * k]
    top = max(max((scores[place] for place in left), default=0.0), 1e-9)
    closest = dict.fromkeys(left, 0.0)  # how like each is to the most similar of those picked
    chosen: list[int] = []
    while left and len(chosen) < k:
        best = max(left, key=lambda p: _RELEVANCE * scores[p] / top - (1 - _RELEVANCE) * closest[p])
        left.remove(best)
        chosen.append(best)
        likeness = index.likeness(best, left)
        closest |= {place: max(closest[place], like) for place, like in zip(left, likeness, strict=True)}
    return tuple(reversed([index.train[place] for place in chosen]))


def _ranked(index: Index, scores: Sequence[float], without: str | None) -> list[int]:
    """Places by falling score; of equals the first."""
    places = [place for place, example in enumerate(index.train) if example.id != without]
    return sorted(places, key=lambda place: -scores[place])


def ordered(shots: Sequence[Example], order: Order, seed: int) -> tuple[Example, ...]:
    """The demonstrations in the order asked for; "auto" and "nearest-last" leave them as they were picked."""
    match order:
        case "interleaved":
            return interleaved(shots, len(shots), seed)
        case "random":
            return tuple(random.Random(seed).sample(list(shots), len(shots)))
        case "simple-first":
            return tuple(sorted(shots, key=lambda shot: len((shot.rationale or "").split()) + len(shot.input.split())))
        case "by-label":
            return tuple(sorted(shots, key=lambda shot: shot.target))
        case _:
            return tuple(shots)
