"""Macro F1: the F1 of each label, averaged, so that rare labels weigh as much as common ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from opportune.types import Example
from opportune.values import normalise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MacroF1:
    """The unweighted mean of F1 over the labels that occur among the targets.

    It is no mean of per-example scores; the score of an example is whether it is right, so that pairs can be compared.
    `binary` is False because Wilson's interval, made for a share, does not hold for the figure.
    """

    summary: ClassVar[str] = "F1 of each label that occurs among the targets, averaged"
    source: ClassVar[str] = "van Rijsbergen 1979; averaged as by scikit-learn (average='macro')"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = False

    def score(self, answer: str, example: Example) -> float:
        """1 when the answer is the target, else 0."""
        return float(normalise(answer) == normalise(example.target))

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The macro F1; an unparsed answer (None) misses its label and predicts none; not a number without examples."""
        if not examples:
            return float("nan")
        targets = [normalise(example.target) for example in examples]
        predicted = [None if answer is None else normalise(answer) for answer in answers]
        actual, claimed = Counter(targets), Counter(predicted)
        right = Counter(target for target, answer in zip(targets, predicted, strict=True) if target == answer)
        return sum(2 * right[label] / (actual[label] + claimed[label]) for label in actual) / len(actual)

    def resampler(
        self, answers: Sequence[str | None], examples: Sequence[Example]
    ) -> Callable[[NDArray[np.int64]], float]:
        """`figure` of any of these examples, by their places, in a fraction of its time: labels are compared once."""
        import numpy as np

        codes: dict[str, int] = {}
        targets = np.array([codes.setdefault(normalise(example.target), len(codes)) for example in examples])
        other = len(codes)  # no label that occurs
        predicted = np.array([other if a is None else codes.get(normalise(a), other) for a in answers])

        def figure(places: NDArray[np.int64]) -> float:
            wanted, given = targets[places], predicted[places]
            actual = np.bincount(wanted, minlength=other)
            claimed = np.bincount(given, minlength=other + 1)[:other]
            right = np.bincount(wanted[wanted == given], minlength=other)
            there = actual > 0
            return float((2 * right[there] / (actual + claimed)[there]).mean())

        return figure
