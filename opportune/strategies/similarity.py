"""How alike two inputs are: by their words (BM25, Robertson et al. 1994) or by the model's own embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from opportune.types import Example, Flow, Message, Prompt
from opportune.words import joins, words

Similarity = Literal["bm25", "embedding"]


class Index(Protocol):
    """The training inputs, to be searched."""

    train: tuple[Example, ...]

    def scores(self, text: str) -> Flow[Sequence[float]]:
        """How alike each training input is to a text."""
        ...

    def likeness(self, place: int, others: Sequence[int]) -> list[float]:
        """How alike a training input is to others, 1 for the same."""
        ...


def build(train: Sequence[Example], similarity: Similarity) -> Flow[Index]:
    """The index of these examples; with embeddings, one round of a call for each."""
    if similarity == "bm25":
        return Words(train)
    completions = yield [embedding(example.input) for example in train]
    return Vectors(train, [completion.vector or () for completion in completions])


def embedding(text: str) -> Prompt:
    """The call that embeds a text."""
    return Prompt((Message("user", text, cut=(0, len(text))),), format="plain", embed=True)


class Words:
    """BM25 over the training inputs."""

    def __init__(self, train: Sequence[Example]) -> None:
        import bm25s

        self.train = tuple(train)
        self._texts = [_words(example.input) for example in train]
        self._index: Any = None  # None: no text has a word
        if any(self._texts):
            self._index = bm25s.BM25()
            self._index.index(self._texts, show_progress=False)

    def _scores(self, asked: list[str]) -> list[float]:
        if self._index is None or not asked:
            return [0.0] * len(self.train)
        return [float(score) for score in self._index.get_scores(asked)]

    def scores(self, text: str) -> Flow[Sequence[float]]:
        """BM25 of every training input for the words of the text."""
        yield from ()
        return self._scores(_words(text))

    def likeness(self, place: int, others: Sequence[int]) -> list[float]:
        """BM25 of the others for the words of the one, as a share of its own."""
        scores = self._scores(self._texts[place])
        return [scores[other] / max(scores[place], 1e-9) for other in others]


def _words(text: str) -> list[str]:
    """Without letters that stand alone, as articles and prepositions do where words are parted by spaces."""
    return [word for word in words(text.casefold()) if len(word) > 1 or word.isdigit() or not joins(word)]


class Vectors:
    """Embeddings of the training inputs; alike by their cosine."""

    def __init__(self, train: Sequence[Example], vectors: Sequence[Sequence[float]]) -> None:
        import numpy as np

        self.train = tuple(train)
        raw = np.array(vectors, dtype=np.float32)
        # What all texts have in common says nothing, and dominates a language model's states (Ethayarajh 2019).
        self._mean = raw.mean(0)
        self._vectors = _unit(raw - self._mean)

    def scores(self, text: str) -> Flow[Sequence[float]]:
        """The cosine to every training input; one call."""
        import numpy as np

        completions = yield [embedding(text)]
        asked = _unit(np.array(completions[0].vector, dtype=np.float32) - self._mean)
        return [float(score) for score in self._vectors @ asked]

    def likeness(self, place: int, others: Sequence[int]) -> list[float]:
        """Cosines to the others."""
        return [float(score) for score in self._vectors[list(others)] @ self._vectors[place]]


def _unit(vectors: Any) -> Any:
    import numpy as np

    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
