"""From a number of parameters to plausible widths, by a stated rule.

The rule, after the models people train: Llama's layer (gated, RMS norms, no biases), as many layers as make hidden /
layers nearest to 64 at 100M, growing by 16 for each factor of ten in size, at most 128 (SmolLM2-1.7B has 85,
Llama-3-8B 128, Llama-3-70B 102, Llama-3.1-405B 130; GPT-3's are 64 to 128); heads of 64 below 1B and of 128 from
there on; eight key heads from 7B on; a feed-forward of 8/3 of the hidden size (Touvron et al. 2023), adjusted last so
that the count comes as close as a multiple of 64 allows; a vocabulary of 32,000 below 1B and 128,256 from there on;
tied embeddings below 4B.
"""

from __future__ import annotations

import math
from dataclasses import replace

from opportune.errors import ModelError
from opportune.planner.architecture import Architecture, count

SMALLEST, LARGEST = 1e4, 1e14
_STEP = 64  # widths are multiples of it


def architecture_of_size(parameters: float, vocabulary: int | None = None) -> Architecture:
    """The widths of the rule above. Raises ModelError where the embeddings alone would be larger than the model."""
    if not SMALLEST <= parameters <= LARGEST:
        raise ModelError(f"--parameters {parameters:g} is out of range: {SMALLEST:g} to {LARGEST:g}")
    words = vocabulary or (32_000 if parameters < 1e9 else 128_256)
    if words * _STEP * (1 if parameters < 4e9 else 2) >= parameters:
        raise ModelError(
            f"--parameters {parameters:g}: an embedding of {words:,} tokens, {_STEP} wide, is {words * _STEP:,} "
            "parameters by itself; give a smaller --vocabulary or a larger model"
        )
    wanted = min(64 + 16 * max(math.log10(parameters / 1e8), -2), 128)
    candidates = [_fitted(parameters, words, hidden) for hidden in _hidden_sizes(parameters)]
    plausible = [a for a in candidates if a is not None and abs(count(a).total / parameters - 1) < 0.05]
    if not plausible:
        raise ModelError(f"--parameters {parameters:g}: no plausible widths with a vocabulary of {words:,}")
    return min(plausible, key=lambda a: abs(math.log(a.hidden / a.layers / wanted)))


def _short(parameters: float) -> str:
    """As `10B`."""
    factor, letter = next((f, x) for f, x in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1.0, "")) if parameters >= f)
    return f"{parameters / factor:g}{letter}"


def _hidden_sizes(parameters: float) -> range:
    step = _STEP if parameters < 1e9 else 128 if parameters < 7e9 else 1024
    return range(step, 65_536 + 1, step)


def _fitted(parameters: float, vocabulary: int, hidden: int) -> Architecture | None:
    """With this hidden size, the number of layers that comes nearest, then the feed-forward that comes nearer."""
    ffn = max(_STEP, round(8 / 3 * hidden / _STEP) * _STEP)
    size = 64 if parameters < 1e9 else 128
    heads = hidden // size
    shape = Architecture(
        name=f"a model of {_short(parameters)}",
        layers=1,
        hidden=hidden,
        heads=heads,
        kv_heads=8 if parameters >= 7e9 and heads % 8 == 0 else heads,
        head_size=size,
        ffn=ffn,
        vocabulary=vocabulary,
        tied=parameters < 4e9,
    )
    one, two = count(shape).total, count(replace(shape, layers=2)).total
    layers = round((parameters - (2 * one - two)) / (two - one))
    if layers < 1:
        return None
    missing = parameters - count(replace(shape, layers=layers)).total
    adjusted = ffn + round(missing / (3 * hidden * layers) / _STEP) * _STEP
    return replace(shape, layers=layers, ffn=max(adjusted, _STEP))
