"""From a recipe's text to its objects: which parts are methods, which is the strategy, every default filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opportune import methods, strategies
from opportune.errors import RecipeError
from opportune.options import build, candidates, resolved
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

# What `--try all-prompts` and `--try all-training` stand for.
GROUPS = {
    # Every strategy that needs no file of the user's, the variants of k-shot and step-back too; written answers of at
    # most 64 tokens. `tfidf` asks no model and `majority` stands for the floor.
    "all-prompts": (
        "majority",
        "zero-shot",
        "zero-shot:calibrate=contextual",
        "k-shot:k=8",
        "k-shot:k=8,calibrate=contextual",
        "k-shot:k=8,calibrate=batch",
        "k-shot:k=4,pick=nearest",
        "k-shot:k=4,pick=diverse",
        "chain-of-thought:k=0,max_tokens=64",
        "chain-of-thought:k=4,max_tokens=64",
        "self-consistency:n=5,of=(chain-of-thought:k=4,max_tokens=64)",
        "least-to-most:max_tokens=64",
        "step-back:sense=abstract,max_tokens=64",
        "step-back:sense=reconsider,max_tokens=64",
    ),
    # At most 40,000 training tokens each, choosing the rate included, so that methods are compared at equal cost.
    "all-training": (
        "full:budget=40000+zero-shot",
        "lora:budget=40000+zero-shot",
        "ia3:budget=40000+zero-shot",
        "adapter:budget=40000+zero-shot",
        "bias:budget=40000+zero-shot",
        "norm:budget=40000+zero-shot",
        "prompt-tuning:budget=40000+zero-shot",
        "prefix-tuning:budget=40000+zero-shot",
        "p-tuning:budget=40000+zero-shot",
    ),
}
# What stands for a recipe of a group where the task has no labels.
_WITHOUT_LABELS = {
    "prompt-tuning:budget=40000+zero-shot": "prompt-tuning:init=vocabulary,budget=40000+zero-shot",
    "p-tuning:budget=40000+zero-shot": "p-tuning:init=vocabulary,budget=40000+zero-shot",
}
MOST_CANDIDATES = 4  # values an option may list: as many as a trained arm tries learning rates


@dataclass(frozen=True, slots=True)
class Arm:
    """A recipe ready to run: as the user wrote it, resolved, and as objects."""

    text: str  # what the tables show: the user's own spelling, the model where several are compared
    resolved: Recipe  # every default filled in, the model named
    methods: tuple[Method, ...]
    candidates: tuple[Strategy, ...]  # one, or those among which dev chooses
    parts: tuple[Part, ...]  # of the candidates, resolved
    model: ModelRef | None  # None where no model is asked

    @property
    def strategy(self) -> Strategy:
        """The strategy, or the first of those among which dev chooses."""
        return self.candidates[0]

    def hash(self, model_digest: str | None) -> str:
        """Identifies the resolved recipe on these very weights."""
        return digest([str(self.resolved), model_digest])


def defaults(task: Task) -> tuple[str, ...]:
    """The arms tried when none are named; what makes no sense for the task or needs more examples is left out."""
    return fitting(DEFAULTS, task)


def expanded(texts: Sequence[str], task: Task) -> list[str]:
    """The recipes asked for, each group's name replaced by those of its recipes that fit the task; each once."""
    return list(dict.fromkeys(t for text in texts for t in (fitting(GROUPS[text], task) if text in GROUPS else [text])))


def fitting(names: Sequence[str], task: Task) -> tuple[str, ...]:
    """Those recipes that make sense for the task and do not need more examples than it has."""
    return tuple(name for name in _sensible(names, task) if _shots(parse(name).parts[-1]) <= len(task.train))


def wanting(texts: Sequence[str], task: Task) -> tuple[str, ...]:
    """The recipes of the groups asked for, or the defaults, that the task has too few training examples for."""
    names = [name for text in texts for name in GROUPS.get(text, ())] if texts else DEFAULTS
    fit = fitting(names, task)
    return tuple(dict.fromkeys(name for name in _sensible(names, task) if name not in fit))


def _sensible(names: Sequence[str], task: Task) -> list[str]:
    names = [name for name in names if task.kind == "choice" or ("calibrate" not in name and name != "tfidf")]
    if task.choices is None:
        names = [_WITHOUT_LABELS.get(name, name) for name in names if name != "tfidf" and "=batch" not in name]
    return names


def _shots(part: Part) -> int:
    """The demonstrations that a strategy asks for, or the one that it repeats."""
    k, inner = part.options.get("k", 0), part.options.get("of")
    return max(k if isinstance(k, int) else 0, _shots(inner.parts[-1]) if isinstance(inner, Recipe) else 0)


def arms(text: str, models: tuple[ModelRef, ...]) -> list[Arm]:
    """The arms a recipe stands for: one for each model, unless it names its own or asks none.

    Raises RecipeError for an unknown name (with the known ones), two strategies, an option that does not exist.
    """
    recipe = parse(text)
    method_parts, strategy_part = _sorted_parts(text, recipe)
    built = tuple(build(part, methods.TABLE[part.name]) for part in method_parts)
    asked, each = _strategies(text, strategy_part)
    strategy = asked[0]
    if len(asked) > 1 and built:
        raise RecipeError(f"recipe {text!r}: a list of values is searched on dev; after a training method give one")
    parts = tuple(resolved(part, thing) for part, thing in zip(method_parts, built, strict=True))
    parts += (_together(strategy_part, each),)
    if not strategy.needs_model:
        if built or recipe.model:
            raise RecipeError(f"recipe {text!r}: {strategy_part.name} asks no model: it takes no method and no '@'")
        return [Arm(text, Recipe(parts), (), asked, each, None)]
    chosen = (recipe.model,) if recipe.model else models
    plain = text if recipe.model is None else str(Recipe(recipe.parts))
    return [
        Arm(
            plain if len(models) == 1 and not recipe.model else f"{plain}@{model}",
            Recipe(parts, model),
            built,
            asked,
            each,
            model,
        )
        for model in chosen
    ]


def _strategies(text: str, part: Part) -> tuple[tuple[Strategy, ...], tuple[Part, ...]]:
    place = strategies.TABLE[part.name]
    listed = candidates(part, place)
    if len(listed) > MOST_CANDIDATES:
        raise RecipeError(
            f"recipe {text!r}: {len(listed)} combinations of listed values; at most {MOST_CANDIDATES} are searched, as "
            "many as a trained arm tries learning rates"
        )
    built: list[Strategy] = [build(one, place) for one in listed]
    return tuple(built), tuple(resolved(one, thing) for one, thing in zip(listed, built, strict=True))


def _together(asked: Part, each: Sequence[Part]) -> Part:
    """The part with every default filled in and what was listed still listed."""
    first = each[0]
    if len(each) == 1:
        return first
    values = {name: tuple(dict.fromkeys(part.options[name] for part in each)) for name in first.options}
    listed = {name for name, value in asked.options.items() if isinstance(value, tuple) and len(values[name]) > 1}
    return Part(first.name, {name: values[name] if name in listed else first.options[name] for name in first.options})


def model_ref(name: str) -> ModelRef:
    """A model as given on the command line: a path may hold what the grammar would want quoted."""
    if Path(name).exists():
        return ModelRef(name)
    ref = parse(f"zero-shot@{name}").model
    assert ref is not None
    return ref


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
