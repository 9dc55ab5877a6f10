"""What each method moves: its options as in a recipe, and the parameters and work that follow for an architecture.

Every technique of the project is a row here, by its name in a recipe; counts are tested against peft and transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

from opportune import methods
from opportune.errors import RecipeError
from opportune.options import build, option_names, within
from opportune.planner.architecture import Architecture, Linear, count, linears
from opportune.spec import Part, parse


@dataclass(frozen=True, slots=True)
class Change:
    """What a technique moves in an architecture, and what it adds to every pass."""

    moving: int  # trainable parameters
    base: int = 0  # of which the model's own
    share: float = 0.0  # of the layers' own linear weights that move
    depth: float = 1.0  # share of the layers that the backward pass goes through
    head: bool = False  # the head's weight moves
    norms: bool = False
    adapters: int = 0  # weights of added matrices that every token is multiplied with
    adapted: tuple[Linear, ...] = ()  # modules whose input the added matrices need
    scaled: tuple[int, ...] = ()  # widths that a learned vector multiplies, per layer
    tokens: int = 0  # virtual tokens in front of every sequence
    keys: int = 0  # virtual keys and values in front of every sequence, in every layer
    dropout: bool = False

    @property
    def frozen(self) -> bool:
        """Whether the model itself stays as it is."""
        return self.base == 0


class Technique(Protocol):
    """A method's options that decide its cost."""

    def change(self, a: Architecture) -> Change:
        """What it moves in an architecture."""
        ...


Rest = tuple[tuple[str, Any], ...]  # options of the method without influence on what it moves


@dataclass(frozen=True, slots=True)
class Full:
    """All weights, or those of the last layers and of the norm behind them."""

    last: int | None = None
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        c = count(a)
        if self.last is None:
            return Change(moving=c.total, base=c.total, share=1.0, head=True, norms=True)
        within("full", "last", self.last, 1, a.layers)
        share = self.last / a.layers
        moving = self.last * c.layer + c.last_norm
        return Change(moving=moving, base=moving, share=share, depth=share, norms=True)


@dataclass(frozen=True, slots=True)
class Lora:
    """Two factors beside each targeted linear module (Hu et al. 2021); DoRA adds a vector of magnitudes."""

    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    dropout: float = 0.0
    variant: str = "plain"
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        within("lora", "rank", self.rank, 1, 65_536)
        chosen = targeted(a, self.targets, "lora")
        weights = sum(self.rank * (m.inputs + m.outputs) * m.times for m in chosen)
        stacked = _stacked(a, self.rank) if self.targets in ("all-linear", ("all-linear",)) else 0
        magnitudes = sum(m.outputs * m.times for m in chosen) if self.variant == "dora" else 0
        return Change(
            moving=weights + magnitudes + stacked,
            adapters=weights + (stacked * a.experts.active // a.experts.number if a.experts else 0),
            adapted=chosen,
            scaled=tuple(m.outputs for m in chosen) if magnitudes else (),
            dropout=self.dropout > 0,
        )


def _stacked(a: Architecture, rank: int) -> int:
    """Factors beside experts, which are stacked parameters, and their router, where peft reaches them."""
    if a.experts is None or not a.experts.adapted:
        return 0
    e, sparse = a.experts, a.layers - a.experts.dense
    pair = 2 * rank * e.number * (a.hidden + 2 * e.ffn)
    return sparse * (pair + rank * e.number * (e.ffn + a.hidden) + rank * (a.hidden + e.number))


def targeted(a: Architecture, targets: str | tuple[str, ...], place: str) -> tuple[Linear, ...]:
    """The linear modules of these names. Raises RecipeError with the names there are."""
    modules = tuple(m for m in linears(a) if m.module)
    names = (targets,) if isinstance(targets, str) else targets
    if names == ("all-linear",):
        return modules
    if missing := [name for name in names if name not in {m.name for m in modules}]:
        there = ", ".join(dict.fromkeys(m.name for m in modules))
        raise RecipeError(f"{place}:targets={missing[0]}: {a.name or 'the model'} has {there}")
    return tuple(m for m in modules if m.name in names)


@dataclass(frozen=True, slots=True)
class Ia3:
    """A vector on keys, values and the feed-forward's inner width (Liu et al. 2022); on what peft names where these are
    no modules of their own; or on the modules named: their outputs, of `inner` ones their inputs."""

    targets: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        if self.targets:
            chosen = targeted(a, self.targets, "ia3")
            named = tuple(m.inputs if m.name in self.inner else m.outputs for m in chosen)
            return Change(moving=sum(w * m.times for w, m in zip(named, chosen, strict=True)), scaled=named)
        there = {m.name for m in linears(a) if m.module}
        usual = there >= {"k_proj", "v_proj", "down_proj"}
        names = ("k_proj", "v_proj") if usual else a.names.scaled
        if not names:
            raise RecipeError(f"ia3: which modules make keys and values in {a.name} is not known; give targets=")
        keys = sum(m.outputs for m in linears(a) if m.name in names and m.part == "attention")
        down = a.ffn if a.experts is None else a.experts.shared
        widths = (keys, *([down] if down else []))
        return Change(moving=sum(widths) * a.layers, scaled=widths)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A bottleneck after the feed-forward part of every layer (Pfeiffer et al. 2020)."""

    size: int = 64
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        within("adapter", "size", self.size, 1, 65_536)
        weights = a.layers * 2 * a.hidden * self.size
        added = Linear("bottleneck", a.hidden, self.size, a.layers, "feed-forward", True)
        return Change(moving=weights + a.layers * (self.size + a.hidden), adapters=weights, adapted=(added,))


@dataclass(frozen=True, slots=True)
class Bias:
    """Every bias (Ben Zaken et al. 2022); one is added to every linear module that has none."""

    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        norms = count(a).norm // 2 if a.norm == "layer" else 0
        every = sum(m.outputs * m.times for m in linears(a) if m.module) + norms
        return Change(moving=every, base=min(every, count(a).bias + norms))


@dataclass(frozen=True, slots=True)
class Norm:
    """The weights of all norms (Qi et al. 2022; Zhao et al. 2024)."""

    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        moving = count(a).norm
        if not moving:
            raise RecipeError(f"norm: the norms of {a.name or 'this model'} have no weights")
        return Change(moving=moving, base=moving, norms=True)


@dataclass(frozen=True, slots=True)
class PromptTuning:
    """Virtual tokens in front of every prompt (Lester et al. 2021); with=lora or with=full the model moves along."""

    tokens: int = 20
    with_: Literal["none", "lora", "full"] = "none"
    rank: int = 8
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        within("prompt-tuning", "tokens", self.tokens, 1, 10_000)
        along = {"none": Change(0), "lora": Lora(self.rank).change(a), "full": Full().change(a)}[self.with_]
        return _and(along, self.tokens * a.hidden, tokens=self.tokens)


@dataclass(frozen=True, slots=True)
class PTuning:
    """Virtual tokens made by a small network of two layers (Liu et al. 2021)."""

    tokens: int = 20
    width: int = 256
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        within("p-tuning", "tokens", self.tokens, 1, 10_000)
        encoder = 2 * a.hidden * self.width + self.width + a.hidden
        return Change(moving=self.tokens * a.hidden + encoder, tokens=self.tokens)


@dataclass(frozen=True, slots=True)
class PrefixTuning:
    """Virtual keys and values in every layer (Li & Liang 2021); reparametrise trains them through a network of 512."""

    tokens: int = 20
    reparametrise: bool = False
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        within("prefix-tuning", "tokens", self.tokens, 1, 10_000)
        moving = 2 * a.layers * self.tokens * a.key_width
        if self.reparametrise:
            outer = 2 * a.layers * a.key_width
            moving = self.tokens * a.key_width + (a.key_width + 1) * 512 + (512 + 1) * outer
        return Change(moving=moving, keys=self.tokens)


def _and(change: Change, moving: int, tokens: int) -> Change:
    return Change(**{name: getattr(change, name) for name in change.__slots__} | {
        "moving": change.moving + moving, "tokens": tokens,
    })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pretraining, and continual pretraining on a corpus with replayed general text (Ibrahim et al. 2024)."""

    replay: float = 0.0
    tokens: int | None = None  # read in an epoch; None: as many as the plan says
    epochs: int = 1
    rest: Rest = ()

    def change(self, a: Architecture) -> Change:
        within("continual", "replay", self.replay, 0.0, 1.0)
        if self.tokens is not None:
            within("continual", "tokens", self.tokens, 1, 1e12)
        return Full().change(a)


@dataclass(frozen=True, slots=True)
class Peft:
    """VeRA as peft has it (Kopiczko et al. 2024): two vectors a module beside two random matrices that all share."""

    kind: str = "VERA"
    r: int = 256
    target_modules: str | tuple[str, ...] = "all-linear"
    rest: Rest = field(default=())

    def change(self, a: Architecture) -> Change:
        if self.kind != "VERA":
            raise RecipeError(f"peft:kind={self.kind}: of peft's kinds the planner knows VERA; plan lora in its place")
        within("peft", "r", self.r, 1, 65_536)
        chosen = targeted(a, self.target_modules, "peft")
        moving = sum((m.outputs + self.r) * m.times for m in chosen)
        work = sum(self.r * (m.inputs + m.outputs) * m.times for m in chosen)
        return Change(moving=moving, adapters=work, adapted=chosen)


TABLE: dict[str, str] = {
    name: f"opportune.planner.techniques:{kind.__name__}"
    for name, kind in {
        "pretrain": Corpus,
        "continual": Corpus,
        "full": Full,
        "lora": Lora,
        "ia3": Ia3,
        "adapter": Adapter,
        "bias": Bias,
        "norm": Norm,
        "prompt-tuning": PromptTuning,
        "prefix-tuning": PrefixTuning,
        "p-tuning": PTuning,
        "peft": Peft,
    }.items()
}


def technique(part: Part) -> Technique:
    """The technique that a recipe's part names. Raises RecipeError with the known names."""
    if part.name not in TABLE:
        raise RecipeError(f"method {part.name!r} is unknown to the planner; it knows {', '.join(TABLE)}")
    found: Any = build(part, TABLE[part.name])
    own = methods.TABLE.get(part.name)
    allowed = option_names(own) if own else ()
    if allowed is not None and (unknown := [name for name, _ in found.rest if name not in allowed]):
        raise RecipeError(f"{part.name}: unknown option {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    technique: Technique = found
    return technique


def tokens_named(text: str) -> int | None:
    """How many tokens a method reads by its own options, in all."""
    found = technique_of(text)
    return found.tokens * found.epochs if isinstance(found, Corpus) and found.tokens is not None else None


@lru_cache(maxsize=1024)
def technique_of(text: str) -> Technique:
    """The same from a recipe's text with one part, such as `lora:rank=8`."""
    parts = parse(text).parts
    if len(parts) != 1:
        raise RecipeError(f"method {text!r}: one method is planned at a time")
    return technique(parts[0])
