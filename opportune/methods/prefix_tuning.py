"""Prefix tuning: learned keys and values in front of every prompt, in every layer (Li & Liang 2021).

init=text begins with the keys and values that the network computes for the task's instruction: the authors find real
words to matter with little data, and peft measures the same. init=random,reparametrise=true is their way of training:
through an MLP that is thrown away afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from opportune.errors import RecipeError
from opportune.methods.common import check_common, merged
from opportune.options import within
from opportune.types import NO_HINTS, Hints
from opportune.widths import heads_of

_WIDTH = 512  # of the MLP


@dataclass(frozen=True, slots=True)
class PrefixTuning:
    """Trains keys and values of `tokens` positions before the prompt."""

    tokens: int = 20
    init: Literal["text", "random"] = "text"
    reparametrise: bool = False
    rate: float | None = None  # None: searched on the grid
    epochs: int = 4
    batch: int = 4  # lessons a step
    budget: int | None = None  # training tokens, choosing the rate included; None: as many as the epochs take

    summary: ClassVar[str] = "learn a prefix: keys and values before every prompt, in every layer"
    source: ClassVar[str] = "Li & Liang 2021; init from a text: peft"
    grid: ClassVar[tuple[float, ...]] = (1e-3, 3e-3, 1e-2, 3e-2)

    def __post_init__(self) -> None:
        within("prefix-tuning", "tokens", self.tokens, 1, 10_000)
        check_common("prefix-tuning", self.rate, self.epochs, self.batch, self.budget)
        if self.reparametrise and self.init == "text":
            raise RecipeError("prefix-tuning:reparametrise=true goes with init=random: a text is a start by itself")

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """The network with learned keys and values; everything else is frozen."""
        import torch

        from opportune.methods.virtual import add_key_values, cycled, key_values_of

        network = merged(network)
        layers, heads, size = _shape(network)
        device = network.get_input_embeddings().weight.device
        generator = torch.Generator().manual_seed(seed)
        if self.init == "text" and device.type != "meta":
            if not hints.text:
                raise RecipeError("prefix-tuning:init=text: this task has no instruction; use init=random")
            known = key_values_of(network, hints.text[: self.tokens])
            weights = cycled(known.transpose(0, 2), self.tokens).transpose(0, 2).contiguous()
            return add_key_values(network, weights)
        if not self.reparametrise:
            weights = 0.02 * torch.randn(layers, 2, self.tokens, heads, size, generator=generator)
            return add_key_values(network, weights.to(device))
        inner = torch.randn(1, 1, self.tokens, 1, heads * size, generator=generator)
        network = add_key_values(network, inner.to(device), _Reparametrised(layers, heads, size, seed))
        network.virtual_key_values.virtual_encoder.to(network.get_input_embeddings().weight)
        return network

    def save(self, network: Any, folder: Path) -> None:
        """Write keys and values in peft's format of prefix tuning."""
        from peft import PrefixTuningConfig
        from safetensors.torch import save_file

        table = network.virtual_key_values.table().detach()
        layers, _, tokens, heads, size = table.shape
        PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=tokens,
            token_dim=heads * size,
            num_layers=layers,
            num_attention_heads=heads,
            num_transformer_submodules=1,
            inference_mode=True,
        ).save_pretrained(str(folder))
        # peft keeps [tokens, layers x (key, value) x heads x size].
        flat = table.permute(2, 0, 1, 3, 4).reshape(tokens, -1).contiguous()
        save_file({"prompt_embeddings": flat}, folder / "adapter_model.safetensors")

    def load(self, network: Any, folder: Path) -> Any:
        """The network with the folder's keys and values, frozen."""
        from safetensors.torch import load_file

        from opportune.methods.virtual import add_key_values

        network = merged(network)
        layers, heads, size = _shape(network)
        flat = load_file(folder / "adapter_model.safetensors")["prompt_embeddings"]
        weights = flat.view(-1, layers, 2, heads, size).permute(1, 2, 0, 3, 4).contiguous()
        return add_key_values(network, weights).requires_grad_(False).eval()


def _shape(network: Any) -> tuple[int, int, int]:
    """Layers, key heads and head size."""
    config = network.config.get_text_config()
    heads = heads_of(config)
    return config.num_hidden_layers, heads.keys, heads.size


def _Reparametrised(layers: int, heads: int, size: int, seed: int) -> Any:  # noqa: N802  (makes a module)
    """An MLP from one vector a token to the keys and values of all layers."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(heads * size, _WIDTH)
            self.outer = nn.Linear(_WIDTH, layers * 2 * heads * size)

        def forward(self, weights: Any) -> Any:
            made = self.outer(torch.tanh(self.inner(weights[0, 0, :, 0])))  # [tokens, ...]
            return made.view(-1, layers, 2, heads, size).permute(1, 2, 0, 3, 4)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Encoder()
