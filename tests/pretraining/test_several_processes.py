"""A pretraining in several processes, as torchrun starts them, comes to the model of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opportune import together
from opportune.pretraining import course
from opportune.pretraining.order import Order, read_report
from tests.corpus.texts import documents, write
from tests.pretraining.quiet import Quiet
from tests.several import command, run_together

CONTEXT, TOKENS = 16, 6_400  # 200 steps of two blocks each
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("text") / "corpus.txt", documents(200, seed=2)))


@pytest.fixture(scope="module")
def alone(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "model"
    course.pretrain(order_of(corpus, out), Quiet())
    return out


class StopError(Exception):
    """Stands for a crash between two steps."""


def order_of(corpus: str, out: Path) -> Order:
    return Order(
        corpus=corpus, parameters=100_000, out=out, context=CONTEXT, tokens=TOKENS, dtype="float32", device="cpu"
    )


def arguments(corpus: str, out: Path) -> list[str]:
    return ["pretrain", "--corpus", corpus, "--parameters", "100k", "--context", str(CONTEXT), "--tokens", str(TOKENS),
            "--dtype", "float32", "--device", "cpu", "--out", str(out)]  # fmt: skip


class Noting(Quiet):
    """Writes down the steps that it sees, and crashes at one of them."""

    def __init__(self, notes: Path, last: int | None) -> None:
        self.notes, self.last = notes, last

    def step(self, step: int, loss: float, seconds: float) -> None:
        with self.notes.open("a") as file:
            file.write(f"{step}\n")
        if step == self.last:
            raise StopError


def work(order: Order, notes: Path, last: int | None) -> None:
    """Pretrain with a checkpoint after each step."""
    course._CHECKPOINT_SECONDS = 0.0

    def lead() -> int:
        course.pretrain(order, Noting(notes, last))
        return 0

    together.run(lead)


def assert_alike(one: Path, other: Path) -> None:
    reports = [read_report(json.loads((out / course.REPORT).read_text())["report"]) for out in (one, other)]
    assert reports[0].steps == reports[1].steps
    assert [point.step for point in reports[0].curve] == [point.step for point in reports[1].curve]
    assert [p.loss for p in reports[0].curve] == pytest.approx([p.loss for p in reports[1].curve], rel=1e-4)
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-4)
    mine, theirs = (load_file(out / "model.safetensors") for out in (one, other))
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        assert torch.allclose(weight, theirs[name], atol=5e-3), name


def test_two_come_to_the_model_of_one(corpus: str, alone: Path, tmp_path: Path) -> None:
    assert run_together(2, command, *arguments(corpus, tmp_path / "model")) == [0, 0]
    assert_alike(alone, tmp_path / "model")


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_any_number_goes_on_where_another_stopped(
    first: int, then: int, corpus: str, alone: Path, tmp_path: Path
) -> None:
    out, notes = tmp_path / "model", tmp_path / "steps"
    assert 0 not in run_together(first, work, order_of(corpus, out), notes, 40)
    assert run_together(then, work, order_of(corpus, out), notes, None) == [0] * then
    steps = list(map(int, notes.read_text().split()))
    assert steps == [*range(1, 41), *range(40, max(steps) + 1)]  # the crash came before the fortieth was kept
    assert_alike(alone, out)
