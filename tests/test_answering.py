"""A finished run's arm answers as it was measured: with its own model, with the choices that the input has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opportune.api import ask, compare, show, task_from_records
from opportune.comparison import show_json
from opportune.errors import RecipeError
from opportune.store import Store
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
