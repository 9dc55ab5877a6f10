"""Made-up documents, each from a few words of its own."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = ["card", "label", "text", "arrived", "charged", "answer", "far", "naïve", "miles", "Denver", "yes", "human"]


def documents(count: int, seed: int = 0, words: int = 40) -> list[str]:
    """Each seed has words of its own."""
    draw = random.Random(seed)
    known = WORDS[seed % 2 :: 2]
    return [
        " ".join(draw.choice(known) for _ in range(draw.randint(words // 2, words))) + f" {i}" for i in range(count)
    ]


def write(path: Path, texts: list[str]) -> str:
    """One file, the documents set apart as models' own are."""
    path.write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    return str(path)
