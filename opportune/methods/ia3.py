"""IA3: learned factors of keys, values and the feed-forward layers' inner activations (Liu et al. 2022), by peft."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common, load_wrapped, save_wrapped, wrapped
from opportune.types import NO_HINTS, Hints

# Where a network has all of these, the paper's keys, values and inner activations; elsewhere peft's list is asked.
_USUAL, _USUAL_INNER = ("k_proj", "v_proj", "down_proj"), ("down_proj",)


@dataclass(frozen=True, slots=True)
class IA3:
    """Trains one factor for each output of the `targets` and for each input of the `inner` layers, from 1 on."""

    targets: tuple[str, ...] = ()  # names of modules; none: keys, values and what `inner` names
    inner: tuple[str, ...] = ()  # those of the targets whose inputs are scaled instead of their outputs
    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "learn factors of keys, values and inner activations"
    source: ClassVar[str] = "Liu et al. 2022, T-Few"
    # peft's own table: 31 % at 1e-4, 40 % at 1e-3, 46 % at 5e-3; the paper's 3e-3 (Adafactor) lies in the middle.
    grid: ClassVar[tuple[float, ...]] = (1e-3, 3e-3, 1e-2, 3e-2)

    def __post_init__(self) -> None:
        if not set(self.inner) <= set(self.targets):
            missing = ", ".join(sorted(set(self.inner) - set(self.targets)))
            raise RecipeError(f"ia3:inner names {missing}, which targets does not")
        check_common("ia3", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """A peft model around the network. Raises RecipeError where no module has one of the names in `targets`, or
        where nobody knows what they are for its architecture."""
        from peft import IA3Config

        targets, inner = self._modules(network)
        config = IA3Config(task_type="CAUSAL_LM", target_modules=targets, feedforward_modules=inner)
        return wrapped(network, config, seed, f"ia3:targets=[{','.join(targets)}]")

    def _modules(self, network: Any) -> tuple[list[str], list[str]]:
        from peft.utils import constants

        if self.targets:
            return list(self.targets), list(self.inner)
        there = {name.rpartition(".")[2] for name, _ in network.named_modules()}
        if there >= set(_USUAL):
            return list(_USUAL), list(_USUAL_INNER)
        kind = network.config.get_text_config().model_type
        known = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
        if kind not in known:
            raise RecipeError(
                f"ia3: which modules make keys and values in {kind} is not known; give targets= and inner="
            )
        return list(known[kind]), list(constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[kind])

    def save(self, network: Any, folder: Path) -> None:
        """Write the factors in peft's format (safetensors)."""
        save_wrapped(network, folder)

    def load(self, network: Any, folder: Path) -> Any:
        """A peft model around the network with the folder's factors, frozen."""
        return load_wrapped(network, folder)
