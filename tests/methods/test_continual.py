"""Continual pretraining within a whole comparison: it reads, chains, is kept, and what it forgets is measured."""

from __future__ import annotations

import shutil

import pytest

from opportune.api import ask, compare, show
from opportune.comparison import show_json
from opportune.errors import RecipeError, TaskError
from opportune.methods.continual import Continual
from opportune.report.table import footnotes
from opportune.store import Store
from tests.corpus.texts import documents, write
from tests.inference.tiny import CHATML, plain_network_of, tokenizer_of
from tests.toy import toy_task


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("continual")
    plain_network_of("llama").save_pretrained(folder / "model")
    tokenizer_of(template=CHATML).save_pretrained(folder / "model")
    write(folder / "corpus.txt", documents(120))
    write(folder / "general.txt", documents(60, seed=1))
    return folder


def recipe(place, rest="", options=""):
    common = f"general={place / 'general.txt'},tokens=1600,context=32,rate=3e-3"
    return f"continual:corpus={place / 'corpus.txt'},{common}{options}{rest}"


def run(place, runs, *recipes, **options):
    return compare(
        toy_task(), recipes=recipes, models=[str(place / "model")], dtype="float32", runs=place / runs, **options
    )


@pytest.fixture(scope="module")
def compared(place):
    recipes = recipe(place), recipe(place, "+lora:rank=2,rate=1e-2,epochs=1+zero-shot"), recipe(place, "", ",replay=1")
    return run(place, "runs", "zero-shot", *recipes)


def test_it_learns_the_corpus_more_than_the_control_does(compared):
    asked, read, chained, control = compared.rows
    assert all(row.status == "done" for row in compared.rows), [row.reason for row in compared.rows]
    assert not asked.read
    assert asked.forgetting is None
    (own,), (others,) = read.read, control.read
    assert own.held_out.before == others.held_out.before
    assert own.held_out.after < own.held_out.before - 0.5
    assert own.held_out.after < others.held_out.after
    assert (own.tokens, own.replayed) == (1600, 64)
    assert (others.tokens, others.replayed) == (1600, 1600)
    assert chained.read == read.read  # trained once for both arms
    assert read.gap is not None
    assert control.gap is None  # it read nothing of the kind of what is held out
    assert read.forgetting.before == chained.forgetting.before != chained.forgetting.after


def test_under_a_budget_what_was_read_is_told_not_what_an_epoch_holds(place):
    (row,) = run(place, "budget", recipe(place, "", ",replay=0.5,budget=700")).rows
    assert row.status == "done", row.reason
    (read,) = row.read
    assert read.tokens == 5 * 4 * 32  # five steps of four blocks: a sixth would take more than 700, openings counted
    assert 0 < read.replayed < read.tokens
    assert read.replayed % 32 == 0


def test_it_is_shown(compared, place):
    notes = dict(footnotes(compared))
    assert "read 1,600 tokens, 64 of them general text: loss on documents held out" in notes[compared.rows[1].recipe]
    assert "loss on general text" in notes[compared.rows[2].recipe]
    with Store.open(place / "runs", create=False) as store:
        row = show_json(store, store.latest_run().id)["rows"][1]
    assert row["read"][0]["held_out"]["text"] == str(place / "corpus.txt")
    assert set(row["forgetting"]) == {"text", "tokens", "before", "after"}
    assert set(row["generalisation_gap"]) == {"train", "dev", "error", "opened"}


def test_a_chain_goes_on_from_what_an_earlier_arm_read_and_ends_as_if_alone(compared, place):
    again = run(place, "alone", compared.rows[2].recipe)
    assert again.rows[0].forgetting == compared.rows[2].forgetting
    assert again.rows[0].dev_score == compared.rows[2].dev_score


def test_the_artefact_answers_without_its_corpus(compared, place, tmp_path):
    moved = shutil.move(place / "corpus.txt", tmp_path / "corpus.txt")
    try:
        assert ask("latest", compared.rows[1].recipe, "a hammer", runs=place / "runs").text in ("fruit", "tool")
    finally:
        shutil.move(moved, place / "corpus.txt")


def test_another_corpus_in_the_same_place_is_another_artefact(place):
    write(place / "changing.txt", documents(30))
    changing = recipe(place).replace("corpus.txt", "changing.txt")
    before = run(place, "changing", changing)
    write(place / "changing.txt", documents(30, seed=5))
    after = run(place, "changing", changing)
    assert before.run != after.run
    assert before.rows[0].read != after.rows[0].read
    assert len(list((place / "changing" / "artefacts").iterdir())) == 2


def test_forgetting_is_measured_on_the_text_that_is_given(place):
    trained = "full:rate=1e-3,epochs=1"
    own, usual = run(place, "general", trained, general=place / "general.txt"), run(place, "general", trained)
    assert own.run != usual.run
    assert own.rows[0].forgetting.text == str(place / "general.txt")
    assert own.rows[0].forgetting.tokens < usual.rows[0].forgetting.tokens
    assert len(list((place / "general" / "artefacts").iterdir())) == 1
    assert show(runs=place / "general").rows[0].forgetting == usual.rows[0].forgetting


def test_virtual_tokens_stand_before_the_general_text(place):
    (row,) = run(place, "soft", "prompt-tuning:tokens=4,rate=1e-2,epochs=1").rows
    assert row.status == "done", row.reason
    assert row.forgetting.after != row.forgetting.before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "corpus is missing"),
        ({"corpus": "a", "replay": 0.5}, "needs general=PATH"),
        ({"corpus": "a", "replay": 0.0, "general": "b"}, "replay=0 reads none of it"),
        ({"corpus": "a", "replay": 1.5, "general": "b"}, "replay=1.5 is out of range"),
        ({"corpus": "a", "tokens": 0}, "tokens=0 is out of range"),
        ({"corpus": "a", "context": 2}, "context=2 is out of range"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(RecipeError, match=message):
        Continual(**options)


def test_five_percent_are_replayed_unless_said_otherwise():
    assert Continual("a", general="b").reading.replay == 0.05
    assert Continual("a").reading.replay == 0.0


def test_bad_texts_are_refused_before_anything_is_measured(place):
    for changed in (
        f"continual:corpus={place / 'absent'}",
        f"continual:corpus={place / 'corpus.txt'},general={place}/x",
    ):
        with pytest.raises(TaskError, match="no such file or folder"):
            run(place, "bad", changed)
    with pytest.raises(TaskError, match="no such file or folder"):
        run(place, "bad", "zero-shot", general=place / "absent")
    with Store.open(place / "bad") as store:
        assert store.list_runs() == []
