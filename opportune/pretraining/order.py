"""What a pretraining is asked to do, what that comes to, and what is reported in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from opportune.corpus.documents import FIELD
from opportune.cost import Amount
from opportune.errors import UsageError
from opportune.pretraining import sizing
from opportune.pretraining.sizing import Size


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked; everything but `out` decides the result."""

    corpus: str
    parameters: int
    out: Path
    tokens: int | None = None  # to train on; None: from `epochs`, else 20 a parameter, at most 4 passes
    epochs: float | None = None  # passes over the corpus
    context: int = 512  # tokens
    seed: int = 0
    rate: float | None = None  # the highest learning rate; None: by the rule
    validation: str | None = None  # text to validate on; None: a part of the corpus
    field: str = FIELD  # of JSON lines and Parquet
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        sizing.vocabulary_for(self.parameters)
        if self.tokens is not None and self.epochs is not None:
            raise UsageError("--tokens and --epochs say the same thing: give one of them")
        for name, value, low in (
            ("tokens", self.tokens, 1),
            ("epochs", self.epochs, 1e-6),
            ("context", self.context, 16),
        ):
            if value is not None and value < low:
                raise UsageError(f"--{name} {value:g} is out of range: at least {low:g}")
        if self.rate is not None and not 0 < self.rate < 1:
            raise UsageError(f"--rate {self.rate:g} is out of range: above 0, below 1")

    def identity(self) -> dict[str, Any]:
        """What decides the result, beside the texts' content."""
        return {name: value for name, value in asdict(self).items() if name not in ("out", "corpus", "validation")}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the order comes to for this corpus."""

    size: Size
    corpus_tokens: int  # those trained on in one pass
    tokens: int  # trained on in all
    steps: int
    batch: int  # blocks a step
    rate: float
    predicted: Amount


def planned(order: Order, vocabulary: int, corpus: int) -> Plan:
    """The plan for a corpus of so many tokens in a vocabulary of that size; nothing is predicted yet."""
    size = sizing.size_for(order.parameters, vocabulary)
    if order.tokens is not None:
        wanted = order.tokens
    elif order.epochs is not None:
        wanted = round(order.epochs * corpus)
    else:
        wanted = sizing.tokens_for(size.parameters, corpus)
    blocks = max(1, round(wanted / order.context))
    batch = max(1, round(sizing.batch_for(size.parameters, blocks * order.context) / order.context))
    rate = sizing.rate_for(size.parameters, blocks * order.context) if order.rate is None else order.rate
    return Plan(size, corpus, blocks * order.context, -(-blocks // batch), batch, rate, Amount())


@dataclass(frozen=True, slots=True)
class Point:
    """A validation on the way."""

    step: int
    tokens: int
    seconds: float  # of training so far, validations left out
    loss: float  # nats a token, on the first blocks of the validation text
    train_loss: float  # mean of the steps since the last point


@dataclass(frozen=True, slots=True)
class Report:
    """What came out."""

    out: str
    parameters: int
    layers: int
    width: int
    vocabulary: int
    context: int
    tokens: int  # trained on
    passes: float  # over the corpus
    steps: int
    rate: float
    loss: float  # on the whole validation text, nats a token
    bits_per_character: float
    bits_per_byte: float
    validation_tokens: int
    curve: tuple[Point, ...]
    predicted: Amount
    measured: Amount  # of training and its validations

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def read_report(value: Mapping[str, Any]) -> Report:
    """A report from its JSON."""
    amounts = {name: Amount(**value[name]) for name in ("predicted", "measured")}
    return Report(**{**value, **amounts, "curve": tuple(Point(**point) for point in value["curve"])})


class Watcher(Protocol):
    """Whoever shows how a pretraining gets on."""

    def stage(self, name: str) -> None:
        """It begins with something that takes a while."""
        ...

    def planned(self, plan: Plan) -> None:
        """What will be done."""
        ...

    def step(self, step: int, loss: float, seconds: float) -> None:
        """A step is done."""
        ...

    def validated(self, loss: float) -> None:
        """A part of the validation text has been read."""
        ...
