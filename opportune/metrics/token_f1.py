"""Token F1: how many words the answer and the target share (Rajpurkar et al. 2016, SQuAD)."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opportune.metrics.scoring import mean_score
from opportune.types import Example
from opportune.words import apart

_PUNCTUATION = str.maketrans("", "", string.punctuation + "、。，．！？：；「」『』（）《》।॥،؛؟")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b(?![\u0300-\u036f])")  # an accent that stands apart makes another letter


@dataclass(frozen=True, slots=True)
class TokenF1:
    """The F1 of the answer's words against the target's, after SQuAD's normalisation.

    Lower case, no punctuation of ASCII (nor of scripts that have their own), no English articles. In a script without
    spaces between words, each character is one. Where either side has no words left, 1 when both have none.
    """

    summary: ClassVar[str] = "overlap of the answer's words with the target's (F1)"
    source: ClassVar[str] = "Rajpurkar et al. 2016, SQuAD"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def score(self, answer: str, example: Example) -> float:
        """From 0 to 1."""
        found, wanted = _words(answer), _words(example.target)
        if not found or not wanted:
            return float(found == wanted)
        shared = sum((Counter(found) & Counter(wanted)).values())
        return 2 * shared / (len(found) + len(wanted))

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFC", text).lower().translate(_PUNCTUATION)
    return _ARTICLES.sub(" ", apart(plain)).split()
