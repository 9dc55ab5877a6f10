"""How good, one metric a file. Name -> where its class lives; imported when used."""

from __future__ import annotations

from typing import cast

from opportune.errors import RecipeError
from opportune.options import load
from opportune.types import Metric

TABLE: dict[str, str] = {
    "accuracy": "opportune.metrics.accuracy:Accuracy",
    "macro-f1": "opportune.metrics.macro_f1:MacroF1",
    "exact-match": "opportune.metrics.exact_match:ExactMatch",
    "numeric-match": "opportune.metrics.numeric_match:NumericMatch",
    "token-f1": "opportune.metrics.token_f1:TokenF1",
}


def metric_named(name: str) -> Metric:
    """The metric of that name. Raises RecipeError, listing the known, for any other."""
    if name not in TABLE:
        raise RecipeError(f"unknown metric {name!r}; known are {', '.join(TABLE)}")
    return cast(Metric, load(TABLE[name])())
