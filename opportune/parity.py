"""The parity gate: does an exported model answer the test split as the trained one did?

The log-probability of every choice, and of every text that came out otherwise, is compared with what the trained model
gave it. Where these agree to within the noise of the number format, a different answer was a tie; where they do not,
the exported model is another function, whatever it scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opportune import evaluate
from opportune.answering import StoredArm
from opportune.errors import StoreError
from opportune.evaluate import NoJournal
from opportune.metrics import metric_named
from opportune.models.local import Local
from opportune.statistics import mcnemar
from opportune.types import Completion, Graded, Metric, ModelInfo, Outcome, Progress, Prompt

# How far the log-probability of a choice, or of a text per square root of its tokens, may move by rounding alone, in
# nats. Measured in docs/export.md; a wrong scale, a missing layer or another prompt moves it by whole nats.
NOISE = {"float32": 2e-3, "float16": 0.1, "bfloat16": 0.75}
BY_CHANCE = 0.01  # ties break either way: changed scores that all go one way are no ties


@dataclass(frozen=True, slots=True)
class Difference:
    """A test example that the exported model treats otherwise."""

    example: str
    input: str
    trained: str | None
    exported: str | None
    nats: float | None  # how far the log-probability of what the trained model said is off; None: not comparable


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate found."""

    examples: int
    dtype: str
    noise: float  # nats
    largest: float  # nats: the largest movement of a choice's log-probability, 0 where none is ranked
    score_before: float | None  # None where a model grades
    score_after: float | None
    ties: int  # answers that changed because two were equally likely, within the noise
    differences: tuple[Difference, ...]
    one_sided: bool  # the ties changed the score as chance would not

    @property
    def holds(self) -> bool:
        """Whether the exported model is the trained one, numerical noise aside."""
        return not self.differences and not self.one_sided


def check(arm: StoredArm, exported: Local, tell: Progress) -> Parity:
    """Ask the exported model the run's test split, and compare with what the run's own model said there."""
    absent = _Absent(exported.info, arm.record.run)
    prepared = arm.prepared(absent)
    metric = metric_named(arm.config["task"]["metric"])
    examples, journal = arm.examples("test"), arm.journal("test", absent)
    before = evaluate.evaluate(arm.strategy, arm.view, prepared, examples, absent, metric, journal)
    tell("asking the exported model", 0, len(examples))
    after = evaluate.evaluate(arm.strategy, arm.view, prepared, examples, exported, metric, NoJournal())
    tell("asking the exported model", len(examples), len(examples))
    return judge(before, after, arm, exported, metric)


@dataclass(frozen=True, slots=True)
class _Absent:
    """Stands for the trained model while its answers are read back: all that it said is in the store."""

    info: ModelInfo
    run: str

    def complete(self, prompts: Sequence[Prompt], known: Mapping[int, Completion]) -> Iterator[tuple[int, Completion]]:
        raise StoreError(
            f"run {self.run} does not hold all that its model said on test, or held it in another version's words: run "
            "the comparison again before exporting"
        )


def judge(
    before: Sequence[Outcome], after: Sequence[Outcome], arm: StoredArm, exported: Local, metric: Metric
) -> Parity:
    """The verdict on what the trained and the exported model said to the same examples."""
    noise = NOISE[exported.info.dtype]
    moved = [movement(one, other) for one, other in zip(before, after, strict=True)]
    changed = [_text(one) != _text(other) for one, other in zip(before, after, strict=True)]
    written = [place for place, new in enumerate(changed) if new and moved[place] is None]
    if written:
        trained = arm.model()
        assert isinstance(trained, Local)
        for place in written:
            moved[place] = _forced(before[place], trained, exported)
    off = [nats is None or not nats <= noise for nats in moved]  # nor is what is no number
    differences = [
        Difference(one.example.id, one.example.input, _text(one), _text(other), _comparable(nats))
        for one, other, nats, new, far in zip(before, after, moved, changed, off, strict=True)
        if far and (new or nats is not None)
    ]
    ties = [place for place, new in enumerate(changed) if new and not off[place]]
    return Parity(
        examples=len(before),
        dtype=exported.info.dtype,
        noise=noise,
        largest=max(filter(None, map(_comparable, moved)), default=0.0),
        score_before=_figure(before, metric),
        score_after=_figure(after, metric),
        ties=len(ties),
        differences=tuple(differences),
        one_sided=_one_sided([(before[place].score, after[place].score) for place in ties]),
    )


def _comparable(nats: float | None) -> float | None:
    return nats if nats is not None and math.isfinite(nats) else None


def movement(before: Outcome, after: Outcome) -> float | None:
    """How far the log-probabilities of the choices moved at most; None where nothing that both were asked ranks any."""
    gaps = [
        abs(one - other)
        for asked, again, said, now in zip(
            before.prompts, after.prompts, before.completions, after.completions, strict=False
        )
        if asked == again and said.scores is not None and now.scores is not None
        for one, other in zip(said.scores, now.scores, strict=True)
    ]
    return max(gaps, default=None)


def _forced(outcome: Outcome, trained: Local, exported: Local) -> float:
    """How far the log-probability of what the trained model wrote is off, per square root of its tokens."""
    asked: list[tuple[Prompt, int]] = []
    for prompt, completion in zip(outcome.prompts, outcome.completions, strict=True):
        for text in filter(None, completion.texts):
            tokens = max(1, completion.usage.tokens_out // len(completion.texts))
            asked.append((replace(prompt, choices=(text,), samples=1, temperature=0.0), tokens))
    theirs, ours = (_scores(model, [prompt for prompt, _ in asked]) for model in (trained, exported))
    gaps = [abs(a - b) / math.sqrt(tokens) for a, b, (_, tokens) in zip(theirs, ours, asked, strict=True)]
    return max(gaps, default=math.inf)


def _scores(model: Local, prompts: Sequence[Prompt]) -> list[float]:
    found: dict[int, Any] = dict(model.complete(prompts, {}))
    return [found[place].scores[0] for place in range(len(prompts))]


def _text(outcome: Outcome) -> str | None:
    return outcome.answer.text if outcome.answer else None


def _figure(outcomes: Sequence[Outcome], metric: Metric) -> float | None:
    if isinstance(metric, Graded):
        return None
    return metric.figure([_text(outcome) for outcome in outcomes], [outcome.example for outcome in outcomes])


def _one_sided(scores: Sequence[tuple[float | None, float | None]]) -> bool:
    """Whether the changes of score go one way more than chance would have it (McNemar's test)."""
    changes = [after - before for before, after in scores if before is not None and after is not None]
    gained, lost = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return mcnemar(gained, lost) < BY_CHANCE
