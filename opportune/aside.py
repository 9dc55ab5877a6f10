"""What is measured of an arm beside its score and its bill: latency, label bias, agreement of samples."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from opportune import evaluate
from opportune.cost import Amount
from opportune.distributions import are_logs
from opportune.evaluate import NoJournal
from opportune.records import Latency
from opportune.strategies.choosing import CONTENT_FREE
from opportune.types import REMOTE, Answer, Example, Graded, Metric, Model, Outcome, Question, Strategy, TaskView

FEWEST, MOST, ENOUGH = 3, 6, 10.0  # questions asked one by one for the latency; seconds after which the fewest will do


class Backend(Model, Protocol):
    """A model as an arm asks it."""

    def reusing(self) -> AbstractContextManager[None]:
        """Within it a question may start from what earlier ones left warm."""
        ...

    def priced(self, amount: Amount) -> Amount:
        """The amount with what its tokens cost, where they have a price."""
        ...


@dataclass(frozen=True, slots=True)
class Settled:
    """A strategy ready to be asked: what it prepared, and what it was chosen from on dev."""

    strategy: Strategy
    prepared: Any
    chosen: str | None = None
    searched: dict[str, float] | None = None
    notes: tuple[str, ...] = ()  # what must be known about the choice


def latency(
    settled: Settled,
    view: TaskView,
    dev: Sequence[Example],
    outcomes: Sequence[Outcome],
    model: Backend | None,
    metric: Metric,
) -> Latency:
    """Seconds of a question asked alone, the prompt's shared head being warm; of an endpoint, as its calls took."""

    def seconds_of(examples: Sequence[Example]) -> float:
        began = time.perf_counter()
        evaluate.evaluate(settled.strategy, view, settled.prepared, examples, model, metric, NoJournal())
        return time.perf_counter() - began

    if model is not None and model.info.device == REMOTE:
        # Asking again would cost money; a conversation's calls follow each other.
        seconds = [sum(c.usage.seconds for c in outcome.completions) for outcome in outcomes] or [0.0]
    else:
        with model.reusing() if model else nullcontext():
            seconds_of(dev[:2])  # what two questions share is what gets warm
            seconds = list[float]()
            for example in dev[:MOST]:
                if len(seconds) < FEWEST or sum(seconds) < ENOUGH:
                    seconds.append(seconds_of([example]))
    ordered = sorted(seconds)
    return Latency(p50=_quantile(ordered, 0.5), p95=_quantile(ordered, 0.95))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def content_free(
    settled: Settled, view: TaskView, outcomes: Sequence[Outcome], model: Backend | None
) -> dict[str, float] | None:
    """The probability of each label for inputs that say nothing: the prompt's own bias (Zhao et al. 2021); None where
    the answers are not ranked by likelihood, or asking again would cost money."""
    labels = view.choices
    if model is None or labels is None or model.info.device == REMOTE:
        return None
    if not all(_ranks(outcome.answer, labels) for outcome in outcomes):
        return None
    flows = {text: settled.strategy.ask(Question(text), view, settled.prepared) for text in CONTENT_FREE}
    answers = [talk.result for talk in evaluate.converse(flows, model, NoJournal()).values()]
    scores = [answer.scores for answer in answers if answer is not None and answer.scores is not None]
    return {label: sum(math.exp(each[label]) for each in scores) / len(scores) for label in labels} if scores else None


def _ranks(answer: Answer | None, labels: Sequence[str]) -> bool:
    """Whether the answer comes with a log-probability of every label."""
    scores = answer.scores if answer else None
    return scores is not None and set(scores) == set(labels) and are_logs(scores.values())


def agreement(outcomes: Sequence[Outcome]) -> float | None:
    """The mean share of samples that voted for the answer; None where answers are not voted for."""
    shares = [
        max(outcome.answer.scores.values())
        for outcome in outcomes
        if outcome.answer and outcome.answer.scores and any(prompt.samples > 1 for prompt in outcome.prompts)
    ]
    return sum(shares) / len(shares) if shares else None


def revised(outcomes: Sequence[Outcome], metric: Metric) -> dict[str, float] | None:
    """The shares of the reconsidered answers that differ from their drafts, that became better by it, and worse; None
    where nothing is reconsidered, or drafts would have to be graded by a model."""
    drafts = [(o, o.answer.draft) for o in outcomes if o.answer is not None and o.answer.draft is not None]
    if not drafts or isinstance(metric, Graded):
        return None
    changed = [(o, draft) for o, draft in drafts if o.answer is not None and o.answer.text != draft]
    gains = [(o.score or 0.0) - metric.score(d, o.example) for o, d in changed]
    counts = {"changed": len(changed), "mended": sum(g > 0 for g in gains), "spoilt": sum(g < 0 for g in gains)}
    return {name: count / len(drafts) for name, count in counts.items()}
