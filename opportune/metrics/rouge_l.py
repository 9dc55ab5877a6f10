"""ROUGE-L: the longest run of words that answer and target share in order (Lin 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from opportune.metrics.scoring import mean_score
from opportune.types import Example
from opportune.words import words


@dataclass(frozen=True, slots=True)
class RougeL:
    """The F-measure of the longest common subsequence of words, in lower case and without punctuation, not stemmed.

    By the library rouge-score; its own words are made of ASCII letters only (it reads "größe" as "gr" and "e", and
    nothing in Cyrillic), so it is given words of any script, which are the same for a text in ASCII; in a script
    without spaces between words, each character is one. Where either side has no words, 1 when both have none.
    """

    summary: ClassVar[str] = "longest common subsequence of words (F-measure), for summaries and long answers"
    source: ClassVar[str] = "Lin 2004, by the library rouge-score"
    binary: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def score(self, answer: str, example: Example) -> float:
        """From 0 to 1."""
        found, wanted = _Words.tokenize(answer), _Words.tokenize(example.target)
        if not found or not wanted:
            return float(found == wanted)
        return float(_scorer().score(example.target, answer)["rougeL"].fmeasure)

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The mean of the scores."""
        return mean_score(self, answers, examples)


class _Words:
    """The tokenizer that the library is given."""

    @staticmethod
    def tokenize(text: str) -> list[str]:
        return words(text.lower())


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words)
