"""What all methods have in common: some options, peft's wrapping, and how one builds on another in a chain."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from opportune.errors import OpportuneError, RecipeError, UnpredictableError, first_line
from opportune.options import within
from opportune.types import NO_HINTS, Hints, Method

# What architectures call the switch for biases on their linear layers.
_BIAS_FLAGS = ("attention_bias", "mlp_bias", "use_bias", "add_bias_linear")


def check_common(method: str, rate: float | None, epochs: int, batch: int, budget: int | None) -> None:
    """Raises RecipeError for a learning rate, number of epochs, batch (lessons a step) or budget out of range."""
    if rate is not None:
        within(method, "rate", rate, 1e-8, 10.0)
    within(method, "epochs", epochs, 1, 10_000)
    within(method, "batch", batch, 1, 10_000)
    if budget is not None:
        within(method, "budget", budget, 1, 10**12)


def attached(method: Method, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
    """`method.attach`. What transformers or peft cannot do with this architecture and do not say in so many words is a
    RecipeError, and an UnpredictableError where the network has no weights yet."""
    try:
        return method.attach(network, seed, hints)
    except (OpportuneError, MemoryError):
        raise
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise
        kind = UnpredictableError if _is_meta(network) else RecipeError
        said = f"{type(error).__name__}: {first_line(error)}"
        raise kind(f"{type(method).__name__} cannot be put on {type(network).__name__}: {said}") from error


def merged(network: Any) -> Any:
    """The network without wrapping: what earlier methods' adapters learned becomes part of the weights, for good.

    Biases that were added are declared in the configuration, and what an encoder makes of virtual tokens is kept in its
    place. Virtual tokens stay where they are. Raises RecipeError for what cannot become part of the weights.
    """
    if getattr(network, "bottlenecks", False):
        raise RecipeError("adapter: its layers cannot become part of the weights, so it comes last in a chain")
    if hasattr(network, "merge_and_unload"):
        if is_quantised(network):
            raise RecipeError("an adapter cannot become part of a quantised model: one method, or no quantise=")
        network = _unwrapped(network)
    if getattr(network, "added_biases", False):
        _declare_biases(network)
    for module in network.modules():
        if getattr(module, "virtual_encoder", None) is not None:
            module.settle()
    return network


def _unwrapped(network: Any) -> Any:
    kind = str(getattr(network.peft_type, "value", network.peft_type))
    if _adapts_tied(network):
        raise RecipeError(
            f"{kind.lower()}: the model's input and output embeddings are one matrix, and an adapter on either alone "
            "cannot become part of it, so it comes last"
        )
    try:
        return network.merge_and_unload()
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise RecipeError(f"peft:kind={kind} cannot become part of the weights, so it comes last: {error}") from error


def _adapts_tied(network: Any) -> bool:
    """Whether an adapter sits on one use of a matrix that has two."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends = [network.get_input_embeddings(), network.get_output_embeddings()]
    adapted = [isinstance(end, BaseTunerLayer) for end in ends]
    bare = [end.get_base_layer() if isinstance(end, BaseTunerLayer) else end for end in ends]
    return any(adapted) and bare[0].weight is bare[1].weight


def _declare_biases(network: Any) -> None:
    """Set the architecture's own flags for the biases that were added. RecipeError where these do not cover them."""
    import torch

    config, flags = copy.deepcopy(network.config), [flag for flag in _BIAS_FLAGS if hasattr(network.config, flag)]
    for flag in flags:
        setattr(config, flag, True)
    with torch.device("meta"):
        twin = type(network)(config)
    mine = {name for name, _ in network.named_parameters() if name.endswith(".bias")}
    if mine != {name for name, _ in twin.named_parameters() if name.endswith(".bias")}:
        raise RecipeError(
            f"bias: {type(network).__name__} has no setting for the biases that were added, so they cannot become part "
            "of a model of its kind: bias comes last in a chain"
        )
    for flag in flags:  # in place: the layers hold the same configuration
        setattr(network.config, flag, True)
    network.added_biases = False


def is_quantised(network: Any) -> bool:
    """Whether the network's weights are packed into few bits."""
    return getattr(network.config, "quantization_config", None) is not None


def layers_of(network: Any, wanted: str) -> Any:
    """The decoder's layers, first to last. Raises RecipeError, beginning with what is `wanted`, where it has none."""
    from torch import nn

    decoder, count = network.get_decoder(), network.config.get_text_config().num_hidden_layers
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise RecipeError(f"{wanted}: {type(network).__name__} has no list of layers to pick from")


def wrapped(network: Any, config: Any, seed: int, place: str) -> Any:
    """A peft model around the network, as random as `seed` says. Raises RecipeError, beginning with `place`, for what
    peft refuses; UnpredictableError for what it cannot do without the weights themselves."""
    import torch
    from peft import get_peft_model

    network = merged(network)
    with torch.random.fork_rng(), catch_warnings(action="ignore"):
        torch.manual_seed(seed)
        try:
            return _adapters_train(get_peft_model(network, config, autocast_adapter_dtype=False).eval())
        except (AttributeError, TypeError, ValueError) as error:
            raise RecipeError(f"{place}: {first_line(error)}") from error
        except RuntimeError as error:  # NotImplementedError is one
            if _is_meta(network):
                raise UnpredictableError(f"{place}: {first_line(error)}") from error
            if isinstance(error, NotImplementedError):
                raise RecipeError(f"{place}: {first_line(error)}") from error
            raise


def _adapters_train(wrapped: Any) -> Any:
    """What the adapters add in training mode, so that their dropout works; the base network's own stays off."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in wrapped.modules():
        if isinstance(module, BaseTunerLayer):
            frozen = set(module.get_base_layer().modules())
            for part in module.modules():
                part.training = part not in frozen
    return wrapped


def _is_meta(network: Any) -> bool:
    return bool(network.get_input_embeddings().weight.device.type == "meta")


def save_wrapped(network: Any, folder: Path) -> None:
    """Write the adapter in peft's format (safetensors)."""
    network.save_pretrained(folder, save_embedding_layers=False)


def load_wrapped(network: Any, folder: Path) -> Any:
    """A peft model around the network with the folder's adapter, frozen."""
    from peft import PeftModel

    with catch_warnings(action="ignore"):
        return PeftModel.from_pretrained(merged(network), folder, autocast_adapter_dtype=False).eval()
