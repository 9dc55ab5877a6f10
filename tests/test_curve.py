"""Score against labelled examples: the arithmetic of what labels are worth, and a whole curve on a tiny network."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune import curve
from opportune.advantage import data_advantage, labels_for, monotone, overtakes
from opportune.api import task_from_records
from opportune.cli.main import _run
from opportune.curves import _looks, draw_train
from opportune.errors import RecipeError, UsageError
from opportune.labels import Measured, build, to_json
from opportune.metrics import metric_named
from opportune.recipe import arms
from opportune.report import label_curves
from opportune.scoring import Sample
from opportune.store import Store
from tests.inference.tiny import CHATML, plain_network_of, tokenizer_of
from tests.toy import toy_task

SIZES = (16, 32, 64, 128)
SCORES = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(np.array)


# ---- arithmetic -----------------------------------------------------------------------------------------------------


@given(SCORES)
def test_monotone_curves_never_fall_and_keep_their_mean(scores):
    found = monotone(scores)
    assert (np.diff(found) >= -1e-12).all()
    assert found.mean() == pytest.approx(scores.mean())
    assert np.allclose(monotone(np.sort(scores)), np.sort(scores))


def test_the_labels_for_a_score_are_read_off_the_line_between_two_sizes():
    scores = np.array([0.2, 0.4, 0.6, 0.6])
    assert labels_for(0.4, SIZES, scores) == pytest.approx(32)
    assert labels_for(0.5, SIZES, scores) == pytest.approx(2**5.5)
    assert labels_for(0.6, SIZES, scores) == pytest.approx(64)
    assert labels_for(0.1, SIZES, scores) == 16
    assert labels_for(0.7, SIZES, scores) == math.inf


def test_a_curve_shifted_by_one_doubling_is_worth_half_of_the_labels():
    """second(n) = first(n / 2), so that at every score the second needs twice as many labels."""
    sizes = [8, 16, 32, 64, 128, 256]
    first = np.array([math.log2(n) for n in sizes]) / 10
    second = np.array([math.log2(n / 2) for n in sizes]) / 10
    levels = np.linspace(first[0], second[-1], 20_001)
    expected = np.mean(2 ** (10 * levels))  # second needs 2^(10 s + 1) labels for a score s, first needs 2^(10 s)
    assert data_advantage(sizes, first, second) == pytest.approx(expected, rel=1e-2)


@given(SCORES, SCORES)
def test_an_advantage_is_the_other_side_s_disadvantage(first, second):
    there, back = data_advantage(SIZES, first, second), data_advantage(SIZES, second, first)
    assert there == pytest.approx(-back, nan_ok=True)


@given(SCORES)
def test_equal_curves_have_no_advantage(scores):
    found = data_advantage(SIZES, scores, scores)
    assert math.isnan(found) or found == pytest.approx(0)


def test_overtaking_is_where_the_lines_cross_for_good():
    level = np.full(4, 0.5)
    assert overtakes(SIZES, np.array([0.3, 0.4, 0.6, 0.7]), level) == pytest.approx(2**5.5)
    assert overtakes(SIZES, np.array([0.6, 0.7, 0.8, 0.9]), level) == 0
    assert overtakes(SIZES, np.array([0.1, 0.2, 0.3, 0.4]), level) == math.inf
    # Ahead at first, behind later, ahead again at the end: only the last crossing is for good.
    assert overtakes(SIZES, np.array([0.5, 0.5, 0.5, 0.9]), np.array([0.4, 0.4, 0.8, 0.8])) > 64


# ---- from samples to curves -----------------------------------------------------------------------------------------


def measured(recipe, shares, *, trained, flat=False, draws=3, count=200):
    """Answers of which these shares are right, by size, the same examples first."""
    task = toy_task()
    examples = tuple(replace(task.test[0], id=f"e{i}") for i in range(count))
    samples = {}
    for size, share in zip(SIZES, shares, strict=True):
        scores = np.array([[float(i < round(count * share)) for i in range(count)]] * (1 if flat else draws))
        answers = tuple(tuple(None for _ in examples) for _ in scores)
        samples[size] = Sample(metric_named("accuracy"), tuple(range(len(scores))), examples, answers, scores)
    return Measured(recipe, trained, flat, samples, dict.fromkeys(SIZES, ("run",)))


@pytest.fixture(scope="module")
def curves():
    lora = measured("lora", [0.2, 0.4, 0.6, 0.8], trained=True)
    full = measured("full", [0.1, 0.2, 0.4, 0.6], trained=True)
    prompt = measured("zero-shot", [0.5] * 4, trained=False, flat=True)
    return build("toy", "accuracy", SIZES, 3, [lora, full, prompt], ["a note."])


def test_where_training_overtakes_prompting(curves):
    found = {one.trained: one for one in curves.overtakings}
    assert found["lora"].labels == pytest.approx(2**5.5)
    assert found["lora"].low < found["lora"].labels < found["lora"].high
    assert found["lora"].measurably == 64
    assert found["full"].measurably == 128


def test_what_a_method_is_worth_in_labels(curves):
    (found,) = curves.advantages
    assert (found.first, found.second) == ("lora", "full")
    # lora needs half as many labels at every score from 0.2 to 0.6.
    assert 15 < found.labels < 50
    assert found.low < found.labels < found.high


def test_intervals_cover_draws_and_examples(curves):
    for line in curves.lines:
        for point in line.points:
            assert point.score.low <= point.score.value <= point.score.high
            assert len(point.by_draw) == (1 if line.flat else 3)


def test_the_words_and_the_json_say_the_same(curves):
    told = label_curves.sentences(curves)
    assert told[0].startswith("lora overtakes zero-shot at about 45 labels (95 %:")
    assert told[0].endswith("measurably from 64 on.")
    assert told[2].startswith("lora is worth ")
    assert told[-1] == "a note."
    found = json.loads(json.dumps(to_json(curves), allow_nan=False))
    assert found["overtakings"][0]["labels"] == pytest.approx(2**5.5)
    assert [line["flat"] for line in found["lines"]] == [False, False, True]


def test_an_overtaking_outside_the_sizes_is_said_to_be_so():
    lora = measured("lora", [0.1, 0.1, 0.2, 0.2], trained=True)
    prompt = measured("zero-shot", [0.5] * 4, trained=False, flat=True)
    found = build("toy", "accuracy", SIZES, 3, [lora, prompt], [])
    (told,) = label_curves.sentences(found)
    assert told.startswith("lora does not overtake zero-shot within 128 labels (95 %: more than 128 to more than 128)")
    assert (
        to_json(found)["overtakings"][0] | {"labels": None, "within_sizes": False} == to_json(found)["overtakings"][0]
    )


def test_the_page_is_whole_and_loads_nothing(curves):
    page = label_curves.page(curves)
    assert "http" not in page.split("</style>")[1]
    assert page.count("<svg role") == 2
    assert page.count("mark-area") >= 2 * len(curves.lines)
    assert "script" not in page.split("</style>")[1]


# ---- draws ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(2, 15))
def test_draws_are_nested_stratified_and_in_order(draw, size):
    task = toy_task()
    some, more = draw_train(task, size, draw), draw_train(task, size + 1, draw)
    assert len(some) == size
    assert set(some) <= set(more)
    assert {example.target for example in some} == {"fruit", "tool"}
    places = [task.train.index(example) for example in some]
    assert places == sorted(places)


def test_draws_differ():
    task = toy_task()
    assert len({draw_train(task, 6, draw) for draw in range(5)}) > 1


@pytest.mark.parametrize(
    ("recipe", "looks"),
    [("zero-shot", False), ("zero-shot:calibrate=contextual", False), ("k-shot:k=2", True), ("majority", True)],
)
def test_what_never_looks_at_the_labels_is_known(recipe, looks):
    (arm,) = arms(recipe, ())[:1] or arms(f"{recipe}@none", ())
    assert _looks(arm.strategy, toy_task()) is looks


# ---- a whole curve --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    plain_network_of("llama").save_pretrained(folder)
    tokenizer_of(template=CHATML).save_pretrained(folder)
    return str(folder)


RECIPES = ["zero-shot", "k-shot:k=4", "lora:rank=2,rate=1e-2,epochs=1,batch=4"]


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return runs, curve(
        toy_task(), recipes=RECIPES, sizes=[2, 4, 16], draws=2, models=[model], dtype="float32", runs=runs
    )


def calls_of(runs):
    with Store.open(runs) as store:
        return {
            run.id: [(c.hash, c.stage, c.example, c.seconds) for c in store.calls(run.id)] for run in store.list_runs()
        }


def test_every_size_and_draw_is_measured_once(whole):
    runs, found = whole
    zero, shots, lora = found.lines
    assert zero.flat
    assert [point.size for point in shots.points] == [4, 16]
    assert [len(point.by_draw) for point in lora.points] == [2, 2, 1]  # all 16 examples are drawn in one way only
    assert any("k-shot:k=4 is left out at small sizes" in note for note in found.notes)
    names = {run for line in found.lines for point in line.points for run in point.runs}
    assert len(names) == 6  # two draws of 2 and of 4, one of 16, and one for what never looks
    with Store.open(runs) as store:
        tests = {tuple(e.example for e in store.examples(name, "test")) for name in names}
        assert len(tests) == 1
        assert {run.status for run in store.list_runs()} == {"finished"}


def test_what_fails_somewhere_is_left_out_there_and_told(model, tmp_path):
    recipes = ["lora:rank=2,rate=1e-2,epochs=1,budget=300", "k-shot:k=2"]
    found = curve(toy_task(), recipes=recipes, sizes=[2, 16], draws=1, models=[model], runs=tmp_path)
    lora, shots = found.lines
    assert [point.size for point in shots.points] == [2, 16]
    assert len(lora.points) < 2
    assert any("budget=300" in note and "failed" in note for note in found.notes)


def test_a_recipe_starts_where_a_draw_holds_something_to_teach_by(model, tmp_path):
    task = toy_task("text")
    train = tuple(replace(e, rationale="It grows." if place == 3 else None) for place, e in enumerate(task.train))
    task = replace(task, train=train, dev=tuple(replace(e, rationale="It cuts.") for e in task.dev))
    held = [draw for draw in range(2) if train[3] in draw_train(task, 4, draw)]
    assert len(held) < 2
    recipe = "lora:rank=2,rate=1e-3,epochs=1+chain-of-thought:k=0,max_tokens=8"
    found = curve(task, recipes=[recipe], sizes=[4, 16], draws=2, models=[model], runs=tmp_path)
    assert [(point.size, len(point.by_draw)) for point in found.lines[0].points] == [(4, 1)] * len(held) + [(16, 1)]
    assert any("left out at small sizes" in note and "nothing to teach by" in note for note in found.notes)


def test_a_curve_of_nothing_is_no_curve(model, tmp_path):
    with pytest.raises(RecipeError, match="nothing could be measured: k-shot:k=8 is left out"):
        curve(toy_task(), recipes=["k-shot:k=8"], sizes=[2, 4], draws=1, models=[model], runs=tmp_path)


def test_the_same_curve_again_measures_nothing(whole, model):
    runs, before = whole
    calls = calls_of(runs)
    again = curve(toy_task(), recipes=RECIPES, sizes=[2, 4, 16], draws=2, models=[model], dtype="float32", runs=runs)
    assert again == before
    assert calls_of(runs) == calls


def test_a_size_and_a_recipe_more_measure_only_what_is_new(whole, model):
    runs, before = whole
    calls = calls_of(runs)
    more = curve(
        toy_task(),
        recipes=[*RECIPES, "majority"],
        sizes=[2, 4, 8, 16],
        draws=2,
        models=[model],
        dtype="float32",
        runs=runs,
    )
    after = calls_of(runs)
    assert all(after[run] == known for run, known in calls.items())
    assert len(after) == len(calls) + 2
    kept = {(line.recipe, p.size): p for line in before.lines for p in line.points}
    found = {(line.recipe, p.size): p for line in more.lines for p in line.points}
    assert all(found[key] == point for key, point in kept.items())
    assert {size for recipe, size in found if recipe == "majority"} == {2, 4, 8, 16}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sizes": [4, 17]}, "17 labelled examples asked for, 16 are in train"),
        ({"sizes": [0]}, "whole numbers from 1"),
        ({"sizes": []}, "whole numbers from 1"),
        ({"draws": 0}, "draws=0 is out of range"),
        ({"recipes": []}, "no recipe"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        curve(toy_task(), **({"recipes": ["majority"], "sizes": [4], "runs": tmp_path} | options))


def test_the_command_prints_a_table_json_and_a_page(tmp_path, capsys):
    rows = [{"text": f"a {w} {i}", "label": k} for i in range(20) for w, k in (("pear", "fruit"), ("saw", "tool"))]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    common = ["curve", str(tmp_path / "data.jsonl"), "--recipe", "majority", "--recipe", "tfidf", "--sizes", "4,8"]
    common += ["--runs", str(tmp_path / "runs"), "--draws", "2"]
    assert _run([*common, "--html", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert "tfidf" in out
    assert "4 runs" in err
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert _run([*common, "--json"]) == 0
    out, err = capsys.readouterr()
    assert [line["recipe"] for line in json.loads(out)["lines"]] == ["majority", "tfidf"]
    assert "measured before" in err
    assert _run([*common, "--sizes", "4,x"]) == 2
    assert "whole numbers separated by commas" in capsys.readouterr().err


def test_more_labels_help_where_there_is_something_to_learn(tmp_path):
    """The baseline that reads words, on inputs whose words tell the label."""
    rows = [
        {"input": f"{colour} {number % 40}", "target": "warm" if colour in ("red", "orange", "pink") else "cold"}
        for number, colour in enumerate(["red", "blue", "orange", "green", "pink", "grey"] * 30)
    ]
    task = task_from_records(rows, metric="accuracy", kind="choice", limit={"test": 30, "dev": 10})
    found = curve(task, recipes=["tfidf"], sizes=[2, 64], draws=2, runs=tmp_path)
    few, many = (point.score.value for point in found.lines[0].points)
    assert few < many
    assert many > 0.9
