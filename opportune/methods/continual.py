"""Continual pretraining: every weight learns to go on with raw text, before whatever the recipe does next.

As Ibrahim et al. 2024: a fresh optimizer, the learning rate warmed up and brought down again, and a share of general
text mixed in (replay) so that less is forgotten: 5 % where the new text is like the old, 25 % where it is very unlike.
`replay=1` reads general text alone: the control that shows what reading so many tokens does by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common
from opportune.methods.full import Full
from opportune.options import within
from opportune.reading import Reading
from opportune.types import NO_HINTS, Hints

REPLAY = 0.05  # where a general text is given and no share


@dataclass(frozen=True, slots=True)
class Continual:
    """All weights, on blocks of raw text in which every token is learned."""

    corpus: str = ""  # file or folder
    replay: float | None = None  # share of the tokens that are general text; None: 0.05 with a general text, else 0
    general: str | None = None  # file or folder of general text
    tokens: int | None = None  # all that is read in an epoch, replay included; None: the corpus whole, replay beside it
    context: int = 512  # tokens of a block
    field: str = "text"  # of JSON lines and Parquet
    rate: float | None = None  # None: searched on the grid
    epochs: int = 1
    batch: int = 4  # blocks a step
    budget: int | None = None  # training tokens, choosing the rate included; None: what the epochs take

    summary: ClassVar[str] = "read raw text first: continual pretraining of all weights, with replay"
    source: ClassVar[str] = "Gururangan et al. 2020; Ibrahim et al. 2024"
    # Around the 3e-4 of Ibrahim et al. for 405M parameters.
    grid: ClassVar[tuple[float, ...]] = (3e-5, 1e-4, 3e-4, 1e-3)

    def __post_init__(self) -> None:
        if not self.corpus:
            raise RecipeError("continual:corpus is missing: a file or folder of text, as in continual:corpus=handbook/")
        if self.replay is not None:
            within("continual", "replay", self.replay, 0.0, 1.0)
        if self.replay and self.general is None:
            raise RecipeError(f"continual:replay={self.replay:g} needs general=PATH, the text to be replayed")
        if self.replay == 0 and self.general is not None:
            raise RecipeError("continual:general is given, but replay=0 reads none of it; leave one of them out")
        if self.tokens is not None:
            within("continual", "tokens", self.tokens, 1, 1e12)
        within("continual", "context", self.context, 8, 1_048_576)
        check_common("continual", self.rate, self.epochs, self.batch, self.budget)

    @property
    def reading(self) -> Reading:
        """What it reads."""
        replay = self.replay if self.replay is not None else REPLAY if self.general is not None else 0.0
        return Reading(self.corpus, self.general, replay, self.tokens, self.context, self.field)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """Every weight moves; an earlier method's adapter becomes part of them. RecipeError behind a soft prompt."""
        if getattr(network, "virtual_tokens", 0):
            raise RecipeError("continual: raw text does not begin with a soft prompt, so it comes before it in a chain")
        return Full().attach(network, seed, hints)

    def save(self, network: Any, folder: Path) -> None:
        """Write all weights in transformers' format."""
        Full().save(network, folder)

    def load(self, network: Any, folder: Path) -> Any:
        """The network with the folder's weights in place of its own."""
        return Full().load(network, folder)
