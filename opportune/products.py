"""Products of linear layers on AMD processors: oneDNN's, which torch has with it, instead of MKL's.

torch sends float32 products to MKL, which keeps its best kernels for its maker's processors. On an AMD with AVX2,
oneDNN multiplies by a transposed matrix, as linear layers do, 1.1 to 1.4 times as fast, and by a large head with few
rows twice as fast; by one as it is, the gradient's way, no faster (decision 012). torch offers it under an operator
that its compiler uses; it has no gradient, so that is here. Elsewhere, and for what is small, torch's own product is
taken.

While answers are written, every step multiplies a few rows by all weights: `packed` lays the weights out for oneDNN
beforehand, which it otherwise does in every product (bfloat16 included), and `Product` does more in one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

ROWS = 4  # from here on it was never slower
WEIGHTS = 2**15  # below, preparing the call costs more than is won

# oneDNN, and torch once more, keep code for every number of rows they have multiplied, 1024 kinds by default, and packs
# differ in their rows: hundreds of megabytes in the course of a training. A step needs some sixty kinds.
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_KINDS = "128"


@cache
def favoured() -> bool:
    """Whether oneDNN is taken on this machine. It depends on the processor alone, so that a run resumes bit for bit."""
    abilities = torch.cpu.get_capabilities()
    amd = str(abilities.get("cpu_name", "")).startswith("AMD") and bool(abilities.get("avx2"))
    return amd and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [rows, in], W [out, in], b [out] -> x W^T + b [rows, out]. Without a gradient."""
    if _is_slow(rows, weight):
        return _product(rows, weight, bias)
    return nn.functional.linear(rows, weight, bias)


def use_own_products(network: nn.Module) -> None:
    """Let the network's plain linear layers multiply this way; a layer's weights, name and file stay as they are."""
    for name in _CACHES:  # read at the first product
        os.environ.setdefault(name, _KINDS)
    if not favoured():
        return
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = OwnLinear


def use_torchs_products(network: nn.Module) -> None:
    """Undo `use_own_products`."""
    for module in network.modules():
        if type(module) is OwnLinear:
            module.__class__ = nn.Linear  # type: ignore[assignment]


class OwnLinear(nn.Linear):
    """A linear layer whose products are this file's."""

    packed: Tensor | None = None  # the weight as oneDNN wants it, within `packed`

    @property
    def factor(self) -> Tensor:
        """What to multiply by: the packed weight where there is one and no gradient is asked for."""
        return self.weight if self.packed is None or torch.is_grad_enabled() else self.packed

    def forward(self, input: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        factor = self.factor
        if not _is_slow(input, factor):
            return super().forward(input)
        rows = input.reshape(-1, input.shape[-1])
        output: Tensor = (_Linear.apply if torch.is_grad_enabled() else _product)(rows, factor, self.bias)
        return output.view(*input.shape[:-1], -1)


class Product:
    """x W^T + b of linear layers with the same input, beside each other, by weights laid out once for about so many
    rows, and what oneDNN can do with the sum before it is rounded. The layers stay as they are. Without a gradient."""

    def __init__(self, layers: Sequence[nn.Linear], rows: int) -> None:
        weights: list[Tensor] = [layer.weight.detach() for layer in layers]
        self._weight = torch.ops.mkldnn._reorder_linear_weight(torch.cat(weights), rows)
        self._bias: Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            biases: list[Tensor] = [
                w.new_zeros(len(w)) if each.bias is None else each.bias for w, each in zip(weights, layers, strict=True)
            ]
            self._bias = torch.cat(biases).detach()

    def __call__(self, rows: Tensor) -> Tensor:
        """x [rows, in] -> [rows, out]."""
        return _product(rows, self._weight, self._bias)

    def silu(self, rows: Tensor) -> Tensor:
        """silu(x W^T + b)."""
        return _product(rows, self._weight, self._bias, "swish")

    def times(self, rows: Tensor, other: Tensor) -> Tensor:
        """(x W^T + b) * other."""
        return self._with(rows, other, "mul")

    def plus(self, rows: Tensor, other: Tensor) -> Tensor:
        """x W^T + b + other."""
        return self._with(rows, other, "add")

    def _with(self, rows: Tensor, other: Tensor, how: str) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, other, self._weight, self._bias, how)
        return found


@contextmanager
def packed(layers: Sequence[OwnLinear], rows: int) -> Iterator[None]:
    """Within this block, passes without gradients multiply by weights laid out once, for about so many rows.

    The weights must not change meanwhile, and are in memory twice.
    """
    for layer in layers:
        layer.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
    try:
        yield
    finally:
        for layer in layers:
            layer.packed = None


def packed_bytes(network: nn.Module) -> int:
    """What `packed` adds to memory."""
    return sum(layer.weight.nbytes for layer in packable(network))


def packable(network: nn.Module) -> list[OwnLinear]:
    """The layers whose weights can be laid out."""
    return [layer for layer in network.modules() if can_be_packed(layer)]


def can_be_packed(layer: nn.Module) -> TypeGuard[OwnLinear]:
    """oneDNN refuses bfloat16 where the processor has not the instructions for it."""
    shorter = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    return (
        isinstance(layer, OwnLinear)
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype in (torch.float32, shorter)
    )


class _Linear(torch.autograd.Function):
    """x [rows, in], W [out, in], b [out] or None -> [rows, out]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows if ctx.needs_input_grad[1] else None, weight)
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight = ctx.saved_tensors
        gradient, wanted = gradients[0], ctx.needs_input_grad
        return (
            gradient @ weight if wanted[0] else None,
            gradient.t() @ rows if wanted[1] else None,
            gradient.sum(0) if wanted[2] else None,
        )


def _is_slow(rows: Tensor, weight: Tensor) -> bool:
    """Whether torch's own product of these would be slower than oneDNN's, or impossible: the weight is packed."""
    return weight.is_mkldnn or (
        rows.dtype == weight.dtype == torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and weight.numel() >= WEIGHTS
        and rows.numel() >= ROWS * rows.shape[-1]
        and favoured()
    )


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None, after: str = "none") -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, after, [], "")
    return product
