"""The JSON of `--json`: its published shape, from a store to the object."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from opportune.comparison import of_run, show_json
from opportune.records import ArmRecord, CallRecord, ExampleRecord, Facts, Latency
from opportune.schema import to_json
from opportune.store import Store
from tests.made_up import CONFIG, LABELS, Arm, comparison, marks, outcome, target

AMOUNT = {"seconds", "tokens_in", "tokens_out", "calls", "flops", "peak_bytes", "joules", "dollars"}
ROW = {
    *("recipe", "model", "status", "score", "low", "high", "n", "failed", "unparsed", "dev_score"),
    *("lessons_cut", "rates_diverged"),
    *("versus_reference", "cost", "asking_per_1000", "latency", "distribution"),
    *("forgetting", "generalisation_gap", "read", "trainable_parameters", "artefact_bytes", "reconsidered", "grading"),
}


def test_json_has_the_published_shape() -> None:
    arms = [
        Arm("ref", (marks(70, 30),), facts=Facts(latency=Latency(0.1, 0.2))),
        Arm("b", (marks(50, 50),), dev=("0",)),
        Arm("broken", status="failed"),
    ]
    found = json.loads(json.dumps(to_json(replace(comparison(arms), report="runs/r/report.html")), allow_nan=False))
    assert list(found) == ["schema", "task", "models", "seeds", "rows", "reference", "recommended", "report"]
    assert found["schema"] == 1
    assert found["task"] == {
        "name": "desk",
        "metric": "accuracy",
        "train": 2,
        "dev": 60,
        "test": 100,
        "labels": LABELS,
    }
    assert found["models"] == [{"name": "tiny", "path": "/m", "parameters": 9, "digest": "d", "choosing": None}]
    assert (found["seeds"], found["reference"], found["report"]) == ([0], "ref", "runs/r/report.html")
    for one in found["rows"]:
        assert set(one) == ROW
        assert set(one["cost"]) == {"loading", "tuning", "training", "asking"}
        for pair in (*one["cost"].values(), one["asking_per_1000"]):
            assert set(pair) == {"predicted", "measured"}
            assert pair["predicted"] is None
            assert set(pair["measured"]) == AMOUNT
        assert set(one["latency"]) == {"p50", "p95"}
    reference, other, broken = found["rows"]
    assert reference["versus_reference"] is None
    assert set(other["versus_reference"]) == {"difference", "low", "high", "p", "p_holm"}
    assert (broken["status"], broken["score"], broken["low"], broken["versus_reference"]) == ("failed", *[None] * 3)


def test_the_size_of_what_was_trained_and_what_reviews_did_are_told() -> None:
    facts = Facts(trainable_parameters=1200, artefact_bytes=4900, revised={"changed": 0.5, "mended": 0.25, "spoilt": 0})
    trained, asked = to_json(comparison([Arm("lora", ("1", "1"), facts=facts), Arm("zero-shot", ("1",))]))["rows"]
    assert (trained["trainable_parameters"], trained["artefact_bytes"]) == (1200, 4900)
    assert trained["reconsidered"] == {"changed": 0.5, "mended": 0.25, "spoilt": 0}
    assert [asked[name] for name in ("trainable_parameters", "artefact_bytes", "reconsidered")] == [None] * 3


def test_a_model_behind_a_server_says_how_it_chooses_and_not_how_large_it_is() -> None:
    remote = {**CONFIG["models"][0], "parameters": 0, "device": "endpoint", "choosing": "first-token"}
    found = replace(comparison([Arm("zero-shot", ("1",))]), models=(remote,))  # type: ignore[arg-type]
    assert to_json(found)["models"] == [
        {"name": "tiny", "path": "/m", "parameters": None, "digest": "d", "choosing": "first-token"}
    ]


def test_the_page_of_the_schema_names_every_field() -> None:
    text = (Path(__file__).parent.parent / "docs" / "json-schema.md").read_text()
    others = {"difference", "p_holm", "predicted", "measured", "p95", "recommended", "digest", "choosing"}
    for name in ROW | AMOUNT | others | {"choice_scores"}:
        assert f"`{name}`" in text


def test_a_stored_run_is_read_and_shown(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        run = store.begin_run("key", "desk", CONFIG)
        store.put_examples([ExampleRecord(run.id, "test", n, f"test{n}", f"message {n}", target(n)) for n in range(9)])
        store.put_examples([ExampleRecord(run.id, "dev", 0, "dev0", "x", target(0))])
        store.put_arm(ArmRecord(run.id, "h", 0, 0, "zero-shot", "tiny", {}, "done"))
        answers = [("test", n, "1") for n in range(9)] + [("dev", 0, "1")]
        given = [replace(outcome("h", 0, s, n, m), run=run.id) for s, n, m in answers]  # type: ignore[arg-type]
        store.put_outcomes([replace(one, choice_scores={"refund": 0.8, "card": 0.2}) for one in given])
        asked = CallRecord(run.id, "h", 0, "test", "test0", 0, 0, "k", "think", texts=("hm", "well"))
        ranked = replace(asked, round=1, prompt="choose", texts=(), choices=("refund", "card"), scores=(-0.5, -2.0))
        content_free = replace(ranked, position=1, prompt="choose for N/A", scores=(-1.0, -1.0))
        store.put_calls(
            [ranked, content_free, asked, replace(asked, stage="tuning:0"), replace(asked, stage="dev", example="dev0")]
        )
        found, shown = of_run(store, run.id[:-2]), show_json(store, run.id)
        assert (found.reference, found.recommended, found.sizes) == ("zero-shot", "zero-shot", {"test": 9, "dev": 1})
        assert "an unknown amount" in found.recommendation_text
        assert found.report is None
        (store.run_folder(run.id) / "report.html").write_text("")
        assert of_run(store, run.id).report == str(tmp_path / run.id / "report.html")
    assert {name: value for name, value in shown.items() if name != "outcomes"} == to_json(found)
    assert len(shown["outcomes"]) == 10
    assert next(o for o in shown["outcomes"] if o["example"] == "test0") == {
        "recipe": "zero-shot",
        "seed": 0,
        "split": "test",
        "example": "test0",
        "input": "message 0",
        "target": "refund",
        "answer": "refund",
        "status": "ok",
        "score": 1.0,
        "prompts": ["think", "choose", "choose for N/A"],
        "completions": ["hm", "well"],
        "choices": {"refund": -0.5, "card": -2.0},
        "error": None,
        "choice_scores": {"refund": 0.8, "card": 0.2},
    }


def test_reading_imports_no_torch() -> None:
    script = "import sys, opportune.comparison; assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
