"""Trained weights are kept and shared, also between processes that want the same at once."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from opportune import artefacts, forgetting
from opportune.api import _Unwatched, compare
from opportune.errors import RecipeError
from opportune.spec import ModelRef
from opportune.store import Store
from opportune.types import ModelInfo
from tests.models.tiny import save_folder
from tests.toy import toy_task

RECIPE = "lora:rank=2,rate=1e-2,epochs=3,batch=4"


class Telling(_Unwatched):
    """Passes the stages on that are told."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def stage(self, arm: Any, stage: Any) -> None:
        self.said.put(stage.name)


def work(model: str, runs: Path, said: Any) -> None:
    found = compare(toy_task(), recipes=[RECIPE], models=[model], dtype="float32", runs=runs, watcher=Telling(said))
    said.put([(row.reason, row.dev_score) for row in found.rows])


def test_who_wants_what_another_process_trains_waits_and_takes_it(tmp_path: Path) -> None:
    model, other, runs = str(save_folder(tmp_path / "model")), tmp_path / "other", tmp_path / "runs"
    (row,) = compare(toy_task(), recipes=[RECIPE], models=[model], dtype="float32", runs=other).rows
    ((key, artefact),) = [(path.name, path) for path in (other / "artefacts").iterdir()]
    spawn = multiprocessing.get_context("spawn")
    said = spawn.Queue()
    (runs / "locks").mkdir(parents=True)
    with FileLock(runs / "locks" / key):  # as whoever trains it has it
        process = spawn.Process(target=work, args=(model, runs, said))
        process.start()
        assert said.get(timeout=120) == "waiting for another process that trains the same"
        shutil.copytree(artefact, runs / "artefacts" / key)
    told = list(iter(lambda: said.get(timeout=60), [(None, row.dev_score)]))
    assert told
    assert "training" not in told
    process.join(60)


def test_weights_trained_before_bring_the_dev_scores_of_the_same_metric_and_asking_only(tmp_path: Path) -> None:
    model, runs = str(save_folder(tmp_path / "model")), tmp_path / "runs"

    def scored(*recipes: str, metric: str = "accuracy") -> bool:
        task = replace(toy_task(), metric=metric)
        run = compare(task, recipes=recipes, models=[model], dtype="float32", runs=runs).run
        with Store.open(runs, create=False) as store:
            return any("dev_score" in point.values for point in store.curves(run))

    assert scored(RECIPE)
    assert scored(RECIPE, "majority")
    assert not scored(RECIPE, metric="macro-f1")
    assert not scored(f"{RECIPE}+zero-shot:calibrate=contextual")
    assert scored(RECIPE, "zero-shot")
    assert len(list((runs / "artefacts").iterdir())) == 1


def test_two_processes_may_note_the_same_loss_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    nothing: Any = type("Text", (), {"digest": "d"})()
    with Store.open(tmp_path) as store:

        def measured(*_: Any) -> tuple[float, int]:
            monkeypatch.setattr(forgetting, "general_loss", lambda *_: (1.0, 2))
            monkeypatch.setattr(forgetting.os, "getpid", lambda: 1)
            assert forgetting.loss(store, nothing, nothing, "k") == (1.0, 2)  # the other one comes first
            return 1.0, 2

        monkeypatch.setattr(forgetting, "general_loss", measured)
        assert forgetting.loss(store, nothing, nothing, "k") == (1.0, 2)


def test_several_processes_do_not_train_on_packed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    pool: Any = type("Pool", (), {"trust": False})()
    packed = ModelInfo("tiny", "", 1, "d", "float32", "cuda:0", quantise="nf4")
    artefacts._announce(ModelRef("tiny"), pool, packed)
    monkeypatch.setattr(artefacts, "processes", lambda: 2)
    with pytest.raises(RecipeError, match="quantise=nf4: packed weights are trained on by one process"):
        artefacts._announce(ModelRef("tiny"), pool, packed)
    artefacts._announce(ModelRef("tiny"), pool, replace(packed, quantise=None))
