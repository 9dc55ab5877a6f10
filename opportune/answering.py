"""A finished run's arm, brought back to answer new questions: nothing is trained, picked or calibrated again."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from opportune import evaluate, methods, strategies
from opportune.artefacts import load_artefact
from opportune.errors import OpportuneError, RecipeError
from opportune.evaluate import Journal, NoJournal
from opportune.journal import StoreJournal
from opportune.models.endpoint import Endpoint, Remote, is_remote
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.options import build
from opportune.records import ArmRecord, RunConfig
from opportune.spec import ModelRef, Recipe, parse
from opportune.store import Store
from opportune.types import Answer, Example, Flow, Question, Strategy, TaskView


class Answerer:
    """One arm of a stored run, ready to answer. Raises RecipeError for a recipe that the run has not finished."""

    def __init__(self, store: Store, run: str, recipe: str) -> None:
        record = store.run(run)
        arm = _find(store.arms(record.id), recipe, record.id)
        resolved = parse(arm.resolved["recipe"])
        part = parse(arm.facts.chosen).parts[-1] if arm.facts.chosen else resolved.parts[-1]
        self._strategy: Strategy = build(part, strategies.TABLE[part.name])
        self.view = _view(store, record.id, record.config)
        self.model = _model(arm, resolved, record.config)
        self._prepared = self._prepare(store, arm)

    def _prepare(self, store: Store, arm: ArmRecord) -> Any:
        stage = "prepare-trained" if arm.facts.artefact else "prepare"
        journal: Journal = NoJournal()
        if self.model is not None:
            key = Path(arm.facts.artefact).name if arm.facts.artefact else self.model.info.digest
            journal = StoreJournal(store, arm.run, arm.hash, arm.seed, stage, key)
        return evaluate.prepare(self._strategy, self.view, arm.seed, self.model, journal)

    def flow(self, text: str) -> Flow[Answer]:
        """The conversation about one input, not begun."""
        return self._strategy.ask(Question(text), self.view, self._prepared)

    def __call__(self, text: str) -> Answer:
        """Answer one input. Raises OpportuneError when a call fails."""
        with self.model.reusing() if self.model else nullcontext():
            talk = evaluate.converse({"": self.flow(text)}, self.model, NoJournal())[""]
        if talk.result is None:
            raise OpportuneError(f"the call failed: {talk.error}")
        return talk.result


def _find(arms: list[ArmRecord], recipe: str, run: str) -> ArmRecord:
    named = [arm for arm in arms if recipe in (arm.recipe, arm.resolved["recipe"])]
    done = [arm for arm in named if arm.status == "done"]
    if not done:
        known = ", ".join(dict.fromkeys(arm.recipe for arm in arms if arm.status == "done")) or "none"
        state = f"is {named[0].status}" if named else "is not there"
        raise RecipeError(f"run {run}: recipe {recipe!r} {state}; finished are: {known}")
    return done[0]


def _view(store: Store, run: str, config: RunConfig) -> TaskView:
    task = config["task"]
    train = tuple(
        Example(record.example, record.input, record.target, record.choices, record.rationale, record.group)
        for record in store.examples(run, "train")
    )
    labels = tuple(task["labels"]) if task["labels"] else None
    return TaskView(task["name"], task["instruction"], task["kind"], labels, train)


def _model(arm: ArmRecord, resolved: Recipe, config: RunConfig) -> Local | Endpoint | None:
    if resolved.model is None:
        return None
    if is_remote(resolved.model):
        return _endpoint(arm, resolved.model, config)
    known = next(model for model in config["models"] if model["name"] == arm.model)
    pool = ModelPool(trust=bool(config.get("options", {}).get("trust_remote_code")))
    packed = {name: value for name, value in resolved.model.options.items() if name == "quantise"}
    model = pool.base(ModelRef(known["path"], {"device": known["device"], "dtype": known["dtype"], **packed}))
    if model.info.digest != known["digest"]:
        raise RecipeError(f"the model in {known['path']} is no longer the one that run {arm.run} measured")
    if arm.facts.artefact is None:
        return model
    if not Path(arm.facts.artefact).exists():
        raise RecipeError(f"the trained weights of {arm.recipe!r} are gone from {arm.facts.artefact}; run it again")
    built = [build(part, methods.TABLE[part.name]) for part in resolved.parts[:-1]]
    return load_artefact(Path(arm.facts.artefact), built, model)


def _endpoint(arm: ArmRecord, ref: ModelRef, config: RunConfig) -> Endpoint:
    """The server that the run asked: where the recipe does not name it, `--base-url` or the environment did."""
    for known in config["models"]:
        if known["name"] == arm.model:
            found = Endpoint.of(ref, Remote(base_url=known["path"]))
            if found.info.digest == known["digest"]:
                return found
    raise RecipeError(f"run {arm.run} does not say which server answered as {arm.model}")
