"""What a run leaves behind: one frozen record per row of the store, and the shape of a run's configuration.

Makers write these, readers (tables, report, statistics) read them; the two meet nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, TypeVar

from opportune.cost import Amount, Cost
from opportune.types import Example, Kind, ModelInfo, Split, Status

if TYPE_CHECKING:
    from opportune.models.endpoint_choosing import Way


RunStatus = Literal["running", "finished"]
ArmStatus = Literal["pending", "running", "done", "failed"]


class TaskConfig(TypedDict):
    """The task, as far as a reader needs it; its examples are stored apart."""

    name: str
    source: str
    kind: Kind
    instruction: str
    metric: str
    labels: list[str] | None
    notes: list[str]


class ModelConfig(TypedDict):
    """One model of the run."""

    name: str
    path: str
    parameters: int  # 0: unknown, as of a model behind a server
    digest: str
    dtype: str
    device: str
    choosing: NotRequired[Way | None]  # how a server's choices are told apart; None: not found out


def model_config(info: ModelInfo, choosing: Way | None) -> ModelConfig:
    """A model as its run keeps it."""
    return ModelConfig(
        name=info.name,
        path=info.path,
        parameters=info.parameters,
        digest=info.digest,
        dtype=info.dtype,
        device=info.device,
        choosing=choosing,
    )


class RunConfig(TypedDict):
    """Everything that was decided before the run began."""

    task: TaskConfig
    models: list[ModelConfig]
    seeds: list[int]
    tolerance: float  # as a share: 3 points are 0.03
    machine_price: float | None  # dollars per hour
    versions: dict[str, str]
    options: NotRequired[dict[str, Any]]  # the command's own arguments, to repeat it


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One comparison, begun or finished."""

    id: str
    key: str  # digest of everything that can change the results: the same key is the same run
    created: str  # ISO 8601, UTC
    name: str
    config: RunConfig
    status: RunStatus = "running"


@dataclass(frozen=True, slots=True)
class ExampleRecord:
    """One example of the run's task; all three splits are kept."""

    run: str
    split: Split
    position: int
    example: str  # its id
    input: str
    target: str
    choices: tuple[str, ...] | None = None
    group: str | None = None
    rationale: str | None = None

    def as_example(self) -> Example:
        """The example that was stored."""
        return Example(self.example, self.input, self.target, self.choices, self.rationale, self.group)


@dataclass(frozen=True, slots=True)
class Trial:
    """One learning rate tried on dev."""

    rate: float
    dev_score: float | None  # where its run to the end was best; None for a rate that was given up
    dev_loss: float | None
    steps: int
    stopped: bool  # given up early as one of the poor rates
    probe_loss: float | None = None  # after its first steps, by which the rates to give up are chosen
    method: str | None = None  # of a chain, which of its methods: "1 lora"
    chosen: bool | None = None  # of a chain; None: where its rate is the arm's

    @property
    def diverged(self) -> bool:
        """Whether it came to no finite loss: in its first steps, or on the way to the end."""
        return self.dev_loss is None and (self.probe_loss is None or not self.stopped)


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that a single question takes when it is asked alone."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class LossChange:
    """The loss on a text before and after training, in nats per token."""

    text: str  # its name or path
    tokens: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Gap:
    """The final network's loss on some of what it was trained on and on dev, in nats per target token."""

    train: float
    dev: float
    error: float | None  # standard error of the difference; None where one side has a single lesson
    opened: bool  # beyond two standard errors, and more than a tenth of the loss on dev


@dataclass(frozen=True, slots=True)
class ReadText:
    """What continual pretraining read, and what it gained on documents held out."""

    tokens: int  # of all passes
    replayed: int  # of them general text
    held_out: LossChange


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about an arm once it ran, beside its outcomes and its bill."""

    questions: int | None = None  # how many questions the item `asking` of the bill covers; None: the test split
    latency: Latency | None = None
    saved: Amount | None = None  # what sharing with other arms saved; not part of the bill
    cached: Amount | None = None  # what answers kept from earlier runs saved; not taken off the bill either
    dtype: str | None = None
    shots_dropped: int = 0
    tokens_cut: int = 0
    lessons_cut: int = 0  # lessons of the training that lost something to the length limit
    trainable_parameters: int | None = None  # of a chain, the sum over its methods
    artefact: str | None = None  # path of the trained weights when they were made
    artefact_bytes: int | None = None  # of all its files, those of every method of a chain
    rate: float | None = None  # the learning rate chosen on dev
    rate_at_edge: bool = False  # the best rate is the first or last of its grid
    trials: tuple[Trial, ...] = ()
    chosen: str | None = None  # the strategy chosen on dev, where the recipe lists several values of an option
    searched: dict[str, float] = field(default_factory=dict)  # dev score of each candidate strategy
    notes: tuple[str, ...] = ()  # what preparing found that a reader must know
    content_free: dict[str, float] | None = None  # probability of each label for inputs that say nothing
    agreement: float | None = None  # mean share of the samples that voted for the answer
    revised: dict[str, float] | None = None  # shares of the answers that reviews changed, mended and spoilt
    grading: Amount | None = None  # what a metric graded by a model used on test; not part of the bill
    forgetting: LossChange | None = None  # on general text
    gap: Gap | None = None  # of the last method
    read: tuple[ReadText, ...] = ()  # one of each method that reads raw text


@dataclass(frozen=True, slots=True)
class ArmRecord:
    """One recipe under one seed."""

    run: str
    hash: str  # of the resolved recipe
    seed: int
    position: int  # the order in which the arms were asked for
    recipe: str
    model: str | None  # the model's name; None where the recipe needs none
    resolved: dict[str, Any]  # every default filled in
    status: ArmStatus = "pending"
    reason: str | None = None  # why it failed
    predicted: Cost | None = None
    measured: Cost = field(default_factory=Cost)
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One prompt and what came back."""

    run: str
    hash: str
    seed: int
    stage: str  # prepare, dev, test, prepare-0, dev-0 (of a search), prepare-trained, grading-test ...
    example: str  # '' in prepare
    round: int
    position: int  # of the prompt in the round
    key: str  # digest of model and prompt: equal keys have equal completions
    prompt: str  # the exact text that was tokenised
    choices: tuple[str, ...] | None = None
    texts: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None  # a log-probability per choice
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    shots_dropped: int = 0
    tokens_cut: int = 0
    error: str | None = None
    shared: bool = False  # copied from another arm that asked the same
    vector: tuple[float, ...] | None = None  # an embedding
    cached_in: int = 0  # of the tokens, those that the response cache saved
    cached_out: int = 0


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """One example under one recipe and seed."""

    run: str
    hash: str
    seed: int
    split: Split
    example: str
    answer: str | None
    raw: str
    status: Status
    score: float | None  # None when failed
    choice_scores: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a learning curve."""

    run: str
    hash: str
    seed: int
    trial: str  # "final" or "rate=0.001"; of a chain after the method: "1 lora: final"
    step: int
    values: dict[str, float | None]


Record = TypeVar("Record", RunRecord, ExampleRecord, ArmRecord, CallRecord, OutcomeRecord, CurvePoint)


def read_cost(value: Mapping[str, Any]) -> Cost:
    """A bill from its JSON."""
    return Cost(**{item.name: Amount(**value[item.name]) for item in fields(Cost)})


def read_text(value: Mapping[str, Any]) -> ReadText:
    """What was read, from its JSON."""
    return ReadText(**{**value, "held_out": LossChange(**value["held_out"])})


def _read_facts(value: Mapping[str, Any]) -> Facts:
    latency = value["latency"]
    amounts = {name: value.get(name) for name in ("saved", "cached", "grading")}
    forgetting, gap = value.get("forgetting"), value.get("gap")
    return Facts(
        **{
            **value,
            "latency": latency and Latency(**latency),
            **{name: amount and Amount(**amount) for name, amount in amounts.items()},
            "notes": tuple(value.get("notes", ())),
            "forgetting": forgetting and LossChange(**forgetting),
            "gap": gap and Gap(**gap),
            "read": tuple(map(read_text, value.get("read", ()))),
            "trials": tuple(Trial(**trial) for trial in value["trials"]),
        }
    )


# How a field comes back from its JSON, where that is not the value itself; None always stays None.
_READERS: dict[str, Any] = {
    "choices": tuple,
    "texts": tuple,
    "scores": tuple,
    "vector": tuple,
    "predicted": read_cost,
    "measured": read_cost,
    "facts": _read_facts,
}


def from_row(kind: type[Record], row: Mapping[str, Any]) -> Record:
    """The record of a stored row, given as column name -> value."""
    values = {name: _READERS[name](v) if name in _READERS and v is not None else v for name, v in row.items()}
    return kind(**values)
