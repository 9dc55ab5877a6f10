"""Prompting plans: calls, tokens and cost of 1,000 questions, with and without a shared-prefix cache.

The strategy itself is run on a made-up task with questions of the asked length and a model that answers nothing, so
every strategy is planned as it asks. Tokens are counted as a fourth of the characters. A prefix that all prompts
share is computed once where it is kept. Writing is bound by bandwidth: each token reads the weights once for a whole
batch. What a device must hold is in `answer_memory.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from opportune import strategies
from opportune.errors import RecipeError, UsageError
from opportune.options import build
from opportune.planner import energy
from opportune.planner.answer_memory import Fit, settle
from opportune.planner.architecture import Architecture, count
from opportune.planner.calibration import Calibration, Estimate
from opportune.planner.hardware import Cluster
from opportune.planner.job import BITS, Base
from opportune.planner.memory import base_weights
from opportune.planner.stacks import STACKS
from opportune.planner.work import READING, asking_flops
from opportune.spec import parse
from opportune.types import Completion, Example, Kind, Prompt, Question, TaskView

LETTERS = 4  # characters a token, about
ASKED = 4  # questions that are counted


@dataclass(frozen=True, slots=True)
class Asked:
    """What one question costs on average, counted on a few."""

    calls: float
    tokens_in: float
    tokens_out: float
    shared: float  # tokens at the beginning that every first prompt has in common


@dataclass(frozen=True, slots=True)
class Asking:
    """1,000 questions on some hardware."""

    recipe: str
    model: str
    cluster: Cluster
    base: Base
    each: Asked
    fit: Fit
    advice: tuple[str, ...]
    seconds: Estimate  # with the shared prefix computed once
    seconds_uncached: Estimate
    dollars: Estimate | None
    dollars_uncached: Estimate | None
    assumptions: tuple[str, ...]


def made_up(input_tokens: int, target_tokens: int, labels: int) -> TaskView:
    """A task with so long inputs; `labels` 0 is free text."""
    names = tuple(f"label-{i}" for i in range(labels)) or None
    target = "word" * target_tokens
    train = tuple(
        Example(f"e{i}", f"{i:04} " + "abc " * max(input_tokens - 1, 1), names[i % labels] if names else target)
        for i in range(256)
    )
    kind: Kind = "choice" if labels else "text"
    return TaskView("made up", "Answer as in the examples, in one word.", kind, names, train)


def count_asking(recipe: str, task: TaskView, questions: Sequence[Question] = ()) -> Asked:
    """Run the strategy of a recipe on a few questions without a model. Raises RecipeError for one that asks none."""
    part = parse(recipe).parts[-1]
    if part.name not in strategies.TABLE:
        raise RecipeError(f"recipe {recipe!r}: {part.name!r} is no strategy; strategies: {', '.join(strategies.TABLE)}")
    strategy = build(part, strategies.TABLE[part.name])
    if not strategy.needs_model:
        raise RecipeError(f"recipe {recipe!r}: {part.name} asks no model")
    counter = _Counter()
    prepared = counter.drive(strategy.prepare(task, 0))
    counter = _Counter()
    asked = questions[:ASKED] or [
        Question(f"{9000 + i} " + task.train[i].input[5:], task.choices) for i in range(ASKED)
    ]
    for question in asked:
        counter.drive(strategy.ask(question, task, prepared))
    n = len(asked)
    shared = _shared(counter.texts[:: max(1, len(counter.texts) // n)]) / LETTERS if len(counter.texts) > 1 else 0.0
    return Asked(counter.calls / n, counter.read / n, counter.written / n, shared)


class _Counter:
    """Answers nothing, and counts."""

    def __init__(self) -> None:
        self.calls, self.read, self.written, self.texts = 0, 0.0, 0.0, list[str]()

    def drive(self, flow: Generator[list[Prompt], list[Completion], Any]) -> Any:
        """The result of a conversation with nobody."""
        answers: list[Completion] | None = None
        while True:
            try:
                prompts = next(flow) if answers is None else flow.send(answers)
            except StopIteration as stop:
                return stop.value
            answers = [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Prompt) -> Completion:
        text = "".join(message.content for message in prompt.messages)
        self.texts.append(text)
        self.calls += 1
        self.read += len(text) / LETTERS
        if prompt.choices is None:
            self.written += prompt.max_tokens * prompt.samples
            return Completion(text, ("",) * prompt.samples)
        self.read += sum(map(len, prompt.choices)) / LETTERS
        return Completion(text, (), (0.0,) * len(prompt.choices))


def _shared(texts: Sequence[str]) -> int:
    first, last = min(texts), max(texts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def plan_asking(
    recipe: str, a: Architecture, cluster: Cluster, each: Asked, calibration: Calibration, base: Base | None = None
) -> Asking:
    """1,000 questions asked of a model on this hardware. Raises UsageError for weights that the device cannot keep."""
    kept: Base = base or cluster.device.base
    if kept == "bfloat16" and not cluster.device.bfloat16 and not cluster.device.cpu:
        raise UsageError(f"{cluster.device.name} has no bfloat16 unit: plan float16 or float32")
    read, written = each.tokens_in / each.calls, each.tokens_out / each.calls
    fit = settle(a, read, written, kept, cluster, calibration)
    cached, whole = (_seconds(a, cluster, each, kept, fit.together, keeps=keeps) for keeps in (True, False))
    seconds, uncached = (calibration.around(value, "peft") for value in (cached, whole))
    dollars, dearer = (energy.dollars(cluster, value) for value in (seconds, uncached))
    notes = (
        f"{LETTERS} characters a token; prompts of a made-up task unless one is given",
        f"weights in {kept}; {_spread(fit)}; every answer as long as it may become",
        energy.price_note(cluster),
    )
    advice = () if fit.verdict == "fits" else _advice(a, read, written, kept, cluster, calibration)
    return Asking(recipe, a.name, cluster, kept, each, fit, advice, seconds, uncached, dollars, dearer, notes)


def _spread(fit: Fit) -> str:
    copies = f", every copy of the model over {fit.split} devices" if fit.split > 1 else ""
    return f"{fit.together} question{'s' * (fit.together > 1)} at a time{copies}"


def _advice(
    a: Architecture, read: float, written: float, base: Base, cluster: Cluster, calibration: Calibration
) -> tuple[str, ...]:
    """The changes, alone, after which it would fit."""
    ways: list[tuple[str, Base, Cluster]] = []
    if base not in BITS:
        ways.append(("a base of four bits (nf4)", "nf4", cluster))
    more = () if cluster.device.cpu else (n for n in (2, 4, 8, 16, 64) if n > cluster.count)
    larger = [replace(cluster, count=n) for n in more]
    ways += [(f"{one}, the model split over them", base, one) for one in larger]
    good = [words for words, kept, on in ways if settle(a, read, written, kept, on, calibration).verdict == "fits"]
    return tuple(good) or ("no single change is enough: a device with more memory",)


def _seconds(a: Architecture, cluster: Cluster, each: Asked, base: Base, together: int, *, keeps: bool) -> float:
    device, n = cluster.device, 1000.0
    again = (n - 1) * min(each.shared * each.calls, each.tokens_in) if keeps else 0.0
    read = n * each.tokens_in - again
    per_call = each.tokens_in / each.calls
    reading = asking_flops(a, read, read * per_call / 2, n * each.calls)
    reading /= READING * device.speed(base) * cluster.count
    weights = base_weights(a, base, STACKS["transformers"]) * count(a).active / count(a).total
    states = 4.0 * a.layers * a.key_width * (per_call + each.tokens_out / each.calls / 2)
    writing = n * each.tokens_out * (weights / together + states) / (0.7 * device.bandwidth * cluster.count)
    return reading + writing


def to_json(found: Asking) -> dict[str, Any]:
    """The plan as JSON-like values, per 1,000 questions."""
    return {
        "recipe": found.recipe,
        "model": {"name": found.model},
        "hardware": {"device": found.cluster.device.name, "count": found.cluster.count},
        "layout": {"base": found.base, "together": found.fit.together, "split": found.fit.split},
        "memory": {
            "breakdown": asdict(found.fit.held),
            "allocated": asdict(found.fit.allocated),
            "reserved": asdict(found.fit.reserved),
            "available": found.fit.available,
            "verdict": found.fit.verdict,
            "advice": list(found.advice),
        },
        "per_question": asdict(found.each),
        "per_1000_questions": {
            "calls": 1000 * found.each.calls,
            "tokens_in": 1000 * found.each.tokens_in,
            "tokens_out": 1000 * found.each.tokens_out,
            "seconds": asdict(found.seconds),
            "seconds_without_cache": asdict(found.seconds_uncached),
            "dollars": found.dollars and asdict(found.dollars),
            "dollars_without_cache": found.dollars_uncached and asdict(found.dollars_uncached),
        },
        "assumptions": list(found.assumptions),
    }
