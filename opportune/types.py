"""The nouns: what flows between tasks, strategies, methods and models. Frozen; no behaviour beyond views."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

Split = Literal["train", "dev", "test"]
Status = Literal["ok", "unparsed", "failed"]
Kind = Literal["choice", "text"]
Format = Literal["auto", "plain", "chat"]
Role = Literal["system", "user", "assistant"]
REMOTE = "endpoint"  # the device of a model behind a server


# ---- the task -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """What a strategy sees of an example that is asked: never its target."""

    input: str
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled example."""

    id: str  # unique within the task, stable between runs on the same data
    input: str
    target: str
    choices: tuple[str, ...] | None = None  # this example's own choices; None: the task's
    rationale: str | None = None  # a worked solution
    group: str | None = None  # examples of one group never straddle a split

    @property
    def question(self) -> Question:
        """The example without its target."""
        return Question(self.input, self.choices)


@dataclass(frozen=True, slots=True)
class TaskView:
    """What a strategy sees of a task: training examples only, so that no test target can leak."""

    name: str
    instruction: str
    kind: Kind
    choices: tuple[str, ...] | None
    train: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A labelled task, split; dev is for choosing, test is sealed and scored once."""

    name: str
    instruction: str
    kind: Kind
    choices: tuple[str, ...] | None  # the closed set of answers shared by all examples, else None
    metric: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...] = ()  # what was inferred, removed or flagged while reading; shown to the user

    def view(self) -> TaskView:
        """The part of the task that strategies may see."""
        return TaskView(self.name, self.instruction, self.kind, self.choices, self.train)

    def split(self, name: Split) -> tuple[Example, ...]:
        """The examples of one split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]

    def fingerprint(self) -> str:
        """A digest of everything that can change a result: data, splits, instruction, choices, metric."""
        return digest({name: value for name, value in asdict(self).items() if name != "notes"})


def digest(value: Any) -> str:
    """A stable 16-digit hexadecimal digest of a JSON-like value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- asking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt, and what may happen to it when the prompt is too long for the model."""

    role: Role
    content: str
    shot: bool = False  # part of a demonstration: dropped first (earliest first, in whole user/assistant pairs)
    cut: tuple[int, int] | None = None  # the span of `content` that may be shortened from its middle


@dataclass(frozen=True, slots=True)
class Prompt:
    """One call: messages, and choices to rank by likelihood, free text to generate, or an embedding to compute.

    A last message of the assistant is a beginning of the answer that the model continues.
    """

    messages: tuple[Message, ...]
    choices: tuple[str, ...] | None = None  # rank these as the assistant's whole answer; None: generate
    format: Format = "auto"  # auto: chat where the tokenizer has a template, else plain
    samples: int = 1
    temperature: float = 0.0  # 0 is greedy
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    seed: int = 0
    separator: str = "\n\n"  # between instruction, demonstrations and question where the format is plain
    embed: bool = False  # the mean of the last hidden states instead of an answer


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used. Tokens in count the whole prompt as it was asked, shared or not."""

    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 1
    seconds: float = 0.0
    flops: float = 0.0
    cached_in: int = 0  # of these tokens, those of answers kept from earlier calls: counted, but not paid again
    cached_out: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back from one call. `error` is set when the call never succeeded; then the rest is empty."""

    prompt: str  # the exact text that was tokenised
    texts: tuple[str, ...] = ()  # one per sample (generation)
    scores: tuple[float, ...] | None = None  # summed log-probability of each choice, in the prompt's order
    vector: tuple[float, ...] | None = None  # the embedding, of length 1, where one was asked for
    usage: Usage = field(default_factory=Usage)
    shots_dropped: int = 0  # demonstrations that did not fit the context
    tokens_cut: int = 0  # tokens cut from the middle of the input to fit the context
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A strategy's final word on a question; `text` None means nothing could be parsed from `raw`."""

    text: str | None
    raw: str = ""
    scores: Mapping[str, float] | None = None  # of each choice: log-probability after calibration; votes: shares
    draft: str | None = None  # what was answered before it was reconsidered, where it was


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a method trains on: the prompt as it will be asked, and the text to answer it with."""

    prompt: Prompt
    target: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One example under one recipe."""

    example: Example
    answer: Answer | None  # None when failed
    status: Status
    score: float | None  # None when failed
    completions: tuple[Completion, ...]
    prompts: tuple[Prompt, ...]


T = TypeVar("T")
Flow = Generator[list[Prompt], list[Completion], T]
"""A conversation: yields the prompts of a round, receives their completions, returns a result. It does no I/O."""


@runtime_checkable
class Strategy(Protocol):
    """How to ask. A frozen dataclass whose fields are the recipe's options."""

    summary: ClassVar[str]  # one line for `opportune list`
    source: ClassVar[str]  # paper, year
    needs_model: ClassVar[bool]  # False: answers from the training examples alone

    def prepare(self, task: TaskView, seed: int) -> Flow[Any]:
        """Once per run, from the training examples only: pick shots, calibrate, write rationales."""
        ...

    def ask(self, question: Question, task: TaskView, prepared: Any) -> Flow[Answer]:
        """Ask one question."""
        ...

    def teach(self, example: Example, task: TaskView, prepared: Any) -> list[Lesson]:
        """What a method trains on for this example; never with the example as its own shot."""
        ...


# ---- models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model it is."""

    name: str
    path: str
    parameters: int
    digest: str  # of the weights, tokenizer and configuration
    dtype: str
    device: str
    quantise: str | None = None  # how the weights are packed


class Model(Protocol):
    """Whom to ask. One backend a file; a batch at a time."""

    @property
    def info(self) -> ModelInfo:
        """Which model it is."""

    def complete(self, prompts: Sequence[Prompt], known: Mapping[int, Completion]) -> Iterator[tuple[int, Completion]]:
        """Answer all prompts but the `known` ones (index -> completion), yielding each as soon as it is there.

        In any order. How prompts are grouped depends on `prompts` alone, so that a resumed batch computes the same.
        """
        ...


Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


@runtime_checkable
class Metric(Protocol):
    """How good an answer is. A frozen dataclass without options for most."""

    summary: ClassVar[str]
    source: ClassVar[str]
    binary: ClassVar[bool]  # every score is 0 or 1, so that Wilson's interval and McNemar's test apply
    additive: ClassVar[bool]  # the figure is the mean of the scores (macro F1 is not)

    def score(self, answer: str, example: Example) -> float:
        """The score of one parsed answer, 0 to 1."""
        ...

    def figure(self, answers: Sequence[str | None], examples: Sequence[Example]) -> float:
        """The figure over many examples; None is an unparsed answer. Failed calls are left out by the caller."""
        ...


@runtime_checkable
class Graded(Metric, Protocol):
    """A metric whose scores are given by a model."""

    @property
    def model(self) -> str:
        """Which model grades, as `--model` takes it."""

    def grade(self, answer: str, example: Example) -> Flow[float | None]:
        """Grade one answer, 0 to 1; None where no grade can be read."""
        ...


# ---- methods --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hints:
    """What a method may begin from: tokens of the task."""

    text: tuple[int, ...] = ()  # the instruction
    labels: tuple[int, ...] = ()  # the labels, one after the other


NO_HINTS = Hints()


@runtime_checkable
class Method(Protocol):
    """Which weights move. A frozen dataclass whose fields are the recipe's options."""

    summary: ClassVar[str]
    source: ClassVar[str]

    @property
    def grid(self) -> tuple[float, ...]:
        """The learning rates tried on dev, the same number for every method."""

    @property
    def rate(self) -> float | None:
        """The learning rate; None: searched on the grid."""

    @property
    def epochs(self) -> int:
        """Passes over the lessons."""

    @property
    def batch(self) -> int:
        """Lessons a step."""

    @property
    def budget(self) -> int | None:
        """Tokens that training may take, choosing the rate included; None: as many as the epochs take."""

    def attach(self, network: Any, seed: int, hints: Hints = NO_HINTS) -> Any:
        """A transformers network, in place or wrapped, with exactly the moving weights requiring gradients."""

    def save(self, network: Any, folder: Any) -> None:
        """Write the artefact (safetensors, in peft's or transformers' format) into an empty folder."""

    def load(self, network: Any, folder: Any) -> Any:
        """A base network with the artefact of `folder` applied, ready to be asked."""
