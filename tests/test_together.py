"""The same command in several processes: one leads, the others train with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opportune.api import show
from opportune.cli.main import main
from opportune.rows import Comparison
from opportune.store import Store
from tests import several
from tests.corpus.texts import documents, write
from tests.models.tiny import save_folder
from tests.several import run_together, started
from tests.toy import toy_task

RECIPES = (
    "majority",
    "zero-shot",
    "lora:rank=2,epochs=2,batch=4",
    "prompt-tuning:tokens=3,epochs=1,rate=1e-2+k-shot:k=2",
)
FAILING = "full:rate=10,epochs=20,batch=1"  # diverges, and the run goes on
READING = "continual:corpus={text},context=32,epochs=1,rate=1e-3+zero-shot"
CHAIN = "full:rate=1e-3,epochs=1+lora:rank=2,rate=1e-2,epochs=1+zero-shot"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("task")
    task = toy_task()
    for split in ("train", "dev", "test"):
        rows = [{"input": e.input, "target": e.target.replace("xylophone", "tool")} for e in task.split(split)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = save_folder(folder / "model")
    reading = READING.format(text=write(folder.with_name("read.txt"), documents(40)))
    tries = [word for recipe in (*RECIPES, reading, CHAIN, FAILING) for word in ("--try", recipe)]
    return ["compare", str(folder), "--input", "input", "--target", "target", "--kind", "choice",
            "--model", str(model), "--dtype", "float32", "--device", "cpu", *tries]  # fmt: skip


def curves(runs: Path) -> dict[tuple[str, str, int], Any]:
    with Store.open(runs, create=False) as store:
        run = store.latest_run().id
        names = {arm.hash: arm.recipe for arm in store.arms(run)}
        return {(names[p.hash], p.trial, p.step): p.values["loss"] for p in store.curves(run) if "loss" in p.values}


def facts(found: Comparison) -> list[tuple[str, str, float | None]]:
    return [(row.recipe, row.status, row.score and row.score.value) for row in found.rows]


@pytest.mark.slow
def test_two_processes_come_to_the_table_of_one(command: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--runs", str(tmp_path / "one")])
    assert run_together(2, several.command, *command, "--runs", str(tmp_path / "two")) == [0, 0]
    one, two = show(runs=tmp_path / "one"), show(runs=tmp_path / "two")
    assert facts(one) == facts(two)
    assert [row.status for row in two.rows].count("failed") == 1
    alone, together = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert alone.keys() == together.keys()
    assert len(alone) > 20
    for key, loss in alone.items():
        assert together[key] == pytest.approx(loss, rel=1e-3), key


@pytest.mark.slow
def test_bad_input_ends_the_leading_process_with_its_code(command: list[str], tmp_path: Path) -> None:
    arguments = [*command, "--try", "nonsense", "--runs", str(tmp_path)]
    first, second = started(2, several.command, *arguments)
    first.join(60)
    assert first.exitcode == 2
    second.join(20)  # without its leader it ends by itself, or the launcher ends it
    second.kill()


@pytest.mark.slow
def test_torchrun_prints_one_table(command: list[str], tmp_path: Path) -> None:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "opportune",
    ]
    done = subprocess.run(
        [*launcher, *command, "--runs", str(tmp_path), "--json"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads(done.stdout)["rows"]) == 7
