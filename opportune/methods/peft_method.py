"""Any adapter of the peft library by its config's name: `peft:kind=VERA,r=64`.

The options beside ours are those of peft's own configuration, and checked against it. What needs more than a wrapped
network is refused: soft prompts, which are taught here as virtual tokens, and what wants a call at every step.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common, load_wrapped, save_wrapped, wrapped
from opportune.products import use_torchs_products
from opportune.spec import Recipe, Value  # noqa: F401  (Value is written in terms of Recipe)
from opportune.types import NO_HINTS, Hints

_SOFT = "it puts tokens before the prompt; use prompt-tuning, prefix-tuning or p-tuning"
_REFUSED = {
    "LORA": "it is lora here",  # which also saves what rewrites the base weights for the base as it was
    "IA3": "it is ia3 here",
    "LN_TUNING": "it is norm here",
    "PROMPT_TUNING": _SOFT,
    "MULTITASK_PROMPT_TUNING": _SOFT,
    "PREFIX_TUNING": _SOFT,
    "P_TUNING": _SOFT,
    "CPT": _SOFT,
    "CARTRIDGE": _SOFT,
    "ADAPTION_PROMPT": "it replaces the attention, which is Opportune's own",
    "ADALORA": "it wants to be told of every step",
    "LILY": "what it adds to a token depends on the row's other tokens, which are other lessons here",
    "POLY": "it wants a task's number with every input",
    "SHADOW": "it runs a second network beside the first",
    "XLORA": "it combines adapters that must be there already",
}
# Fields that are peft's own business, or decided here.
_INTERNAL = {"task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"}
_INTERNAL |= {"inference_mode", "runtime_config"}


@dataclass(frozen=True, slots=True)
class Peft:
    """Trains what peft's method of that name adds; `target_modules` are all linear layers unless given."""

    kind: str = ""
    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take
    rest: tuple[tuple[str, Value], ...] = ()  # the fields of peft's configuration

    summary: ClassVar[str] = "any other adapter of the peft library, by its name: peft:kind=VERA"
    source: ClassVar[str] = "peft (Mangrulkar et al. 2022); the paper of each"
    # Methods with few numbers (VeRA, FourierFT ...) want ten times LoRA's rates, those with many want LoRA's.
    grid: ClassVar[tuple[float, ...]] = (3e-4, 1e-3, 3e-3, 1e-2)

    def __post_init__(self) -> None:
        kinds = _kinds()
        if self.kind not in kinds:
            raise RecipeError(f"peft:kind={self.kind or 'none'} is not one of {', '.join(sorted(kinds))}")
        if reason := _REFUSED.get(self.kind):
            raise RecipeError(f"peft:kind={self.kind} cannot be used: {reason}")
        _check_fields(self.kind, kinds[self.kind], dict(self.rest))
        check_common("peft", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """A peft model around the network. Raises RecipeError for what peft refuses, in its words."""
        kind = _kinds()[self.kind]
        options = {name: _plain(value) for name, value in self.rest}
        if "target_modules" in {item.name for item in dataclasses.fields(kind)} and self.kind not in _OWN_TARGETS:
            options.setdefault("target_modules", "all-linear")
        try:
            config = kind(task_type="CAUSAL_LM", **options)
        except (AttributeError, TypeError, ValueError) as error:
            raise RecipeError(f"peft:kind={self.kind}: {error}") from error
        if self.kind in _PLAIN_LAYERS:
            use_torchs_products(network)
        return wrapped(network, config, seed, f"peft:kind={self.kind}")

    def save(self, network: Any, folder: Path) -> None:
        """Write the adapter in peft's format (safetensors)."""
        save_wrapped(network, folder)

    def load(self, network: Any, folder: Path) -> Any:
        """A peft model around the network with the folder's adapter, frozen."""
        if self.kind in _PLAIN_LAYERS:
            use_torchs_products(network)
        return load_wrapped(network, folder)


_OWN_TARGETS = {"BEFT", "TRAINABLE_TOKENS"}  # those that are not about linear layers
_PLAIN_LAYERS = {"GLORA"}  # those that take torch's own linear layers and nothing derived from them


def _kinds() -> dict[str, Any]:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return {str(getattr(kind, "value", kind)): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def _check_fields(kind: str, config: Any, options: dict[str, Value]) -> None:
    hints = typing.get_type_hints(config)
    known = [item.name for item in dataclasses.fields(config) if item.init and item.name not in _INTERNAL]
    for name, value in options.items():
        if name not in known:
            raise RecipeError(f"peft:kind={kind}: unknown option {name!r}; it has {', '.join(sorted(known))}")
        allowed = _types(hints[name])
        if allowed and not _fits(_plain(value), allowed):
            listed = ", ".join(sorted(each.__name__ for each in allowed))
            raise RecipeError(f"peft:kind={kind}: {name}={value} should be one of {listed}")


def _types(hint: Any) -> set[type]:
    """The plain types that a field takes; none where that cannot be told."""
    if typing.get_origin(hint) is typing.Literal:
        return {type(value) for value in typing.get_args(hint)}
    if arguments := typing.get_args(hint):
        if isinstance(origin := typing.get_origin(hint), type) and issubclass(origin, (list, set, tuple, dict)):
            return {origin}
        found = [_types(each) for each in arguments]
        return set().union(*found) if all(found) else set()
    return {hint} if isinstance(hint, type) else set()


def _fits(value: Any, allowed: set[type]) -> bool:
    if isinstance(value, bool):
        return bool in allowed
    return isinstance(value, tuple(allowed)) or (isinstance(value, int) and float in allowed)


def _plain(value: Value) -> Any:
    """A list for what the grammar reads as a tuple."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
