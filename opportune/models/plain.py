"""A network as its architecture knows it: the one that a folder of plain transformers weights can describe."""

from __future__ import annotations

import copy
from typing import Any

from opportune.errors import RecipeError

_BIAS_FLAGS = ("attention_bias", "mlp_bias", "use_bias", "bias", "qkv_bias")  # what configurations call them


def made_plain(network: Any, instead: str) -> Any:
    """The network, every tensor of which its architecture has a place for.

    Biases that training added where the architecture allows for them are provided for by the configuration's flags, and
    those the flags bring along are zero. Raises RecipeError, ending in `instead`, for any other tensor.
    """
    if not (surplus := _names(network) - _expected(network.config, network)):
        return network
    config = copy.deepcopy(network.config)
    for flag in _BIAS_FLAGS:
        if getattr(config, flag, None) is False:
            with_it = copy.deepcopy(config)
            setattr(with_it, flag, True)
            if surplus & (_expected(with_it, network) - _expected(config, network)):
                config = with_it
    if unplaced := sorted(surplus - _expected(config, network)):
        raise RecipeError(
            f"{type(network).__name__} has no place for {len(unplaced)} of the trained tensors, first {unplaced[0]!r}; "
            f"{instead}"
        )
    return _rebuilt(network, config)


def _rebuilt(network: Any, config: Any) -> Any:
    """A network of this configuration with the same weights, its further biases zero."""
    import torch

    made = type(network)(config).to(next(network.parameters()).dtype).eval()
    lacking = made.load_state_dict(network.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        for name in lacking:
            made.get_parameter(name).zero_()
    made.generation_config = network.generation_config
    return made


def _names(network: Any) -> set[str]:
    return set(network.state_dict())


def _expected(config: Any, network: Any) -> set[str]:
    """The tensors of the architecture under a configuration."""
    import torch

    with torch.device("meta"):
        return _names(type(network)(config))
