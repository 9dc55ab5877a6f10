"""A whole comparison on a tiny network: what is stored, what is shared, what survives being killed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from opportune.api import ask, compare, report, show
from opportune.comparison import show_json
from opportune.errors import RecipeError, StoreError
from opportune.report import numbers
from opportune.report.table import footnotes, markdown
from opportune.store import Store
from tests.corpus.texts import documents, write
from tests.inference.tiny import CHATML, plain_network_of, tokenizer_of
from tests.run_tiny import RECIPES, main
from tests.toy import toy_task


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    main(model, str(folder))
    return folder


def results(folder):
    """Everything a run found out, without what depends on the clock."""
    with Store.open(folder, create=False) as store:
        run = store.latest_run().id
        arms = [(arm.recipe, arm.status, arm.facts.rate, arm.facts.trainable_parameters) for arm in store.arms(run)]
        calls = [(c.hash, c.stage, c.example, c.prompt, c.texts, c.scores, c.tokens_in) for c in store.calls(run)]
        outcomes = [replace(outcome, run="") for outcome in store.outcomes(run)]
        curves = [(p.hash, p.trial, p.step, p.values) for p in store.curves(run)]
    return arms, sorted(calls, key=str), sorted(outcomes, key=str), sorted(curves, key=str)


def test_every_arm_is_done_billed_and_scored(runs):
    comparison = show(runs=runs)
    assert [row.recipe for row in comparison.rows] == list(RECIPES)
    for row in comparison.rows:
        assert row.status == "done", row.reason
        assert row.score is not None
        assert row.measured.asking.seconds is not None
        assert row.latency is not None
    asked = comparison.row("zero-shot").measured.asking
    assert asked.calls == 4
    assert asked.flops > 0
    assert comparison.row("lora:rank=2,epochs=2,batch=4").measured.tuning.seconds > 0
    assert comparison.row("lora:rank=2,epochs=2,batch=4").measured.training.flops > 0
    assert comparison.reference
    assert comparison.recommended
    assert comparison.report


def test_the_trained_arm_keeps_its_search_and_its_curve(runs):
    with Store.open(runs, create=False) as store:
        run = store.latest_run().id
        lora = next(arm for arm in store.arms(run) if arm.recipe.startswith("lora"))
        assert len(lora.facts.trials) == 4
        assert lora.facts.rate in {trial.rate for trial in lora.facts.trials}
        curve = [point for point in store.curves(run) if point.hash == lora.hash]
        assert {point.trial for point in curve if point.trial != "final"}
        assert any("dev_score" in point.values for point in curve)


def test_the_methods_of_a_chain_keep_their_curves_and_rates_apart(model, tmp_path):
    chain = "lora:rank=2,epochs=2,batch=4+full:epochs=1,batch=4+zero-shot"
    done = compare(toy_task(), recipes=[chain], models=[model], dtype="float32", runs=tmp_path)
    with Store.open(tmp_path, create=False) as store:
        (arm,) = store.arms(done.run)
        curves = {}
        for point in store.curves(done.run):
            curves.setdefault(point.trial, []).append(point.step)
    assert {trial.partition(": ")[0] for trial in curves} == {"1 lora", "2 full"}
    trained = {method: [step for step in curves[f"{method}: final"] if step] for method in ("1 lora", "2 full")}
    assert trained == {"1 lora": list(range(1, 9)), "2 full": list(range(1, 5))}
    chosen = [(trial.method, trial.rate) for trial in arm.facts.trials if trial.chosen]
    assert [method for method, _ in chosen] == ["1 lora", "2 full"]
    assert chosen[1][1] == arm.facts.rate
    page = (tmp_path / done.run / "report.html").read_text()
    assert "Learning curves of" in page
    assert page.count("<b>chosen</b>") == 2
    for method in trained:
        assert f"{chain}: {method}" in page


def test_what_two_arms_ask_alike_is_computed_once_and_charged_twice(model, tmp_path):
    done = compare(toy_task(), recipes=["k-shot:k=4", "k-shot:k=4,calibrate=contextual"], models=[model], runs=tmp_path)
    plain, calibrated = done.rows
    assert calibrated.saved.calls == 8
    assert calibrated.measured.asking.calls == plain.measured.asking.calls == 4
    assert calibrated.measured.asking.seconds == plain.measured.asking.seconds


def everything(folder):
    """All that is stored, the measured seconds of every call and every figure of the bills included; and when each
    artefact was written."""
    with Store.open(folder, create=False) as store:
        run = store.latest_run().id
        kept = [store.arms(run), store.calls(run), store.outcomes(run), store.curves(run)]
    return kept, {path: path.stat().st_mtime_ns for path in (folder / "artefacts").rglob("*")}


def test_the_same_command_again_repeats_nothing(runs, model):
    before = everything(runs)
    assert all(call.seconds > 0 for call in before[0][1])  # measured anew they would differ
    main(model, str(runs))
    assert everything(runs) == before
    with Store.open(runs, create=False) as store:
        assert len(store.list_runs()) == 1


def test_a_finished_run_answers_new_questions_with_its_artefacts(runs):
    for recipe in RECIPES:
        answer = ask("latest", recipe, "a hammer", runs=runs)
        assert answer.text in ("fruit", "tool")
    with pytest.raises(RecipeError, match="finished are: majority"):
        ask("latest", "nonsense", "a hammer", runs=runs)
    with pytest.raises(StoreError, match="no run 'nothing'"):
        ask("nothing", "majority", "a hammer", runs=runs)


def test_the_answer_of_an_artefact_is_the_one_the_run_measured(runs):
    with Store.open(runs, create=False) as store:
        shown = show_json(store, store.latest_run().id)
    for recipe in RECIPES[2:]:
        outcome = next(o for o in shown["outcomes"] if o["recipe"] == recipe)
        answer = ask("latest", recipe, outcome["input"], runs=runs)
        assert answer.text == outcome["answer"]


def test_show_json_holds_every_prompt_and_answer(runs):
    with Store.open(runs, create=False) as store:
        shown = show_json(store, store.latest_run().id)
    outcome = next(o for o in shown["outcomes"] if o["recipe"] == "zero-shot")
    assert {"recipe", "input", "target", "answer", "status", "score", "prompts", "completions", "choices"} <= set(
        outcome
    )
    assert outcome["input"] in outcome["prompts"][0]


def test_the_report_can_be_written_anew(runs):
    page = report(runs=runs)
    page.unlink()
    assert report(runs=runs).read_text().count("<html") == 1


def test_bad_recipes_are_refused_before_anything_is_measured(model, tmp_path):
    for recipe, message in (("k-shot:k=99", "k=99 needs 99"), ("nonsense", "unknown name 'nonsense'")):
        with pytest.raises(RecipeError, match=message):
            compare(toy_task(), recipes=["majority", recipe], models=[model], runs=tmp_path)
    with Store.open(tmp_path) as store:
        assert store.list_runs() == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_killed_anywhere_the_same_command_ends_the_same(seed, model, runs, tmp_path):
    """kill -9 at random moments until a process gets to the end by itself."""
    command = [sys.executable, "-m", "tests.run_tiny", model, str(tmp_path)]
    moments = random.Random(seed)
    for patience in range(40):
        process = subprocess.Popen(command)
        try:
            # Longer and longer, so that it ends: start-up alone takes seconds.
            process.wait(timeout=moments.uniform(2.5, 4) + patience)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert results(tmp_path) == results(runs)


def test_a_second_process_on_the_same_run_is_refused(model, runs):
    with Store.open(runs, create=False) as store, store.lock_run(store.latest_run().id):
        done = subprocess.run(
            [sys.executable, "-m", "tests.run_tiny", model, str(runs)], capture_output=True, text=True, check=False
        )
    assert done.returncode != 0
    assert "is in use by process" in done.stderr


def test_the_same_run_read_by_another_tolerance_and_price_is_measured_only_once(model, tmp_path):
    first = compare(toy_task(), recipes=["zero-shot"], models=[model], runs=tmp_path)
    again = compare(
        toy_task(), recipes=["zero-shot"], models=[model], runs=tmp_path, tolerance=0.2, machine_price=3600.0
    )
    assert again.run == first.run
    assert (first.tolerance, again.tolerance) == (0.03, 0.2)
    before, after = first.rows[0].measured, again.rows[0].measured
    assert before.asking.dollars is None
    assert after.asking.dollars == pytest.approx(before.asking.seconds)  # a dollar a second
    assert after.asking.seconds == before.asking.seconds


def test_listed_values_are_searched_on_dev_and_charged_as_tuning(model, tmp_path):
    recipes = ["k-shot:k=[2,4]", "k-shot:k=2", "k-shot:k=4"]
    done = compare(toy_task(), recipes=recipes, models=[model], runs=tmp_path)
    searched, two, four = done.rows
    assert searched.status == "done", searched.reason
    facts = searched.seeds[0].facts
    assert len(facts.searched) == 2
    best = max((two, four), key=lambda row: row.dev_score)
    assert f"k={best.recipe[-1]}" in facts.chosen
    assert searched.dev_score == best.dev_score
    assert searched.measured.tuning.calls == two.measured.tuning.calls + four.measured.tuning.calls
    assert searched.measured.asking.calls == best.measured.asking.calls
    assert ask("latest", "k-shot:k=[2,4]", "the saw", runs=tmp_path).text in ("fruit", "tool")


def test_no_more_values_are_listed_than_a_trained_arm_tries_rates(model, tmp_path):
    with pytest.raises(RecipeError, match="at most 4 are searched"):
        compare(toy_task(), recipes=["k-shot:k=[1,2,3,4,5]"], models=[model], runs=tmp_path)
    with pytest.raises(RecipeError, match="after a training method give one"):
        compare(toy_task(), recipes=["lora+k-shot:k=[1,2]"], models=[model], runs=tmp_path)


def test_every_prompting_strategy_runs_on_a_real_network(model, tmp_path):
    done = compare(toy_task(), recipes=["all-prompts"], models=[model], runs=tmp_path)
    for row in done.rows:
        assert row.status == "done", (row.recipe, row.reason)
        assert row.n == 4
    assert {row.recipe.partition(":")[0] for row in done.rows} >= {
        "chain-of-thought",
        "self-consistency",
        "least-to-most",
        "step-back",
        "k-shot",
        "zero-shot",
    }
    assert done.row("zero-shot").seeds[0].facts.content_free.keys() == {"fruit", "tool"}


def test_all_training_tries_nine_methods(model, tmp_path):
    done = compare(toy_task(), recipes=["all-training"], models=[model], runs=tmp_path)
    assert len(done.rows) == 9
    for row in done.rows:
        assert row.status == "done", (row.recipe, row.reason)
        assert "budget=40000" in row.recipe
        assert len(row.seeds[0].facts.trials) == 4


def test_a_budget_shortens_training_and_its_prediction(model, tmp_path):
    texts = [f"lora:rank=2,epochs=20{budget}+zero-shot" for budget in ("", ",budget=4000")]
    long, short = compare(toy_task(), recipes=texts, models=[model], runs=tmp_path).rows
    for bill in ("measured", "predicted"):
        assert getattr(short, bill).training.tokens_in < 4000 < getattr(long, bill).training.tokens_in


def test_a_chain_that_cannot_be_is_refused_before_anything_is_measured(model, tmp_path):
    with pytest.raises(RecipeError, match="adapter: its layers cannot become part of the weights"):
        compare(toy_task(), recipes=["zero-shot", "adapter+lora"], models=[model], runs=tmp_path)


def test_a_chain_trains_and_answers_again_with_its_artefacts(model, tmp_path):
    recipe = "lora:rank=2,rate=1e-3,epochs=1+prompt-tuning:tokens=4,rate=1e-2,epochs=1+zero-shot"
    done = compare(toy_task(), recipes=[recipe], models=[model], runs=tmp_path)
    assert done.rows[0].status == "done", done.rows[0].reason
    assert ask("latest", recipe, "the saw", runs=tmp_path).text in ("fruit", "tool")


def test_examples_that_teach_nothing_are_told(model, tmp_path):
    task = toy_task("text")
    train = tuple(replace(e, rationale="It grows." if place < 5 else None) for place, e in enumerate(task.train))
    dev = (replace(task.dev[0], rationale="It cuts."), *task.dev[1:])
    recipe = "lora:rank=2,rate=1e-3,epochs=1+chain-of-thought:k=0,max_tokens=8"
    done = compare(replace(task, train=train, dev=dev), recipes=[recipe], models=[model], runs=tmp_path)
    told = markdown(done)
    assert "11 of 16 train examples teach nothing: none has" in told
    assert "3 of 4 dev examples teach nothing" in told


def test_why_forgetting_is_not_measured_is_told(model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.eos_token = tokenizer.bos_token = tokenizer.pad_token = None
    shutil.copytree(model, tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    recipes = ["lora:rank=2,rate=1e-3,epochs=1"]
    done = compare(toy_task(), recipes=recipes, models=[str(tmp_path / "bare")], runs=tmp_path / "runs")
    assert done.rows[0].forgetting is None
    assert "forgetting is not measured: " in markdown(done)


def test_a_model_without_attention_is_predicted_and_asked(tmp_path):
    folder = tmp_path / "mamba"
    plain_network_of("mamba").save_pretrained(folder)
    tokenizer_of(template=CHATML).save_pretrained(folder)
    recipes = ["zero-shot", "lora:targets=[in_proj],rank=2,rate=1e-3,epochs=1"]
    done = compare(toy_task(), recipes=recipes, models=[str(folder)], dtype="float32", runs=tmp_path / "runs")
    assert [(row.status, row.reason) for row in done.rows] == [("done", None)] * 2


def test_reading_is_set_against_as_much_general_text_alone(model, tmp_path):
    write(tmp_path / "corpus.txt", documents(80))
    write(tmp_path / "general.txt", documents(80, seed=1))
    same = f'corpus="{tmp_path / "corpus.txt"}",context=32,tokens=640,rate=1e-2'
    general = f'general="{tmp_path / "general.txt"}",replay=1'
    recipes = [f"continual:{same}+zero-shot", f"continual:{same},{general}+zero-shot", "zero-shot"]
    done = compare(toy_task(), recipes=recipes, models=[model], runs=tmp_path / "runs")
    reading, control, _ = done.rows
    moved = reading.read[0].held_out.after - control.read[0].held_out.after
    told = dict(footnotes(done))
    against = f"against as much general text alone ({control.recipe}): loss on documents held out"
    assert f"{against} {numbers.difference(moved)}" in told[reading.recipe]
    assert "against as much" not in told[control.recipe]
