"""From a recipe's text to its objects: which parts are methods, which is the strategy, every default filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opportune import methods, strategies
from opportune.errors import RecipeError
from opportune.options import build, resolved
from opportune.spec import ModelRef, Part, Recipe, parse
from opportune.types import Method, Strategy, Task, digest

DEFAULTS = (
    "majority",
    "tfidf",
    "zero-shot",
    "zero-shot:calibrate=contextual",
    "k-shot:k=8",
    "k-shot:k=8,calibrate=contextual",
    "k-shot:k=32",
    "k-shot:k=32,calibrate=contextual",
    "lora:rank=16+zero-shot",
    "full+zero-shot",
)


@dataclass(frozen=True, slots=True)
class Arm:
    """A recipe ready to run: as the user wrote it, resolved, and as objects."""

    text: str  # what the tables show: the user's own spelling, the model where several are compared
    resolved: Recipe  # every default filled in, the model named
    methods: tuple[Method, ...]
    strategy: Strategy
    model: ModelRef | None  # None where no model is asked

    def hash(self, model_digest: str | None) -> str:
        """Identifies the resolved recipe on these very weights."""
        return digest([str(self.resolved), model_digest])


def defaults(task: Task) -> tuple[str, ...]:
    """The arms tried when none are named; what makes no sense for the task or needs more examples is left out."""
    names = [name for name in DEFAULTS if task.kind == "choice" or ("calibrate" not in name and name != "tfidf")]
    if task.choices is None:
        names = [name for name in names if name != "tfidf"]
    return tuple(name for name in names if _shots(name) <= len(task.train))


def _shots(name: str) -> int:
    k = parse(name).parts[-1].options.get("k", 0)
    return k if isinstance(k, int) else 0


def arms(text: str, models: tuple[ModelRef, ...]) -> list[Arm]:
    """The arms a recipe stands for: one for each model, unless it names its own or asks none.

    Raises RecipeError for an unknown name (with the known ones), two strategies, an option that does not exist.
    """
    recipe = parse(text)
    method_parts, strategy_part = _sorted_parts(text, recipe)
    built = tuple(build(part, methods.TABLE[part.name]) for part in method_parts)
    strategy: Strategy = build(strategy_part, strategies.TABLE[strategy_part.name])
    parts = tuple(resolved(part, thing) for part, thing in zip(method_parts, built, strict=True))
    parts += (resolved(strategy_part, strategy),)
    if not strategy.needs_model:
        if built or recipe.model:
            raise RecipeError(f"recipe {text!r}: {strategy_part.name} asks no model: it takes no method and no '@'")
        return [Arm(text, Recipe(parts), (), strategy, None)]
    chosen = (recipe.model,) if recipe.model else models
    plain = text if recipe.model is None else text.rpartition("@")[0]
    return [
        Arm(
            plain if len(models) == 1 and not recipe.model else f"{plain}@{model}",
            Recipe(parts, model),
            built,
            strategy,
            model,
        )
        for model in chosen
    ]


def _sorted_parts(text: str, recipe: Recipe) -> tuple[tuple[Part, ...], Part]:
    for part in recipe.parts:
        if part.name not in methods.TABLE and part.name not in strategies.TABLE:
            raise RecipeError(
                f"recipe {text!r}: unknown name {part.name!r}; strategies: {', '.join(strategies.TABLE)}; "
                f"methods: {', '.join(methods.TABLE)}"
            )
    last = recipe.parts[-1]
    asked = last if last.name in strategies.TABLE else Part("zero-shot")
    trained = recipe.parts[:-1] if asked is last else recipe.parts
    extra = [part.name for part in trained if part.name in strategies.TABLE]
    if extra:
        raise RecipeError(f"recipe {text!r}: {extra[0]!r} is a strategy; one strategy, and it comes last")
    return trained, asked


def described(table: dict[str, str]) -> list[tuple[str, str, str]]:
    """(name, summary, source) of each entry of a folder's table."""
    from opportune.options import load

    rows: list[tuple[str, Any]] = [(name, load(place)) for name, place in table.items()]
    return [(name, kind.summary, kind.source) for name, kind in rows]
