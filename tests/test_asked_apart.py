"""Which calls are the same and which are not: number formats, seeds, candidates, sittings."""

from __future__ import annotations

import _thread
import time
from dataclasses import replace
from itertools import count

import pytest

from opportune.answering import StoredArm
from opportune.api import ask, compare, export, show
from opportune.arm import ArmRunner
from opportune.errors import OpportuneError
from opportune.journal import key_of
from opportune.models.endpoint import Endpoint
from opportune.store import Store
from opportune.types import ModelInfo
from tests.models.hostile import StandIn
from tests.toy import toy_task


def calls_of(runs, run, recipe=None, stage=None):
    with Store.open(runs, create=False) as store:
        hashes = {arm.hash for arm in store.arms(run) if recipe in (None, arm.recipe)}
        return [call for call in store.calls(run, stage=stage) if call.hash in hashes]


def test_one_model_in_two_number_formats_is_asked_in_each(model, tmp_path):
    recipes = [f'zero-shot@"{model}"[dtype={dtype}]' for dtype in ("float32", "bfloat16")]
    trained = [
        f'lora:rank=2,epochs=1,rate=1e-2+zero-shot@"{model}"[dtype={dtype}]' for dtype in ("float32", "bfloat16")
    ]
    done = compare(toy_task(), recipes=recipes + trained, runs=tmp_path)
    assert [row.status for row in done.rows] == ["done"] * 4, [row.reason for row in done.rows]
    whole, half = (calls_of(tmp_path, done.run, row.recipe, "test") for row in done.rows[:2])
    assert not any(call.shared for call in whole + half)
    assert [call.scores for call in whole] != [call.scores for call in half]
    with Store.open(tmp_path, create=False) as store:
        for row, dtype in zip(done.rows, ["float32", "bfloat16"] * 2, strict=True):
            arm = StoredArm.find(store, "latest", row.recipe)
            asked = arm.model()
            assert asked.info.dtype == dtype
            assert arm.known()["dtype"] == dtype
            if not arm.methods:  # the run's own answers are found again
                journal = arm.journal("test", asked)
                assert journal.model_key == key_of(asked.info)
    (exported,) = export("latest", done.rows[3].recipe, adapter=tmp_path / "out", runs=tmp_path)
    assert exported.parity.dtype == "bfloat16"


def test_what_answers_is_told_by_weights_number_format_and_device():
    info = ModelInfo("m", "m", 1, "weights", "float32", "cpu")
    others = [replace(info, digest="other"), replace(info, dtype="bfloat16"), replace(info, device="cuda:0")]
    assert len({key_of(one) for one in [info, *others]}) == 4
    server = Endpoint("m", "http://localhost:1/v1").info
    assert key_of(server) == server.digest  # what was paid for before stays found


CHANCE = "self-consistency:n=3,of=(chain-of-thought:k=0,max_tokens=8)"


def test_each_seed_draws_its_own_samples_and_shares_what_is_not_drawn(model, tmp_path):
    done = compare(toy_task(), recipes=[CHANCE, "zero-shot"], models=[model], seeds=2, runs=tmp_path)
    drawn = {(c.seed, c.example): c for c in calls_of(tmp_path, done.run, CHANCE, "test") if c.choices is None}
    examples = {example for _, example in drawn}
    assert all(not drawn[seed, example].shared for seed in (0, 1) for example in examples)
    assert all(drawn[0, example].texts != drawn[1, example].texts for example in examples)
    greedy = [c for c in calls_of(tmp_path, done.run, "zero-shot", "test") if c.seed == 1]
    assert greedy
    assert all(call.shared for call in greedy)
    again = compare(toy_task(), recipes=[CHANCE], models=[model], seeds=2, runs=tmp_path / "again")
    same = calls_of(tmp_path / "again", again.run, CHANCE, "test")
    assert {(c.seed, c.example): c.texts for c in same if c.choices is None} == {k: c.texts for k, c in drawn.items()}
    assert ask("latest", CHANCE, "the saw", runs=tmp_path).raw


def test_a_search_cut_off_does_not_pay_for_its_grades_again(tmp_path):
    """The grades of every candidate stay, whatever comes after them."""
    cut, texts, answers = [True], [], count()

    def say(text):
        if "<answer-" in text:
            texts.append(text)
            return f"Score: {1 + len(texts) % 5}"
        return f"fruit {next(answers)}"

    task = replace(toy_task("text"), metric='rubric:text="5 is right.",model="openai:judge"')

    def run():
        return compare(
            task, recipes=["k-shot:k=[2,4]"], models=["openai:m"], base_url=server.url, runs=tmp_path, cache=False
        )

    with StandIn(say) as server, pytest.MonkeyPatch.context() as patch:
        ask_ = ArmRunner._ask

        def fails(self, settled, item, split, *rest):
            if split == "test" and cut[0]:
                raise OpportuneError("cut off")
            return ask_(self, settled, item, split, *rest)

        patch.setattr(ArmRunner, "_ask", fails)
        assert run().rows[0].status == "failed"
        assert len(texts) == 8
        cut[0] = False
        assert run().rows[0].status == "done"
    assert len(texts) == 8 + 4


def test_answers_that_are_not_graded_yet_have_no_score(tmp_path):
    cut, graded = [True], []

    def say(text):
        if "<answer-" in text:
            graded.append(text)
            if cut[0] and len(graded) == 6:
                _thread.interrupt_main()
                time.sleep(0.5)
            return "Score: 5"
        return "fruit"

    task = replace(toy_task("text"), metric='rubric:text="5 is right.",model="openai:judge"')

    def run():
        where = {"base_url": server.url, "runs": tmp_path, "cache": False}
        return compare(task, recipes=["zero-shot"], models=["openai:m"], **where)

    with StandIn(say) as server:
        with pytest.raises(KeyboardInterrupt):
            run()
        row = show(runs=tmp_path).rows[0]
        assert (row.status, row.score) == ("running", None)
        cut[0] = False
        row = run().rows[0]
    assert (row.status, row.score.value, row.n) == ("done", 1.0, 4)
