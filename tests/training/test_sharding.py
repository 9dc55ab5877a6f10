"""Several processes train what one trains, and go on from each other's checkpoints."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from opportune.errors import TrainingError
from opportune.methods.peft_method import Peft
from opportune.pretraining.sizing import size_for
from opportune.together import follow
from opportune.training import checkpoint
from opportune.training.sharding import Shards
from tests.training.sharded import METHODS, together, weigh, without_memory, work
from tests.training.tiny import llama

STEPS = 12  # 19 lessons, six a step, three epochs
HALF = 7


def figures(folder: Path, name: str, rank: int = 0) -> Any:
    return json.loads((folder / f"{name}-{rank}.json").read_text())


def weights(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}-{rank}.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    for name in METHODS:
        work(folder, name, 0)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by two processes."""
    folder = tmp_path_factory.mktemp("two")
    together(2, folder / "meeting", *((folder, name, 0) for name in METHODS))
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_take_the_steps_of_one(name: str, alone: Path, two: Path) -> None:
    one, both = figures(alone, name), figures(two, name)
    assert (one["processes"], both["processes"]) == (1, 2)
    assert len(both["losses"]) == STEPS
    # In bfloat16 the packs of two processes round otherwise than the packs of one.
    near = 5e-2 if name == "bfloat16" else 1e-4
    for key in ("losses", "norms", "dev"):
        assert both[key] == pytest.approx(one[key], rel=near), key


@pytest.mark.parametrize("name", METHODS)
def test_both_processes_end_with_the_weights_of_one(name: str, alone: Path, two: Path) -> None:
    expected, first, second = weights(alone, name), weights(two, name), weights(two, name, 1)
    assert expected.keys() == first.keys() == second.keys()
    for key, weight in first.items():
        assert torch.equal(weight, second[key])
        near = {"atol": 2e-2, "rtol": 5e-2} if name == "bfloat16" else {"atol": 2e-4, "rtol": 1e-3}
        torch.testing.assert_close(weight, expected[key], **near)


def test_what_two_began_one_ends_and_the_other_way_round(alone: Path, tmp_path: Path) -> None:
    begun_by_two, begun_by_one = tmp_path / "two", tmp_path / "one"
    for folder in (begun_by_two, begun_by_one):
        folder.mkdir()
    work(begun_by_one, "full", HALF)
    assert (begun_by_one / "full" / "state.safetensors").exists()
    together(2, tmp_path / "meeting", (begun_by_two, "lora", HALF), (begun_by_one, "full", 0))
    parts = list((begun_by_two / "lora").glob("sharded-*/*.safetensors"))
    assert len(parts) == 2  # a part from each
    work(begun_by_two, "lora", 0)
    for folder, name in ((begun_by_two, "lora"), (begun_by_one, "full")):
        found, expected = figures(folder, name), figures(alone, name)
        assert found["begun"] == HALF + 1
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-4)
        torch.testing.assert_close(weights(folder, name), weights(alone, name), atol=2e-4, rtol=1e-3)
    assert figures(begun_by_two, "lora")["processes"] == 1
    assert figures(begun_by_one, "full")["processes"] == 2


def test_lessons_that_only_the_leading_process_knows_by_a_key_are_gone_on_with(alone: Path, tmp_path: Path) -> None:
    together(2, tmp_path / "first", (tmp_path, "blocks", HALF))
    together(2, tmp_path / "second", (tmp_path, "blocks", 0))
    found, other = figures(tmp_path, "blocks"), figures(tmp_path, "blocks", 1)
    assert (found["begun"], other["begun"]) == (HALF + 1, HALF + 1)
    assert found["losses"] == pytest.approx(figures(alone, "blocks")["losses"], rel=1e-4)


def test_a_step_saved_again_leaves_what_is_there_until_it_is_whole(tmp_path: Path) -> None:
    checkpoint.cleared(tmp_path / "sharded-4")
    assert checkpoint.free_place(tmp_path, 4) == "sharded-4"
    checkpoint.point_to(tmp_path / "sharded-4", {"steps": []})
    again = checkpoint.free_place(tmp_path, 4)
    assert again != "sharded-4"
    checkpoint.cleared(tmp_path / again)
    checkpoint.point_to(tmp_path / again, {"steps": []})
    assert not (tmp_path / "sharded-4").exists()
    assert checkpoint.free_place(tmp_path, 4) == "sharded-4"


@pytest.mark.parametrize(("kind", "reason"), [("OSF", "changes gradients"), ("VBLORA", "layers share weights")])
def test_what_cannot_be_trained_in_parts_is_refused(kind: str, reason: str) -> None:
    rest: Any = (("num_vectors", 4), ("vector_length", 8), ("topk", 2), ("r", 2)) if kind == "VBLORA" else ()
    network = Peft(kind, rest=rest).attach(llama(), 0)
    with pytest.raises(TrainingError, match=reason):
        Shards(network)


def test_weights_are_whole_only_once_in_a_process(tmp_path: Path) -> None:
    fork, meeting = multiprocessing.get_context("fork"), tmp_path / "meeting"
    made = [fork.Process(target=weigh, args=(rank, 2, meeting, tmp_path)) for rank in range(2)]
    for process in made:
        process.start()
    for process in made:
        process.join(60)
    for rank in range(2):
        whole, taken = json.loads((tmp_path / str(rank)).read_text())
        assert taken < 0.8 * whole  # half of it, and a layer or two


@pytest.mark.parametrize("poor", [0, 1])
def test_a_process_without_memory_ends_instead_of_leaving_the_others_waiting(poor: int, tmp_path: Path) -> None:
    fork, meeting = multiprocessing.get_context("fork"), tmp_path / "meeting"
    made = [fork.Process(target=without_memory, args=(poor, rank, 2, meeting, tmp_path)) for rank in range(2)]
    for process in made:
        process.start()
    made[poor].join(60)
    assert made[poor].exitcode == 1
    made[1 - poor].kill()  # which is the launcher's part


def test_who_follows_outlives_an_arm_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    size = asdict(size_for(100_000, 512))
    new = {"kind": "new", "size": size, "context": 64, "end": 0, "dtype": "float32", "device": "cpu"}
    refused = {"kind": "attach", "method": "prompt-tuning:init=labels", "seed": 0, "hints": [[], []]}
    orders = iter([new, refused, new])
    monkeypatch.setattr("opportune.together.following", lambda: orders)
    follow()
    assert next(orders, None) is None
