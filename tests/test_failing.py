"""What goes wrong in one arm is its own failure: no memory, code of the user's own, no room under a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from opportune import arm as arm_module
from opportune.api import compare
from opportune.errors import OpportuneError
from opportune.store import Store
from tests.models.hostile import StandIn
from tests.toy import toy_task

MINE = """
from opportune import Answer, Message, Prompt

def ask(question, task):
    (reply,) = yield [Prompt((Message("user", question.input),), max_tokens=4)]
    {line}
"""


def statuses(done):
    return {row.recipe.partition(":")[0]: (row.status, str(row.reason)) for row in done.rows}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("place", ["prepare", "evaluate"])
def test_an_arm_without_memory_fails_and_the_others_run(model, tmp_path, monkeypatch, error, place):
    whole = getattr(arm_module.evaluate, place)

    def fails(strategy, *arguments):
        if type(strategy).__name__ == "ZeroShot":
            raise error
        return whole(strategy, *arguments)

    monkeypatch.setattr(f"opportune.arm.evaluate.{place}", fails)
    monkeypatch.setattr("opportune.run._Plan._predicted", lambda *arguments: None)  # it asks by the same functions
    found = statuses(compare(toy_task(), recipes=["zero-shot", "k-shot:k=2"], models=[model], runs=tmp_path))
    assert found["zero-shot"][0] == "failed"
    assert found["zero-shot"][1].startswith("out of memory")
    assert found["k-shot"][0] == "done"


def test_any_other_error_of_torch_is_a_defect_that_shows(model, tmp_path, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("opportune.arm.evaluate.evaluate", fails)
    with pytest.raises(RuntimeError, match="shapes differ"):
        compare(toy_task(), recipes=["zero-shot"], models=[model], runs=tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise KeyError(question.input)", "ask() failed: KeyError: 'one apple'"),
        ("yield 3", "ask() failed: TypeError"),
        ("yield ['what?']", "ask yielded 'what?', not a Prompt"),
        ("return reply.texts[0]", "not an Answer"),
        ("return Answer(5)", "an Answer whose text is 5"),
        ("return Answer('x', raw=None)", "an Answer whose raw is None"),
        ("return Answer('x', scores=[1, 2])", "an Answer whose scores are [1, 2]"),
        ("yield [Prompt(())]", "a Prompt whose messages are ()"),
        ("yield [Prompt((Message('user', 5),))]", "a Prompt with the content 5"),
        ("yield [Prompt((Message('user', 'x'),), choices=['fruit', 5])]", "whose choices are ('fruit', 5), not texts"),
        ("yield [Prompt((Message('user', 'x'),), choices=[])]", "whose choices are (), not texts, at least one"),
        ("yield [Prompt((Message('user', 'x'),), stop='x')]", "whose stop is 'x', not a tuple of texts"),
        ("yield [Prompt((Message('user', 'x'),), max_tokens='4')]", "whose max_tokens is '4', not a number from 1 on"),
        ("raise SystemExit(3)", "ask() failed: SystemExit: 3"),
    ],
)
def test_a_strategy_of_ones_own_that_fails_is_a_failed_arm(model, tmp_path, line, said):
    (tmp_path / "mine.py").write_text(MINE.format(line=line))
    recipes = [f'custom:path="{tmp_path / "mine.py"}"', "zero-shot"]
    found = statuses(compare(toy_task(), recipes=recipes, models=[model], runs=tmp_path / "runs"))
    assert found["custom"][0] == "failed"
    assert said in found["custom"][1]
    assert "mine.py" in found["custom"][1]
    assert "\n" not in found["custom"][1]
    assert found["zero-shot"][0] == "done"


def test_lists_in_a_prompt_of_ones_own_are_as_good_as_tuples(model, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from opportune import Answer, Lesson, Message, Prompt\n\n"
        "def asked(question):\n"
        "    return Prompt([Message('user', question.input)], choices=['fruit', 'tool'], stop=['x'])\n\n"
        "def ask(question, task):\n    yield [asked(question)]\n"
        "    yield [Prompt((Message('user', 'x'),), stop=['.'], max_tokens=2, temperature=1)]\n"
        "    return Answer('fruit')\n\n"
        "def teach(example, task):\n    return [Lesson(asked(example.question), example.target)]\n"
    )
    own = f'custom:path="{tmp_path / "mine.py"}"'
    recipes = [own, f"self-consistency:n=2,of=({own})", f"lora:rank=2,epochs=1,rate=1e-2+{own}"]
    done = compare(toy_task(), recipes=recipes, models=[model], runs=tmp_path / "runs")
    assert [(row.status, row.reason) for row in done.rows] == [("done", None)] * 3


def test_a_strategy_that_does_not_stand_the_blank_answers_of_a_prediction_runs_without_one(model, tmp_path):
    (tmp_path / "mine.py").write_text(MINE.format(line="return Answer('fruit' if 1 / len(reply.prompt) else '')"))
    done = compare(
        toy_task(), recipes=[f'custom:path="{tmp_path / "mine.py"}"'], models=[model], runs=tmp_path / "runs"
    )
    assert done.rows[0].status == "done", done.rows[0].reason
    assert done.rows[0].predicted is None


def test_a_metric_of_ones_own_that_fails_is_a_failed_arm(model, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def score(answer, target, input):\n    return 1 / 0 if answer == 'tool' else 1\n"
    )
    task = replace(toy_task(), metric=f'python:path="{tmp_path / "mine.py"}"')
    (tmp_path / "tool.py").write_text(
        "from opportune import Answer\n\ndef ask(question, task):\n    yield from ()\n    return Answer('tool')\n"
    )
    recipes = [f'custom:path="{tmp_path / "tool.py"}"', "majority"]
    found = statuses(compare(task, recipes=recipes, models=[model], runs=tmp_path / "runs"))
    assert found["custom"][0] == "failed"
    assert "score() failed on the answer 'tool': ZeroDivisionError" in found["custom"][1]
    assert found["majority"][0] == "done"


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("python:path={}", r"score\(\) failed on the answer 'xylophone': ZeroDivisionError"),
        ("rubric:text=good,model=no/such/model.gguf", "no model at"),
    ],
)
def test_a_metric_that_cannot_score_is_said_before_anything_is_asked(model, tmp_path, metric, said):
    (tmp_path / "mine.py").write_text("def score(answer, target, input):\n    return 1 / 0\n")
    task = replace(toy_task("text"), metric=metric.format(f'"{tmp_path / "mine.py"}"'))
    with pytest.raises(OpportuneError, match=said):
        compare(task, recipes=["zero-shot"], models=[model], runs=tmp_path / "runs")
    with Store.open(tmp_path / "runs") as store:
        assert not store.list_runs()


def test_what_cannot_fit_the_memory_is_not_begun(model, tmp_path, monkeypatch):
    monkeypatch.setattr("opportune.fits.free_bytes", lambda device: 1_000)
    recipes = ["full:rate=1e-4,epochs=1", "zero-shot"]
    done = compare(toy_task(), recipes=recipes, models=[model], dtype="float32", runs=tmp_path)
    found = statuses(done)
    assert found["full"][0] == "failed"
    assert "the training cannot fit" in found["full"][1]
    assert found["zero-shot"][0] == "done"
    with Store.open(tmp_path, create=False) as store:
        assert {call.hash for call in store.calls(done.run)} == {
            arm.hash for arm in store.arms(done.run) if arm.status == "done"
        }


def test_an_arm_predicted_to_pass_what_the_dollars_leave_is_left_out_until_the_cap_is_higher(tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text("model,input,output\nm,1000,1000\n")

    def run(cap):
        return compare(
            toy_task(), recipes=["zero-shot", "k-shot:k=16"], models=["openai:m"], base_url=server.url,
            runs=tmp_path / "runs", prices=prices, max_dollars=cap, cache=False,
        )  # fmt: skip

    with StandIn(lambda text: "fruit", ways=("constrained",)) as server:
        predicted = [row.predicted.total().dollars for row in run(1e-6).rows]
        assert server.requests == [] or all("Text:" not in str(body) for body in server.bodies())
        cap = predicted[0] * 1.5
        assert predicted[1] > cap
        for _ in range(2):
            first, second = run(cap).rows
            asked = len([body for body in server.bodies() if "Text:" in str(body)])
            assert (first.status, first.failed) == ("done", 0)
            assert second.status == "failed"
            assert "more than the cap of" in second.reason
            assert asked == 8
        assert [row.status for row in run(1000.0).rows] == ["done", "done"]
