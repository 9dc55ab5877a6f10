"""From a completion to an answer: the likeliest choice, plain or calibrated.

Contextual calibration (Zhao et al. 2021, "Calibrate Before Use"): the probabilities of the choices, normalised to sum
to 1, are divided by those the same prompt gives to content-free inputs ("N/A", "", "[MASK]", averaged). Batch
calibration (Zhou et al. 2024) divides by their mean over a batch of real inputs instead, whose labels it never sees.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from opportune.errors import RecipeError
from opportune.strategies.extracting import extract
from opportune.types import Answer, Completion, Flow, Prompt, Question, TaskView

Calibrate: TypeAlias = Literal["none", "contextual", "batch"]
Prior: TypeAlias = "tuple[float, ...] | None"
MakePrompt: TypeAlias = Callable[[Question], Prompt]

CONTENT_FREE = ("N/A", "", "[MASK]")
BATCH = 64  # inputs whose mean probabilities are the prior; Zhou et al. find it settled by some tens


def settle_prior(make: MakePrompt, task: TaskView, calibrate: Calibrate, seed: int) -> Flow[Prior]:
    """The prior that serves every question, where prompt and choices are the same for all; one round of calls.

    Raises RecipeError where there is nothing to calibrate, or no prior that could serve all.
    """
    if calibrate != "none" and task.kind != "choice":
        raise RecipeError(f"calibrate={calibrate} weighs the choices of a question; this task's answers are free text")
    if calibrate == "batch" and task.choices is None:
        raise RecipeError("calibrate=batch needs choices that all questions share; calibrate=contextual does not")
    if calibrate == "none" or task.choices is None:
        return None
    completions = yield [make(Question(text)) for text in _inputs(task, calibrate, seed)]
    return prior(completions)


def _inputs(task: TaskView, calibrate: Calibrate, seed: int) -> Sequence[str]:
    if calibrate == "contextual":
        return CONTENT_FREE
    inputs = [example.input for example in task.train]
    return random.Random(seed).sample(inputs, min(BATCH, len(inputs)))


def ask(make: MakePrompt, question: Question, settled: Prior, calibrate: Calibrate) -> Flow[Answer]:
    """One question; content-free ones beside it where the prior must be the question's own (its choices or its
    demonstrations are)."""
    prompt = make(question)
    if calibrate != "contextual" or prompt.choices is None or settled is not None:
        completions = yield [prompt]
        return answer(prompt, completions[0], settled)
    completions = yield [prompt, *(make(Question(text, question.choices)) for text in CONTENT_FREE)]
    return answer(prompt, completions[0], prior(completions[1:]))


def own_ranking(calls: Iterable[tuple[int, Sequence[str] | None, Sequence[float] | None]]) -> dict[str, float] | None:
    """Each choice's log-probability as a conversation ranked them last, from its calls in order: (round, choices,
    scores). A round's first ranking is the question's own, those behind it are content-free (see `ask`); None where
    nothing was ranked, or the scores of that call are not known."""
    first: dict[int, tuple[Sequence[str], Sequence[float] | None]] = {}
    for number, choices, scores in calls:
        if choices:
            first.setdefault(number, (choices, scores))
    choices, scores = first[max(first)] if first else ((), None)
    return dict(zip(choices, scores, strict=True)) if scores else None


def answer(prompt: Prompt, completion: Completion, settled: Prior = None) -> Answer:
    """The likeliest choice (its log-probability less the log of the prior, where given), or the generated text.

    A server that tells no log-probabilities has written an answer instead: the choice that it names.
    """
    if prompt.choices is None:
        text = completion.texts[0].strip()
        return Answer(text or None, completion.texts[0])
    if completion.scores is None:
        text = completion.texts[0]
        return Answer(extract(text, "choice", shape="choice", choices=prompt.choices), text)
    scores = log_normalised(completion.scores)
    if settled is not None:
        scores = [score - math.log(max(p, 1e-12)) for score, p in zip(scores, settled, strict=True)]
        scores = log_normalised(scores)
    best = max(range(len(scores)), key=scores.__getitem__)  # ties: the first choice
    chosen = prompt.choices[best]
    return Answer(chosen, chosen, dict(zip(prompt.choices, scores, strict=True)))


def prior(completions: Sequence[Completion]) -> Prior:
    """The probability of each choice averaged over completions, summing to 1; None where a server does not tell it."""
    if any(completion.scores is None for completion in completions):
        return None
    rows = [[math.exp(score) for score in log_normalised(c.scores or ())] for c in completions]
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))


def log_normalised(scores: Sequence[float]) -> list[float]:
    """Log-probabilities shifted so that the probabilities sum to 1."""
    top = max(scores)
    total = top + math.log(sum(math.exp(score - top) for score in scores))
    return [score - total for score in scores]
