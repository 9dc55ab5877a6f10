"""What the benchmarks' fairness and their table rest on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import table
from benchmarks.peer_trl import _share
from benchmarks.scoring import agreement
from benchmarks.worker import Worker
from opportune.training.loop import Settings
from opportune.training.schedule import rate_at


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 100])
def test_the_peer_trains_at_our_rate_at_every_step(steps):
    ours = Settings(rate=1e-3)
    for step in range(steps):
        assert 1e-3 * _share(step, steps) == pytest.approx(rate_at(step, steps, 1e-3, ours.warmup, ours.decay))


def test_agreement_counts_predictions_and_finds_the_largest_gap():
    found = agreement([[-1.0, -2.0], [-3.0, -1.0]], [[-1.0, -2.5], [-1.0, -1.5]])
    assert found == {"questions": 2, "identical_predictions": 1, "largest_difference": 2.0}


def test_the_page_holds_the_committed_results():
    page = table.PAGE.read_text()
    assert table.tables(table._records(table.RESULTS)) in page


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
