"""What the benchmarks' fairness and their table rest on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import method_pages, strategy_pages, table
from benchmarks.peer_trl import share
from benchmarks.scoring import agreement
from benchmarks.worker import Worker
from opportune import strategies
from opportune.training.loop import Settings
from opportune.training.schedule import rate_at


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 100])
def test_the_peer_trains_at_our_rate_at_every_step(steps):
    ours = Settings(rate=1e-3)
    for step in range(steps):
        assert 1e-3 * share(step, steps) == pytest.approx(rate_at(step, steps, 1e-3, ours.warmup, ours.decay))


def test_agreement_counts_predictions_and_finds_the_largest_gap():
    found = agreement([[-1.0, -2.0], [-3.0, -1.0]], [[-1.0, -2.5], [-1.0, -1.5]])
    assert found == {"questions": 2, "identical_predictions": 1, "largest_difference": 2.0}


def test_the_pages_hold_the_committed_results():
    pages = table.pages(table._records(table.RESULTS))
    assert {path.stem for path in pages} >= {"benchmarks", "k-shot", "step-back", "chain-of-thought"}
    for path, made in pages.items():
        assert made == path.read_text(), f"{path.name}: run `python -m benchmarks.table`"


def test_every_strategy_has_a_page_with_what_was_measured():
    folder = strategy_pages.FOLDER
    own = {"template": "your-own", "custom": "your-own", "majority": "baselines", "tfidf": "baselines"}
    for name in strategies.TABLE:
        assert (folder / f"{own.get(name, name)}.md").exists()
    for path in folder.glob("*.md"):
        if path.stem not in ("README", "your-own"):
            for part in ("**When it helps.**", "**Cost.**", "**Papers.**", strategy_pages.BEGIN):
                assert part in path.read_text(), path.name


def test_results_come_to_the_page_of_their_strategy():
    asked = {
        "recipe": "chain-of-thought:k=4",
        "task": "coin_flip",
        "score": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 60,
        "unparsed": 15,
        "scores_by_seed": [0.5],
        "calls_per_question": 1.0,
        "tokens_in_per_question": 423.6,
        "tokens_out_per_question": 61.25,
    }
    spread = {"mean": 0.3, "sd": 0.05, "worst": 0.2}
    drawn = {"task": "trec6", "shots": 4, "none": spread, "contextual": spread, "batch": spread}
    records = [
        {"name": "reasoning", "quick": False, "work": "60", "rows": [asked, {**asked, "recipe": "lora+k-shot:k=2"}]},
        {"name": "calibration", "quick": False, "rows": [drawn]},
    ]
    line = "| coin_flip | `chain-of-thought:k=4` | 0.500 [0.400, 0.600] | 25% | 1 | 424 / 61 |"
    assert line in strategy_pages.measured("chain-of-thought", records)
    shots = strategy_pages.measured("k-shot", records)
    assert "calibrate=batch` | 0.300, sd 0.050, worst 0.200" in shots
    assert "lora" not in shots
    quick = [{**record, "quick": True} for record in records]
    assert strategy_pages.measured("k-shot", quick) == strategy_pages.NOT_YET


def test_what_training_does_comes_to_the_page_of_results():
    machine = {"cpu": "X", "cores": 2, "flags": [], "memory_gib": 8, "torch": "2"}
    made = {"quick": False, "command": "c", "commit": "abc", "date": "2026-01-01", "machine": machine, "work": "w"}
    scored = {
        "score": 0.5,
        "low": 0.4,
        "high": 0.6,
        "scores_by_seed": [0.5],
        "trainable": 1000,
        "training_seconds": 61.0,
    }
    tuned = {**scored, "rate": 1e-3, "rate_at_edge": True, "recipe": "lora:rank=1+zero-shot"}
    by_length = [{"at": 8, "n": 2, "accuracy": 1.0}, {"at": 16, "n": 2, "accuracy": 0.25}]
    questions = {variant: {"accuracy": 0.5, "n": 4} for variant in ("plain", "typos", "paraphrase")}
    losses = {"tokens": 10, "before": 3.0, "after": 2.5}
    budgeted = {**tuned, "labels": 32, "method": "lora", "peak_bytes": 2**30, "forgetting": 0.25}
    read = {"replay": 0.05, "target": losses, "general": None, "questions": questions}
    records = [
        {**made, "name": "equal-budget", "rows": [budgeted, {"labels": 32, "method": "ia3"}], "soft": []},
        {**made, "name": "continual", "rows": [read | {"replay": None, "target": None}, read], "work": {"tokens": 5}},
        {**made, "name": "reasoning-by-training-x", "arms": {"direct answers": {**scored, "by_length": by_length}}},
        {**made, "name": "flexibility", "rows": [{**tuned, "by_length": by_length[:1]}]},
    ]
    page = table.tables(records)
    assert "| 32 | `lora` | 0.001 (end of the grid) | 0.500 [0.400, 0.600] | 0.500 |" in page
    assert "| 32 | `ia3` | every rate failed | – |" in page
    assert "| 5% | 3.000 → 2.500 | – | 0.500 of 4 |" in page
    assert "| direct answers | 0.500 [0.400, 0.600] | 1.00 | 0.25 |" in page
    assert "### Continual pretraining (tokens 5)" in page
    own_page = method_pages.measured("lora", records)
    assert own_page.startswith("At 20,000 training tokens on TREC")
    assert "| 32 | 0.001 (end of the grid) | 0.500 [0.400, 0.600] | 0.500 |" in own_page
    assert method_pages.measured("norm", records) == strategy_pages.NOT_YET


def test_a_worker_that_dies_is_an_error_not_a_silence():
    with Worker(Path(sys.executable), "benchmarks.no_such_side", threads=1) as side, pytest.raises(RuntimeError):
        side.ask(do="load")


@pytest.mark.slow
def test_the_gpu_check_works_at_toy_size(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "gpu_check.sh"
    done = subprocess.run(
        ["bash", str(script), "--toy", "--out", str(tmp_path)],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "gpu-check-toy.json").read_text())
    assert [case["method"] for case in found["training"]] == ["full"] * 2 + ["lora"] * 2 + ["prompt-tuning"] * 2
    assert all(case["tokens_per_second"] > 0 and case["peak_bytes"] > 0 for case in found["training"])
    assert found["asking"][0]["scoring"]["questions_per_second"] > 0
    assert found["asking"][0]["generation"]["tokens_per_second"] > 0
