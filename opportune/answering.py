"""A finished run's arm, brought back to answer new questions: nothing is trained, picked or calibrated again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opportune import evaluate, methods, strategies
from opportune import recipe as recipes_
from opportune.artefacts import found_artefact, load_artefact
from opportune.errors import OpportuneError, RecipeError
from opportune.evaluate import Journal, NoJournal
from opportune.journal import StoreJournal, key_of
from opportune.models.endpoint import Endpoint, Remote, is_remote
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.models.response_cache import ResponseCache
from opportune.options import build
from opportune.records import ArmRecord, ModelConfig, RunConfig
from opportune.spec import ModelRef, Recipe, parse
from opportune.store import Store
from opportune.types import Answer, Example, Flow, Method, Model, Question, Split, Strategy, TaskView


@dataclass(frozen=True, slots=True)
class StoredArm:
    """One arm of a stored run, with what it takes to have it answer again."""

    store: Store
    record: ArmRecord
    config: RunConfig
    view: TaskView
    strategy: Strategy

    @classmethod
    def find(cls, store: Store, run: str, recipe: str) -> StoredArm:
        """The arm of a finished recipe, its first seed. Raises RecipeError where the run has not finished it."""
        stored = store.run(run)
        record = _find(store.arms(stored.id), recipe, stored.id)
        part = parse(record.facts.chosen or record.resolved["recipe"]).parts[-1]
        view = _view(store, stored.id, stored.config)
        return cls(store, record, stored.config, view, build(part, strategies.TABLE[part.name]))

    @property
    def recipe(self) -> Recipe:
        """The recipe with every default filled in."""
        return parse(self.record.resolved["recipe"])

    @property
    def artefact(self) -> Path | None:
        """Where the trained weights are. Raises RecipeError where they no longer are."""
        kept = self.record.facts.artefact
        if kept is None:
            return None
        if (path := found_artefact(self.store, kept)) is None:
            raise RecipeError(f"the trained weights of {self.record.recipe!r} are gone from {kept}; run it again")
        return path

    @property
    def methods(self) -> list[Method]:
        """The methods that trained it, first to last."""
        return [build(part, methods.TABLE[part.name]) for part in self.recipe.parts[:-1]]

    def known(self) -> ModelConfig:
        """The local model that the run measured; of one in several number formats or on several devices, the arm's."""
        named, placed = _models_of(self.record, self.config), self.record.resolved.get("placement")
        return next((model for model in named if [model["dtype"], model["device"]] == placed), named[0])

    @property
    def trusts(self) -> bool:
        """Whether the run let the model's folder run its own Python code."""
        ref = self.recipe.model
        given = bool(self.config.get("options", {}).get("trust_remote_code"))
        return bool(ref.options.get("trust", given)) if ref else given

    def reference(self, device: str, dtype: str) -> ModelRef:
        """Where the model before training is, and how it is loaded."""
        ref = self.recipe.model
        packed = {name: value for name, value in (ref.options if ref else {}).items() if name == "quantise"}
        return ModelRef(self.known()["path"], {"device": device, "dtype": dtype, **packed})

    def base(self, device: str, dtype: str) -> Local:
        """The model before training. Raises RecipeError where it is another one than the run measured."""
        known = self.known()
        model = ModelPool(trust=self.trusts).base(self.reference(device, dtype))
        if model.info.digest != known["digest"]:
            raise RecipeError(f"the model in {known['path']} is no longer the one that run {self.record.run} measured")
        return model

    def model(self, cache: ResponseCache | None = None) -> Local | Endpoint | None:
        """The model as the run asked it on test; None where none is asked. `cache` keeps a server's answers."""
        ref = self.recipe.model
        if ref is None:
            return None
        if is_remote(ref):
            return _endpoint(self.record, ref, self.config, cache)
        known, artefact = self.known(), self.artefact
        model = self.base(known["device"], known["dtype"])
        return model if artefact is None else load_artefact(artefact, self.methods, model)

    def prepared(self, model: Model | None) -> Any:
        """What the strategy prepared in the run; `model` is asked only for what the run has not kept."""
        stage = "prepare-trained" if self.record.facts.artefact else "prepare"
        return evaluate.prepare(self.strategy, self.view, self.record.seed, model, self.journal(stage, model))

    def journal(self, stage: str, model: Model | None) -> Journal:
        """The run's calls of a stage."""
        artefact = self.record.facts.artefact
        if model is None and artefact is None:
            return NoJournal()
        key = Path(artefact).name if artefact else key_of(model.info) if model else ""
        return StoreJournal(self.store, self.record.run, self.record.hash, self.record.seed, stage, key)

    def examples(self, split: Split) -> tuple[Example, ...]:
        """The task's examples."""
        return _examples(self.store, self.record.run, split)


class Answerer:
    """One arm of a stored run, ready to answer. Raises RecipeError for a recipe that the run has not finished."""

    def __init__(self, store: Store, run: str, recipe: str, *, cache: ResponseCache | None = None) -> None:
        arm = StoredArm.find(store, run, recipe)
        self._strategy, self.view = arm.strategy, arm.view
        self.model = arm.model(cache)
        self._prepared = arm.prepared(self.model)

    def flow(self, text: str, choices: tuple[str, ...] | None = None) -> Flow[Answer]:
        """The conversation about one input, with choices of its own where the task's rows have them; not begun."""
        if self.view.kind == "choice" and self.view.choices is None and choices is None:
            raise RecipeError(
                f"the rows of {self.view.name} have choices of their own, and this input has none: `opportune ask "
                "--choices A,B,C` takes them"
            )
        return self._strategy.ask(Question(text, choices), self.view, self._prepared)

    def __call__(self, text: str, choices: tuple[str, ...] | None = None) -> Answer:
        """Answer one input. Raises OpportuneError when a call fails."""
        with self.model.reusing() if self.model else nullcontext():
            talk = evaluate.converse({"": self.flow(text, choices)}, self.model, NoJournal())[""]
        if talk.result is None:
            raise OpportuneError(f"the call failed: {talk.error}")
        return talk.result


def finished(arms: Sequence[ArmRecord], recipe: str, model: ModelRef | None = None) -> ArmRecord | None:
    """The arm of a run that a recipe means, on that model where one is given, and that is done; its first seed. Raises
    RecipeError where it could be several."""
    done = [arm for arm in _meant(arms, recipe, model) if arm.status == "done"]
    names = dict.fromkeys(arm.recipe for arm in done)
    if len(names) > 1:
        raise RecipeError(f"run {done[0].run}: recipe {recipe!r} could be any of {', '.join(names)}: name one of them")
    return done[0] if done else None


def _meant(arms: Sequence[ArmRecord], recipe: str, model: ModelRef | None = None) -> list[ArmRecord]:
    """Those spelled so; else those that resolve to the same, on any model where none is named."""
    spelled = [arm for arm in arms if recipe in (arm.recipe, arm.resolved["recipe"])]
    if spelled and model is None:
        return spelled
    try:
        meant = recipes_.arms(recipe, (model or ModelRef("any"),))[0].resolved
        anywhere = model is None and parse(recipe).model is None
    except RecipeError:
        return []
    resolved = [(arm, parse(arm.resolved["recipe"])) for arm in arms]
    return [arm for arm, has in resolved if has.parts == meant.parts and (anywhere or has.model == meant.model)]


def _find(arms: Sequence[ArmRecord], recipe: str, run: str) -> ArmRecord:
    if (found := finished(arms, recipe)) is not None:
        return found
    named = _meant(arms, recipe)
    known = ", ".join(dict.fromkeys(arm.recipe for arm in arms if arm.status == "done")) or "none"
    state = f"is {named[0].status}" if named else "is not there"
    raise RecipeError(f"run {run}: recipe {recipe!r} {state}; finished are: {known}")


def _view(store: Store, run: str, config: RunConfig) -> TaskView:
    task = config["task"]
    labels = tuple(task["labels"]) if task["labels"] else None
    return TaskView(task["name"], task["instruction"], task["kind"], labels, _examples(store, run, "train"))


def _examples(store: Store, run: str, split: Split) -> tuple[Example, ...]:
    return tuple(record.as_example() for record in store.examples(run, split))


def _models_of(arm: ArmRecord, config: RunConfig) -> list[ModelConfig]:
    """What the run says of an arm's model: folders and servers may have a name in common, not a digest."""
    digest = arm.resolved.get("digest")
    same = [model for model in config["models"] if model["digest"] == digest]
    return same or [model for model in config["models"] if model["name"] == arm.model]


def _endpoint(arm: ArmRecord, ref: ModelRef, config: RunConfig, cache: ResponseCache | None) -> Endpoint:
    """The server that the run asked: where the recipe does not name it, `--base-url` or the environment did."""
    for known in _models_of(arm, config):
        found = Endpoint.of(ref, Remote(base_url=known["path"], cache=cache))
        if found.info.digest == known["digest"]:
            return found
    raise RecipeError(f"run {arm.run} does not say which server answered as {arm.model}")
