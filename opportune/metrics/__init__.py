"""How good, one metric a file. Name -> where its class lives; imported when used."""

from __future__ import annotations

from typing import cast

from opportune.errors import RecipeError
from opportune.options import build, resolved
from opportune.spec import Part, parse
from opportune.types import Metric

TABLE: dict[str, str] = {
    "accuracy": "opportune.metrics.accuracy:Accuracy",
    "macro-f1": "opportune.metrics.macro_f1:MacroF1",
    "exact-match": "opportune.metrics.exact_match:ExactMatch",
    "contains": "opportune.metrics.contains:Contains",
    "numeric-match": "opportune.metrics.numeric_match:NumericMatch",
    "token-f1": "opportune.metrics.token_f1:TokenF1",
    "rouge-l": "opportune.metrics.rouge_l:RougeL",
    "chrf": "opportune.metrics.chrf:ChrF",
    "multilabel-f1": "opportune.metrics.multilabel_f1:MultilabelF1",
    "json-fields": "opportune.metrics.json_fields:JsonFields",
    "python": "opportune.metrics.own_function:OwnFunction",
    "rubric": "opportune.metrics.rubric:Rubric",
}


def metric_named(name: str) -> Metric:
    """The metric that a name says, perhaps with options as in a recipe: `json-fields:fields=[total,date]`.

    Raises RecipeError for an unknown name (listing the known), an unknown option, a value that cannot be.
    """
    part = _part(name)
    return cast(Metric, build(part, TABLE[part.name]))


def short_name(name: str) -> str:
    """The name without its options."""
    return name.partition(":")[0].strip()


def resolved_name(metric: Metric) -> str:
    """The name with every option written out, that of a metric without options being its plain name.

    It says everything that can change a score: the text of a rubric, the digest of one's own function.
    """
    place = f"{type(metric).__module__}:{type(metric).__qualname__}"
    name = next(name for name, there in TABLE.items() if there == place)
    return str(resolved(Part(name), metric))


def _part(name: str) -> Part:
    plain = short_name(name)
    if plain not in TABLE:
        raise RecipeError(f"unknown metric {plain!r}; known are {', '.join(TABLE)}")
    try:
        recipe = parse(name)
    except RecipeError as error:
        raise RecipeError(str(error).replace("recipe", "metric", 1)) from None
    if len(recipe.parts) > 1 or recipe.model is not None:
        raise RecipeError(f"metric {name!r}: one metric is expected; a value with '+' or '@' must stand in quotes")
    return recipe.parts[0]
