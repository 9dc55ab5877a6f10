"""Drawing examples: seeded, every label in its share, groups kept whole.

Each label's examples, shuffled, are spread evenly over the unit interval, one in each of as many equal parts; the first
ones in that order are taken. Only `Random.random` is used, whose sequence Python guarantees from version to version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random


def spread(labels: Sequence[str], random: Random) -> list[int]:
    """All indices in an order of which every beginning holds each label in about its share."""
    shuffled = sorted(range(len(labels)), key=[random.random() for _ in labels].__getitem__)
    totals, before = Counter(labels), Counter[str]()
    position = [0.0] * len(labels)
    for index in shuffled:
        label = labels[index]
        position[index] = (before[label] + random.random()) / totals[label]
        before[label] += 1
    return sorted(range(len(labels)), key=position.__getitem__)


def hold_out(labels: Sequence[str], units: Sequence[Sequence[int]], count: int, seed: str) -> set[int]:
    """At most `count` indices to hold out: whole units only, and of every label at least one example stays behind.

    A unit that does not fit any more is passed over, so that fewer than `count` may come out.
    """
    commonest = [Counter(labels[index] for index in unit).most_common(1)[0][0] for unit in units]
    left = Counter(labels)
    held: set[int] = set()
    for number in spread(commonest, Random(seed)):
        lost = Counter(labels[index] for index in units[number])
        if len(held) + len(units[number]) <= count and all(left[label] > taken for label, taken in lost.items()):
            held.update(units[number])
            left -= lost
    return held


def keep(labels: Sequence[str], count: int, seed: str, *, every_label: bool) -> set[int]:
    """The `count` indices that a limit keeps; with `every_label` one example of each label comes first, common ones
    first where even those are too many."""
    order = spread(labels, Random(seed))
    if every_label:
        firsts: dict[str, int] = {}
        for index in order:
            firsts.setdefault(labels[index], index)
        totals = Counter(labels)
        first = sorted(firsts.values(), key=lambda index: -totals[labels[index]])
        order = list(dict.fromkeys([*first, *order]))
    return set(order[:count])
