"""What a method that reads is taught with: blocks of its corpus and of general text at the stated share, and blocks of
documents held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opportune.corpus.blocks import Blocks, Mix
from opportune.corpus.division import Corpus, divided
from opportune.corpus.stream import tokenise
from opportune.errors import RecipeError, TaskError
from opportune.reading import Reading, Reads
from opportune.training.packing import TokenLesson

HELD_OUT_BLOCKS = 16  # enough to rank learning rates; read once a rate and rung


@dataclass(frozen=True, slots=True)
class Material:
    """Lessons to train on and lessons of dev, to choose rates and epochs by."""

    lessons: Sequence[TokenLesson]
    dev: Sequence[TokenLesson]
    read: Reading | None = None  # None: the task's own lessons, so that dev can be asked as well
    tokens: int = 0  # read in one epoch
    replayed: int = 0  # of them general text
    fresh: int = 0  # lessons of the corpus; those after them are general text

    def read_in(self, places: Iterable[int]) -> tuple[int, int]:
        """The tokens of the lessons in these places, and how many of them are general text."""
        read = [(self.lessons[place].targets, place >= self.fresh) for place in places]
        return sum(tokens for tokens, _ in read), sum(tokens for tokens, again in read if again)


def digests(methods: Iterable[object]) -> list[str]:
    """Of the content of every text that one of the methods reads. Raises TaskError where one cannot be read."""
    readings = [method.reading for method in methods if isinstance(method, Reads)]
    texts = [(text, r.field) for r in readings for text in (r.corpus, r.general) if text is not None]
    return [divided(text, field).digest for text, field in texts]


def material_of(reading: Reading, tokenizer: Any, longest: int | None) -> Material:
    """The blocks for a tokenizer and a context of at most `longest` tokens.

    What `tokens` leaves out is the end of the corpus, in the order of its files. Raises TaskError for a text that
    cannot be read, RecipeError for blocks longer than the context.
    """
    if longest is not None and reading.block > longest:
        raise RecipeError(f"continual:context={reading.block} is more than the model's context of {longest} tokens")
    corpus = divided(reading.corpus, reading.field)
    limit = None if reading.tokens is None else max(reading.block, reading.tokens)
    blocks = _blocks(corpus, tokenizer, reading.block, limit)
    fresh, replayed = _shares(len(blocks), reading)
    sources = [(blocks, fresh)]
    if reading.general is not None and replayed:
        general = divided(reading.general, reading.field)
        sources.append((_blocks(general, tokenizer, reading.block, replayed * reading.block), replayed))
    mix = Mix(sources)
    held = Blocks(tokenise(corpus.held_out(), tokenizer, HELD_OUT_BLOCKS * reading.block), reading.block)
    again = sum(source.tokens(count) for source, count in sources[1:])
    return Material(mix, Mix([(held, len(held))])[:], reading, mix.tokens, again, fresh)


def _shares(there: int, reading: Reading) -> tuple[int, int]:
    """How many blocks of the corpus, which has so many, and how many of general text.

    `tokens` counts both, as far as the corpus goes; without it the corpus is read whole, and where nothing of it is
    read, as much general text as it has. Of both there is a block at least.
    """
    if reading.replay == 1:
        return 0, there if reading.tokens is None else _rounded(reading)
    least = 1 if reading.replay else 0
    total = _rounded(reading)
    again = max(least, round(total * reading.replay))
    fresh = max(1, total - again)
    if reading.tokens is None or fresh > there:
        return there, max(least, round(there * reading.replay / (1 - reading.replay)))
    return fresh, again


def _rounded(reading: Reading) -> int:
    return max(1, round((reading.tokens or 0) / reading.block))


def _blocks(corpus: Corpus, tokenizer: Any, size: int, limit: int | None) -> Blocks:
    stream = tokenise(corpus.train(), tokenizer, limit)
    if not len(stream.tokens):
        raise TaskError(f"corpus {corpus.path}: nothing is left to train on once a part is held out")
    return Blocks(stream, size)
