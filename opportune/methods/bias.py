"""BitFit: only biases move (Ben Zaken et al. 2021). Linear layers without one get a bias of zero, as T-Few does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from opportune.errors import RecipeError
from opportune.methods.common import check_common, layers_of, merged
from opportune.types import NO_HINTS, Hints

_FILE = "biases.safetensors"


@dataclass(frozen=True, slots=True)
class Bias:
    """Trains every bias of the network, those of its norms included; all linear layers of its blocks have one."""

    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "train the biases, adding them where there are none"
    source: ClassVar[str] = "Ben Zaken et al. 2021, BitFit; added biases: Liu et al. 2022"
    # The authors' 1e-3 is a hundred times their rate of full fine-tuning.
    grid: ClassVar[tuple[float, ...]] = (3e-4, 1e-3, 3e-3, 1e-2)

    def __post_init__(self) -> None:
        check_common("bias", self.rate, self.epochs, self.batch, self.budget)

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """The network itself with biases that move. Nothing here is random. Raises RecipeError without any."""
        network = _with_biases(merged(network)).eval().requires_grad_(False)
        biases = _biases(network)
        if not biases:
            raise RecipeError(f"bias: {type(network).__name__} has no linear layers that could have a bias")
        for bias in biases.values():
            bias.requires_grad_(True)
        return network

    def save(self, network: Any, folder: Path) -> None:
        """Write the biases under the names that transformers gives them, as one safetensors file."""
        from safetensors.torch import save_file

        save_file({name: bias.detach().contiguous() for name, bias in _biases(network).items()}, folder / _FILE)

    def load(self, network: Any, folder: Path) -> Any:
        """The network with the folder's biases, frozen."""
        import torch
        from safetensors.torch import load_file

        network = _with_biases(merged(network)).requires_grad_(False)
        saved = load_file(folder / _FILE)
        with torch.no_grad():
            for name, bias in _biases(network).items():
                bias.copy_(saved[name])
        return network.eval()


def _biases(network: Any) -> dict[str, Any]:
    return {name: weight for name, weight in network.named_parameters() if name.endswith(".bias")}


def _with_biases(network: Any) -> Any:
    """Zeros where a linear layer of a block has no bias; `added_biases` says that its configuration knows nothing of
    them yet."""
    import torch
    from torch import nn

    for module in layers_of(network, "bias").modules():
        if isinstance(module, nn.Linear) and module.bias is None:
            dtype = module.weight.dtype if module.weight.dtype.is_floating_point else network.dtype
            module.bias = nn.Parameter(torch.zeros(module.out_features, dtype=dtype, device=module.weight.device))
            network.added_biases = True
    return network
