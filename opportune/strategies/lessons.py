"""What a strategy can teach."""

from __future__ import annotations

from opportune.types import Example, Strategy


def lacking(strategy: Strategy, example: Example) -> str | None:
    """What an example would have to have for the strategy to teach it; None where it has it. A strategy that cannot
    teach every example has a method `lacks` that says so."""
    lacks = getattr(strategy, "lacks", None)
    found: str | None = lacks(example) if lacks else None
    return found
