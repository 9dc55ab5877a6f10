"""Ask: strategy x model x examples -> outcomes. All conversations advance in lockstep, a batch a round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from opportune.errors import OpportuneError
from opportune.types import (
    Answer,
    Completion,
    Example,
    Flow,
    Graded,
    Metric,
    Model,
    Outcome,
    Prompt,
    Status,
    Strategy,
    TaskView,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One prompt's place: which conversation, which round, which of the round's prompts."""

    conversation: str  # an example's id; "" while preparing
    round: int
    position: int
    prompt: Prompt


class Journal(Protocol):
    """Where calls are written as they are answered, and remembered from before a crash."""

    def known(self, calls: Sequence[Call]) -> Mapping[int, Completion]:
        """The answers already there, by index into `calls`."""
        ...

    def record(self, answered: Sequence[tuple[Call, Completion]]) -> None:
        """Keep these answers; called as soon as each is there."""
        ...


class NoJournal:
    """Remembers nothing: for answers that need not survive a crash."""

    def known(self, calls: Sequence[Call]) -> Mapping[int, Completion]:
        return {}

    def record(self, answered: Sequence[tuple[Call, Completion]]) -> None:
        return None


@dataclass(slots=True)
class Conversation(Generic[T]):
    """A flow under way and what it has heard so far."""

    flow: Flow[T]
    waiting: list[Prompt] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    result: T | None = None
    over: bool = False
    error: str | None = None

    def hear(self, heard: list[Completion] | None) -> None:
        """Send a round's completions (None starts the flow); a failed call ends the conversation."""
        self.completions += heard or []
        self.waiting = []
        self.error = next((c.error for c in heard or () if c.error is not None), None)
        if self.error is not None:
            self.flow.close()
            self.over = True
            return
        try:
            self.waiting = next(self.flow) if heard is None else self.flow.send(heard)
            self.prompts += self.waiting
        except StopIteration as stop:
            self.result, self.over = stop.value, True


def converse(flows: Mapping[str, Flow[T]], model: Model | None, journal: Journal) -> dict[str, Conversation[T]]:
    """Advance all flows in lockstep until each has returned or had a call fail. Keys name the conversations."""
    talks = {name: Conversation(flow) for name, flow in flows.items()}
    for talk in talks.values():
        talk.hear(None)
    for number in range(1_000_000):
        calls = [
            Call(name, number, place, prompt)
            for name, talk in talks.items()
            if not talk.over
            for place, prompt in enumerate(talk.waiting)
        ]
        live = [name for name, talk in talks.items() if not talk.over]
        if not live:
            break
        answers = _answer(calls, model, journal)
        heard: dict[str, list[Completion]] = {name: [] for name in live}
        for call, completion in zip(calls, answers, strict=True):
            heard[call.conversation].append(completion)
        for name in live:
            talks[name].hear(heard[name])
    return talks


def _answer(calls: Sequence[Call], model: Model | None, journal: Journal) -> list[Completion]:
    known = dict(journal.known(calls))
    if len(known) < len(calls):
        if model is None:
            raise OpportuneError("internal: a strategy that needs no model asked one")
        for index, completion in model.complete([call.prompt for call in calls], known):
            known[index] = completion
            journal.record([(calls[index], completion)])
    return [known[index] for index in range(len(calls))]


def prepare(strategy: Strategy, task: TaskView, seed: int, model: Model | None, journal: Journal) -> Any:
    """The strategy's preparation, from training examples only. Raises OpportuneError when one of its calls fails."""
    talk = converse({"": strategy.prepare(task, seed)}, model, journal)[""]
    if talk.error is not None:
        raise OpportuneError(f"a call made while preparing failed: {talk.error}")
    return talk.result


def evaluate(
    strategy: Strategy,
    task: TaskView,
    prepared: Any,
    examples: Iterable[Example],
    model: Model | None,
    metric: Metric,
    journal: Journal,
) -> list[Outcome]:
    """Ask every example and score it, in the order given."""
    asked = {example.id: example for example in examples}
    flows = {name: strategy.ask(example.question, task, prepared) for name, example in asked.items()}
    talks = converse(flows, model, journal)
    return [_outcome(example, talks[name], metric) for name, example in asked.items()]


def grade(metric: Graded, outcomes: Sequence[Outcome], model: Model | None, journal: Journal) -> list[Outcome]:
    """The outcomes with the scores that a grading model gives their answers; where it gives none the outcome is
    failed: an answer that was not graded is not a wrong one."""
    told = {
        o.example.id: metric.grade(o.answer.text, o.example)
        for o in outcomes
        if o.answer is not None and o.answer.text is not None
    }
    scores = {name: talk.result for name, talk in converse(told, model, journal).items()}

    def graded(outcome: Outcome) -> Outcome:
        if outcome.example.id not in scores:
            return outcome
        score = scores[outcome.example.id]
        return replace(outcome, score=score, status="failed" if score is None else "ok")

    return [graded(outcome) for outcome in outcomes]


def _outcome(example: Example, talk: Conversation[Answer], metric: Metric) -> Outcome:
    answer = talk.result
    status: Status = "failed" if answer is None else "unparsed" if answer.text is None else "ok"
    score: float | None = None if status == "failed" else 0.0
    if answer is not None and answer.text is not None and not isinstance(metric, Graded):
        score = metric.score(answer.text, example)
    return Outcome(example, answer, status, score, tuple(talk.completions), tuple(talk.prompts))
