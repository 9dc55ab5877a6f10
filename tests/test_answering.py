"""A finished run's arm answers as it was measured: with its own model, with the choices that the input has."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opportune.api import ask, compare, show, task_from_records
from opportune.comparison import show_json
from opportune.errors import RecipeError
from opportune.store import DATABASE, Store
from opportune.types import Answer
from tests.models.tiny import network, save_folder, tokenizer
from tests.toy import toy_task


def other_model(folder: Path) -> Path:
    """Of the same shape and name, with other weights."""
    made = network()
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_two_models_whose_folders_have_one_name_stay_apart(tmp_path: Path) -> None:
    models = [str(save_folder(tmp_path / "one" / "tiny")), str(other_model(tmp_path / "two" / "tiny"))]
    runs = tmp_path / "runs"
    compare(toy_task(), recipes=["zero-shot"], models=models, dtype="float32", device="cpu", runs=runs)
    with Store.open(runs, create=False) as store:
        outcomes = show_json(store, "latest")["outcomes"]
    measured = {(o["recipe"], o["input"]): o["choice_scores"] for o in outcomes}
    first, second = dict.fromkeys(recipe for recipe, _ in measured)
    for (recipe, text), scores in measured.items():
        assert ask("latest", recipe, text, runs=runs).scores == pytest.approx(scores, abs=1e-4)
        assert measured[first, text] != pytest.approx(measured[second, text], abs=1e-2)


def test_an_input_brings_its_own_choices_where_the_rows_do(tmp_path: Path) -> None:
    rows = [
        {"question": f"which of them is {n}?", "choices": [f"red {n}", f"blue {n}"], "answer": f"red {n}"}
        for n in range(20)
    ]
    task = task_from_records(rows, name="own", input="question", target="answer")
    model = str(save_folder(tmp_path / "tiny"))
    compare(task, recipes=["zero-shot"], models=[model], dtype="float32", device="cpu", runs=tmp_path)
    with pytest.raises(RecipeError, match=r"the rows of own have choices of their own.*--choices A,B,C"):
        ask("latest", "zero-shot", "which of them is 7?", runs=tmp_path)
    asked = ask("latest", "zero-shot", "which of them is 7?", choices=["red 7", "blue 7"], runs=tmp_path)
    assert asked.text in ("red 7", "blue 7")


def test_an_arm_that_no_context_holds_fails_by_itself(tmp_path: Path) -> None:
    model = str(save_folder(tmp_path / "tiny"))
    recipes = ["zero-shot", "chain-of-thought:k=0,max_tokens=300"]
    compare(toy_task(), recipes=recipes, models=[model], dtype="float32", device="cpu", runs=tmp_path)
    held, too_long = show(runs=tmp_path).rows
    assert (held.status, too_long.status) == ("done", "failed")
    assert "the model's context has no room beside the answer" in (too_long.reason or "")


LORA = "lora:rank=2,rate=1e-2,epochs=1,batch=4+zero-shot"


def trained(tmp_path: Path, runs: Path | str, *recipes: str) -> str:
    model = str(save_folder(tmp_path / "tiny"))
    return compare(toy_task(), recipes=recipes, models=[model], dtype="float32", device="cpu", runs=runs).run


def test_trained_weights_are_found_from_any_folder_and_where_the_runs_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    run = trained(tmp_path, "runs", LORA)
    answer = ask(run, LORA, "the saw", runs="runs")
    monkeypatch.chdir("/")
    assert ask(run, LORA, "the saw", runs=tmp_path / "project" / "runs") == answer
    (tmp_path / "project").rename(tmp_path / "moved")
    runs = tmp_path / "moved" / "runs"
    assert ask(run, LORA, "the saw", runs=runs) == answer
    with Store.open(runs, create=False) as store:  # as it was kept before: from the folder of that time
        (arm,) = store.arms(run)
        kept = f"runs/artefacts/{Path(str(arm.facts.artefact)).name}"
        store.put_arm(replace(arm, facts=replace(arm.facts, artefact=kept)))
    assert ask(run, LORA, "the saw", runs=runs) == answer
    shutil.rmtree(runs / "artefacts")
    with pytest.raises(RecipeError, match="are gone from"):
        ask(run, LORA, "the saw", runs=runs)


def test_trained_weights_of_a_teams_database_are_found_from_another_folder_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE, f"sqlite:///{tmp_path / 'team.db'}")
    run = trained(tmp_path, tmp_path / "mine", LORA)
    answer = ask(run, LORA, "the saw", runs=tmp_path / "mine")
    assert ask(run, LORA, "the saw", runs=tmp_path / "yours") == answer


def test_a_recipe_is_found_however_it_is_spelled(tmp_path: Path) -> None:
    run = trained(tmp_path, tmp_path / "runs", LORA, "k-shot:k=4")

    def asked(recipe: str) -> Answer:
        return ask(run, recipe, "the saw", runs=tmp_path / "runs")

    assert asked("lora:batch=4,epochs=1,rank=2,rate=0.01") == asked(LORA)
    assert asked("k-shot:k=4,calibrate=none") == asked("k-shot:k=4")
    assert asked(f'k-shot:k=4@"{tmp_path / "tiny"}"') == asked("k-shot:k=4")
    with pytest.raises(RecipeError, match="recipe 'k-shot:k=2' is not there; finished are: lora"):
        asked("k-shot:k=2")
    with pytest.raises(RecipeError, match="is not there"):
        asked("k-shot:k=4@other")


def test_a_recipe_that_two_models_answered_is_asked_for_by_name(tmp_path: Path) -> None:
    models = [str(save_folder(tmp_path / "tiny")), str(other_model(tmp_path / "other"))]
    runs = tmp_path / "runs"
    compare(toy_task(), recipes=["zero-shot"], models=models, dtype="float32", device="cpu", runs=runs)
    with pytest.raises(RecipeError, match=r"could be any of zero-shot@.*tiny\S*, zero-shot@.*other\S*: name one"):
        ask("latest", "zero-shot", "the saw", runs=runs)
