"""How wide and deep a network of so many parameters is, how large its vocabulary, and how it is best trained.

Width is about 32 times depth: within wide bounds the shape hardly matters (Kaplan et al. 2020), and small models in use
lie around it (SmolLM2-135M: 19, nanoGPT's smallest: 32, GPT-2's: 64). The vocabulary takes up to a fifth of the
parameters. Batch and learning rate follow the compute, after DeepSeek-AI 2024 (fitted from 1e17 to 2e19 FLOPs; below
that it is an extrapolation). Tokens: 20 a parameter (Hoffmann et al. 2022), but at most four passes over the corpus
(Muennighoff et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from opportune.errors import UsageError

SMALLEST, LARGEST = 100_000, 10_000_000_000  # parameters
VOCABULARY = (512, 65_536)
ASPECT = 32  # width over depth
_NEAR = 0.1  # of the parameters asked for; among shapes so near, the one of the best aspect is taken
_EMBEDDING = 0.2  # of the parameters
TOKENS_PER_PARAMETER, PASSES = 20, 4
_LEAST_STEPS = 200
_RATES = (1e-4, 5e-3)
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9}


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a Llama with tied embeddings and as many key heads as query heads."""

    layers: int
    width: int
    vocabulary: int

    @property
    def heads(self) -> int:
        """Of 32 below a width of 512, of 64 from there on."""
        return self.width // _head(self.width)

    @property
    def inner(self) -> int:
        """The width of the gated layers: eight thirds of the network's, as Touvron et al. 2023, in multiples of 32."""
        return 32 * math.ceil(8 * self.width / 3 / 32)

    @property
    def parameters(self) -> int:
        """How many numbers."""
        layer = 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width
        return self.vocabulary * self.width + self.layers * layer + self.width


def read_count(text: str, option: str) -> int:
    """A count such as 10M, 1.5B, 500k or 200000. Raises UsageError for anything else."""
    number, unit = (text[:-1], text[-1].upper()) if text and text[-1].upper() in _UNITS else (text, "")
    try:
        found = float(number) * _UNITS.get(unit, 1)
    except ValueError:
        found = math.nan
    if not 1 <= found < math.inf:
        raise UsageError(f"{option} {text!r} is not a count: give one such as 10M, 1.5B, 500k or 200000")
    return round(found)


def vocabulary_for(parameters: int) -> int:
    """The largest power of two whose embedding takes at most a fifth of the parameters, 512 to 65,536.

    Raises UsageError for a number of parameters out of range.
    """
    if not SMALLEST <= parameters <= LARGEST:
        raise UsageError(f"--parameters {parameters:,} is out of range: 100k to 10B")
    width = math.cbrt(parameters * ASPECT / 12)  # of a network without vocabulary: 12 depth width^2
    fitting = 1 << math.floor(math.log2(_EMBEDDING * parameters / width))
    return min(max(fitting, VOCABULARY[0]), VOCABULARY[1])


def size_for(parameters: int, vocabulary: int) -> Size:
    """Of the shapes within a tenth of the parameters the one whose width is nearest to 32 times its depth; without any,
    the nearest in size."""
    shapes = [
        Size(layers, width, vocabulary)
        for layers in range(1, 129)
        for width in [*range(32, 512, 32), *range(512, 10_240, 64)]
    ]

    def off(size: Size) -> float:
        return abs(math.log(size.parameters / parameters))

    def skew(size: Size) -> tuple[float, float]:
        return abs(math.log(size.width / (ASPECT * size.layers))), off(size)

    near = [size for size in shapes if abs(size.parameters - parameters) <= _NEAR * parameters]
    return min(near, key=skew) if near else min(shapes, key=off)


def tokens_for(parameters: int, corpus: int) -> int:
    """How many tokens to train on, where the corpus has so many."""
    return min(TOKENS_PER_PARAMETER * parameters, PASSES * corpus)


def batch_for(parameters: int, tokens: int) -> int:
    """Tokens a step: 0.2920 C^0.3271 for C = 6 parameters tokens FLOPs, with at least 200 steps."""
    return max(1, math.floor(min(0.2920 * math.pow(_compute(parameters, tokens), 0.3271), tokens / _LEAST_STEPS)))


def rate_for(parameters: int, tokens: int) -> float:
    """The highest learning rate: 0.3118 C^-0.125, 1e-4 to 5e-3, to two digits."""
    rate = min(max(0.3118 * math.pow(_compute(parameters, tokens), -0.125), _RATES[0]), _RATES[1])
    return float(f"{rate:.1e}")


def _compute(parameters: int, tokens: int) -> float:
    return 6.0 * parameters * tokens


def _head(width: int) -> int:
    return 32 if width < 512 else 64
