"""General text, on which forgetting is measured: the loss before and after training.

By default the text that comes with the package, written for this project, so that no model has seen it and nothing must
be downloaded. Of a text that the user gives only the part held out is read, which replay never trains on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opportune.corpus.blocks import Blocks, Mix
from opportune.corpus.division import Corpus, divided
from opportune.corpus.stream import tokenise
from opportune.training.loss import lesson_loss
from opportune.training.packing import TokenLesson

DEFAULT = Path(__file__).with_name("general.txt")
BLOCK, BLOCKS = 512, 16  # tokens of a block; blocks of a text that the user gives
OWN_BLOCKS = 3  # of the package's: every trained arm of every comparison reads them


@dataclass(frozen=True, slots=True)
class General:
    """A general text."""

    name: str
    corpus: Corpus
    blocks: int = BLOCKS  # read of it, at most

    @property
    def digest(self) -> str:
        """Identifies its content."""
        return self.corpus.digest


def general_text(path: str | None) -> General:
    """The text at a path, or the one of the package. Raises TaskError where it cannot be read."""
    if path is None:
        return General("the general text of the package", divided(DEFAULT, whole=True), OWN_BLOCKS)
    return General(path, divided(path))


def general_lessons(
    text: General, tokenizer: Any, longest: int | None, virtual: Sequence[int] = ()
) -> list[TokenLesson]:
    """Blocks of the text, each document after the virtual tokens of a network that has some."""
    room = BLOCK if longest is None else min(BLOCK, longest - len(virtual) - 1)
    documents = text.corpus.held_out() if text.corpus.divided else text.corpus.train()
    blocks = Blocks(tokenise(documents, tokenizer, BLOCK * text.blocks), room)
    parts = [part for block in Mix([(blocks, len(blocks))]) for part in block.parts()]
    return [TokenLesson((*virtual, *part.ids), len(virtual) + part.start) for part in parts]


def general_loss(text: General, model: Any) -> tuple[float, int]:
    """The loss of a local model on the text in nats per token, and how many tokens that are."""
    network = model.network
    size = getattr(network.get_input_embeddings(), "size", 0)
    virtual = range(size, size + getattr(network, "virtual_tokens", 0))
    lessons = general_lessons(text, model.tokenizer, model.context, virtual)
    return lesson_loss(network, lessons), sum(lesson.targets for lesson in lessons)
