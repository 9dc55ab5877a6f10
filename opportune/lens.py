"""The lens: what each recipe makes of the same input, seen in the distribution over the token where the answer begins.

Prompting shown as what it is, a shift of that distribution. Any recipe on a local model can be looked at: one that only
asks is prepared on the task's training examples, one that trains is brought back from a finished run. Of a strategy
with several rounds it is the last one's prompt, which gives the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opportune import evaluate
from opportune import recipe as recipes_
from opportune.answering import Answerer, StoredArm, finished
from opportune.distributions import are_logs, divergence, entropy, jensen_shannon, normalised
from opportune.errors import OpportuneError, RecipeError, StoreError
from opportune.evaluate import NoJournal
from opportune.models.endpoint import is_remote
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.recipe import Arm
from opportune.settings import DEFAULT_MODEL
from opportune.spec import ModelRef
from opportune.store import Store
from opportune.tasks.load import load_task
from opportune.types import REMOTE, Answer, Completion, Flow, Prompt, Question, Task, TaskView, digest

_MARKS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"})


@dataclass(frozen=True, slots=True)
class Token:
    """A token, its white space made visible."""

    id: int
    text: str
    log_probability: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers that are ranked, in log-probabilities."""

    text: str
    log_probability: float  # of the whole choice, summed over its tokens
    share: float  # among the choices
    answered: float | None  # among the choices as the strategy answered; None where that is the same (no calibration)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What one recipe made of the input."""

    recipe: str
    model: str
    run: str | None  # the run whose trained weights these are
    prompt: str  # the exact text that was tokenised
    tokens: int  # of the prompt
    answer: str | None
    log_probabilities: NDArray[np.float32]  # of every token, where the answer begins
    vocabulary: str  # identifies what the tokens are
    top: tuple[Token, ...]
    choices: tuple[Choice, ...]  # none where the last prompt is answered in words

    @property
    def entropy(self) -> float:
        """Of the next token, in nats."""
        return entropy(self.log_probabilities)

    @property
    def choice_entropy(self) -> float | None:
        """Of the answer among the choices, before calibration, in nats."""
        return entropy([choice.share for choice in self.choices]) if self.choices else None


@dataclass(frozen=True, slots=True)
class Apart:
    """How far a reading is from the first one, in nats."""

    from_first: float  # KL(first || this)
    to_first: float  # KL(this || first)
    jensen_shannon: float


@dataclass(frozen=True, slots=True)
class Lens:
    """The same input under several recipes."""

    text: str
    task: str
    readings: tuple[Reading, ...]

    def apart(self, reading: Reading) -> Apart | None:
        """The distance to the first reading; None where the tokens are others."""
        first = self.readings[0]
        if first.vocabulary != reading.vocabulary:
            return None
        pair = first.log_probabilities, reading.log_probabilities
        return Apart(divergence(*pair), divergence(*reversed(pair)), jensen_shannon(*pair))

    def under_first(self, reading: Reading, token: Token) -> float | None:
        """A token's probability under the first recipe; None where the tokens are others."""
        first = self.readings[0]
        return None if first.vocabulary != reading.vocabulary else math.exp(first.log_probabilities[token.id])


def look(
    text: str,
    recipes: Sequence[str],
    *,
    task: Task | None = None,
    model: str | None = None,
    run: str | None = None,
    runs: Path | str = "opportune-runs",
    top: int = 10,
) -> Lens:
    """Look at an input through recipes, in their order.

    `run` names the run that trained recipes come from, by default the latest that has them finished; it then also gives
    the task, and the model where none is named. Else the task is the bundled one. Raises UsageError for a recipe that
    cannot be looked at, before anything is computed where that can be known.
    """
    if not text.strip() or not recipes:
        missing = "recipe" if text.strip() else "text"
        raise RecipeError(f"the lens looks at a text through a recipe; there is no {missing}")
    asked = [_arm(recipe, recipes_.model_ref(model or DEFAULT_MODEL)) for recipe in recipes]
    stored = _stored(asked, recipes, model, run, Path(runs))
    view, ref = task.view() if task else None, recipes_.model_ref(model) if model else None
    if run is not None and not stored:
        measured, own = _ground(run, Path(runs))
        _check_same(view, measured, run)
        view, ref = measured, ref or own
    found: dict[int, Reading] = {}
    for place, (name, recipe) in stored.items():
        with Store.open(runs, create=False) as store:
            answerer = Answerer(store, name, recipe)
        _check_same(view, answerer.view, name)
        view, local = answerer.view, _local(answerer.model, recipe)
        packed = {"quantise": local.info.quantise} if local.info.quantise else {}
        ref = ref or ModelRef(local.info.path, {"device": local.info.device, "dtype": local.info.dtype, **packed})
        found[place] = _read(recipes[place], local, answerer.flow(text), top, name if asked[place].methods else None)
    view, ref, pool = view or load_task(None).view(), ref or recipes_.model_ref(DEFAULT_MODEL), ModelPool()
    for place, recipe in enumerate(recipes):
        if place not in found:
            found[place] = _asked(text, _arm(recipe, ref), view, pool, top)
    return Lens(text, view.name, tuple(found[place] for place in range(len(recipes))))


def _arm(recipe: str, model: ModelRef) -> Arm:
    """The recipe, if it is one that the lens can look at. Raises RecipeError."""
    arm = recipes_.arms(recipe, (model,))[0]
    if arm.model is None:
        raise RecipeError(f"recipe {recipe!r} asks no model: there is no distribution to look at")
    if len(arm.candidates) > 1:
        raise RecipeError(f"recipe {recipe!r} lists values to choose from; the lens looks at one of them: name it")
    if is_remote(arm.model):
        raise RecipeError(_unseen(recipe, arm.model.name))
    return arm


def _unseen(recipe: str, model: str) -> str:
    return (
        f"recipe {recipe!r}: {model} is an endpoint, which does not show its distribution; the lens needs a local model"
    )


def _local(model: Any, recipe: str) -> Local:
    if not isinstance(model, Local):
        raise RecipeError(_unseen(recipe, getattr(getattr(model, "info", None), "name", "the model")))
    return model


def _stored(
    arms: Sequence[Arm], recipes: Sequence[str], model: str | None, run: str | None, runs: Path
) -> dict[int, tuple[str, str]]:
    """(run, recipe as stored) of those that come from a run, by place: those that train, and in a named run all it has.

    Raises RecipeError for one that trains and that no run has finished.
    """
    if run is None and not any(arm.methods for arm in arms):
        return {}
    found: dict[int, tuple[str, str]] = {}
    ref = recipes_.model_ref(model) if model else None
    for place, (arm, recipe) in enumerate(zip(arms, recipes, strict=True)):
        if (there := _finished(recipe, ref, run, runs, latest=bool(arm.methods))) is not None:
            found[place] = there
        elif arm.methods:
            where = f"run {run}" if run else f"no run in {runs}"
            raise RecipeError(
                f"recipe {recipe!r} trains, and {where} has {'not ' if run else ''}finished it: run `opportune compare "
                f"--try '{recipe}'` first, or name the run that has it with --run"
            )
    return found


def _ground(run: str, runs: Path) -> tuple[TaskView, ModelRef]:
    """The task of a run and a model that it asked. Raises RecipeError for one that asked no local model."""
    with Store.open(runs, create=False) as store:
        record = store.run(run)
        for arm in store.arms(record.id):
            if arm.status == "done" and arm.model is not None:
                stored = StoredArm.find(store, record.id, arm.recipe)
                if (known := stored.known())["device"] != REMOTE:
                    return stored.view, stored.reference(known["device"], known["dtype"])
    raise RecipeError(f"run {record.id} has finished no recipe on a local model: leave --run out")


def _check_same(view: TaskView | None, measured: TaskView, run: str) -> None:
    """Raises RecipeError where another task is given than the run measured."""
    if view is not None and view != measured:
        raise RecipeError(
            f"run {run} measured another task ({measured.name}); leave the task out, or look at recipes of one run"
        )


def _finished(
    recipe: str, model: ModelRef | None, run: str | None, runs: Path, *, latest: bool
) -> tuple[str, str] | None:
    """The run and the recipe's own spelling there: in the run named, else in the latest that has it."""
    try:
        with Store.open(runs, create=False) as store:
            for record in [store.run(run)] if run else store.list_runs() if latest else []:
                if (arm := finished(store.arms(record.id), recipe, model)) is not None:
                    return record.id, arm.recipe
    except StoreError:
        if run is not None:
            raise
    return None


def _asked(text: str, arm: Arm, view: TaskView, pool: ModelPool, top: int) -> Reading:
    """The reading of a recipe that only asks."""
    assert arm.model is not None
    model = _local(pool.view(arm.model), arm.text)
    prepared = evaluate.prepare(arm.strategy, view, 0, model, NoJournal())
    return _read(arm.text, model, arm.strategy.ask(Question(text), view, prepared), top, None)


def _read(recipe: str, model: Local, flow: Flow[Answer], top: int, run: str | None) -> Reading:
    """Hold the whole conversation and look where its last answer begins."""
    heard: list[tuple[Prompt, Completion]] = []
    talk = evaluate.converse({"": _overheard(flow, heard)}, model, NoJournal())[""]
    if talk.result is None or not heard:
        raise OpportuneError(f"recipe {recipe!r}: the call failed: {talk.error}")
    prompt, completion = heard[-1]
    logs = model.next_token(prompt).numpy()
    best = np.argsort(-logs, kind="stable")[:top]
    return Reading(
        recipe=recipe,
        model=model.info.name,
        run=run,
        prompt=completion.prompt,
        tokens=completion.usage.tokens_in,
        answer=talk.result.text,
        log_probabilities=logs,
        vocabulary=digest([len(logs), model.tokenizer.get_vocab()]),
        top=tuple(Token(int(i), shown(model.tokenizer, int(i)), float(logs[i])) for i in best),
        choices=_choices(prompt, completion, talk.result),
    )


def _overheard(flow: Flow[Answer], heard: list[tuple[Prompt, Completion]]) -> Flow[Answer]:
    """The same conversation, the first prompt of each round kept with what came back: the question itself, where
    content-free ones are asked beside it."""
    try:
        prompts = next(flow)
        while True:
            completions = yield prompts
            if not prompts[0].embed:
                heard.append((prompts[0], completions[0]))
            prompts = flow.send(completions)
    except StopIteration as stop:
        answer: Answer = stop.value
        return answer


def _choices(prompt: Prompt, completion: Completion, answer: Answer) -> tuple[Choice, ...]:
    if prompt.choices is None or completion.scores is None:
        return ()
    shares = normalised(completion.scores).tolist()
    told = [(answer.scores or {}).get(choice, -math.inf) for choice in prompt.choices]
    calibrated = are_logs(told) and any(abs(a - b) > 1e-6 for a, b in zip(told, shares, strict=True))
    return tuple(
        Choice(text, score, share, final if calibrated else None)
        for text, score, share, final in zip(prompt.choices, completion.scores, shares, told, strict=True)
    )


def shown(tokenizer: Any, token: int) -> str:
    """A token as text that can be printed: white space visible; what is no text by itself as the tokenizer has it."""
    raw = tokenizer.convert_ids_to_tokens(token) if token < len(tokenizer) else None
    if raw is None:  # some networks have more rows than there are tokens
        return f"<{token}>"
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    if raw.startswith("▁") and not text.startswith(" "):  # tokenizers that mark spaces drop the first one
        text = f" {text}"
    if not text or "\ufffd" in text:  # a part of a character
        text = str(raw)
    text = text.translate(_MARKS)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
