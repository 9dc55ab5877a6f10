"""A small task that every test can read at a glance."""

from __future__ import annotations

from opportune.types import Example, Task

FRUIT = ("apple", "pear", "plum", "fig")
TOOL = ("hammer", "saw", "drill", "file")
SECRET = "xylophone"  # the target of every test example: must never be seen in a prompt


def toy_task(kind: str = "choice") -> Task:
    """Fruit or tool: 16 training examples, 4 dev, 4 test."""
    train = [Example(f"train-{i}", f"a {word} {i}", label) for i, (word, label) in enumerate(_words() * 2)]
    dev = [Example(f"dev-{i}", f"one {word}", label) for i, (word, label) in enumerate(_words()[:4])]
    test = [Example(f"test-{i}", f"the {word}", SECRET) for i, (word, _) in enumerate(_words()[4:])]
    choices = ("fruit", "tool") if kind == "choice" else None
    return Task(
        name="toy",
        instruction="Fruit or tool?",
        kind="choice" if kind == "choice" else "text",
        choices=choices,
        metric="accuracy" if kind == "choice" else "exact-match",
        train=tuple(train),
        dev=tuple(dev),
        test=tuple(test),
    )


def _words() -> list[tuple[str, str]]:
    return [pair for fruit, tool in zip(FRUIT, TOOL, strict=True) for pair in ((fruit, "fruit"), (tool, "tool"))]
