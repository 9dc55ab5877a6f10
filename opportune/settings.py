"""What a comparison is asked to do, beside the task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from opportune.errors import RecipeError
from opportune.models.budget import Budget
from opportune.models.endpoint import Remote
from opportune.models.prices import read_prices
from opportune.models.response_cache import ResponseCache

DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a comparison is asked to do, beside the task."""

    recipes: tuple[str, ...] = ()  # none: the defaults
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    seeds: int = 1
    device: str | None = None  # None: the best there is
    dtype: str | None = None  # None: the fastest the device computes well in
    trust_remote_code: bool = False
    tolerance: float = 0.03  # how much worse than the reference a cheaper arm may be, as a share
    machine_price: float | None = None  # dollars per hour
    base_url: str | None = None  # the server of models named openai:NAME; None: OpenAI's own
    max_dollars: float | None = None  # what all endpoints together may cost, earlier sittings of the run included
    max_tokens: int | None = None  # what they may read and write
    prices: Path | None = None  # a file of prices beside those that are shipped
    general: str | None = None  # text on which forgetting is measured; None: the one of the package
    cache: bool = True  # answers of endpoints come from, and go to, the user's response cache
    budget: float | None = None  # seconds that the predictions of all arms together may come to
    runs: Path = field(default_factory=lambda: Path("opportune-runs"))
    growing: bool = False  # recipes asked for later join the run, instead of making another

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise RecipeError(f"seeds={self.seeds} is out of range: at least 1")
        if not 0 <= self.tolerance < 1:
            raise RecipeError(f"tolerance={self.tolerance} is out of range: 0 to 1 (3 points are 0.03)")
        if self.machine_price is not None and not 0 <= self.machine_price < float("inf"):
            raise RecipeError(f"machine price {self.machine_price} is out of range: 0 or more dollars an hour")
        if self.max_dollars is not None and not 0 <= self.max_dollars < float("inf"):
            raise RecipeError(f"max dollars {self.max_dollars} is out of range: 0 or more")
        if self.max_tokens is not None and self.max_tokens < 0:
            raise RecipeError(f"max tokens {self.max_tokens} is out of range: 0 or more")

    def remote(self) -> Remote:
        """How endpoints are asked. Raises ModelError for a file of prices that cannot be read."""
        prices = read_prices(self.prices) if self.prices else ()
        cache = ResponseCache() if self.cache else None
        return Remote(self.base_url, prices, Budget(self.max_dollars, self.max_tokens), cache)
